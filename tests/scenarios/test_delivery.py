"""From a PUBLISH to its receivers: matching, QoS, quotas, queues, limits, expiry, and what is counted when not."""

from __future__ import annotations

import itertools

import pytest

from broker._core.packets import encode
from broker.errors import BadRequest, PayloadTooLarge
from broker.reasons import DropReason
from broker.wire import Disconnect, Pingreq, Pingresp, Puback, Publish, Suback, Subscribe, Subscription, Unsubscribe
from tests.support.core import Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])


def fill(core: Core, topic: str, count: int, qos: int = 1, size: int = 1) -> list[bytes]:
    sent = [b"%d" % number + b"." * size for number in range(count)]
    for payload in sent:
        core.publish(topic, payload, qos)
    return sent


@pytest.mark.clause(
    "v5:MQTT-3.3.4-1", "v5:MQTT-3.8.4-8", "v5:MQTT-4.3.1-1", "v5:MQTT-4.3.2-2", "v5:MQTT-4.5.0-1",
    "v311:MQTT-3.3.4-1", "v311:MQTT-3.8.4-6", "v311:MQTT-4.3.1-1", "v311:MQTT-4.3.2-1", "v311:MQTT-4.5.0-1",
)  # fmt: skip
@pytest.mark.parametrize("granted", [0, 1])
@pytest.mark.parametrize("published", [0, 1])
@pytest.mark.parametrize("from_version", [4, 5])
@VERSIONS
def test_delivery_at_the_lower_qos(
    any_core: Core, version: int, from_version: int, published: int, granted: int
) -> None:
    publisher, subscriber = any_core.connect("p", from_version), any_core.connect("s", version)
    subscriber.subscribe("a/b", qos=granted)
    publisher.publish("a/b", b"x", published)
    (delivery,) = subscriber.publishes()
    assert delivery == Publish("a/b", b"x", min(published, granted), packet_id=delivery.packet_id)
    assert bool(delivery.packet_id) == bool(delivery.qos)
    publisher.expect(*([Puback(1)] if published else []))


@pytest.mark.clause("v5:MQTT-3.2.2-10", "v5:MQTT-3.8.4-7", "v311:MQTT-3.8.4-5")
@VERSIONS
def test_every_qos_is_granted(core: Core, version: int) -> None:
    client = core.connect("c", version)
    assert [client.subscribe("a", qos=qos) for qos in (0, 1, 2)] == [(0,), (1,), (2,)]


@pytest.mark.clause("v5:MQTT-3.3.1-3", "v311:MQTT-3.3.1-3")
def test_dup_is_not_passed_on(core: Core) -> None:
    publisher, subscribers = core.connect("p"), [core.connect("5"), core.connect("4", 4)]
    for one in subscribers:
        one.subscribe("t", qos=1)
    publisher.publish("t", b"x", 1, dup=True)
    for one in subscribers:
        assert [packet.dup for packet in one.publishes()] == [False]


@pytest.mark.clause("v5:MQTT-4.3.2-5", "v311:MQTT-4.3.2-2")
@VERSIONS
def test_an_acknowledged_identifier_is_new_again(core: Core, version: int) -> None:
    publisher, subscriber = core.connect("p", version), core.connect("s")
    subscriber.subscribe("t")
    for dup in (False, True):
        publisher.publish("t", b"x", 1, packet_id=1, dup=dup)
        publisher.expect(Puback(1))
    assert subscriber.payloads() == [b"x", b"x"]


PROPERTIES = {
    "payload_format_indicator": 1,
    "response_topic": "answer/here",
    "correlation_data": b"\x00\xff\x00",
    "content_type": "text/plain",
    "user_property": (("b", "1"), ("a", "2"), ("b", "1"), ("", "")),
    "message_expiry_interval": 60,
}


@pytest.mark.clause(
    "v5:MQTT-3.3.2-4", "v5:MQTT-3.3.2-15", "v5:MQTT-3.3.2-16", "v5:MQTT-3.3.2-17", "v5:MQTT-3.3.2-18",
    "v5:MQTT-3.3.2-20", "v5:MQTT-3.1.2-27", "v5:MQTT-3.3.2-3", "v5:MQTT-1.5.4-3",
)  # fmt: skip
@pytest.mark.parametrize("published", [0, 1])
@pytest.mark.parametrize("granted", [0, 1])
@pytest.mark.parametrize("identifier", [0, 77])
@pytest.mark.parametrize("queued", [False, True])
def test_properties_arrive_as_they_were_sent(
    any_core: Core, published: int, granted: int, identifier: int, queued: bool
) -> None:
    topic = "\ufeffx/\u00e9/\U0001f600"
    publisher = any_core.connect("p")
    subscriber = any_core.connect("s", properties={"receive_maximum": 1})
    old = any_core.connect("old", 4)
    subscriber.subscribe("#", qos=granted, identifier=identifier)
    old.subscribe("#", qos=granted)
    if queued:
        publisher.publish("first", b"", 1)
    publisher.publish(topic, b"\x00payload", published, properties=PROPERTIES)
    if queued:
        subscriber.acknowledge(1)
    delivery = subscriber.publishes()[-1]
    expected = {**PROPERTIES, **({"subscription_identifier": (identifier,)} if identifier else {})}
    assert (delivery.topic_name, delivery.payload, delivery.properties) == (topic, b"\x00payload", expected)
    last = old.publishes()[-1]
    assert (last.topic_name, last.payload, last.properties) == (topic, b"\x00payload", {})


# ---------------------------------------------------------------- overlapping subscriptions


@pytest.mark.clause("v5:MQTT-3.3.4-2", "v5:MQTT-3.3.4-4", "v311:MQTT-3.3.5-1")
@pytest.mark.parametrize("order", list(itertools.permutations(["a/b", "a/+", "a/#"])))
def test_overlapping_filters_give_one_delivery_at_the_highest_qos(core: Core, order: tuple[str, ...]) -> None:
    client = core.connect("c")
    wanted = {"a/b": (0, 1), "a/+": (1, 2), "a/#": (0, 3)}
    for topic_filter in order:
        qos, identifier = wanted[topic_filter]
        client.subscribe(topic_filter, qos=qos, identifier=identifier)
    core.publish("a/b", b"x", 1)
    (delivery,) = client.publishes()
    assert delivery.qos == 1
    identifiers = delivery.properties["subscription_identifier"]
    assert isinstance(identifiers, tuple)
    assert sorted(identifiers) == [1, 2, 3]


@pytest.mark.clause("v5:MQTT-3.3.4-3", "v5:MQTT-3.3.4-5")
def test_identifiers_belong_to_the_filters_that_matched(core: Core) -> None:
    client = core.connect("c")
    client.subscribe("a/b", identifier=268_435_455)
    client.subscribe("a/+", identifier=0)
    client.subscribe("c", identifier=5)
    core.publish("a/b")
    core.publish("a/c")
    core.publish("c")
    assert [one.properties for one in client.publishes()] == [
        {"subscription_identifier": (268_435_455,)}, {}, {"subscription_identifier": (5,)},
    ]  # fmt: skip


def test_more_overlapping_identifiers_than_a_packet_names_still_give_one_delivery(core: Core) -> None:
    client = core.connect("c")
    topic = "/".join("abcdefgh")
    filters = ["/".join(levels) for levels in itertools.product(*(("+", name) for name in "abcdefgh"))]
    for number, topic_filter in enumerate(filters):
        client.subscribe(topic_filter, qos=number % 2, identifier=number + 1) if number < 100 else None
    core.publish(topic, b"x", 1)
    (delivery,) = client.publishes()
    assert delivery.qos == 1
    identifiers = delivery.properties["subscription_identifier"]
    assert isinstance(identifiers, tuple)
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.clause("v5:MQTT-3.8.4-3", "v5:MQTT-3.8.4-4", "v311:MQTT-3.8.4-3")
def test_the_same_filter_again_replaces_options_and_identifier(core: Core) -> None:
    client = core.connect("c")
    client.subscribe("t", qos=0, identifier=1)
    core.publish("t", b"1", 1)
    client.subscribe(Subscription("t", 1, no_local=True), identifier=2)
    core.publish("t", b"2", 1)
    client.publish("t", b"own")
    first, second = client.publishes()
    assert (first.qos, first.properties) == (0, {"subscription_identifier": (1,)})
    assert (second.qos, second.properties) == (1, {"subscription_identifier": (2,)})
    assert client.described["subscriptions"] == 1


@pytest.mark.clause("v5:MQTT-3.8.3-3")
def test_no_local_keeps_only_the_own_messages_away(core: Core) -> None:
    client, other = core.connect("c"), core.connect("o")
    client.subscribe(Subscription("t", no_local=True))
    client.subscribe("u")
    for topic in ("t", "u"):
        client.publish(topic, b"own")
        other.publish(topic, b"other")
    assert [(one.topic_name, one.payload) for one in client.publishes()] == [
        ("t", b"other"), ("u", b"own"), ("u", b"other"),
    ]  # fmt: skip
    client.subscribe("+", identifier=3)
    client.publish("t", b"again")
    client.expect(Publish("t", b"again", properties={"subscription_identifier": (3,)}))


def test_a_message_that_only_no_local_kept_away_matched_nobody(core: Core) -> None:
    client = core.connect("c")
    client.subscribe(Subscription("t", no_local=True))
    client.publish("t", b"", 1)
    client.expect(Puback(1, 0x10))


# ---------------------------------------------------------------- SUBSCRIBE and UNSUBSCRIBE


@pytest.mark.clause(
    "v5:MQTT-3.8.4-1", "v5:MQTT-3.8.4-2", "v5:MQTT-3.8.4-5", "v5:MQTT-3.8.4-6", "v5:MQTT-3.9.3-1", "v5:MQTT-2.2.1-6",
    "v5:MQTT-4.7.1-1", "v5:MQTT-4.7.1-2",
    "v311:MQTT-3.8.4-1", "v311:MQTT-3.8.4-2", "v311:MQTT-3.8.4-4", "v311:MQTT-3.9.3-1", "v311:MQTT-2.3.1-7",
    "v311:MQTT-4.7.1-2", "v311:MQTT-4.7.1-3",
)  # fmt: skip
@VERSIONS
@pytest.mark.parametrize("packet_id", [1, 256, 65_535])
def test_one_code_for_each_filter_in_its_order(any_core: Core, version: int, packet_id: int) -> None:
    client = any_core.connect("c", version)
    filters = [("a", 1), ("a#", 0), ("b/#", 0), ("#/c", 1), ("+", 1), ("a+/b", 0), ("a", 0), ("+/#", 2), ("/", 0)]
    client.send(Subscribe(packet_id, tuple(Subscription(name, qos) for name, qos in filters)))
    bad = 0x8F if version == 5 else 0x80
    client.expect(Suback(packet_id, (1, bad, 0, bad, 1, bad, 0, 2, 0)))


@VERSIONS
def test_pipelined_subscribes_are_answered_in_their_order(any_core: Core, version: int) -> None:
    client = any_core.connect("c", version)
    client.send(*(Subscribe(number, (Subscription(f"t{number}"),)) for number in (5, 9, 3)), Pingreq())
    client.expect(Suback(5, (0,)), Suback(9, (0,)), Suback(3, (0,)), Pingresp())


@pytest.mark.clause(
    "v5:MQTT-3.10.4-1", "v5:MQTT-3.10.4-2", "v5:MQTT-3.10.4-4", "v5:MQTT-3.10.4-5", "v5:MQTT-3.10.4-6",
    "v5:MQTT-3.11.3-1", "v311:MQTT-3.10.4-1", "v311:MQTT-3.10.4-2", "v311:MQTT-3.10.4-4", "v311:MQTT-3.10.4-5",
    "v311:MQTT-3.10.4-6",
)  # fmt: skip
@VERSIONS
def test_unsubscribe_removes_exactly_what_it_names(any_core: Core, version: int) -> None:
    client = any_core.connect("c", version)
    client.subscribe("a/#", "a/b", "+")
    client.send(Unsubscribe(300, ("a/+", "a/#", "a/#", "A/b", "+")))
    answer = client.received()[0]
    codes = (0x11, 0, 0x11, 0x11, 0) if version == 5 else ()
    assert (answer.packet_id, answer.reason_codes) == (300, codes)  # type: ignore[union-attr]
    any_core.publish("a/b", b"x")
    any_core.publish("a/c", b"y")
    any_core.publish("a", b"z")
    assert client.payloads() == [b"x"]


@pytest.mark.clause("v5:MQTT-3.10.4-3", "v311:MQTT-3.10.4-3")
@VERSIONS
def test_what_was_begun_is_finished_after_unsubscribe(core: Core, version: int) -> None:
    core = Core(outbound_inflight_maximum=1)
    core.grant()
    client = core.connect("c", version)
    client.subscribe("t", qos=1)
    fill(core, "t", 3)
    client.unsubscribe("t")
    core.publish("t", b"late", 1)
    for number in range(3):
        (delivery,) = client.publishes()
        assert delivery.payload.startswith(b"%d" % number)
        client.acknowledge(delivery.packet_id)
    client.expect()
    core.end()


@VERSIONS
def test_a_session_has_its_maximum_of_subscriptions(version: int) -> None:
    core = Core(subscriptions_per_application_session_maximum=3, subscriptions_per_device_session_maximum=2)
    core.grant()
    core.grant("device", device_id="d")
    refused = 0x97 if version == 5 else 0x80
    client = core.connect("a", version)
    assert client.subscribe("a", "b", "c", "d", "a") == (0, 0, 0, refused, 0)
    client.unsubscribe("b")
    assert client.subscribe("d") == (0,)
    assert core.connect("d", version, user_name="device").subscribe("a", "b", "c") == (0, 0, refused)
    core.end()


@pytest.mark.clause("v5:MQTT-3.1.2-24", "v5:MQTT-3.9.2-1", "v5:MQTT-3.11.2-1")
def test_an_answer_that_the_client_does_not_take_ends_the_connection(core: Core) -> None:
    client = core.connect("c", properties={"maximum_packet_size": 40})
    names = [f"{number:x}" for number in range(36)]
    assert client.subscribe(*names[:35]) == (0,) * 35  # 2 + 2 + 1 + 35 bytes
    client.send(Subscribe(1, tuple(Subscription(name) for name in names)))
    client.closed_with(0x95)


# ---------------------------------------------------------------- topics


@pytest.mark.clause("v5:MQTT-4.7.2-1", "v311:MQTT-4.7.2-1")
@VERSIONS
def test_wildcards_at_the_start_do_not_match_dollar_topics(core: Core, version: int) -> None:
    core.grant("insider", subscribe=("#", "$SYS/#", "$foo/#"))
    client = core.connect("c", version, user_name="insider")
    assert client.subscribe("#", "+/x", "+/#", "$foo/+") == (0, 0, 0, 0)
    core.publish("$SYS/x", b"no")
    core.publish("$foo/x", b"yes")
    core.publish("a/x", b"also")
    assert client.payloads() == [b"yes", b"also"]


def test_nobody_publishes_into_dollar_topics(core: Core) -> None:
    client = core.connect("c")
    client.publish("$SYS/x", b"", 1)
    client.expect(Puback(1, 0x87))
    client.publish("$SYS/x")
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 1}


@pytest.mark.clause("v5:MQTT-4.7.3-4", "v311:MQTT-4.7.3-4", "v311:MQTT-3.3.2-3")
def test_topics_are_compared_byte_by_byte(core: Core) -> None:
    topics = ["a", "A", "a/", "/a", "a//b", "a/b", "/", "//", "e\u0301", "\u00e9", " a", "a ", "\u0430"]
    client = core.connect("c")
    client.subscribe(*topics)
    watchers = {topic: core.connect(f"w{number}") for number, topic in enumerate(topics)}
    for topic, watcher in watchers.items():
        watcher.subscribe(topic)
        core.publish(topic, topic.encode())
    for topic, watcher in watchers.items():
        watcher.expect(Publish(topic, topic.encode()))
    assert len(client.publishes()) == len(topics)


@pytest.mark.clause("v5:MQTT-4.7.3-3", "v311:MQTT-4.7.3-3")
@VERSIONS
def test_a_topic_of_65535_bytes_works(core: Core, version: int) -> None:
    client = core.connect("c", version)
    topic = "x" * 65_535
    assert client.subscribe(topic, qos=1) == (0 + 1,)
    client.publish(topic, b"far", 1)
    packets = client.received()
    assert [one.payload for one in packets if isinstance(one, Publish)] == [b"far"]


def test_levels_have_a_limit_for_names_and_filters(core: Core) -> None:
    client = core.connect("c")
    most = core.limits["topic_levels_maximum"]
    fits, too_many = "/" * (most - 1), "/" * most
    assert client.subscribe(fits, too_many, "+/" * (most - 1) + "#") == (0, 0x8F, 0)
    client.publish(fits, b"x")
    assert [one.topic_name for one in client.publishes()] == [fits]
    client.publish(too_many)
    client.closed_with(0x90)


# ---------------------------------------------------------------- order, identifiers, quotas


@pytest.mark.clause("v5:MQTT-4.6.0-5", "v5:MQTT-4.6.0-6", "v311:MQTT-4.6.0-5", "v311:MQTT-4.6.0-6", "v311:MQTT-4.6.0-2")
@VERSIONS
@pytest.mark.parametrize("qos", [0, 1])
def test_a_thousand_messages_arrive_in_order(core: Core, version: int, qos: int) -> None:
    publisher = core.connect("p", version)
    subscriber = core.connect("s", version, **({"properties": {"receive_maximum": 7}} if version == 5 else {}))
    subscriber.subscribe("t", qos=1)
    got: list[bytes] = []
    for start in range(0, 1000, 100):
        packets = [
            Publish("t", b"%d" % number, qos, packet_id=number + 1 if qos else 0)
            for number in range(start, start + 100)
        ]
        publisher.send(*packets)
        while deliveries := subscriber.publishes():
            got += [one.payload for one in deliveries]
            if qos:
                subscriber.acknowledge(*(one.packet_id for one in deliveries))
    assert got == [b"%d" % number for number in range(1000)]
    if qos:
        publisher.expect(*(Puback(number + 1) for number in range(1000)))


@pytest.mark.clause("v5:MQTT-2.2.1-4", "v5:MQTT-4.3.2-1", "v311:MQTT-2.3.1-4")
def test_an_identifier_that_is_not_acknowledged_is_never_used_again() -> None:
    core = Core(outbound_inflight_maximum=65_535, queue_messages_maximum=10)
    core.grant()
    client = core.connect("c")
    client.subscribe("t", qos=1)
    core.publish("t", b"", 1)
    core.publish("t", b"", 1)
    kept = {one.packet_id for one in client.publishes()}
    seen: set[int] = set()
    for _ in range(66):
        for _ in range(1000):
            core.shard.publish(1, b"t", b"", 1, core.now_ns)
        core.run()
        identifiers = [one.packet_id for one in client.publishes()]
        assert len(identifiers) == 1000
        assert not kept & set(identifiers)
        assert 0 not in identifiers
        seen.update(identifiers)
        client.acknowledge(*identifiers)
    assert len(seen) > 60_000
    core.end()


def test_all_65535_identifiers_can_be_out_at_once() -> None:
    core = Core(outbound_inflight_maximum=65_535, queue_messages_maximum=10, outbox_soft_limit_bytes=2**24)
    core.grant()
    client = core.connect("c")
    client.subscribe("t", qos=1)
    for _ in range(65_536):
        core.shard.publish(1, b"t", b"", 1, core.now_ns)
    core.run()
    identifiers = [one.packet_id for one in client.publishes()]
    assert sorted(identifiers) == list(range(1, 65_536))
    assert client.described["queued_messages"] == 1
    client.acknowledge(31_415)
    assert [one.packet_id for one in client.publishes()] == [31_415]
    core.end()


@pytest.mark.clause(
    "v5:MQTT-3.3.4-9", "v5:MQTT-3.3.4-10", "v5:MQTT-4.9.0-1", "v5:MQTT-4.9.0-2", "v5:MQTT-4.9.0-3", "v5:MQTT-4.3.2-3"
)
@pytest.mark.parametrize("quota", [1, 3])
def test_no_more_than_the_receive_maximum_is_out_at_once(any_core: Core, quota: int) -> None:
    client = any_core.connect("c", properties={"receive_maximum": quota})
    client.subscribe("t", "u", qos=1)
    client.subscribe("q", qos=0)
    sent = fill(any_core, "t", 10)
    any_core.publish("q", b"0", 0)
    got = client.publishes()
    assert [one.qos for one in got] == [1] * quota + [0]
    client.send(Pingreq(), Publish("none", b"", 1, packet_id=9), Subscribe(4, (Subscription("z"),)))
    client.expect(Pingresp(), Puback(9, 0x10), Suback(4, (0,)))
    payloads = [one.payload for one in got if one.qos]
    identifiers = [one.packet_id for one in got if one.qos]
    while identifiers:
        client.acknowledge(identifiers.pop(0))
        more = client.publishes()
        assert len(more) <= 1
        payloads += [one.payload for one in more]
        identifiers += [one.packet_id for one in more]
    assert payloads == sent


def test_a_stray_acknowledgement_frees_no_quota(core: Core) -> None:
    client = core.connect("c", properties={"receive_maximum": 2})
    client.subscribe("t", qos=1)
    fill(core, "t", 5)
    first, second = client.publishes()
    client.acknowledge(77, 65_535, second.packet_id + 1)
    client.expect()
    client.acknowledge(first.packet_id, first.packet_id, first.packet_id)
    assert len(client.publishes()) == 1


@pytest.mark.clause("v5:MQTT-4.4.0-2")
def test_an_acknowledgement_with_an_error_ends_the_delivery(core: Core) -> None:
    client = core.connect("c", properties={"receive_maximum": 1})
    client.subscribe("t", qos=1)
    fill(core, "t", 2)
    (first,) = client.publishes()
    client.send(Puback(first.packet_id, 0x80))
    (second,) = client.publishes()
    assert second.payload.startswith(b"1")


@pytest.mark.clause("v5:MQTT-4.4.0-1")
@VERSIONS
def test_nothing_is_sent_again_on_the_same_connection(core: Core, version: int) -> None:
    client = core.connect("c", version, keep_alive_s=0)
    client.subscribe("t", qos=1)
    core.publish("t", b"x", 1)
    assert len(client.publishes()) == 1
    core.wait(300)
    client.expect()


@pytest.mark.clause("v5:MQTT-4.1.0-1", "v311:MQTT-4.1.0-2", "v311:MQTT-4.1.0-1")
@VERSIONS
def test_a_session_lives_as_long_as_its_connection(core: Core, version: int) -> None:
    client = core.connect("c", version, keep_alive_s=600)
    client.subscribe("t", qos=1)
    for _ in range(100):
        core.wait(600)
        client.send(Pingreq())
    client.received()
    core.publish("t", b"still", 1)
    assert client.payloads() == [b"still"]


# ---------------------------------------------------------------- limits, and what is counted


@VERSIONS
def test_the_queue_has_its_maximum_and_the_rest_is_counted(version: int) -> None:
    core = Core(queue_messages_maximum=5, outbound_inflight_maximum=2)
    principal = core.grant()
    client = core.connect("c", version)
    client.subscribe("t", qos=1)
    sent = fill(core, "t", 10)
    assert core.all_drops() == {DropReason.QUEUE_FULL: 3}
    assert core.shard.drops(1)[DropReason.QUEUE_FULL] == core.shard.drops(1, principal)[DropReason.QUEUE_FULL] == 3
    got: list[bytes] = []
    while deliveries := client.publishes():
        got += [one.payload for one in deliveries]
        client.acknowledge(*(one.packet_id for one in deliveries))
    assert got == sent[:7]
    core.end()


def test_the_queue_has_its_maximum_in_bytes() -> None:
    core = Core(queue_maximum_bytes=10_000, outbound_inflight_maximum=1)
    core.grant()
    client = core.connect("c")
    client.subscribe("t", qos=1)
    fill(core, "t", 10, size=3000)
    assert client.described["queued_messages"] == 3
    assert core.all_drops() == {DropReason.QUEUE_FULL: 6}
    core.end()


def test_what_was_dropped_is_acknowledged_as_matched_all_the_same() -> None:
    core = Core(queue_messages_maximum=1, outbound_inflight_maximum=1)
    core.grant()
    publisher, client = core.connect("p"), core.connect("c")
    client.subscribe("t", qos=1)
    for _ in range(4):
        publisher.publish("t", b"", 1)
    publisher.expect(*(Puback(number) for number in range(1, 5)))  # 0x10 would say that nobody subscribes
    core.end()


@VERSIONS
def test_qos_0_is_dropped_above_the_soft_limit_of_the_outbox_and_qos_1_waits(version: int) -> None:
    core = Core(outbox_soft_limit_bytes=1000)
    core.grant()
    client = core.connect("c", version)
    client.subscribe("t", qos=1)
    client.reads = False
    fill(core, "t", 3, qos=0, size=400)
    assert core.all_drops() == {DropReason.OUTBOX_FULL: 1}
    sent = fill(core, "t", 5, qos=1, size=400)
    assert client.described["queued_messages"] == 5
    client.reads = True
    core.run()
    assert client.payloads()[2:] == sent  # as soon as there is room, without anything else happening
    assert core.all_drops() == {DropReason.OUTBOX_FULL: 1}
    core.end()


def test_one_message_larger_than_the_soft_limit_still_gets_through() -> None:
    core = Core(outbox_soft_limit_bytes=1024)
    core.grant()
    client = core.connect("c")
    client.subscribe("t", qos=1)
    for qos in (0, 1):
        core.publish("t", b"x" * 100_000, qos)
        assert [len(one.payload) for one in client.publishes()] == [100_000]
    core.end()


@VERSIONS
def test_a_client_that_does_not_read_is_not_read_either_and_goes_on_later(version: int) -> None:
    core = Core(outbox_soft_limit_bytes=1024)
    core.grant()
    client = core.connect("c", version)
    client.reads = False
    client.send(*[Pingreq()] * 2000)
    assert core.shard.is_stopped(client.handle)
    assert client.described["state"] == 2
    before = len(client.core.shard.take_output(client.handle, 0))
    assert before == 0
    client.reads = True
    core.run()
    assert client.received() == [Pingresp()] * 2000
    assert not core.shard.is_stopped(client.handle)
    core.end()


@pytest.mark.clause("v5:MQTT-3.1.2-24", "v5:MQTT-3.1.2-25")
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("identifier", [0, 300])
def test_what_the_client_does_not_take_is_dropped_and_the_rest_goes_on(core: Core, qos: int, identifier: int) -> None:
    client = core.connect("c", properties={"maximum_packet_size": 100, "receive_maximum": 2})
    client.subscribe("t", qos=qos, identifier=identifier)
    overhead = 2 + 3 + (2 if qos else 0) + 1 + (3 if identifier else 0)
    for size in (50, 500, 100 - overhead, 101 - overhead, 20):
        core.publish("t", b"." * size, qos)
    got = client.publishes()
    if qos:
        assert len(got) == 2
        client.acknowledge(*(one.packet_id for one in got))
        got += client.publishes()
    assert [len(one.payload) for one in got] == [50, 100 - overhead, 20]
    assert max(len(encode(one, 5)) for one in got) == 100
    assert core.all_drops() == {DropReason.PACKET_TOO_LARGE: 2}


def test_too_large_a_payload_is_refused_by_qos(core: Core) -> None:
    core = Core(maximum_payload_bytes=100)
    core.grant()
    five, old = core.connect("c"), core.connect("o", 4)
    five.publish("t", b"." * 100, 1)
    five.publish("t", b"." * 101, 1)
    five.expect(Puback(1, 0x10), Puback(2, 0x97))
    five.publish("t", b"." * 101)
    assert core.all_drops() == {DropReason.PACKET_TOO_LARGE: 1}
    old.publish("t", b"." * 101, 1)
    assert old.closed_with(None) == []
    with pytest.raises(PayloadTooLarge):
        core.publish("t", b"." * 101)
    core.end()


def test_what_waits_when_a_session_ends_is_counted(core: Core) -> None:
    client = core.connect("c", properties={"receive_maximum": 2})
    client.subscribe("t", qos=1)
    fill(core, "t", 5)
    client.acknowledge(1)
    client.drop()
    assert core.all_drops() == {DropReason.SESSION_ENDED: 4}  # two inflight, two queued


@pytest.mark.clause("v5:MQTT-3.3.2-6", "v5:MQTT-3.3.2-5")
def test_an_interval_goes_on_while_the_message_waits(core: Core) -> None:
    client, old = core.connect("c", properties={"receive_maximum": 1}), core.connect("o", 4)
    publisher = core.connect("p")
    client.subscribe("t", qos=1)
    for number, expiry in enumerate((60, 10, 3, 4, 0xFFFF_FFFE)):
        publisher.publish("t", b"%d" % number, 1, properties={"message_expiry_interval": expiry})
    assert [one.properties["message_expiry_interval"] for one in client.publishes()] == [60]
    core.wait(3.5)
    client.acknowledge(1)
    (delivery,) = client.publishes()
    assert delivery.properties["message_expiry_interval"] == 7
    client.acknowledge(delivery.packet_id)
    (delivery,) = client.publishes()
    assert (delivery.payload, delivery.properties["message_expiry_interval"]) == (b"3", 1)
    core.wait(0.5)
    client.acknowledge(delivery.packet_id)
    (delivery,) = client.publishes()
    assert (delivery.payload, delivery.properties["message_expiry_interval"]) == (b"4", 0xFFFF_FFFE - 4)
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: 1}
    old.expect()


@pytest.mark.clause("v5:MQTT-3.3.2-5")
def test_messages_expire_for_old_clients_too() -> None:
    core = Core(outbound_inflight_maximum=1)
    core.grant()
    publisher, client = core.connect("p"), core.connect("c", 4, keep_alive_s=0)
    client.subscribe("t", qos=1)
    for number in range(3):
        publisher.publish("t", b"%d" % number, 1, properties={"message_expiry_interval": 100 if number == 2 else 1})
    core.wait(2)
    client.acknowledge(1)
    assert client.payloads() == [b"0", b"2"]
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: 1}
    core.end()


# ---------------------------------------------------------------- rights


def devices() -> tuple[Core, Client]:
    core = Core()
    core.grant("device", device_id="d-1", publish=("data/{device_id}/+", "all"), subscribe=("cmd/{device_id}/#", "all"))
    return core, core.connect("c", user_name="device")


@pytest.mark.clause("v311:MQTT-3.3.5-2")
@VERSIONS
def test_a_publish_without_the_right_is_told_or_dropped(version: int) -> None:
    core, _ = devices()
    core.grant()
    watcher = core.connect("w")
    watcher.subscribe("#")
    client = core.connect("d", version, user_name="device")
    client.publish("data/d-1/x", b"yes", 1)
    client.publish("data/d-2/x", b"no", 0)
    client.publish("data/d-2/x", b"no", 1)
    assert watcher.payloads() == [b"yes"]
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 1}
    if version == 5:
        client.expect(Puback(1), Puback(2, 0x87))
    else:
        assert client.closed_with(None) == [Puback(1)]
    core.end()


def test_a_subscription_is_covered_or_refused() -> None:
    core, client = devices()
    filters = [
        "cmd/d-1/#",
        "cmd/d-1",
        "cmd/d-1/+/x",
        "cmd/+/x",
        "cmd/#",
        "#",
        "all",
        "all/#",
        "+",
        "cmd/d-2/#",
        "$SYS/#",
    ]
    refused = 0x87
    assert client.subscribe(*filters) == (0, 0, 0, *[refused] * 3, 0, *[refused] * 4)
    core.publish("cmd/d-2/x", b"no")
    client.expect()
    core.end()


@pytest.mark.parametrize("device_id", ["+", "#", "a/b", "{device_id}", "$x", "\u00e9"])
def test_a_device_id_is_never_a_wildcard(device_id: str) -> None:
    core = Core()
    core.grant("device", device_id=device_id, publish=("data/{device_id}",), subscribe=("cmd/{device_id}/#",))
    client = core.connect("c", user_name="device")
    assert client.subscribe("cmd/other/x", "cmd/+/x", "cmd/#") == (0x87, 0x87, 0x87)
    client.publish("data/other", b"", 1)
    client.expect(Puback(1, 0x87))
    core.end()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_revoked_credential_cuts_at_once(replaced: bool) -> None:
    from tests.support.core import credential

    core = Core()
    principal = core.grant()
    core.grant("other")
    one, two, other = core.connect("a"), core.connect("b", 4), core.connect("o", user_name="other")
    one.subscribe("t")
    one.feed(b"\x30\x09\x00\x01")  # half a packet
    if replaced:
        core.principals = principal - 1
        core.grant(publish=())
    else:
        assert core.shard.remove_grant(credential("user", b"pw")) == 2
        assert core.shard.remove_grant(credential("user", b"pw")) == 0
    core.run()
    one.closed_with(0x98)
    two.closed_with(None)
    assert other.is_open
    again = core.connecting("a")
    if replaced:
        again.received()
        again.publish("t", b"", 1)
        again.expect(Puback(1, 0x87))
    else:
        assert len(core.asked) == 1
    core.end()


def test_presence_counts_connections_and_tells_when(core: Core) -> None:
    first = core.connect("a")
    assert core.shard.presence(1) == (1, core.now_ns)
    core.wait(5)
    core.connect("b")
    assert core.shard.presence(1) == (2, core.now_ns)
    core.wait(5)
    first.drop()
    assert core.shard.presence(1) == (1, core.now_ns)
    assert core.shard.presence(2) == (0, 0)


# ---------------------------------------------------------------- from inside


def test_a_message_from_inside_is_like_any_other(core: Core) -> None:
    five, old = core.connect("a"), core.connect("b", 4)
    five.subscribe("t", qos=1)
    old.subscribe("t")
    assert core.publish("t", b"x", 1) == 2
    assert core.publish("u", b"x", 1) == 0
    five.expect(Publish("t", b"x", 1, packet_id=1))
    old.expect(Publish("t", b"x"))
    for topic, qos in (("", 0), ("a/#", 0), ("a\0b", 0), ("t", 3), ("x" * 65_536, 0)):
        with pytest.raises(BadRequest):
            core.publish(topic, b"", qos)


def test_a_drop_by_one_is_no_loss_for_another(core: Core) -> None:
    small, large = core.connect("s", properties={"maximum_packet_size": 50}), core.connect("l")
    for client in (small, large):
        client.subscribe("t", qos=1)
    assert core.publish("t", b"." * 100, 1) == 1
    assert len(large.publishes()) == 1
    small.expect()


def test_closing_in_the_middle_of_a_delivery_frees_all(core: Core) -> None:
    clients = [core.connect(f"c{number}", properties={"receive_maximum": 1}) for number in range(20)]
    for client in clients:
        client.subscribe("t", "+", "#", qos=1, identifier=5)
    fill(core, "t", 30, size=2000)
    core.shard.fail_all(0x8B)
    core.run()
    assert core.figures()["messages_kept"] == 0
    clients[0].pick(Disconnect)
