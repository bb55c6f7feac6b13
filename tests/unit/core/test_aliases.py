"""Topic aliases, both ways: what a number stands for, who gets one, and what they may cost.

Single exchanges stand in ``tests/packets/alias.toml``; here belongs what takes sizes, drops, time or other connections.
"""

from __future__ import annotations

import pytest

from broker._core.core_probe import alias_bytes
from broker.reasons import DropReason
from broker.wire import Publish
from tests.support.core import Client, Core

MAXIMUM = 64
STRUCTS_BYTES = 4000
"""More than the tables of one connection take, without the topics."""


def reader(core: Core, maximum: int, **properties: int) -> Client:
    client = core.connect("reader", properties={"topic_alias_maximum": maximum, **properties})
    client.subscribe("#", qos=1)
    return client


class Resolver:
    """What a client that keeps to the standard makes of the deliveries of one connection."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.known: dict[int, str] = {}
        self.bare = 0

    def topic(self, packet: Publish) -> str:
        alias = packet.properties.get("topic_alias")
        if alias is None:
            return packet.topic_name
        assert isinstance(alias, int)
        assert 1 <= alias <= self.maximum
        if packet.topic_name:
            assert alias not in self.known, "an alias is given once"
            self.known[alias] = packet.topic_name
        self.bare += not packet.topic_name
        return self.known[alias]


@pytest.fixture
def core() -> Core:
    made = Core()
    made.grant()
    return made


@pytest.mark.clause("v5:MQTT-3.1.2-26", "v5:MQTT-3.3.2-11", "v5:MQTT-3.3.2-8")
@pytest.mark.parametrize("offered", [1, 2, 63, 64, 65, 65_535])
def test_the_first_topics_get_aliases_up_to_what_the_client_takes(core: Core, offered: int) -> None:
    client, source = reader(core, offered), core.connect("source")
    resolver = Resolver(min(offered, MAXIMUM))
    for turn in range(3):
        for number in range(100):
            source.publish(f"topic/{number}", f"{turn}".encode())
        topics = [resolver.topic(one) for one in client.publishes()]
        assert topics == [f"topic/{number}" for number in range(100)]
    assert len(resolver.known) == min(offered, MAXIMUM)
    assert resolver.bare == 2 * min(offered, MAXIMUM)
    core.end()


@pytest.mark.parametrize("topic", ["abc", "a", "x" * 1025])
def test_a_topic_that_gains_nothing_or_is_very_long_has_no_alias(core: Core, topic: str) -> None:
    client, source = reader(core, 10), core.connect("source")
    for _ in range(2):
        source.publish(topic, b"")
    assert client.publishes() == 2 * [Publish(topic)]
    assert alias_bytes(core.shard, client.handle) == 0
    core.end()


def test_outbound_aliases_take_bounded_memory(core: Core) -> None:
    client, source = reader(core, 65_535), core.connect("source")
    for number in range(200):
        source.publish(f"{number:04}".ljust(1024, "x"), b"")
    assert len(client.publishes()) == 200
    used = alias_bytes(core.shard, client.handle)
    assert MAXIMUM * 1024 < used < MAXIMUM * 1024 + STRUCTS_BYTES
    core.end()


@pytest.mark.clause("v5:MQTT-3.3.2-7", "v5:MQTT-4.4.0-1")
def test_what_is_sent_again_has_the_aliases_of_its_own_connection(core: Core) -> None:
    properties = {"topic_alias_maximum": 1, "session_expiry_interval": 60}
    client, source = core.connect("c", properties=properties), core.connect("source")
    client.subscribe("#", qos=1)
    source.publish("other/topic", b"0")
    for payload in (b"1", b"2"):
        source.publish("some/topic", payload, 1)
    assert [one.topic_name for one in client.publishes()] == ["other/topic", "some/topic", "some/topic"]
    client.drop()
    source.publish("some/topic", b"3", 1)
    again = core.connect("c", clean_start=False, properties=properties)
    found = [(one.topic_name, one.payload, one.dup, one.properties.get("topic_alias")) for one in again.publishes()]
    assert found == [("some/topic", b"1", True, 1), ("", b"2", True, 1), ("", b"3", False, 1)]
    core.end()


@pytest.mark.clause("v5:MQTT-3.1.2-24", "v5:MQTT-3.1.2-25")
def test_the_size_that_counts_is_that_of_what_is_sent(core: Core) -> None:
    # PUBLISH of QoS 0 with this topic: 2 + 2 + 40 + 1 bytes, and 3 for the alias; without the topic 40 less
    client, source = reader(core, 10, maximum_packet_size=100), core.connect("source")
    topic = "t" * 40
    for size in (56, 55, 52, 51, 52, 92, 93):
        source.publish(topic, size * b"x")
    received = [(one.topic_name, one.properties.get("topic_alias"), len(one.payload)) for one in client.publishes()]
    # 55: as large as may be without an alias; 52: with one; then the topic is left out, and 92 fit
    assert received == [(topic, None, 55), (topic, 1, 52), ("", 1, 51), ("", 1, 52), ("", 1, 92)]
    assert core.all_drops() == {DropReason.PACKET_TOO_LARGE: 2}
    core.end()


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_that_is_dropped_or_waits_gives_no_alias_away(qos: int) -> None:
    core = Core(outbox_soft_limit_bytes=1024)
    core.grant()
    client, source = reader(core, 10), core.connect("source")
    client.reads = False
    source.publish("first/topic", 1020 * b"x")
    source.publish("other/topic", 100 * b"y", qos)  # no room
    client.reads = True
    core.run()
    source.publish("other/topic", b"z", qos)
    source.publish("other/topic", b"z", qos)
    resolver = Resolver(10)
    topics = [resolver.topic(one) for one in client.publishes()]
    assert topics == ["first/topic", *((2 + qos) * ["other/topic"])]
    assert core.all_drops() == ({} if qos else {DropReason.OUTBOX_FULL: 1})
    core.end()


@pytest.mark.clause("v5:MQTT-3.3.4-3", "v5:MQTT-3.3.2-6")
def test_an_alias_stands_beside_identifiers_and_what_is_left_of_an_expiry(core: Core) -> None:
    client = core.connect("c", properties={"topic_alias_maximum": 10, "receive_maximum": 1})
    source = core.connect("source")
    client.subscribe("some/#", qos=1, identifier=300)
    for payload in (b"1", b"2"):
        source.publish("some/topic", payload, 1, properties={"message_expiry_interval": 60})
    core.wait(10)
    client.acknowledge(1)
    first, second = client.publishes()
    wanted = {"message_expiry_interval": 60, "topic_alias": 1, "subscription_identifier": (300,)}
    assert (first.topic_name, dict(first.properties)) == ("some/topic", wanted)
    assert (second.topic_name, dict(second.properties)) == ("", {**wanted, "message_expiry_interval": 50})
    core.end()


def test_aliases_of_one_receiver_are_nothing_to_another(core: Core) -> None:
    clients = [core.connect(f"c{number}", properties={"topic_alias_maximum": number}) for number in (0, 1, 2)]
    old = core.connect("old", 4)
    for client in (*clients, old):
        client.subscribe("#")
    source = core.connect("source")
    for topic in ("one/topic", "two/topic", "two/topic", "one/topic"):
        source.publish(topic)
    seen = [[(one.topic_name, one.properties.get("topic_alias")) for one in client.publishes()] for client in clients]
    one, two = "one/topic", "two/topic"
    assert seen == [
        [(one, None), (two, None), (two, None), (one, None)],
        [(one, 1), (two, None), (two, None), ("", 1)],
        [(one, 1), (two, 2), ("", 2), ("", 1)],
    ]
    assert [packet.topic_name for packet in old.publishes()] == [one, two, two, one]
    core.end()


# ---------------------------------------------------------------- inbound


def alias(number: int) -> dict[str, int]:
    return {"topic_alias": number}


@pytest.mark.clause("v5:MQTT-3.3.2-12", "v5:MQTT-3.3.2-9")
@pytest.mark.parametrize("maximum", [1, 16, 1024])
def test_a_client_may_set_as_many_aliases_as_were_announced(maximum: int) -> None:
    core = Core(topic_alias_maximum=maximum)
    core.grant()
    client, watcher = core.connect("c"), core.connect("w")
    watcher.subscribe("#")
    for number in range(1, maximum + 1):
        client.publish(f"topic/{number}", properties=alias(number))
    for number in range(1, maximum + 1):
        client.publish("", properties=alias(number))
    expected = [f"topic/{number}" for number in range(1, maximum + 1)]
    assert [one.topic_name for one in watcher.publishes()] == 2 * expected
    client.publish("topic/more", properties=alias(maximum + 1))
    client.closed_with(0x94)
    core.end()


@pytest.mark.clause("v5:MQTT-3.2.2-18")
def test_without_aliases_none_is_announced_and_none_is_taken() -> None:
    core = Core(topic_alias_maximum=0)
    core.grant()
    client = core.connecting("c")
    assert "topic_alias_maximum" not in client.received()[0].properties  # type: ignore[union-attr]
    client.publish("topic", properties=alias(1))
    client.closed_with(0x94)
    core.end()


def test_inbound_aliases_take_bounded_memory(core: Core) -> None:
    client = core.connect("c")
    for number in range(1, 17):
        client.publish(f"{number}".ljust(4096, "x"), properties=alias(number))
    used = alias_bytes(core.shard, client.handle)
    assert 65_536 < used < 65_536 + STRUCTS_BYTES
    for number in range(1, 17):  # replaced by others of the same size, and by shorter ones
        client.publish(f"{number}".ljust(4096, "y"), properties=alias(number))
    client.publish("short", properties=alias(1))
    client.publish("x" * 4096, properties=alias(1))
    assert alias_bytes(core.shard, client.handle) == used
    client.publish("x" * 4097, properties=alias(1))
    client.closed_with(0x97)
    core.end()


def test_the_longest_topic_may_have_an_alias(core: Core) -> None:
    client, watcher = core.connect("c"), core.connect("w")
    watcher.subscribe("#")
    client.publish("x" * 65_535, properties=alias(1))
    client.publish("", properties=alias(1))
    assert [one.topic_name for one in watcher.publishes()] == 2 * ["x" * 65_535]
    core.end()


def test_a_fan_out_that_goes_on_later_keeps_the_topic_its_alias_had() -> None:
    core = Core(deliveries=1)
    core.grant()
    watchers = [core.connect(f"w{number}") for number in range(5)]
    for watcher in watchers:
        watcher.subscribe("#")
    client = core.connect("c")
    properties = [alias(1), alias(1), alias(1)]
    packets = [
        Publish(topic, properties=one) for topic, one in zip(("a/topic", "", "b/topic"), properties, strict=True)
    ]
    client.send(*packets, Publish("", properties=alias(1)))
    for watcher in watchers:
        assert [one.topic_name for one in watcher.publishes()] == ["a/topic", "a/topic", "b/topic", "b/topic"]
    core.end()


@pytest.mark.clause("v5:MQTT-4.3.3-10")
def test_a_repeated_qos2_message_sets_its_alias_too(core: Core) -> None:
    client, watcher = core.connect("c"), core.connect("w")
    watcher.subscribe("#")
    client.publish("a/topic", b"1", 2, packet_id=7)
    client.publish("a/topic", b"1", 2, packet_id=7, dup=True, properties=alias(1))
    client.publish("", b"2", properties=alias(1))
    assert [(one.topic_name, one.payload) for one in watcher.publishes()] == [("a/topic", b"1"), ("a/topic", b"2")]
    core.end()
