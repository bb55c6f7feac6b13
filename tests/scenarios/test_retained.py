"""Retained messages by several clients: set, cleared, replaced, delivered to who subscribes.

Here belong the rules of sections 3.3.1.3 and 3.8.4. Not here: pages and slow readers (``test_retained_runs``), the tree
against a model (``tests/property/test_retained``).
"""

from __future__ import annotations

import pytest

from broker._core.shard import GRANT_LIMITS
from broker.errors import QuotaExceeded
from broker.reasons import DropReason
from broker.wire import Connect, Puback, Publish, Suback, Subscribe, Subscription, Will
from tests.support.core import Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])


@pytest.fixture
def core() -> Core:
    core = Core()
    core.grant()
    return core


def retained(client: Client, *filters: str, qos: int = 0) -> list[tuple[str, bytes, bool, int]]:
    """What a subscription brings, told as topic, payload, flag and QoS."""
    client.subscribe(*filters, qos=qos)
    return [(one.topic_name, one.payload, one.retain, one.qos) for one in client.publishes()]


@pytest.mark.clause("v5:MQTT-3.3.1-5", "v5:MQTT-3.3.1-9", "v311:MQTT-3.3.1-5", "v311:MQTT-3.3.1-6", "v311:MQTT-3.3.1-8")
@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_last_retained_message_greets_who_subscribes_later(core: Core, version: int, qos: int) -> None:
    publisher = core.connect("p", version)
    publisher.publish("a/b", b"first", qos, retain=True)
    publisher.publish("a/b", b"last", qos, retain=True)
    assert retained(core.connect("s", version), "a/b", qos=2) == [("a/b", b"last", True, qos)]
    assert retained(core.connect("t", version), "a/b", qos=1) == [("a/b", b"last", True, min(qos, 1))]
    assert core.shard.retained(1)[0] == 1


@pytest.mark.parametrize(
    ("topic_filter", "topics"),
    [
        ("#", ["/a", "a", "a/", "a/b", "a/b/c", "b/b"]),
        ("+", ["a"]),
        ("+/+", ["/a", "a/", "a/b", "b/b"]),
        ("a/#", ["a", "a/", "a/b", "a/b/c"]),
        ("+/b", ["a/b", "b/b"]),
        ("+/b/#", ["a/b", "a/b/c", "b/b"]),
        ("a/+/c", ["a/b/c"]),
        ("a/", ["a/"]),
        ("/+", ["/a"]),
        ("a/b/c/#", ["a/b/c"]),
        ("a/b/c/d", []),
        ("$SYS/#", ["$SYS/x"]),
        ("$SYS/+", ["$SYS/x"]),
        ("+/x", []),
    ],
)
@pytest.mark.clause("v5:MQTT-4.7.2-1", "v5:MQTT-4.7.1-1", "v311:MQTT-4.7.2-1")
def test_a_filter_brings_what_it_matches_once(core: Core, topic_filter: str, topics: list[str]) -> None:
    for topic in ("a", "a/", "/a", "a/b", "a/b/c", "b/b", "$SYS/x"):
        core.shard.publish(1, topic.encode(), b"x", 0, core.now_ns, retain=True)
    core.grant("all", subscribe=("#", "$SYS/#"))
    client = core.connect("c", user_name="all")
    assert sorted(one[0] for one in retained(client, topic_filter)) == topics


@pytest.mark.clause("v5:MQTT-3.3.1-6", "v5:MQTT-3.3.1-7", "v311:MQTT-3.3.1-10", "v311:MQTT-3.3.1-11")
@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_retained_message_clears_and_is_delivered_as_any_other(core: Core, version: int, qos: int) -> None:
    publisher, early = core.connect("p", version), core.connect("e", version)
    publisher.publish("t", b"x", retain=True)
    early.subscribe("t")
    early.publishes()
    publisher.publish("t", b"", qos, retain=True)
    publisher.publish("fresh", b"", qos, retain=True)
    early.expect(Publish("t"))
    assert retained(core.connect("late", version), "#") == []
    assert core.shard.retained(1) == (0, 0)


@pytest.mark.clause("v5:MQTT-3.3.1-8", "v311:MQTT-3.3.1-12")
@VERSIONS
@pytest.mark.parametrize("payload", [b"", b"plain"])
def test_a_message_without_the_flag_leaves_the_retained_one_alone(core: Core, version: int, payload: bytes) -> None:
    publisher = core.connect("p", version)
    publisher.publish("t", b"kept", retain=True)
    publisher.publish("t", payload)
    assert retained(core.connect("s", version), "t") == [("t", b"kept", True, 0)]


@pytest.mark.clause("v311:MQTT-3.3.1-7")
@VERSIONS
def test_a_retained_message_of_qos_0_displaces_one_of_qos_1(core: Core, version: int) -> None:
    publisher = core.connect("p", version)
    publisher.publish("t", b"old", 1, retain=True)
    publisher.publish("t", b"new", 0, retain=True)
    assert retained(core.connect("s", version), "t", qos=1) == [("t", b"new", True, 0)]


@pytest.mark.clause("v5:MQTT-3.3.1-12", "v5:MQTT-3.3.1-13", "v311:MQTT-3.3.1-9")
def test_established_subscriptions_see_the_flag_as_they_asked(core: Core) -> None:
    plain, as_published, old = core.connect("a"), core.connect("b"), core.connect("c", 4)
    plain.subscribe("t")
    as_published.subscribe(Subscription("t", retain_as_published=True))
    old.subscribe("t")
    core.connect("p").publish("t", b"x", retain=True)
    assert [one.publishes()[0].retain for one in (plain, as_published, old)] == [False, True, False]


@pytest.mark.clause("v5:MQTT-3.3.1-9", "v5:MQTT-3.3.1-10", "v5:MQTT-3.3.1-11", "v5:MQTT-3.8.4-4")
@pytest.mark.parametrize(("handling", "brings"), [(0, [1, 1, 1]), (1, [1, 0, 1]), (2, [0, 0, 0])])
def test_retain_handling_says_when_retained_messages_come(core: Core, handling: int, brings: list[int]) -> None:
    core.publish_retained("t", b"x")
    client = core.connect("c")
    wanted = Subscription("t", retain_handling=handling)
    found = [len(retained_by(client, wanted)), len(retained_by(client, wanted))]
    client.unsubscribe("t")
    found.append(len(retained_by(client, wanted)))
    assert found == brings
    core.publish("t", b"live")
    assert client.payloads() == [b"live"]


def retained_by(client: Client, *wanted: Subscription) -> list[Publish]:
    client.subscribe(*wanted)
    return client.publishes()


@pytest.mark.clause("v311:MQTT-3.8.4-3")
def test_a_repeated_subscription_of_311_brings_them_again(core: Core) -> None:
    core.publish_retained("t", b"x")
    client = core.connect("c", 4)
    assert retained(client, "t") == retained(client, "t", qos=1) == [("t", b"x", True, 0)]


@pytest.mark.clause("v5:MQTT-3.8.4-5", "v5:MQTT-3.3.4-3")
def test_each_subscription_brings_its_own_with_its_own_identifier(core: Core) -> None:
    core.publish_retained("a/b", b"x")
    client = core.connect("c")
    client.subscribe("a/b", identifier=7)
    client.subscribe("a/+", "#", identifier=9)
    assert [one.properties for one in client.publishes()] == [
        {"subscription_identifier": (7,)}, {"subscription_identifier": (9,)}, {"subscription_identifier": (9,)},
    ]  # fmt: skip


def test_the_suback_comes_before_the_first_retained_message(core: Core) -> None:
    core.publish_retained("t", b"x")
    client = core.connect("c")
    client.send(Subscribe(1, (Subscription("t"), Subscription("#"))))
    assert [type(one) for one in client.received()] == [Suback, Publish, Publish]


def test_no_retained_message_passes_a_suback_that_waits_for_its_ticket() -> None:
    core = Core()
    core.grant(synced=True)
    core.sink("u")
    core.publish_retained("t", b"x")
    client = core.connect("c")
    core.hold()
    client.send(Publish("u", b"", 1, packet_id=1), Subscribe(1, (Subscription("t"),)))
    assert client.received() == []
    core.release()
    assert [type(one) for one in client.received()] == [Puback, Suback, Publish]
    core.end()


def test_a_message_published_behind_the_subscribe_is_not_overtaken_by_the_retained_one(core: Core) -> None:
    core.publish_retained("t", b"old")
    client = core.connect("c")
    client.send(Subscribe(1, (Subscription("t"),)), Publish("t", b"new"))
    assert [one.payload for one in client.received() if isinstance(one, Publish)] == [b"old", b"new"]


@pytest.mark.clause("v311:MQTT-3.1.2-7")
@VERSIONS
def test_a_retained_message_outlives_its_publisher(core: Core, version: int) -> None:
    publisher = core.connect("p", version)
    publisher.publish("t", b"x", retain=True)
    publisher.drop()
    core.wait(1000)
    assert retained(core.connect("s", version), "t") == [("t", b"x", True, 0)]


@pytest.mark.clause("v5:MQTT-3.1.2-14", "v5:MQTT-3.1.2-15", "v311:MQTT-3.1.2-16", "v311:MQTT-3.1.2-17")
@VERSIONS
@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_retained_when_it_was_to_be(core: Core, version: int, retain: bool) -> None:
    core.publish_retained("t", b"before")
    core.connect("p", version, will=Will("t", b"gone", 1, retain)).drop()
    wanted = ("t", b"gone", True, 1) if retain else ("t", b"before", True, 0)
    assert retained(core.connect("s", version), "t", qos=1) == [wanted]


@pytest.mark.clause("v5:MQTT-3.3.2-4", "v5:MQTT-3.3.2-15", "v5:MQTT-3.3.2-17", "v5:MQTT-3.3.2-20")
def test_properties_come_through_unchanged(core: Core) -> None:
    sent = {
        "payload_format_indicator": 1, "content_type": "text/plain", "response_topic": "r", "correlation_data": b"c",
        "user_property": (("a", "1"), ("a", ""), ("ü", "2")),
    }  # fmt: skip
    core.connect("p").publish("t", b"x", properties=sent, retain=True)
    client = core.connect("s")
    client.subscribe("t")
    client.expect(Publish("t", b"x", retain=True, properties=sent))


@pytest.mark.clause("v5:MQTT-3.3.2-5", "v5:MQTT-3.3.2-6")
def test_what_has_expired_is_gone_and_what_has_not_says_how_long_it_has(core: Core) -> None:
    publisher = core.connect("p")
    publisher.publish("short", b"x", properties={"message_expiry_interval": 10}, retain=True)
    publisher.publish("long", b"y", properties={"message_expiry_interval": 100}, retain=True)
    core.wait(9.5)
    client = core.connect("s")
    client.subscribe("#")
    assert sorted((one.topic_name, one.properties["message_expiry_interval"]) for one in client.publishes()) == [
        ("long", 91), ("short", 1),
    ]  # fmt: skip
    core.wait(1)
    assert core.shard.retained(1)[0] == 1
    assert [one[0] for one in retained(core.connect("t", 4), "#")] == ["long"]


def test_a_new_message_takes_the_place_of_one_that_expires(core: Core) -> None:
    publisher = core.connect("p")
    publisher.publish("t", b"x", properties={"message_expiry_interval": 10}, retain=True)
    publisher.publish("t", b"for ever", retain=True)
    core.wait(1000)
    publisher.publish("t", b"for 5", properties={"message_expiry_interval": 5}, retain=True)
    core.wait(4)
    assert retained(core.connect("s", 4), "t") == [("t", b"for 5", True, 0)]
    core.wait(2)
    assert core.shard.retained(1) == (0, 0)


def test_the_end_of_very_many_at_once_is_cut_into_slices() -> None:
    core = Core(deliveries=50)
    core.grant()
    publisher = core.connect("p")
    for number in range(300):
        publisher.publish(f"t/{number}", b"x", properties={"message_expiry_interval": 10}, retain=True)
    core.now_ns += 11 * 10**9
    core.slice()
    assert 290 <= core.shard.retained(1)[0] < 300
    core.run()
    assert core.shard.retained(1) == (0, 0)
    core.end()


@pytest.mark.clause("v5:MQTT-3.8.3-3")
def test_no_local_holds_for_retained_messages_as_well(core: Core) -> None:
    own, other = core.connect("own"), core.connect("other")
    own.publish("t", b"x", retain=True)
    wanted = Subscription("t", no_local=True)
    assert retained_by(own, wanted) == []
    assert len(retained_by(other, wanted)) == 1
    other.publish("t", b"y", retain=True)
    own.publishes()
    assert [one.payload for one in retained_by(own, wanted)] == [b"y"]


def test_accounts_see_and_clear_their_own_alone() -> None:
    core = Core()
    core.grant("one", account_id=1)
    core.grant("two", account_id=2)
    core.connect("a", user_name="one").publish("t", b"1", retain=True)
    core.connect("b", user_name="two").publish("t", b"2", retain=True)
    assert core.shard.clear_retained(1, b"#") == (1, False)
    assert retained(core.connect("c", user_name="one"), "#") == []
    assert retained(core.connect("d", user_name="two"), "#") == [("t", b"2", True, 0)]
    core.end()


def test_clearing_by_filter_takes_that_branch_alone(core: Core) -> None:
    for topic in ("devices/d", "devices/d/x", "devices/d/x/y", "devices/e/x"):
        core.publish_retained(topic, b"x")
    assert core.shard.clear_retained(1, b"devices/d/#") == (3, False)
    assert [one[0] for one in retained(core.connect("c"), "#")] == ["devices/e/x"]
    assert core.shard.clear_retained(77, b"#") == (0, False)


def test_clearing_gets_on_however_far_what_matches_is(core: Core) -> None:
    for number in range(20_000):
        core.shard.publish(1, b"a/%d" % number, b"x", 0, core.now_ns, retain=True)
    core.publish_retained("a/0/x", b"x")
    assert core.shard.clear_retained(1, b"+/+/y") == (0, False)
    assert core.shard.clear_retained(1, b"+/+/x")[0] == 1
    calls = [1000]
    while calls[-1]:
        removed, more = core.shard.clear_retained(1, b"#")
        calls.append(removed)
        assert more == bool(core.shard.retained(1)[0])
    assert max(calls) < 5000
    assert core.shard.retained(1) == (0, 0)


def test_what_a_principal_has_set_can_be_cleared(core: Core) -> None:
    other = core.grant("other")
    core.connect("a").publish("mine", b"x", retain=True)
    second = core.connect("b", user_name="other")
    second.publish("a/b", b"x", retain=True)
    second.publish("a/c", b"x", retain=True)
    second.drop()
    assert core.shard.clear_authored(other) == (2, False)
    assert [one[0] for one in retained(core.connect("c"), "#")] == ["mine"]


def test_what_stands_on_a_right_that_was_taken_away_is_not_delivered(core: Core) -> None:
    # Row 16 of the attacks: a message is judged by the rights that its author has now.
    core.principals = 49
    core.grant("d", device_id="d", publish=("a/#", "b/#"))
    device = core.connect("x", user_name="d")
    device.publish("a/1", b"x", retain=True)
    device.publish("b/1", b"x", retain=True)
    core.principals = 49
    core.grant("d", device_id="d", publish=("b/#",))
    assert retained(core.connect("c"), "#") == [("b/1", b"x", True, 0)]
    assert core.shard.retained(1)[0] == 1


# ---------------------------------------------------------------- quotas


def test_over_the_brokers_bytes_5_is_told_and_311_is_closed() -> None:
    core = Core(retained_maximum_bytes=2000)
    core.grant()
    watcher, client, old = core.connect("w"), core.connect("c"), core.connect("o", 4)
    client.publish("a", b"x" * 1500, 1, retain=True)
    watcher.subscribe(Subscription("#", retain_handling=2))
    for qos in (1, 2):
        client.publish("b", b"x" * 500, qos, retain=True)
    client.publish("b", b"x" * 500, 0, retain=True)
    assert [one.reason_code for one in client.received()] == [0x10, 0x97, 0x97]  # type: ignore[union-attr]
    old.publish("b", b"x" * 500, 1, retain=True)
    old.closed_with(None)
    watcher.expect()
    assert core.drops(DropReason.RETAINED_FULL) == 1
    with pytest.raises(QuotaExceeded):
        core.shard.publish(1, b"b", b"x" * 500, 0, core.now_ns, retain=True)
    client.publish("a", b"x" * 100, 1, retain=True)
    client.publish("b", b"x" * 500, 1, retain=True)
    assert [one.reason_code for one in client.received()] == [0, 0]  # type: ignore[union-attr]
    core.end()


def test_a_principal_has_a_number_of_its_own_that_clearing_gives_back() -> None:
    core = Core()
    limits = [0] * len(GRANT_LIMITS)
    limits[GRANT_LIMITS.index("retained_maximum")] = 3
    core.grant("d", device_id="d", limits=limits)
    core.grant("other")
    device, other = core.connect("c", user_name="d"), core.connect("o", user_name="other")
    for topic in ("1", "2", "3", "4", "3"):
        device.publish(topic, b"x", 1, retain=True)
    assert [one.reason_code for one in device.received()] == [0x10, 0x10, 0x10, 0x97, 0x10]  # type: ignore[union-attr]
    device.publish("1", b"", 1, retain=True)
    device.publish("4", b"x", 1, retain=True)
    other.publish("2", b"mine now", 1, retain=True)
    device.publish("5", b"x", 1, retain=True)
    assert [one.reason_code for one in device.received()] == [0x10] * 3  # type: ignore[union-attr]
    device.publish("2", b"and mine again", 1, retain=True)
    assert [one.reason_code for one in device.received()] == [0x97]  # type: ignore[union-attr]
    core.end()


def test_levels_are_paid_for() -> None:
    # Row 11 of the attacks: a hundred levels for one byte of payload.
    core = Core(retained_maximum_bytes=100_000)
    core.grant()
    client = core.connect("c")
    for number in range(20):
        client.publish("/".join([str(number), *("x" * 120)]), b"x", 1, retain=True)
    codes = [one.reason_code for one in client.received()]  # type: ignore[union-attr]
    assert codes == [0x10] * 11 + [0x97] * 9
    core.end()


def test_a_topic_of_the_most_levels_and_bytes_is_set_found_and_cleared() -> None:
    core = Core()
    core.grant()
    client = core.connect("c")
    for topic in ("/" * 127, "x" * 65_000, "/".join(["y" * 500] * 128)):
        client.publish(topic, b"x", 1, retain=True)
        client.pick(Puback)
        assert retained(client, topic)[0][0] == topic
        assert [one[0] for one in retained(client, "/".join(["+"] * (topic.count("/") + 1)))] == [topic]
        client.unsubscribe(topic, "/".join(["+"] * (topic.count("/") + 1)))
        client.publish(topic, b"", retain=True)
        assert core.shard.retained(1) == (0, 0)
    core.end()


def test_a_will_beyond_the_quota_is_dropped_and_counted() -> None:
    core = Core(retained_maximum_bytes=1000)
    core.grant()
    watcher = core.connect("w")
    watcher.subscribe("#")
    core.connect("c", will=Will("t", b"x" * 2000, 1, True)).drop()
    watcher.expect()
    assert core.drops(DropReason.RETAINED_FULL) == 1
    core.end()


def test_connack_does_not_refuse_retained_messages(core: Core) -> None:
    client = core.open()
    client.send(Connect("c", user_name="user", password=b"pw"))
    assert "retain_available" not in client.received()[0].properties  # type: ignore[union-attr]
