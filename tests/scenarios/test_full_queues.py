"""A message for a session that has no room: the newest goes, the oldest goes, or its publisher is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.config import Capabilities
from broker.net.gateway import core_limits
from broker.ports import AccountLimits, GrantLimits
from broker.reasons import DropReason, ReasonCode
from broker.wire import Puback, Pubrec, Will
from tests.support.core import MEMORY, SYNCED, Client, Core

KIB = 1024
NEWEST, OLDEST, REFUSE = 0, 1, 2
BODY = bytes(10 * KIB)
LEVELS = pytest.mark.parametrize("level", [MEMORY, SYNCED], ids=["memory", "synced"])


def core_with(policy: int, level: int = MEMORY, **limits: int) -> Core:
    core = Core(queue_full_policy=policy, **limits)
    core.grant(durability=level)
    return core


@pytest.fixture
def oldest() -> Iterator[Core]:
    core = core_with(OLDEST)
    yield core
    core.end()


@pytest.fixture
def refusing() -> Iterator[Core]:
    core = core_with(REFUSE, queue_messages_maximum=1)
    yield core
    core.end()


def away(core: Core, client_id: str = "away", topic_filter: str = "t", qos: int = 1, **fields: str) -> None:
    """A session that queues."""
    client = core.keep(client_id, **fields)
    client.subscribe(topic_filter, qos=qos)
    client.drop()


def payloads(client: Client) -> list[bytes]:
    return [one.payload for one in client.publishes()]


def test_the_words_are_the_cores_numbers() -> None:
    for number, word in enumerate(("drop_newest", "drop_oldest", "refuse")):
        capabilities = Capabilities.model_validate({"queue_full_policy": word})
        assert core_limits(capabilities)["queue_full_policy"] == number
    assert Capabilities().queue_full_policy == "drop_newest"


def test_an_accounts_own_policy_holds_for_it_alone() -> None:
    core = Core(queue_full_policy=OLDEST, queue_messages_maximum=1)
    core.grant("mine")
    core.grant("theirs", account_id=2)
    core.shard.put_account(1, AccountLimits(queue_full_policy=REFUSE + 1))
    for name in ("mine", "theirs"):
        away(core, user_name=name)
    codes = {}
    for name in ("mine", "theirs"):
        sender = core.connect("sender", user_name=name)
        sender.publish("t", b"1", 1)
        sender.publish("t", b"2", 1)
        codes[name] = [one.reason_code for one in sender.received()]
    assert codes == {"mine": [0, ReasonCode.QUOTA_EXCEEDED], "theirs": [0, 0]}
    assert core.all_drops() == {DropReason.QUEUE_FULL: 1}
    core.shard.put_account(1, AccountLimits())  # the broker's again
    core.connect("other", user_name="mine").publish("t", b"3", 1)
    assert core.all_drops() == {DropReason.QUEUE_FULL: 2}
    core.end()


# ---------------------------------------------------------------- drop_oldest


@LEVELS
@pytest.mark.parametrize(("policy", "left"), [(NEWEST, b"123"), (OLDEST, b"345")])
def test_at_the_limit_of_messages_the_newest_or_the_oldest_goes(policy: int, left: bytes, level: int) -> None:
    core = core_with(policy, level, queue_messages_maximum=3)
    away(core)
    sender = core.connect("sender")
    for number in b"12345":
        sender.publish("t", bytes([number]), 1)
    assert core.all_drops() == {DropReason.QUEUE_FULL: 2}
    client = core.resume("away")
    core.run()
    assert b"".join(payloads(client)) == left
    core.end()


@LEVELS
def test_a_large_message_displaces_as_many_as_it_needs_and_no_more(level: int) -> None:
    core = core_with(OLDEST, level, queue_maximum_bytes=64 * KIB)
    away(core)
    sender = core.connect("sender")
    for number in b"123456":
        sender.publish("t", bytes([number]) + BODY, 1)
    sender.publish("t", b"7" + bytes(25 * KIB), 1)
    assert core.all_drops() == {DropReason.QUEUE_FULL: 3}
    client = core.resume("away")
    core.run()
    assert [one[:1] for one in payloads(client)] == [b"4", b"5", b"6", b"7"]
    core.end()


@LEVELS
def test_nothing_goes_for_a_message_that_fits_into_no_queue(level: int) -> None:
    core = core_with(OLDEST, level, queue_maximum_bytes=64 * KIB)
    away(core)
    sender = core.connect("sender")
    for number in b"123":
        sender.publish("t", bytes([number]) + BODY, 1)
    sender.publish("t", bytes(70 * KIB), 1)
    assert core.all_drops() == {DropReason.QUEUE_FULL: 1}
    client = core.resume("away")
    core.run()
    assert [one[:1] for one in payloads(client)] == [b"1", b"2", b"3"]
    core.end()


def test_only_the_sessions_own_messages_go_for_a_budget_that_others_have_filled(oldest: Core) -> None:
    oldest.shard.put_account(1, AccountLimits(queue_maximum_bytes=32 * KIB))
    away(oldest, "greedy", "greedy")
    away(oldest, "modest", "modest")
    sender = oldest.connect("sender")
    sender.publish("modest", b"1" + BODY, 1)
    sender.publish("greedy", b"2" + BODY, 1)
    sender.publish("greedy", b"3" + BODY, 1)
    sender.publish("modest", b"4" + BODY, 1)  # in place of 1
    sender.publish("greedy", b"5" + BODY, 1)  # in place of 2
    assert oldest.all_drops() == {DropReason.ACCOUNT_BUDGET_FULL: 2}
    away(oldest, "late", "late")
    sender.publish("late", b"6" + BODY, 1)  # has nothing to give
    assert oldest.all_drops() == {DropReason.ACCOUNT_BUDGET_FULL: 3}
    for client_id, left in {"greedy": [b"3", b"5"], "modest": [b"4"], "late": []}.items():
        client = oldest.resume(client_id)
        assert [one[:1] for one in payloads(client)] == left


@LEVELS
def test_a_message_is_not_displaced_by_itself(level: int) -> None:
    core = core_with(OLDEST, level, queue_messages_maximum=1)
    client = core.keep("away")
    client.subscribe("$share/g/t", "+", qos=1)
    client.drop()
    sender = core.connect("sender")
    sender.publish("t", b"1", 1)  # the group's turn comes last
    assert core.all_drops() == {DropReason.NO_MEMBER: 1}
    sender.publish("t", b"2", 1)
    assert core.all_drops() == {DropReason.QUEUE_FULL: 1, DropReason.NO_MEMBER: 2}
    assert payloads(core.resume("away")) == [b"2"]
    core.end()


def test_a_devices_and_the_processs_budgets_are_named_as_such() -> None:
    core = Core(queue_full_policy=OLDEST, queues_maximum_bytes=48 * KIB)
    core.grant("d", device_id="d", limits=GrantLimits(queue_maximum_bytes=24 * KIB))
    core.grant("e", device_id="e", account_id=2)
    for name in ("d", "e"):
        away(core, name, user_name=name)
    for account_id in (1, 1, 1, 2, 2, 2):
        core.publish("t", BODY, 1, account_id=account_id)
    assert core.all_drops() == {DropReason.DEVICE_BUDGET_FULL: 1, DropReason.BROKER_BUDGET_FULL: 1}
    core.end()


@LEVELS
def test_what_was_sent_stays_inflight_and_only_what_waits_goes(level: int) -> None:
    core = core_with(OLDEST, level, queue_messages_maximum=2)
    client = core.keep("c", properties={"receive_maximum": 1})
    client.subscribe("t", qos=1)
    sender = core.connect("sender")
    for number in b"12345":
        sender.publish("t", bytes([number]), 1)
    seen = []
    while got := client.publishes():
        seen += [one.payload for one in got]
        client.acknowledge(*(one.packet_id for one in got))
    assert seen == [b"1", b"4", b"5"]
    assert core.all_drops() == {DropReason.QUEUE_FULL: 2}
    core.end()


# ---------------------------------------------------------------- refuse


@pytest.mark.parametrize("qos", [1, 2])
def test_who_publishes_to_a_full_session_is_told_and_nobody_gets_anything(refusing: Core, qos: int) -> None:
    away(refusing, qos=qos)
    other = refusing.connect("other")
    other.subscribe("t", qos=1)
    sender = refusing.connect("sender")
    sender.publish("t", b"first", 1)
    assert payloads(other) == [b"first"]
    sender.received()
    packet_id = sender.publish("t", b"second", qos, retain=True)
    kind = Puback if qos == 1 else Pubrec
    sender.expect(kind(packet_id, ReasonCode.QUOTA_EXCEEDED))
    other.expect()
    assert refusing.all_drops() == {}
    assert refusing.shard.retained(1) == (0, 0)
    client = refusing.resume("away")  # and now there is room
    assert payloads(client) == [b"first"]
    sender.publish("t", b"third", 1)
    assert payloads(other) == [b"third"]


def test_a_311_client_is_closed_and_slowed(refusing: Core) -> None:
    away(refusing)
    sender = refusing.connect("sender", 4)
    sender.publish("t", b"first", 1)
    assert sender.is_open
    sender.publish("t", b"second", 1)
    assert not sender.is_open
    assert sender.received() == [Puback(1)]


def test_qos_0_flows_and_who_can_be_sent_to_needs_no_room(refusing: Core) -> None:
    away(refusing)
    online = refusing.connect("online")
    online.subscribe("t", qos=1)
    sender = refusing.connect("sender")
    sender.publish("t", b"1", 1)
    sender.publish("t", b"2", 0)
    assert payloads(online) == [b"1", b"2"]
    assert refusing.all_drops() == {DropReason.CLIENT_AWAY: 1}
    refusing.resume("away")
    for number in range(5):
        sender.publish("t", b"%d" % number, 1)
    assert len(payloads(online)) == 5


def test_a_budget_that_all_share_is_looked_at_for_all_of_them_together(refusing: Core) -> None:
    refusing.shard.put_account(1, AccountLimits(queue_maximum_bytes=24 * KIB))
    for number in range(3):  # two would fit
        away(refusing, f"away {number}")
    sender = refusing.connect("sender")
    packet_id = sender.publish("t", BODY, 1)
    sender.expect(Puback(packet_id, ReasonCode.QUOTA_EXCEEDED))
    assert refusing.shard.counters()["queued_bytes"] == 0
    assert refusing.all_drops() == {}
    refusing.resume("away 0").drop()
    refusing.connect("away 0")  # it begins anew
    packet_id = sender.publish("t", BODY, 1)
    sender.expect(Puback(packet_id))


def test_one_member_with_room_is_enough_for_a_shared_subscription(refusing: Core) -> None:
    for number in range(2):
        away(refusing, f"away {number}", "$share/g/t")
    sender = refusing.connect("sender")
    codes = []
    for _ in range(3):
        sender.publish("t", b"x", 1)
        codes.append(sender.pick(Puback).reason_code)
    assert codes == [0, 0, ReasonCode.QUOTA_EXCEEDED]
    assert refusing.all_drops() == {}


def test_a_will_has_nobody_to_be_refused_and_is_dropped_for_who_is_full(refusing: Core) -> None:
    away(refusing)
    other = refusing.connect("other")
    other.subscribe("t", qos=1)
    sender = refusing.connect("sender", will=Will("t", b"gone", qos=1))
    sender.publish("t", b"first", 1)
    sender.drop()
    assert payloads(other) == [b"first", b"gone"]
    assert refusing.all_drops() == {DropReason.QUEUE_FULL: 1}


@LEVELS
def test_what_is_refused_leaves_nothing_behind(level: int) -> None:
    core = core_with(REFUSE, level, queue_messages_maximum=1)
    away(core)
    sender = core.connect("sender")
    sender.publish("t", b"first", 2)
    for _ in range(3):
        sender.publish("t", b"more", 2)
    assert sender.described["inbound_qos2_ids"] == 1
    client = core.resume("away")
    core.run()
    assert payloads(client) == [b"first"]
    core.end()
