"""A data directory of every format that there ever was starts, and everybody who was in it is let in again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.storage.tables import FORMAT
from broker.testing import BrokerUnderTest
from tests.integration.wire import CONNACK, PUBLISH, PUBREC, PUBREL, V5, Client, connect, packet, publish

FOLDER = Path(__file__).resolve().parents[1] / "samples"
SAMPLES = sorted(FOLDER.glob("format*"))
WITH_SESSIONS = [*(sample.name for sample in SAMPLES if sample.name != "format0"), "as it is written now"]
WILL_DUE_S = 60

Crashed = tuple[BrokerUnderTest, dict[str, Any]]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_accounts_keys_and_devices_of_an_old_format_are_there(
    sample: Path, tmp_path: Path, make_iot_broker: Callable[..., BrokerUnderTest]
) -> None:
    data_dir = Path(shutil.copytree(sample, tmp_path / "data"))
    expected = json.loads((data_dir / "expected.json").read_text(encoding="utf-8"))
    for _ in range(2):  # as it was, and as the first start has left it
        broker = make_iot_broker(data_dir)
        assert broker.broker.first_key is None
        check_keys(broker, expected)
        check_devices(broker, expected)
        broker.stop()


def check_keys(broker: BrokerUnderTest, expected: dict[str, Any]) -> None:
    for account, key in expected["keys"].items():
        mine = {one["device_id"] for one in expected["devices"] if one["account"] == account}
        listed = get(broker, "/v1/iot/devices", key)["devices"]
        assert {one["device_id"] for one in listed} == mine
    if "revoked_key" in expected:
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            get(broker, "/v1/iot/devices", expected["revoked_key"])
        refused.value.close()


def check_devices(broker: BrokerUnderTest, expected: dict[str, Any]) -> None:
    for device in expected["devices"]:
        with Client(broker.port) as client:
            client.login(device["username"], device["password"], device["device_id"])
            assert client.subscribe(f"devices/{device['device_id']}/commands") == [1]


@pytest.fixture(scope="session")
def written_now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as the present code leaves it in a crash."""
    folder = tmp_path_factory.mktemp("written") / "data"
    script = FOLDER / f"write_format{FORMAT}.py"
    subprocess.run([sys.executable, "-P", str(script), str(folder)], check=True, timeout=60)
    return folder


@pytest.fixture(params=WITH_SESSIONS)
def crashed(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make_iot_broker: Callable[..., BrokerUnderTest],
    written_now: Path,
) -> Crashed:
    """A broker on a data directory whose broker was ended by a crash, and what it holds."""
    sample = FOLDER / request.param if request.param.startswith("format") else written_now
    data_dir = Path(shutil.copytree(sample, tmp_path / "data", ignore=shutil.ignore_patterns("*.sock", "lock*")))
    return make_iot_broker(data_dir), json.loads((data_dir / "expected.json").read_text(encoding="utf-8"))


def back(crashed: Crashed, client_id: str) -> Client:
    """Let a device come back to its session, which must be there."""
    broker, expected = crashed
    (device,) = (one for one in expected["devices"] if one["device_id"] == client_id)
    client = Client(broker.port)
    client.send(connect(V5, client_id, device["username"], device["password"], flags=0xC0))
    assert client.expect(CONNACK).body[:2] == b"\x01\x00"
    return client


def test_messages_that_waited_are_delivered_in_their_order(crashed: Crashed) -> None:
    ((client_id, payloads),) = crashed[1]["sessions"]["queued"].items()
    with back(crashed, client_id) as client:
        assert [client.expect(PUBLISH).payload(V5).decode() for _ in payloads] == payloads


def test_what_was_not_acknowledged_is_sent_again_under_its_identifier(crashed: Crashed) -> None:
    ((client_id, (sent, received)),) = crashed[1]["sessions"]["sent"].items()
    with back(crashed, client_id) as client:
        found = {(one.kind, one.packet_id, one.flags & 8) for one in (client.read(), client.read()) if one is not None}
        assert found == {(PUBLISH, sent, 8), (PUBREL, received, 0)}
        client.ping()


def test_a_qos_2_message_that_was_received_before_is_not_published_again(crashed: Crashed) -> None:
    ((client_id, packet_id),) = crashed[1]["sessions"]["open"].items()
    with back(crashed, client_id) as client, application(crashed) as other:
        topic = f"devices/{client_id}/telemetry"
        other.subscribe(topic)
        client.send(publish(V5, topic, b"once", packet_id, first_byte=0x3C))
        assert client.expect(PUBREC).packet_id == packet_id
        client.send(packet(0x62, packet_id.to_bytes(2, "big")))
        other.ping()


def test_a_will_is_published_once_when_its_client_does_not_come_back(crashed: Crashed) -> None:
    ((topic, payload),) = crashed[1]["sessions"]["wills"].values()
    with application(crashed) as other:
        other.subscribe(topic)
        other.ping()
        crashed[0].clock.advance(WILL_DUE_S)
        assert other.expect(PUBLISH).payload(V5).decode() == payload
        crashed[0].clock.advance(WILL_DUE_S)
        other.ping()


def test_retained_messages_are_there(crashed: Crashed) -> None:
    ((topic, payload),) = crashed[1]["retained"].items()
    with application(crashed) as other:
        other.subscribe(topic)
        assert other.expect(PUBLISH).payload(V5).decode() == payload


def application(crashed: Crashed) -> Client:
    return Client(crashed[0].port).login("apikey", crashed[1]["keys"]["default"], "another back end")


def get(broker: BrokerUnderTest, path: str, key: str) -> dict[str, Any]:
    request = urllib.request.Request(broker.http_url + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
