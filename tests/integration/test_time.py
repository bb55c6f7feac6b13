"""What takes minutes and hours of a broker's time, over sockets, in milliseconds of ours: the test moves the clock."""

from __future__ import annotations

import struct

import pytest

from broker.testing import BrokerUnderTest
from tests.integration.wire import CONNACK, PUBACK, PUBLISH, V5, V311, Client, binary, connect, packet, publish, varint

VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
OPEN = pytest.mark.iot_broker(open=True)
HOUR_S = 3600
EXPIRY, WILL_DELAY, MESSAGE_EXPIRY = b"\x11", b"\x18", b"\x02"


def seconds(identifier: bytes, value: int) -> bytes:
    """A property of four bytes."""
    return identifier + struct.pack("!I", value)


def enter(broker: BrokerUnderTest, client_id: str, *, expiry_s: int = 0, clean: bool = True) -> tuple[Client, bool]:
    """A client of 5.0, and whether the broker still had its session."""
    client = Client(broker.port)
    client.send(connect(V5, client_id, flags=2 if clean else 0, raw_properties=seconds(EXPIRY, expiry_s)))
    answer = client.expect(CONNACK)
    assert answer.body[1] == 0
    broker.wait_connected(client_id)
    return client, bool(answer.body[0])


def leave(broker: BrokerUnderTest, client: Client, client_id: str) -> None:
    client.close()
    broker.wait_disconnected(client_id)


@OPEN
@VERSIONS
def test_who_connects_and_says_nothing_is_closed_after_ten_seconds(iot_broker: BrokerUnderTest, version: int) -> None:
    with Client(iot_broker.port, version) as silent, Client(iot_broker.port, version) as slow:
        slow.send(connect(version, "slow")[:-1])
        iot_broker.clock.advance(9)
        slow.send(connect(version, "slow")[-1:])
        assert slow.expect(CONNACK).body[1] == 0
        iot_broker.clock.advance(2)
        silent.expect_closed()
        slow.ping()


@OPEN
@pytest.mark.clause("v5:MQTT-3.1.2-8", "v5:MQTT-3.1.3-9")
def test_a_delayed_will_waits_for_its_time_and_is_forgotten_when_its_client_returns(
    iot_broker: BrokerUnderTest,
) -> None:
    inbox = iot_broker.subscribe("will")

    def with_will() -> Client:
        client = Client(iot_broker.port)
        own = seconds(EXPIRY, HOUR_S)
        head = binary("MQTT") + bytes([V5, 0x04, 0, 0]) + varint(len(own)) + own + binary("client")
        delay = seconds(WILL_DELAY, 60)
        client.send(packet(0x10, head + varint(len(delay)) + delay + binary("will") + binary(b"gone")))
        assert client.expect(CONNACK).body[1] == 0
        iot_broker.wait_connected("client")
        return client

    leave(iot_broker, with_will(), "client")
    iot_broker.clock.advance(50)
    leave(iot_broker, with_will(), "client")  # in time: the first will is forgotten
    iot_broker.clock.advance(50)
    inbox.expect_nothing(0.05)
    iot_broker.clock.advance(11)
    assert inbox.next().text == "gone"
    iot_broker.clock.advance(100)
    inbox.expect_nothing(0.05)


@OPEN
def test_a_session_waits_for_its_client_as_long_as_it_was_asked_to(iot_broker: BrokerUnderTest) -> None:
    client, present = enter(iot_broker, "client", expiry_s=HOUR_S, clean=False)
    assert not present
    assert client.subscribe("a") == [1]
    leave(iot_broker, client, "client")
    iot_broker.clock.advance(HOUR_S - 10)
    client, present = enter(iot_broker, "client", expiry_s=HOUR_S, clean=False)
    assert present
    leave(iot_broker, client, "client")
    iot_broker.clock.advance(HOUR_S + 10)
    client, present = enter(iot_broker, "client", expiry_s=HOUR_S, clean=False)
    assert not present
    leave(iot_broker, client, "client")


@OPEN
@pytest.mark.clause("v5:MQTT-3.3.2-6")
def test_a_message_that_waited_says_how_long_it_still_lives(iot_broker: BrokerUnderTest) -> None:
    client, _ = enter(iot_broker, "client", expiry_s=HOUR_S, clean=False)
    assert client.subscribe("a") == [1]
    leave(iot_broker, client, "client")
    with Client(iot_broker.port) as writer:
        writer.login("anybody", "anything", "writer")
        for packet_id, lives_s in enumerate((100, 1000), start=1):
            writer.send(publish(V5, "a", b"x", packet_id, raw_properties=seconds(MESSAGE_EXPIRY, lives_s)))
            writer.expect(PUBACK)
    iot_broker.clock.advance(200)
    client, present = enter(iot_broker, "client", expiry_s=HOUR_S, clean=False)
    assert present
    message = client.expect(PUBLISH)
    (left_s,) = struct.unpack_from("!I", message.body, message.body.index(MESSAGE_EXPIRY, 5) + 1)
    assert 795 <= left_s <= 800
    client.ping()  # and nothing else
    leave(iot_broker, client, "client")
