"""Retained messages on disk: what was acknowledged is there after a crash, and what was cleared is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.ports import LOCAL_PRINCIPALS, OWN_PRINCIPALS
from broker.reasons import DropReason
from broker.wire import Connack, Disconnect, Puback, Publish, Pubrec, Subscription, Will
from tests.support.core import Client, Core

RETAINED = "retained"


@pytest.fixture
def core() -> Core:
    core = Core()
    core.grant(synced=True)
    return core


def nobody(_: int) -> bool:
    return False


def after_crash(core: Core, down_s: float = 0, known: Callable[[int], bool] = nobody) -> Core:
    """Another process on what is on disk, all of which it could read."""
    after = core.crash(down_s=down_s, known=known)
    assert after.left_out == {}
    return after


def records(core: Core) -> int:
    return len(core.store.load(RETAINED))


def retained(core: Core, topic_filter: str = "#") -> dict[str, bytes]:
    reader = core.connect("reader")
    reader.subscribe(topic_filter, qos=2)
    found = {one.topic_name: one.payload for one in reader.publishes()}
    reader.send(Disconnect())
    return found


# ---------------------------------------------------------------- promises


@pytest.mark.parametrize(("qos", "kind"), [(1, Puback), (2, Pubrec)])
@pytest.mark.parametrize("payload", [b"value", b""])
def test_a_retained_message_and_its_removal_are_on_disk_before_they_are_acknowledged(
    core: Core, qos: int, kind: type, payload: bytes
) -> None:
    client = core.connect("c")
    core.publish_retained("t", b"before")
    core.hold()
    client.publish("t", payload, qos, retain=True)
    client.expect()
    core.release()
    client.expect(kind(1, 0x10))
    again = after_crash(core)
    assert retained(again) == ({"t": payload} if payload else {})


def test_who_clears_what_was_just_cleared_waits_for_that_as_well(core: Core) -> None:
    first, second = core.connect("1"), core.connect("2")
    core.publish_retained("t", b"value")
    core.hold()
    first.publish("t", b"", 1, retain=True)
    second.publish("t", b"", 1, retain=True)
    second.expect()
    core.release()
    second.expect(Puback(1, 0x10))


def test_nobody_waits_for_one_of_qos_0_and_it_is_written_all_the_same(core: Core) -> None:
    core.connect("c").publish("t", b"value", retain=True)
    again = after_crash(core)
    assert retained(again) == {"t": b"value"}


def test_the_receivers_acknowledgement_does_not_stand_for_the_disk(core: Core) -> None:
    reader = core.keep("r")
    reader.subscribe("t", qos=1)
    writer = core.connect("w")
    core.hold()
    writer.publish("t", b"value", 1, retain=True)
    reader.acknowledge(reader.publishes()[0].packet_id)
    writer.expect()
    core.release()
    writer.expect(Puback(1))


def test_relaxed_clients_do_not_wait(core: Core) -> None:
    core.shard.set_durability(0, 1)
    client = core.connect("c")
    core.hold()
    client.publish("t", b"value", 1, retain=True)
    client.expect(Puback(1, 0x10))
    core.release()
    assert retained(after_crash(core)) == {"t": b"value"}


def test_memory_clients_write_nothing_and_leave_nothing_stale_behind(core: Core) -> None:
    core.connect("c").publish("t", b"written", 1, retain=True)
    core.shard.set_durability(0, 0)
    client = core.connect("d")
    core.hold()
    client.publish("u", b"not written", 1, retain=True)
    client.publish("t", b"not written", 1, retain=True)
    client.expect(Puback(1, 0x10), Puback(2, 0x10))
    core.release()
    assert retained(core) == {"t": b"not written", "u": b"not written"}
    assert retained(after_crash(core)) == {}


# ---------------------------------------------------------------- what is written


def test_what_is_replaced_before_it_is_written_is_written_once(core: Core) -> None:
    client = core.connect("c")
    for i in range(1000):
        client.publish("t", b"%d" % i, retain=True, run=False)
        client.publish("u", b"%d" % i if i % 2 else b"", retain=True, run=False)
    sealed = core.shard.seal()
    assert sealed is not None
    assert [table for table, _, _ in sealed[1]].count(RETAINED) == 2
    core.in_flight = True
    core.store.submit(*sealed, core._settled)
    core.run()
    assert retained(after_crash(core)) == {"t": b"999", "u": b"999"}


def test_what_comes_and_goes_between_two_batches_leaves_no_trace(core: Core) -> None:
    client = core.connect("c")
    core.hold()
    client.publish("other", b"1", retain=True)  # its batch is under way
    for _ in range(200):
        client.publish("t", b"value", retain=True)
        client.publish("t", b"", retain=True)
    assert core.shard.open_batch_bytes() == 0
    core.release()
    assert records(core) == 1


def test_while_the_disk_takes_nothing_no_more_waits_than_is_retained(core: Core) -> None:
    client = core.connect("c")
    core.hold()
    client.publish("other", b"1", retain=True)
    core.shard.set_refusing(True)
    for i in range(500):
        client.publish(f"t/{i % 5}", b"%d" % i, retain=True)
    assert core.shard.open_batch_bytes() < 1000
    client.publish("t/0", b"refused", 1, retain=True)
    client.expect(Puback(1, 0x97))
    core.shard.set_refusing(False)
    core.release()
    assert retained(after_crash(core), "t/#") == {f"t/{i}": b"%d" % (495 + i) for i in range(5)}


def test_a_client_that_is_promised_nothing_needs_no_disk(core: Core) -> None:
    core.shard.set_durability(0, 0)
    core.shard.set_refusing(True)
    client = core.connect("c")
    client.publish("t", b"value", 1, retain=True)
    client.expect(Puback(1, 0x10))


def test_every_way_in_which_one_ends_takes_its_record_along(core: Core) -> None:
    client = core.connect("c")
    client.publish("cleared", b"1", retain=True)
    client.publish("expired", b"1", retain=True, properties={"message_expiry_interval": 10})
    client.publish("matched/a", b"1", retain=True)
    core.publish_retained("servers", b"1")
    assert records(core) == 4
    client.publish("cleared", b"", retain=True)
    assert records(core) == 3
    core.wait(11)
    assert records(core) == 2
    core.shard.clear_retained(1, b"matched/#")
    core.run()
    assert records(core) == 1
    client.publish("authored", b"1", retain=True)
    core.shard.clear_authored(1)
    core.run()
    assert records(core) == 1
    core.publish_retained("servers", b"")
    assert records(core) == 0


def test_what_its_author_may_not_publish_any_more_goes_from_the_disk_too(core: Core) -> None:
    core.connect("c").publish("a/b", b"1", retain=True)
    core.shard.put_grant(b"\x01" * 32, 1, 1, "user", "", ("x",), ("#",))
    reader = core.grant("reader")
    assert reader == 2
    client = core.connect("r", user_name="reader")
    client.subscribe("#")
    client.expect()
    core.run()
    assert records(core) == 0


def test_a_will_that_is_retained_is_written_when_it_is_published(core: Core) -> None:
    core.connect("c", will=Will("w", b"gone", 1, retain=True)).drop()
    assert retained(after_crash(core)) == {"w": b"gone"}


# ---------------------------------------------------------------- what comes back


def test_everything_of_a_message_comes_back(core: Core) -> None:
    properties = {
        "content_type": "text/plain", "user_property": (("a", "b"), ("a", "c")), "response_topic": "r",
        "correlation_data": b"\x00", "payload_format_indicator": 1, "message_expiry_interval": 50,
    }  # fmt: skip
    core.connect("c").publish("t", b"value", 2, retain=True, properties=properties)
    core.wait(10)
    again = after_crash(core, down_s=15)
    reader = again.connect("r")
    reader.subscribe(Subscription("t", 2, retain_as_published=True))
    (found,) = reader.publishes()
    assert (found.qos, found.retain, found.payload) == (2, True, b"value")
    assert found.properties == {**properties, "message_expiry_interval": 25}


def test_what_expired_while_nobody_was_there_is_gone_from_the_disk(core: Core) -> None:
    client = core.connect("c")
    client.publish("short", b"1", retain=True, properties={"message_expiry_interval": 10})
    client.publish("long", b"1", retain=True, properties={"message_expiry_interval": 100})
    again = after_crash(core, down_s=11)
    again.run()
    assert records(again) == 1
    assert retained(again) == {"long": b"1"}
    again.wait(90)
    assert retained(again) == {}
    assert records(again) == 0


def test_a_clock_that_was_set_back_makes_no_message_live_longer_than_it_may(core: Core) -> None:
    core.connect("c").publish("t", b"1", retain=True, properties={"message_expiry_interval": 10})
    again = after_crash(core, down_s=-1000)
    reader = again.connect("r")
    reader.subscribe("t")
    assert reader.publishes()[0].properties["message_expiry_interval"] == 10
    again.wait(11)
    assert retained(again) == {}


def test_no_local_still_knows_who_published(core: Core) -> None:
    core.connect("c").publish("t", b"1", 1, retain=True)
    again = after_crash(core)
    other, same = again.connect("d"), again.connect("c")
    for client in other, same:
        client.subscribe(Subscription("t", 1, no_local=True))
    assert other.payloads() == [b"1"]
    same.expect()


def test_quotas_count_what_came_back(core: Core) -> None:
    core.connect("c").publish("t", b"value", retain=True)
    before = core.shard.retained(1)
    again = after_crash(core)
    assert again.shard.retained(1) == before
    client = again.connect("c")
    client.publish("t", b"", retain=True)
    assert again.shard.retained(1) == (0, 0)
    again.run()
    assert records(again) == 0


def test_what_is_set_after_a_restart_replaces_what_was_set_before(core: Core) -> None:
    client = core.connect("c")
    for topic in "a", "b", "c":
        client.publish(topic, b"first", retain=True)
    second = after_crash(core)
    client = second.connect("c")
    client.publish("b", b"second", retain=True)
    client.publish("d", b"second", retain=True)
    third = after_crash(second)
    assert retained(third) == {"a": b"first", "b": b"second", "c": b"first", "d": b"second"}


def test_records_that_are_none_are_left_out_and_counted(core: Core) -> None:
    client = core.connect("c")
    for topic in "a", "b", "c", "d":
        client.publish(topic, b"value", retain=True, properties={"message_expiry_interval": 1000})
    table = core.store._tables[RETAINED]
    keys = sorted(table)
    table[keys[0]] = table[keys[0]][:-1]
    table[keys[1]] = b""
    table[keys[2]] = table[keys[2]] + b"x"
    table[b"short"] = table[keys[3]]
    again = core.crash()
    assert again.left_out == {RETAINED: 4}
    assert retained(again) == {"d": b"value"}
    again.connect("c").publish("e", b"new", retain=True)
    assert records(again) == 6  # nothing was deleted, and no number was given twice


# ---------------------------------------------------------------- authors


def test_what_a_deleted_author_had_set_goes(core: Core) -> None:
    core.connect("c").publish("t", b"1", retain=True)
    core.publish_retained("server", b"1")
    asked: list[int] = []
    core.granted.clear()
    again = after_crash(core, known=lambda number: bool(asked.append(number)))
    assert asked == [1]
    again.run()
    assert records(again) == 1


def test_what_an_author_without_rights_had_set_waits_until_it_is_let_in_again(core: Core) -> None:
    core.connect("c").publish("t", b"1", retain=True)
    core.granted.clear()
    again = after_crash(core, known=lambda number: number == 1)
    again.grant("reader")
    reader = again.connect("r", user_name="reader")
    reader.subscribe("t")
    reader.expect()
    again.principals = 0
    again.grant(synced=True)
    reader.subscribe("t")
    assert reader.payloads() == [b"1"]


def own(core: Core, number: int, client_id: str = "c", device_id: str = "dev", **rights: tuple[str, ...]) -> Client:
    """A client that an Authenticator lets in."""
    client = core.connecting(client_id, user_name="own")
    core.admit(client.handle, principal_id=OWN_PRINCIPALS + number, device_id=device_id, synced=True, **rights)
    assert client.pick(Connack).reason_code == 0
    return client


def test_what_an_authenticators_principal_had_set_stands_on_what_it_may_when_it_is_back(core: Core) -> None:
    client = own(core, 5)
    client.publish("a", b"1", 1, retain=True)
    client.publish("b", b"1", 1, retain=True)
    again = after_crash(core)
    assert retained(again) == {"a": b"1", "b": b"1"}  # nobody has judged it yet
    own(again, 5, publish=("a",))
    assert retained(again) == {"a": b"1"}
    again.run()
    assert records(again) == 1
    again.shard.clear_authored(OWN_PRINCIPALS + 5)
    assert retained(again) == {}


def test_a_revoked_principal_that_has_not_come_back_shows_nothing(core: Core) -> None:
    own(core, 5).publish("a", b"1", 1, retain=True)
    again = after_crash(core)
    again.shard.revoke_principal(OWN_PRINCIPALS + 5, again.now_ns)
    assert retained(again) == {}


def test_clients_inside_the_process_are_nobody_after_a_restart(core: Core) -> None:
    client = core.connecting("local", user_name="own")
    core.admit(client.handle, principal_id=LOCAL_PRINCIPALS + 1, synced=True)
    client.publish("t", b"1", 1, retain=True)
    again = after_crash(core)
    assert retained(again) == {"t": b"1"}
    other = again.connecting("local", user_name="own")
    again.admit(other.handle, account_id=2, principal_id=LOCAL_PRINCIPALS + 1)
    assert other.pick(Connack).reason_code == 0


def test_a_number_that_stands_for_another_account_is_no_author(core: Core) -> None:
    core.connect("c").publish("t", b"1", retain=True)
    (first, options), *_ = core.granted
    core.granted[0] = ((first[0], 2, *first[2:]), options)
    assert core.crash().left_out == {RETAINED: 1}


def test_nothing_is_left_behind(core: Core) -> None:
    own(core, 5).publish("a", b"1", 1, retain=True)
    core.connect("c").publish("t", b"1", 1, retain=True, properties={"message_expiry_interval": 100})
    again = after_crash(core)
    again.end()
    assert again.drops(DropReason.RETAINED_FULL) == 0
    assert records(again) == 0


def test_publishes_are_shown_to_who_subscribes_only_once(core: Core) -> None:
    core.connect("c").publish("t", b"1", 1, retain=True)
    again = after_crash(core)
    reader = again.connect("r")
    reader.subscribe("t", qos=1)
    (found,) = reader.publishes()
    assert isinstance(found, Publish)
    reader.acknowledge(found.packet_id)
    reader.expect()


# ---------------------------------------------------------------- runs that were not at their end


def unfinished(core: Core) -> list[bool]:
    """Of each subscription on disk, whether it has still to get retained messages."""
    core.run()
    return [bool(value[1] & 16) for _, value in core.store.load("subscriptions")]


def slow(core: Core, *filters: str | Subscription) -> Client:
    """A reader that may have two messages at a time, and acknowledges none yet."""
    reader = core.keep("slow", properties={"receive_maximum": 2})
    reader.subscribe(*filters, qos=1)
    return reader


@pytest.fixture
def seven(core: Core) -> Core:
    for i in range(7):
        core.publish_retained(f"t/{i}", b"%d" % i, qos=1)
    return core


def all_of(reader: Client) -> list[bytes]:
    """Whatever comes while everything is acknowledged."""
    found = []
    while deliveries := reader.publishes():
        found += [one.payload for one in deliveries]
        reader.acknowledge(*(one.packet_id for one in deliveries))
    return found


def test_a_run_that_was_not_at_its_end_begins_again_after_a_crash(seven: Core) -> None:
    reader = slow(seven, "t/#")
    first = [one.payload for one in reader.publishes()]
    assert len(first) == 2
    assert unfinished(seven) == [True]
    again = after_crash(seven)
    reader = again.resume("slow", properties={"receive_maximum": 2})
    found = all_of(reader)
    assert found[:2] == first  # what was inflight
    assert sorted(found[2:]) == [b"%d" % i for i in range(7)]
    assert unfinished(again) == [False]


def test_a_run_that_was_at_its_end_does_not(seven: Core) -> None:
    reader = slow(seven, "t/#")
    assert len(all_of(reader)) == 7
    assert unfinished(seven) == [False]
    again = after_crash(seven)
    again.resume("slow").expect()


def test_what_matches_nothing_has_no_run(seven: Core) -> None:
    slow(seven, "u", "u/#", "+")
    assert unfinished(seven) == [False] * 3


def test_what_is_published_while_the_run_is_not_over_comes_once(seven: Core) -> None:
    slow(seven, "t/#")
    again = after_crash(seven)
    again.publish_retained("t/1", b"new", qos=1)
    found = all_of(again.resume("slow", properties={"receive_maximum": 2}))
    assert found.count(b"new") == 1
    assert b"1" not in found[2:]  # what is in flight comes again


def test_a_run_with_nothing_left_to_send_is_not_begun_again_and_again(seven: Core) -> None:
    slow(seven, "t/#")
    seven.shard.clear_retained(1, b"t/#")
    seven.run()
    again = after_crash(seven)
    assert unfinished(again) == [False]
    again.publish_retained("t/1", b"new", qos=1)
    again = after_crash(again)
    assert all_of(again.resume("slow"))[2:] == [b"new"]
