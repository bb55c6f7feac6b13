"""One place turns an error into bytes: CONNACK, DISCONNECT or silence, by state and version; and then it closes."""

from __future__ import annotations

import pytest

from broker._core.encoding import varint
from broker.wire import Connack, Disconnect, Packet, Pingreq, Puback, Publish, Pubrec, Pubrel, Subscribe, Subscription
from tests.support.core import Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])


@pytest.mark.clause("v5:MQTT-4.13.2-1", "v5:MQTT-3.14.4-2", "v5:MQTT-3.14.0-1")
@VERSIONS
@pytest.mark.parametrize("state", ["await_connect", "authenticating", "connected"])
def test_fail_speaks_by_state_and_version(core: Core, state: str, version: int) -> None:
    if state == "await_connect":
        client, said = core.open(version), None
    elif state == "authenticating":
        client, said = core.connecting("c", version, user_name="stranger"), Connack(reason_code=0x89)
        said = Connack(reason_code=3) if version == 4 else said
    else:
        client, said = core.connect("c", version), Disconnect(0x89) if version == 5 else None
    core.shard.fail_connection(client.handle, 0x89)
    core.run()
    client.expect(*([said] if said else []))
    assert not client.is_open
    core.shard.fail_connection(client.handle, 0x80)  # once is enough
    core.run()
    client.expect()


def test_a_reason_that_311_has_no_code_for_is_not_put_into_words(core: Core) -> None:
    client = core.connecting("c", 4, user_name="stranger")
    core.shard.fail_connection(client.handle, 0x9F)
    core.run()
    client.closed_with(None)


@pytest.mark.clause("v5:MQTT-3.14.4-1")
def test_nothing_follows_a_disconnect(core: Core) -> None:
    client, other = core.connect("c"), core.connect("o")
    client.subscribe("t", qos=1)
    client.reads = False
    other.publish("t", b"1", 1)
    core.shard.fail_connection(client.handle, 0x98)
    other.publish("t", b"2", 1)
    client.reads = True
    core.run()


BREACHES: list[tuple[str, Packet | bytes, int]] = [
    ("reserved packet type", b"\x00\x00", 0x81),
    ("packet of the server", b"\x20\x02\x00\x00", 0x82),
    ("flags of PINGREQ", b"\xc1\x00", 0x81),
    ("PINGREQ with a body", b"\xc0\x01\x00", 0x81),
    ("flags of SUBSCRIBE", b"\x80\x07\x00\x01\x00\x00\x01a\x00", 0x81),
    ("five bytes of length", b"\x30\x80\x80\x80\x80\x01", 0x81),
    ("overlong length", b"\xc0\x80\x00", 0x81),
    ("PUBLISH without a body", b"\x30\x00", 0x81),
    ("QoS 3", b"\x36\x05\x00\x01a\x00\x01", 0x81),
    ("packet identifier 0", b"\x32\x06\x00\x01a\x00\x00\x00", 0x82),
    ("wildcard in a topic name", Publish("a/+"), 0x90),
    ("wildcard at the end of a topic name", Publish("a/#"), 0x90),
    ("too many levels", Publish("/" * 300), 0x90),
    ("U+0000 in a topic name", b"\x30\x06\x00\x03a\x00b\x00", 0x81),
    ("surrogate in a topic name", b"\x30\x06\x00\x03\xed\xa0\x80\x00", 0x81),
    ("SUBSCRIBE without a filter", b"\x82\x03\x00\x01\x00", 0x82),
    ("SUBSCRIBE with packet identifier 0", b"\x82\x07\x00\x00\x00\x00\x01a\x00", 0x82),
    ("SUBSCRIBE cut short", b"\x82\x04\x00\x01\x00\x00", 0x81),
    ("UNSUBSCRIBE without a filter", b"\xa2\x03\x00\x01\x00", 0x82),
    ("topic alias above the maximum", Publish("t", properties={"topic_alias": 17}), 0x94),
    ("topic alias that was not set", Publish("", properties={"topic_alias": 1}), 0x94),
    ("empty topic name", b"\x30\x03\x00\x00\x00", 0x82),
    ("DISCONNECT with flags", b"\xe1\x00", 0x81),
]


@pytest.mark.clause(
    "v5:MQTT-4.13.1-1", "v5:MQTT-3.3.2-2", "v5:MQTT-4.7.0-1", "v5:MQTT-4.7.3-2",
    "v5:MQTT-3.2.2-17", "v5:MQTT-3.2.2-18", "v5:MQTT-3.3.2-9",
)  # fmt: skip
@pytest.mark.parametrize(("what", "packet", "reason_code"), BREACHES, ids=[one[0] for one in BREACHES])
def test_a_breach_closes_5_with_its_reason(any_core: Core, what: str, packet: Packet | bytes, reason_code: int) -> None:
    watcher, client = any_core.connect("w"), any_core.connect("c")
    watcher.subscribe("#")
    client.send(packet, Publish("behind"))
    assert client.closed_with(reason_code) == []
    watcher.expect()


BREACHES_311: list[tuple[str, Packet | bytes]] = [
    ("reserved packet type", b"\x00\x00"),
    ("AUTH", b"\xf0\x00"),
    ("packet of the server", b"\x20\x02\x00\x00"),
    ("flags of PINGREQ", b"\xc1\x00"),
    ("QoS 3", b"\x36\x05\x00\x01a\x00\x01"),
    ("wildcard in a topic name", Publish("+")),
    ("empty topic name", b"\x30\x02\x00\x00"),
    ("U+0000 in a topic name", b"\x30\x05\x00\x03a\x00b"),
    ("SUBSCRIBE without a filter", b"\x82\x02\x00\x01"),
    ("UNSUBSCRIBE without a filter", b"\xa2\x02\x00\x01"),
    ("reserved bits of a requested QoS", b"\x82\x06\x00\x01\x00\x01a\x04"),
]


@pytest.mark.clause(
    "v311:MQTT-4.8.0-1", "v311:MQTT-3.3.2-2", "v311:MQTT-4.7.1-1", "v311:MQTT-4.7.3-1", "v311:MQTT-4.7.3-2"
)
@pytest.mark.parametrize(("what", "packet"), BREACHES_311, ids=[one[0] for one in BREACHES_311])
def test_a_breach_closes_311_in_silence(any_core: Core, what: str, packet: Packet | bytes) -> None:
    watcher, client = any_core.connect("w"), any_core.connect("c", 4)
    watcher.subscribe("#")
    client.send(packet, Publish("behind"))
    assert client.closed_with(None) == []
    watcher.expect()


@pytest.mark.clause("v5:MQTT-3.2.2-15")
@VERSIONS
def test_a_packet_over_the_maximum_is_refused_by_its_header(core: Core, version: int) -> None:
    client = core.connect("c", version)
    size = core.limits["maximum_packet_size_bytes"]
    client.send(b"\x30" + varint(size - 4 + 1))  # four bytes of header, three of them the length
    client.closed_with(0x95 if version == 5 else None)


@VERSIONS
def test_more_filters_than_allowed_in_one_packet_close(version: int) -> None:
    core = Core(filters_per_subscribe_maximum=3)
    core.grant()
    client = core.connect("c", version)
    assert client.subscribe("a", "b", "c") == (0, 0, 0)
    client.send(Subscribe(1, tuple(Subscription(name) for name in "abcd")))
    client.closed_with(0x97 if version == 5 else None)
    core.end()


@pytest.mark.clause("v5:MQTT-3.14.4-2", "v311:MQTT-3.14.4-1", "v311:MQTT-3.14.4-2")
@VERSIONS
def test_a_disconnect_is_obeyed_in_silence_and_nothing_behind_it_is_read(any_core: Core, version: int) -> None:
    watcher, client = any_core.connect("w"), any_core.connect("c", version)
    watcher.subscribe("#")
    client.send(Publish("t", b"1"), Disconnect(), Publish("t", b"2"))
    assert client.closed_with(None) == []
    assert watcher.payloads() == [b"1"]


@VERSIONS
def test_a_pubrec_for_a_qos_1_delivery_is_a_breach(core: Core, version: int) -> None:
    client = core.connect("c", version)
    client.subscribe("t", qos=1)
    core.publish("t", b"", 1)
    (delivery,) = client.publishes()
    client.send(Pubrec(delivery.packet_id))
    client.closed_with(0x82 if version == 5 else None)


def test_acknowledgements_of_nothing_are_answered_or_ignored(core: Core) -> None:
    client = core.connect("c")
    client.send(Puback(5), Pubrec(6), Pubrel(7))
    names = [(type(one).__name__, getattr(one, "reason_code", None)) for one in client.received()]
    assert names == [("Pubrel", 0x92), ("Pubcomp", 0x92)]
    assert client.is_open


def test_everybody_is_told_when_the_broker_stops(core: Core) -> None:
    five, old, waiting, silent = (
        core.connect("a"), core.connect("b", 4), core.connecting("c", user_name="stranger"), core.open(),
    )  # fmt: skip
    core.shard.fail_all(0x8B)
    core.run()
    five.closed_with(0x8B)
    assert old.closed_with(None) == []
    waiting.closed_with(0x88)  # CONNACK has no 0x8B
    assert silent.closed_with(None) == []


def test_refusals_are_told_to_the_observer(core: Core) -> None:
    core.refuse(core.connecting("c", user_name="stranger").handle)
    client = core.connect("c")
    client.send(b"\x00\x00")
    assert [fields["reason_code"] for _, fields in core.observer.events] == ["0x87", "0x81"]


def test_others_do_not_notice(core: Core) -> None:
    good = core.connect("good")
    good.subscribe("t")
    for number in range(200):
        bad = core.connect("bad")
        bad.send(bytes((number,)) * 7)
        if bad.is_open:
            bad.drop()
    good.publish("t", b"still here")
    good.send(Pingreq())
    assert [type(one).__name__ for one in good.received()] == ["Publish", "Pingresp"]
