"""Shared subscriptions (section 4.8.2): one member of a group gets each message, and which."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broker.reasons import DropReason
from broker.wire import Puback, Pubcomp, Publish, Pubrec, Pubrel, Suback, Subscribe, Subscription
from tests.support.core import Client, Core

SHARED = "$share/g/t"


def group(core: Core, count: int = 3, *, qos: int = 1, version: int = 5, **fields: object) -> list[Client]:
    """Members of one group."""
    members = [core.connect(f"m{number}", version, **fields) for number in range(count)]
    for one in members:
        assert one.subscribe(SHARED, qos=qos) == (qos,)
    return members


def counts(members: Sequence[Client]) -> list[int]:
    """How many messages each has got since the last look; what came at QoS 1 is acknowledged."""
    found = []
    for one in members:
        got = one.publishes()
        one.acknowledge(*(packet.packet_id for packet in got if packet.qos == 1))
        found.append(len(got))
    return found


# ---------------------------------------------------------------- filters


@pytest.mark.clause("v5:MQTT-4.8.2-1", "v5:MQTT-4.8.2-2")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    "topic_filter",
    ["$share/", "$share//a", "$share/g", "$share/g/", "$share/g+/a", "$share/#/a", "$share/+/a", "$share/g/a#",
     "$share/g/#/a", "$share/g/+a"],
)  # fmt: skip
def test_a_shared_filter_has_a_name_and_a_filter(core: Core, version: int, topic_filter: str) -> None:
    client = core.connect("c", version)
    assert client.subscribe(topic_filter, "$share/g/a", "$share/g/+/#", "$share/g/a//", "$share/g//") == (
        0x8F if version == 5 else 0x80, 0, 0, 0, 0,
    )  # fmt: skip
    if version == 5:
        assert client.unsubscribe(topic_filter, "$share/g/a") == (0x11, 0)


@pytest.mark.clause("v5:MQTT-3.8.3-4")
def test_no_local_on_a_shared_filter_closes(core: Core) -> None:
    client = core.connect("c")
    client.send(Subscribe(1, (Subscription("a"), Subscription(SHARED, no_local=True))))
    client.closed_with(0x82)


def test_rights_are_judged_by_the_inner_filter(core: Core) -> None:
    core.grant("narrow", subscribe=("a/+",))
    client = core.connect("c", user_name="narrow")
    assert client.subscribe("$share/g/a/b", "$share/g/a/+", "$share/g/a/#", "$share/a/b", "$share/g/$share/g/a/b") == (
        0, 0, 0x87, 0x87, 0x87,
    )  # fmt: skip


@pytest.mark.parametrize("shared", [True, False])
def test_subscription_limits_count_shared_ones(shared: bool) -> None:
    core = Core(subscriptions_per_application_session_maximum=3)
    core.grant()
    client = core.connect("c")
    filters = [f"$share/g/{n}" if shared or n % 2 else f"{n}" for n in range(4)]
    assert client.subscribe(*filters) == (0, 0, 0, 0x97)
    assert client.subscribe(filters[0], qos=1) == (1,)
    core.end()


def test_a_shared_filter_is_replaced_and_removed_by_its_whole_name(core: Core) -> None:
    client = core.connect("c")
    assert client.subscribe(SHARED, qos=1) == (1,)
    assert client.subscribe(SHARED, qos=0) == (0,)
    assert client.described["subscriptions"] == 1
    core.publish("t", b"x", 1)
    assert [one.qos for one in client.publishes()] == [0]
    assert client.unsubscribe("t", "$share/h/t", "$share/g/u", SHARED, SHARED) == (0x11, 0x11, 0x11, 0, 0x11)
    assert core.publish("t", b"x", 1) == 0
    client.expect()


# ---------------------------------------------------------------- who gets a message


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("topic_filter", ["$share/g/a/b", "$share/g/+/b", "$share/g/#", "$share/g/a/b/#"])
def test_each_message_goes_to_one_member_in_turn(core: Core, qos: int, version: int, topic_filter: str) -> None:
    members = [core.connect(f"m{number}", version) for number in range(3)]
    for one in members:
        one.subscribe(topic_filter, qos=qos)
    publisher = core.connect("p")
    for number in range(6):
        publisher.publish("a/b", b"%d" % number, qos)
    assert sorted(len(one.publishes()) for one in members) == [2, 2, 2]


@pytest.mark.clause("v5:MQTT-4.8.2-3")
def test_each_member_gets_it_with_the_options_of_its_own_subscription(core: Core) -> None:
    one, two = core.connect("one"), core.connect("two")
    one.subscribe(Subscription(SHARED, 0, retain_as_published=True), identifier=11)
    two.subscribe(Subscription(SHARED, 2), identifier=22)
    for _ in range(4):
        core.publish("t", b"x", 1)
    first, second = one.publishes(), two.publishes()
    assert [packet.qos for packet in first] == [0, 0]
    assert [packet.qos for packet in second] == [1, 1]
    assert [packet.properties for packet in first] == [{"subscription_identifier": (11,)}] * 2
    assert [packet.properties for packet in second] == [{"subscription_identifier": (22,)}] * 2


def test_groups_are_independent_and_nothing_is_merged_with_ordinary_subscriptions(core: Core) -> None:
    client, other = core.connect("c"), core.connect("d")
    client.subscribe(SHARED, "t", "$share/h/t", "+", "$share/g/#", qos=1)
    other.subscribe("$share/h/t", qos=1)
    for _ in range(2):
        core.publish("t", b"x", 1)
    assert counts([client, other]) == [2 + 2 + 1 + 2, 1]


def test_groups_of_other_accounts_are_others(core: Core) -> None:
    core.grant("elsewhere", account_id=2)
    here, there = core.connect("c"), core.connect("c", user_name="elsewhere")
    for one in (here, there):
        one.subscribe(SHARED)
    for _ in range(4):
        core.publish("t", b"x")
    assert counts([here, there]) == [4, 0]


def test_a_publisher_may_be_the_member_that_gets_it(core: Core) -> None:
    client = core.connect("c", 4)
    client.subscribe(SHARED)
    client.publish("t", b"x")
    assert client.payloads() == [b"x"]


def test_members_without_quota_lose_their_turn_until_they_have_some(core: Core) -> None:
    slow = core.connect("slow", properties={"receive_maximum": 1})
    fast = core.connect("fast")
    for one in (slow, fast):
        one.subscribe(SHARED, qos=1)
    for number in range(9):
        core.publish("t", b"%d" % number, 1)
    got = slow.publishes()
    assert len(got) == 1
    assert counts([fast]) == [8]
    slow.acknowledge(got[0].packet_id)
    for _ in range(2):
        core.publish("t", b"x", 1)
    assert counts([slow, fast]) == [1, 1]


def test_who_leaves_a_group_while_it_has_no_turn_is_forgotten(core: Core) -> None:
    client, other = core.connect("c", properties={"receive_maximum": 1}), core.connect("o")
    for one in (client, other):
        one.subscribe(SHARED, "$share/h/t", qos=1)
    for _ in range(3):
        core.publish("t", b"x", 1)
    assert client.unsubscribe(SHARED, "$share/h/t") == (0, 0)
    while sum(counts([client])):
        pass
    assert client.subscribe(SHARED, qos=1) == (1,)
    counts([other])
    for _ in range(4):
        core.publish("t", b"x", 1)
    assert counts([client, other])[0] >= 1


@pytest.mark.parametrize("qos", [0, 1])
def test_a_member_that_does_not_read_loses_its_turn_until_it_does(core: Core, qos: int) -> None:
    core = Core(outbox_soft_limit_bytes=1024)
    core.grant()
    deaf, fast = group(core, 2, qos=qos)
    deaf.reads = False
    for _ in range(20):
        core.publish("t", bytes(400), qos)
    fast_first = counts([fast])[0]
    assert fast_first >= 17
    deaf.reads = True
    core.run()
    assert fast_first + counts([deaf])[0] == 20
    for _ in range(4):
        core.publish("t", b"x", qos)
    assert counts([deaf, fast]) == [2, 2]
    assert core.all_drops() == {}
    core.end()


def test_a_message_too_large_for_one_member_goes_to_another(core: Core) -> None:
    small = core.connect("small", properties={"maximum_packet_size": 100})
    large = core.connect("large")
    for one in (small, large):
        one.subscribe(SHARED, qos=1)
    for _ in range(4):
        core.publish("t", bytes(200), 1)
    assert counts([small, large]) == [0, 4]
    for _ in range(4):
        core.publish("t", b"x", 1)
    assert counts([small, large]) == [2, 2]
    large.drop()
    core.publish("t", bytes(200), 1)
    assert core.all_drops() == {DropReason.NO_MEMBER: 1}


def test_when_all_are_full_those_connected_queue(core: Core) -> None:
    away, one, two = group(core, 3, properties={"receive_maximum": 1, "session_expiry_interval": 60})
    away.drop()
    for number in range(6):
        core.publish("t", b"%d" % number, 1)
    got = [one.publishes(), two.publishes()]
    assert [len(packets) for packets in got] == [1, 1]
    assert one.described["queued_messages"] + two.described["queued_messages"] == 4
    total = 0
    while got[0] or got[1]:
        total += len(got[0]) + len(got[1])
        for client, packets in zip((one, two), got, strict=True):
            client.acknowledge(*(packet.packet_id for packet in packets))
        got = [one.publishes(), two.publishes()]
    assert total == 6
    assert core.all_drops() == {}


def test_when_all_are_away_those_kept_queue_and_nobody_else(core: Core) -> None:
    kept = group(core, 2, properties={"session_expiry_interval": 60})
    plain = core.connect("plain")
    plain.subscribe(SHARED, qos=1)
    for one in (*kept, plain):
        one.drop()
    for number in range(4):
        core.publish("t", b"%d" % number, 1)
    core.publish("t", b"lost", 0)
    assert core.all_drops() == {DropReason.NO_MEMBER: 1}
    back = [core.connect(f"m{number}", clean_start=False) for number in range(2)]
    assert counts(back) == [2, 2]
    core.publish("t", b"x", 1)
    assert sum(counts(back)) == 1


def test_who_is_back_takes_turns_again(core: Core) -> None:
    members = group(core, 3, properties={"session_expiry_interval": 60})
    members[1].drop()
    for _ in range(4):
        core.publish("t", b"x", 1)
    assert counts([members[0], members[2]]) == [2, 2]
    members[1] = core.connect("m1", clean_start=False)
    for _ in range(6):
        core.publish("t", b"x", 1)
    assert counts(members) == [2, 2, 2]


def test_nobody_left_to_take_it_is_counted(core: Core) -> None:
    members = group(core, 2, properties={"session_expiry_interval": 60})
    core.grant("bystander")
    for one in members:
        one.drop()
    assert core.publish("t", b"x", 0) == 0
    assert core.all_drops() == {DropReason.NO_MEMBER: 1}
    assert core.shard.drops(1)[DropReason.NO_MEMBER] == 1


@pytest.mark.parametrize("qos", [1, 2])
def test_a_matched_group_that_cannot_take_it_is_still_a_match(core: Core, qos: int) -> None:
    (one,) = group(core, 1, qos=0, properties={"session_expiry_interval": 60})
    one.drop()
    publisher = core.connect("p")
    publisher.publish("t", b"x", qos)
    publisher.expect(Puback(1) if qos == 1 else Pubrec(1))


# ---------------------------------------------------------------- members that leave


@pytest.mark.parametrize("how", ["drop", "expire", "clean start", "takeover"])
def test_what_an_ending_session_has_queued_or_unacknowledged_at_qos_1_goes_to_another(core: Core, how: str) -> None:
    expiry = 0 if how in ("drop", "takeover") else 60
    first = core.connect("first", properties={"receive_maximum": 2, "session_expiry_interval": expiry})
    first.subscribe(SHARED, qos=1)
    for number in range(5):
        core.publish("t", b"%d" % number, 1)
    assert first.payloads() == [b"0", b"1"]
    heir = core.connect("heir")
    heir.subscribe(SHARED, qos=1, identifier=7)
    if how == "takeover":
        core.connect("first")
    else:
        first.drop()
    if how == "expire":
        heir.expect()
        core.wait(61)
    elif how == "clean start":
        heir.expect()
        core.connect("first")
    got = heir.publishes()
    assert [packet.payload for packet in got] == [b"0", b"1", b"2", b"3", b"4"]
    assert not any(packet.dup for packet in got)
    assert {packet.properties["subscription_identifier"] for packet in got} == {(7,)}
    assert core.all_drops() == {}


def test_ordinary_messages_of_an_ending_session_are_nobody_elses(core: Core) -> None:
    first = core.connect("first", properties={"receive_maximum": 1})
    first.subscribe("t", SHARED, qos=1)
    core.publish("t", b"x", 1)
    heir = core.connect("heir")
    heir.subscribe(SHARED, qos=1)
    first.drop()
    assert heir.payloads() == [b"x"]
    assert core.all_drops() == {DropReason.SESSION_ENDED: 1}


@pytest.mark.clause("v5:MQTT-4.8.2-5")
@pytest.mark.parametrize("expiry", [0, 60])
def test_qos_2_that_was_sent_stays_bound_to_its_session_and_ends_with_it(core: Core, expiry: int) -> None:
    first = core.connect("first", properties={"session_expiry_interval": expiry})
    first.subscribe(SHARED, qos=2)
    core.publish("t", b"publish", 2)
    core.publish("t", b"pubrel", 2)
    sent = first.publishes()
    first.send(Pubrec(sent[1].packet_id))
    heir = core.connect("heir")
    heir.subscribe(SHARED, qos=2)
    first.drop()
    core.wait(61)
    heir.expect()
    assert core.all_drops() == {DropReason.SESSION_ENDED: 1}


@pytest.mark.clause("v5:MQTT-4.8.2-4")
def test_qos_2_is_completed_to_the_member_that_returns(core: Core) -> None:
    first, other = group(core, 2, qos=2, properties={"session_expiry_interval": 60})
    core.publish("t", b"x", 2)
    chosen, idle = (first, other) if first.take() or first.unread else (other, first)
    (sent,) = chosen.publishes()
    name = "m0" if chosen is first else "m1"
    chosen.drop()
    back = core.connect(name, clean_start=False)
    assert back.publishes() == [Publish("t", b"x", 2, dup=True, packet_id=sent.packet_id)]
    back.send(Pubrec(sent.packet_id))
    back.expect(Pubrel(sent.packet_id))
    back.send(Pubcomp(sent.packet_id))
    idle.expect()


def test_qos_2_that_was_only_queued_is_handed_over(core: Core) -> None:
    first = core.connect("first", properties={"receive_maximum": 1})
    first.subscribe(SHARED, qos=2)
    core.publish("t", b"sent", 2)
    core.publish("t", b"queued", 2)
    heir = core.connect("heir")
    heir.subscribe(SHARED, qos=2)
    first.drop()
    assert heir.payloads() == [b"queued"]


@pytest.mark.clause("v5:MQTT-4.8.2-6")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_message_is_discarded_and_offered_to_nobody_else(core: Core, qos: int) -> None:
    members = group(core, 2, qos=qos)
    core.publish("t", b"x", qos)
    got = [one.publishes() for one in members]
    chosen = 0 if got[0] else 1
    packet_id = got[chosen][0].packet_id
    members[chosen].send(Puback(packet_id, 0x80) if qos == 1 else Pubrec(packet_id, 0x80))
    members[chosen].drop()
    members[1 - chosen].expect()
    assert core.all_drops() == {DropReason.NEGATIVE_ACK: 1}


def test_a_message_that_expires_while_it_is_handed_over_is_dropped(core: Core) -> None:
    first = core.connect("first", properties={"session_expiry_interval": 60})
    first.subscribe(SHARED, qos=1)
    core.connect("p").publish("t", b"x", 1, properties={"message_expiry_interval": 10})
    heir = core.connect("heir")
    heir.subscribe(SHARED, qos=1)
    first.drop()
    core.wait(61)
    heir.expect()
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: 1}


def test_who_unsubscribed_still_gets_what_was_given_to_it_before(core: Core) -> None:
    first = core.connect("first", properties={"receive_maximum": 1})
    first.subscribe(SHARED, qos=1)
    for number in range(3):
        core.publish("t", b"%d" % number, 1)
    assert first.unsubscribe(SHARED) == (0,)
    other = core.connect("other")
    other.subscribe(SHARED, qos=1)  # of another group: the first has ended with its last member
    total = []
    while got := first.publishes():
        total += [packet.payload for packet in got]
        first.acknowledge(*(packet.packet_id for packet in got))
    assert total == [b"0", b"1", b"2"]
    other.expect()


def test_what_is_left_without_a_group_is_dropped(core: Core) -> None:
    (first,) = group(core, 1, properties={"receive_maximum": 1})
    for _ in range(3):
        core.publish("t", b"x", 1)
    first.drop()
    assert core.all_drops() == {DropReason.SESSION_ENDED: 3}


# ---------------------------------------------------------------- in slices


@pytest.mark.parametrize("slices", range(8))
@pytest.mark.parametrize("how", ["unsubscribe", "close", "takeover"])
def test_a_fan_out_chooses_the_member_when_it_gets_there(slices: int, how: str) -> None:
    core = Core(deliveries=1)
    core.grant()
    publisher = core.connect("p")
    others = [core.connect(f"o{number}") for number in range(6)]
    members = [core.connect(f"m{number}") for number in range(2)]
    for one in others[:3]:
        one.subscribe("t", qos=1)
    for one in members:
        one.subscribe(SHARED, qos=1)
    for one in others[3:]:
        one.subscribe("t", qos=1)
    publisher.publish("t", b"x", 1, run=False)
    for _ in range(slices):
        core.slice()
    for one in members:
        one.take()
    before = [len(one.unread) for one in members]
    if how == "unsubscribe":
        members[0].send(b"\xa2" + bytes([15]) + b"\x00\x01\x00\x00\x0a" + SHARED.encode(), run=False)
    elif how == "close":
        core.shard.close_connection(members[0].handle)
    else:
        core.connect("m0")
    core.run()
    assert counts(others) == [1] * 6
    after = [sum(isinstance(packet, Publish) for packet in one.received()) for one in members]
    assert sum(after) == 1 or (how != "unsubscribe" and before[0] and after == [1, 1])  # QoS 1 may come again elsewhere
    publisher.expect(Puback(1))
    core.end()


@pytest.mark.parametrize("slices", range(5))
def test_a_group_may_end_while_a_fan_out_names_it(slices: int) -> None:
    core = Core(deliveries=1)
    core.grant()
    publisher = core.connect("p")
    others = [core.connect(f"o{number}") for number in range(4)]
    member = core.connect("m")
    for one in others:
        one.subscribe("t", qos=1)
    member.subscribe(SHARED, qos=1)
    publisher.publish("t", b"x", 1, run=False)
    for _ in range(slices):
        core.slice()
    core.shard.close_connection(member.handle)
    core.run()
    assert counts(others) == [1] * 4
    core.end()


def test_a_huge_queue_is_handed_over_in_slices() -> None:
    core = Core()
    core.grant()
    first = core.connect("first", properties={"receive_maximum": 10})
    first.subscribe(SHARED, qos=1)
    for number in range(1000):
        core.publish("t", b"%d" % number, 1)
    first.take()
    heir = core.connect("heir")
    heir.subscribe(SHARED, qos=1)
    core.deliveries = 1
    core.shard.close_connection(first.handle)
    core.slice()
    assert len(heir.publishes()) < 200
    core.run()
    core.deliveries = 1 << 40
    core.run()
    assert core.all_drops() == {}
    core.end()


# ---------------------------------------------------------------- how much it takes


def test_ten_thousand_members_of_which_most_are_away_are_not_asked_for_every_message() -> None:
    core = Core(connections_maximum=20_000, unauthenticated_connections_maximum=20_000)
    core.grant()
    for number in range(2000):
        client = core.open()
        client.reads = False
        core.clients.pop()
        client.send(connect_packet(f"a{number}"), run=False)
        assert core.shard.subscribe(client.handle, SHARED.encode(), 1)
        core.shard.close_connection(client.handle)
    core.run()
    busy = group(core, 2)
    for _ in range(4):  # each finds some away
        core.publish("t", b"x", 1)
    counts(busy)
    for _ in range(100):
        core.publish("t", b"x", 1)
    assert counts(busy) == [50, 50]
    assert core.all_drops() == {}


def connect_packet(client_id: str) -> bytes:
    """A kept session."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x05\xc2\x00\x00\x05\x11" + (600).to_bytes(4, "big")
    body += len(name).to_bytes(2, "big") + name + b"\x00\x04user\x00\x02pw"
    return b"\x10" + bytes([len(body)]) + body


def test_every_group_and_filter_goes_with_its_last_member(core: Core) -> None:
    from broker._core.core_probe import topic_tables

    client, other = core.connect("c"), core.connect("o")
    other.subscribe("a")
    other.unsubscribe("a")
    before = topic_tables(core.shard, 1)
    assert before is not None
    for turn in range(3):
        for number in range(300):
            filters = (f"$share/g{number}/a/{number % 7}", f"$share/g/+/{number}", f"$share/{turn}/x/{number}/#")
            for one in (client, other):
                assert one.subscribe(*filters) == (0, 0, 0)
        full = topic_tables(core.shard, 1)
        assert full is not None
        assert full["groups"] == 900
        assert full["subscriptions"] == 1800
        for number in range(300):
            filters = (f"$share/g{number}/a/{number % 7}", f"$share/g/+/{number}", f"$share/{turn}/x/{number}/#")
            for one in (client, other):
                assert one.unsubscribe(*filters) == (0, 0, 0)
        after = topic_tables(core.shard, 1)
        assert after is not None
        names = ("topics", "nodes", "groups", "subscriptions", "wildcards", "filter_bytes")
        assert {name: after[name] for name in names} == {name: before[name] for name in names}


def test_a_suback_for_3_1_1_says_what_was_granted(core: Core) -> None:
    client = core.connect("c", 4)
    client.send(Subscribe(7, (Subscription(SHARED, 2), Subscription("$share/g/", 0))))
    client.expect(Suback(7, (2, 0x80)))
