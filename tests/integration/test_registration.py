"""Devices that register themselves on a live broker: with paho, in both versions, over REST, and across a restart."""

from __future__ import annotations

import queue
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.testing import BrokerUnderTest
from tests.support.paho import leave

WAIT_S = 10.0
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "registration.md"
CLAIMS = "/v1/iot/claim-tokens"


class Account:
    """The account ``default`` of a live broker, over HTTP."""

    def __init__(self, broker: BrokerUnderTest) -> None:
        self.broker = broker
        headers = {"Authorization": f"Bearer {broker.api_key}"}
        self.http = httpx.Client(base_url=broker.http_url, headers=headers, trust_env=False, timeout=30)

    def token(self, **body: Any) -> dict[str, Any]:
        answer = self.http.post(CLAIMS, json={"name": "fleet", **body})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def shown(self, token: dict[str, Any]) -> dict[str, Any]:
        return dict(self.http.get(f"{CLAIMS}/{token['claim_id']}").raise_for_status().json())

    def timeline(self, device_id: str) -> list[str]:
        answer = self.http.get(f"/v1/iot/devices/{device_id}/timeline").raise_for_status()
        return [one["code"] for one in answer.json()["events"]]

    def connack(self, user_name: str, password: str, version: int = paho.MQTTv311) -> int:
        """The code of the CONNACK, in MQTT 5's words."""
        codes: queue.Queue[int] = queue.Queue()
        client = paho.Client(CallbackAPIVersion.VERSION2, "any", protocol=paho.MQTTProtocolVersion(version))
        client.on_connect = lambda _client, _data, _flags, reason, _properties: codes.put(reason.value)
        client.username_pw_set(user_name, password)
        client.connect("127.0.0.1", self.broker.direct_port)
        client.loop_start()
        try:
            return codes.get(timeout=WAIT_S)
        finally:
            leave(client)


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with BrokerUnderTest() as broker:
        account = Account(broker)
        yield account
        account.http.close()


def test_the_printed_device_registers_itself_and_its_messages_arrive(account: Account, tmp_path: Path) -> None:
    (example,) = EXAMPLE.findall(DOCUMENT.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(compile(example, str(DOCUMENT), "exec"), names)
    token = account.token(type="sensor", device_id_pattern="pump-*")
    keep = tmp_path / "password"
    login = ("127.0.0.1", account.broker.direct_port, token["claim_id"], token["secret"], "pump-7", keep)
    for _ in range(2):  # once more with what it has kept
        inbox = account.broker.subscribe("devices/pump-7/telemetry")
        client = names["connect"](*login)
        client.publish("devices/pump-7/telemetry", b"21.5", qos=1).wait_for_publish(WAIT_S)
        assert inbox.next().payload == b"21.5"
        leave(client)
    assert keep.stat().st_mode & 0o777 == 0o600
    shown = account.shown(token)
    assert (shown["uses"], shown["status"], shown["last_refusal"]) == (1, "valid", None)
    device = account.http.get("/v1/iot/devices/pump-7").raise_for_status().json()
    assert (device["name"], device["type"], device["mqtt_username"]) == (
        "pump-7",
        "sensor",
        f"{token['claim_id']}.pump-7",
    )
    assert account.timeline("pump-7")[-1] == "registered_by_claim"
    (entry,) = [
        one for one in account.http.get("/v1/iot/audit").json()["entries"] if one["action"] == "register_device"
    ]
    assert entry["actor"] == {"type": "claim_token", "key_id": None, "name": "fleet", "address": "127.0.0.1"}


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5.0"])
def test_what_is_refused_is_told_by_code_and_by_words(account: Account, version: int) -> None:
    token, own = account.token(device_id_pattern="valve-*", uses_maximum=1), secrets.token_urlsafe(32)
    five = version == paho.MQTTv5

    def come(device_id: str, password: str, secret: str = token["secret"]) -> int:
        return account.connack(f"{token['claim_id']}.{device_id}", f"{secret}.{password}", version)

    bad_password = 0x86 if five else 0x87  # 3.1.1 has one code for every login that is wrong
    assert come("valve-1", "short") == bad_password
    assert come("pump-1", own) == 0x87
    refusal = account.shown(token)["last_refusal"]
    assert (refusal["code"], refusal["device_id"], refusal["address"]) == (
        "refused_claim_pattern",
        "pump-1",
        "127.0.0.1",
    )
    assert refusal["message"]
    assert refusal["remedy"]
    assert come("valve-1", own, "0" * 40) == 0x87
    device_id = f"valve-{version}"
    assert come(device_id, own) == 0
    assert come("valve-2", own) == 0x87
    assert account.shown(token)["status"] == "used_up"
    assert account.shown(token)["last_refusal"]["code"] == "refused_claim_used_up"
    assert account.connack(f"{token['claim_id']}.{device_id}", own, version) == 0


def test_a_revoked_token_registers_nobody_and_its_devices_stay_across_a_restart(tmp_path: Path) -> None:
    with BrokerUnderTest(tmp_path) as broker:
        account, own = Account(broker), secrets.token_urlsafe(32)
        token = account.token()
        login = f"{token['claim_id']}.pump-7", f"{token['secret']}.{own}"
        assert account.connack(*login) == 0
        assert account.http.delete(f"{CLAIMS}/{token['claim_id']}").status_code == 204
        account.http.close()
        broker.restart()
        account = Account(broker)
        shown = account.shown(token)
        assert (shown["status"], shown["uses"]) == ("revoked", 1)
        assert account.connack(*login) == 0
        assert account.connack(login[0], own) == 0
        assert account.connack(f"{token['claim_id']}.pump-8", f"{token['secret']}.{own}") == 0x87
        account.http.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None), ("name", ""), ("name", 7), ("name", "x" * 65), ("name", "a\nb"),
        ("type", ""), ("type", None), ("type", "x" * 65),
        ("device_id_pattern", ""), ("device_id_pattern", None), ("device_id_pattern", "pump-#"),
        ("device_id_pattern", []),
        ("uses_maximum", 0), ("uses_maximum", -1), ("uses_maximum", 1.5), ("uses_maximum", "7"),
        ("uses_maximum", 10**10), ("uses_maximum", True),
        ("expires_at", "tomorrow"), ("expires_at", 2_000_000_000), ("expires_at", "2001-01-01T00:00:00Z"),
        ("expires_at", "9999-01-01T00:00:00Z"),
        ("secret", "of my own"), ("claim_id", "claim_mine"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_named_and_nothing_is_made(account: Account, field: str, value: object) -> None:
    before = account.http.get(CLAIMS).json()
    answer = account.http.post(CLAIMS, json={"name": "fleet", field: value})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"]["field"] == field
    assert account.http.get(CLAIMS).json() == before
