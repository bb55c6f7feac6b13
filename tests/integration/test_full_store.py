"""A broker whose store has used up its budget: what needs room is refused, the rest goes on, and it recovers alone."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.testing import BrokerUnderTest
from broker.testing.harness import Device
from tests.integration.wire import CONNACK, PUBACK, PUBLISH, V5, V311, Client, connect, puback, publish

BUDGET_BYTES = 16 * 1024 * 1024
PAYLOAD_BYTES = 50_000
FOR_EVER = b"\x11" + struct.pack("!I", 0xFFFFFFFF)
QUOTA_EXCEEDED = 0x97


@pytest.fixture
def full(tmp_path: Path, make_iot_broker: Callable[..., BrokerUnderTest]) -> tuple[BrokerUnderTest, Device, int]:
    """A broker that refuses for want of room, the device for which messages wait, and how many."""
    broker = make_iot_broker(tmp_path / "data", config={"store_map_size_bytes": BUDGET_BYTES})
    device = broker.register_device(device_id="away")
    with Client(broker.port) as client:
        client.send(connect(V5, "away", device.username, device.password, raw_properties=FOR_EVER))
        client.expect(CONNACK)
        client.subscribe(device.topic("commands"))
    with application(broker) as sender:
        for number in range(1, BUDGET_BYTES // PAYLOAD_BYTES):
            code = sender.publish_qos1(device.topic("commands"), bytes(PAYLOAD_BYTES), number)
            if code:
                assert code == QUOTA_EXCEEDED
                return broker, device, number - 1
    raise AssertionError("the budget was never used up")


def application(broker: BrokerUnderTest, version: int = V5) -> Client:
    return Client(broker.port, version).login("apikey", broker.api_key, "back end")


def readiness(broker: BrokerUnderTest) -> str:
    """What ``/readyz`` says is wrong; empty when nothing is."""
    try:
        urllib.request.urlopen(broker.http_url + "/readyz", timeout=5).close()
    except urllib.error.HTTPError as error:
        with error:
            return str(json.load(error)["reason"])
    return ""


def test_what_was_accepted_is_delivered_and_makes_the_room_again(full: tuple[BrokerUnderTest, Device, int]) -> None:
    broker, device, waiting = full
    assert readiness(broker).startswith("store: full: 90 %")
    with Client(broker.port) as client:
        client.send(connect(V5, "away", device.username, device.password, flags=0xC0, raw_properties=FOR_EVER))
        assert client.expect(CONNACK).body[0] == 1
        for _ in range(waiting):
            client.send(puback(client.expect(PUBLISH).packet_id))
        broker.wait_until(lambda: readiness(broker) == "", 15)
        with application(broker) as sender:
            assert sender.publish_qos1(device.topic("commands"), b"there is room", 1) == 0
        assert client.expect(PUBLISH).payload(V5) == b"there is room"


def test_what_needs_no_room_goes_on(full: tuple[BrokerUnderTest, Device, int]) -> None:
    broker, device, _ = full
    with application(broker) as receiver:
        receiver.subscribe("telemetry/#")
        assert receiver.publish_within("telemetry/1", b"QoS 1 among those who keep nothing") != []
        receiver.send(publish(V5, "telemetry/1", b"QoS 0"))
        assert receiver.expect(PUBLISH).payload(V5) == b"QoS 0"
        receiver.send(publish(V5, device.topic("commands"), b"QoS 0 for a session that is away"))
        receiver.ping()


def test_a_3_1_1_client_is_closed_and_told_nothing_untrue(full: tuple[BrokerUnderTest, Device, int]) -> None:
    broker, device, _ = full
    with application(broker, V311) as sender:
        sender.send(publish(V311, device.topic("commands"), bytes(PAYLOAD_BYTES), 1))
        while (kind := sender.read_kind()) is not None:
            assert kind != PUBACK


def test_a_restart_does_not_forget_that_the_store_is_full(full: tuple[BrokerUnderTest, Device, int]) -> None:
    broker, device, waiting = full
    broker.restart()
    broker.wait_until(lambda: readiness(broker).startswith("store: full"))
    with application(broker) as sender:
        assert sender.publish_qos1(device.topic("commands"), bytes(PAYLOAD_BYTES), 1) == QUOTA_EXCEEDED
    with Client(broker.port) as client:
        client.send(connect(V5, "away", device.username, device.password, flags=0xC0, raw_properties=FOR_EVER))
        assert client.expect(CONNACK).body[0] == 1
        for _ in range(waiting):
            client.send(puback(client.expect(PUBLISH).packet_id))
        broker.wait_until(lambda: readiness(broker) == "", 15)
