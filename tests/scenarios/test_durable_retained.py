"""Retained messages on disk: what was acknowledged is there after a crash, and what was cleared is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.ports import LOCAL_PRINCIPALS, OWN_PRINCIPALS
from broker.reasons import DropReason
from broker.wire import Connack, Disconnect, Puback, Publish, Pubrec, Subscription, Will
from tests.support.core import START_NS, WALL_NS, Client, Core

RETAINED = "retained"


@pytest.fixture
def core() -> Core:
    core = Core()
    core.grant(synced=True)
    return core


def nobody(_: int) -> bool:
    return False


def after_crash(
    core: Core, away_s: float = 0, known: Callable[[int], bool] = nobody, *, grant: bool = True
) -> tuple[Core, tuple[int, int, int, int]]:
    """Another process on what is on disk, and what it says about retained messages."""
    again = Core(**core.limits)
    again.store = core.store.lose()
    passed_ns = core.now_ns - START_NS + round(away_s * 1e9)
    again.shard.set_wall(again.now_ns, WALL_NS + passed_ns)
    if grant:
        again.grant(synced=True)
    return again, again.shard.restore_retained(again.store.scan(RETAINED), known)


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
    again, _ = after_crash(core)
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
    again, counts = after_crash(core)
    assert counts == (1, 0, 0, 0)
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
    assert retained(after_crash(core)[0]) == {"t": b"value"}


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
    assert retained(after_crash(core)[0]) == {}


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
    assert retained(after_crash(core)[0]) == {"t": b"999", "u": b"999"}


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
    assert retained(after_crash(core)[0], "t/#") == {f"t/{i}": b"%d" % (495 + i) for i in range(5)}


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
    assert retained(after_crash(core)[0]) == {"w": b"gone"}


# ---------------------------------------------------------------- what comes back


def test_everything_of_a_message_comes_back(core: Core) -> None:
    properties = {
        "content_type": "text/plain", "user_property": (("a", "b"), ("a", "c")), "response_topic": "r",
        "correlation_data": b"\x00", "payload_format_indicator": 1, "message_expiry_interval": 50,
    }  # fmt: skip
    core.connect("c").publish("t", b"value", 2, retain=True, properties=properties)
    core.wait(10)
    again, _ = after_crash(core, away_s=15)
    reader = again.connect("r")
    reader.subscribe(Subscription("t", 2, retain_as_published=True))
    (found,) = reader.publishes()
    assert (found.qos, found.retain, found.payload) == (2, True, b"value")
    assert found.properties == {**properties, "message_expiry_interval": 25}


def test_what_expired_while_nobody_was_there_is_gone_from_the_disk(core: Core) -> None:
    client = core.connect("c")
    client.publish("short", b"1", retain=True, properties={"message_expiry_interval": 10})
    client.publish("long", b"1", retain=True, properties={"message_expiry_interval": 100})
    again, counts = after_crash(core, away_s=11)
    assert counts == (1, 1, 0, 0)
    again.run()
    assert records(again) == 1
    assert retained(again) == {"long": b"1"}
    again.wait(90)
    assert retained(again) == {}
    assert records(again) == 0


def test_a_clock_that_was_set_back_makes_no_message_live_longer_than_it_may(core: Core) -> None:
    core.connect("c").publish("t", b"1", retain=True, properties={"message_expiry_interval": 10})
    again, _ = after_crash(core, away_s=-1000)
    reader = again.connect("r")
    reader.subscribe("t")
    assert reader.publishes()[0].properties["message_expiry_interval"] == 10
    again.wait(11)
    assert retained(again) == {}


def test_no_local_still_knows_who_published(core: Core) -> None:
    core.connect("c").publish("t", b"1", 1, retain=True)
    again, _ = after_crash(core)
    other, same = again.connect("d"), again.connect("c")
    for client in other, same:
        client.subscribe(Subscription("t", 1, no_local=True))
    assert other.payloads() == [b"1"]
    same.expect()


def test_quotas_count_what_came_back(core: Core) -> None:
    core.connect("c").publish("t", b"value", retain=True)
    before = core.shard.retained(1)
    again, _ = after_crash(core)
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
    second, _ = after_crash(core)
    client = second.connect("c")
    client.publish("b", b"second", retain=True)
    client.publish("d", b"second", retain=True)
    third, counts = after_crash(second)
    assert counts == (4, 0, 0, 0)
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
    again, counts = after_crash(core)
    assert counts == (1, 0, 0, 4)
    assert retained(again) == {"d": b"value"}
    again.connect("c").publish("e", b"new", retain=True)
    assert records(again) == 6  # nothing was deleted, and no number was given twice


# ---------------------------------------------------------------- authors


def test_what_a_deleted_author_had_set_goes(core: Core) -> None:
    core.connect("c").publish("t", b"1", retain=True)
    core.publish_retained("server", b"1")
    asked: list[int] = []
    again, counts = after_crash(core, grant=False, known=lambda number: bool(asked.append(number)))
    assert counts == (1, 0, 1, 0)
    assert asked == [1]
    again.run()
    assert records(again) == 1


def test_what_an_author_without_rights_had_set_waits_until_it_is_let_in_again(core: Core) -> None:
    core.connect("c").publish("t", b"1", retain=True)
    again, counts = after_crash(core, grant=False, known=lambda number: number == 1)
    assert counts == (1, 0, 0, 0)
    again.principals = 1
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
    again, counts = after_crash(core)
    assert counts == (2, 0, 0, 0)
    assert retained(again) == {"a": b"1", "b": b"1"}  # nobody has judged it yet
    own(again, 5, publish=("a",))
    assert retained(again) == {"a": b"1"}
    again.run()
    assert records(again) == 1
    again.shard.clear_authored(OWN_PRINCIPALS + 5)
    assert retained(again) == {}


def test_a_revoked_principal_that_has_not_come_back_shows_nothing(core: Core) -> None:
    own(core, 5).publish("a", b"1", 1, retain=True)
    again, _ = after_crash(core)
    again.shard.revoke_principal(OWN_PRINCIPALS + 5, again.now_ns)
    assert retained(again) == {}


def test_clients_inside_the_process_are_nobody_after_a_restart(core: Core) -> None:
    client = core.connecting("local", user_name="own")
    core.admit(client.handle, principal_id=LOCAL_PRINCIPALS + 1, synced=True)
    client.publish("t", b"1", 1, retain=True)
    again, _ = after_crash(core)
    assert retained(again) == {"t": b"1"}
    other = again.connecting("local", user_name="own")
    again.admit(other.handle, account_id=2, principal_id=LOCAL_PRINCIPALS + 1)
    assert other.pick(Connack).reason_code == 0


def test_a_number_that_stands_for_another_account_is_no_author(core: Core) -> None:
    core.connect("c").publish("t", b"1", retain=True)
    again = Core()
    again.store = core.store.lose()
    again.grant(account_id=2)
    assert again.shard.restore_retained(again.store.scan(RETAINED), nobody) == (0, 0, 0, 1)


def test_nothing_is_left_behind(core: Core) -> None:
    own(core, 5).publish("a", b"1", 1, retain=True)
    core.connect("c").publish("t", b"1", 1, retain=True, properties={"message_expiry_interval": 100})
    again, _ = after_crash(core)
    again.end()
    assert again.drops(DropReason.RETAINED_FULL) == 0
    assert records(again) == 0


def test_publishes_are_shown_to_who_subscribes_only_once(core: Core) -> None:
    core.connect("c").publish("t", b"1", 1, retain=True)
    again, _ = after_crash(core)
    reader = again.connect("r")
    reader.subscribe("t", qos=1)
    (found,) = reader.publishes()
    assert isinstance(found, Publish)
    reader.acknowledge(found.packet_id)
    reader.expect()
