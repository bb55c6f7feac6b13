"""Devices that are registered by certificates of their account's authority, on a live broker with paho over TLS."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.testing import BrokerUnderTest
from tests.support import pki
from tests.support.paho import leave

WAIT_S = 10.0
AUTHORITIES = "/v1/iot/authorities"


class House:
    """A broker with a listener that asks for certificates of two authorities, and its account over HTTP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.others = pki.authority("Pumps CA"), pki.authority("Others CA")
        (folder / "clients.pem").write_bytes(self.ca.pem + self.others.pem)
        self.broker = BrokerUnderTest(
            folder / "data",
            config={
                "listeners": [
                    {"host": "127.0.0.1", "port": 0},
                    {
                        "transport": "tls", "host": "127.0.0.1", "port": 0, "client_certificate": "required",
                        "client_ca_file": folder / "clients.pem",
                    },
                ]
            },
        )  # fmt: skip

    def open(self) -> None:
        self.broker.start()
        headers = {"X-API-Key": self.broker.api_key}
        self.http = httpx.Client(base_url=self.broker.http_url, headers=headers, trust_env=False, timeout=30)

    def connack(self, device_id: str, by: pki.Issued, version: int) -> int:
        """Come with a certificate for a device; gives the code of the CONNACK."""
        issued = pki.client(device_id, by)
        certificate, key = issued.write(self.folder, name=f"{device_id}-{version}")
        codes: queue.Queue[int] = queue.Queue()
        client = paho.Client(CallbackAPIVersion.VERSION2, device_id, protocol=paho.MQTTProtocolVersion(version))
        client.on_connect = lambda _client, _data, _flags, reason, _properties: codes.put(reason.value)
        context = ssl.create_default_context(cafile=str(self.folder / "data" / "tls" / "ca.pem"))
        context.load_cert_chain(certificate, key)
        client.tls_set_context(context)
        client.connect("localhost", self.broker.broker.endpoint("mqtts").port)
        client.loop_start()
        try:
            return codes.get(timeout=WAIT_S)
        finally:
            leave(client)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("authorities"))
    house.open()
    yield house
    house.http.close()
    house.broker.stop()


def test_an_authority_is_taken_in_proven_used_and_revoked(house: House) -> None:
    made: dict[str, Any] = house.http.post(
        AUTHORITIES, json={"name": "Pumps", "certificate": house.ca.pem.decode(), "device_id_pattern": "pump-*"}
    ).json()
    path = f"{AUTHORITIES}/{made['authority_id']}"
    assert (made["status"], made["fingerprint"]) == ("unproven", house.ca.fingerprint)
    assert house.connack("pump-1", house.ca, paho.MQTTv5) == 0x87
    proof = pki.client(made["verification_code"], house.ca).pem.decode()
    assert house.http.post(path + "/verify", json={"certificate": proof}).json()["status"] == "active"
    for version in (paho.MQTTv311, paho.MQTTv5):
        assert house.connack("pump-1", house.ca, version) == 0
        assert house.connack("valve-1", house.ca, version) == 0x87
        assert house.connack("pump-2", house.others, version) == 0x87  # the listener trusts it, and no account has it
    shown = house.http.get(path).json()
    assert (shown["uses"], shown["last_refusal"]["code"]) == (1, "refused_authority_pattern")
    assert house.http.get("/v1/iot/devices/pump-1").json()["name"] == "pump-1"
    assert house.http.get("/v1/iot/devices/pump-2").status_code == 404
    assert house.http.delete(path).status_code == 204
    assert house.connack("pump-1", house.ca, paho.MQTTv5) == 0x87
    assert house.http.get(path).json()["status"] == "revoked"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None), ("name", ""), ("name", "a\nb"), ("certificate", None), ("certificate", ""), ("certificate", 7),
        ("certificate", "none"), ("certificate", "x" * 16_385), ("certificate", "\x00"), ("names", "both"),
        ("names", None), ("type", ""), ("device_id_pattern", "pump-#"), ("device_id_pattern", ""), ("status", "active"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_named_and_nothing_is_made(house: House, field: str, value: object) -> None:
    before = house.http.get(AUTHORITIES).json()
    body = {"name": "wrong", "certificate": house.others.pem.decode(), field: value}
    answer = house.http.post(AUTHORITIES, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"]["field"] == field
    assert house.http.get(AUTHORITIES).json() == before
