"""Long queues on disk are kept as runs: memory has a limit for each session, and nothing else can be told apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker._core.core_probe import parked
from broker.ports import AccountLimits, GrantLimits
from broker.reasons import DropReason
from broker.wire import Disconnect, Publish, Unsubscribe
from tests.support.core import SYNCED, Client, Core, credential
from tests.support.kept import drain, fill, nothing_left, payloads, subscriber, synced

OLDEST = 1
EXPIRES = {"properties": {"message_expiry_interval": 50}}
USUAL, USUAL_MERGING = 16, (256, 8)  # as in journal.pyx
SESSIONS_LIMIT = {"single": 3 * USUAL, "runs": 32}


def crowded(at: int = 2, **options: int) -> Core:
    core = synced(**options)
    core.shard.set_crowded(at)
    core.shard.set_merging(*USUAL_MERGING)
    return core


def crash(core: Core, at: int = 2) -> Core:
    after = core.crash()
    after.shard.set_crowded(at)
    after.shard.set_merging(*USUAL_MERGING)
    return after


def is_within(core: Core, sessions: int = 1) -> None:
    found = parked(core.shard)
    assert found["single"] <= sessions * SESSIONS_LIMIT["single"], found
    assert found["runs"] <= sessions * SESSIONS_LIMIT["runs"], found


def pass_batches(core: Core, count: int = 20) -> None:
    """Let chunks grow old, and be looked at."""
    for number in range(count):
        properties = {"session_expiry_interval": 600}
        core.connecting(f"passing {number}", user_name="durable", clean_start=False, properties=properties).drop()
        core.wait(0.2)


def test_memory_for_a_session_has_a_limit_however_long_its_queue_is() -> None:
    core = crowded(USUAL)
    subscriber(core).drop()
    for part in range(8):
        fill(core, 500, first=500 * part)
        is_within(core)
    core = crash(core, USUAL)
    is_within(core)
    client = core.resume("s", user_name="durable")
    assert drain(client) == payloads(0, 4000)
    assert parked(core.shard) == {"single": 0, "runs": 0, "chunks": 0}
    nothing_left(core)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("crashes", [False, True], ids=["", "crash"])
def test_what_comes_while_a_run_is_read_stands_behind_it(crashes: bool, qos: int) -> None:
    core = crowded()
    subscriber(core, qos=qos, properties={"receive_maximum": 1}).drop()
    fill(core, 20, qos)
    assert parked(core.shard)["runs"]
    client = core.resume("s", user_name="durable", properties={"receive_maximum": 1})
    first = client.publishes()[0]
    fill(core, 20, qos, first=20)
    client.drop()
    fill(core, 5, qos, first=40)
    if crashes:
        core = crash(core)
    found = drain(core.resume("s", user_name="durable", properties={"receive_maximum": 3}))
    assert (first.payload, found) == (b"0", payloads(0, 45))
    nothing_left(core)


def test_a_client_that_comes_and_goes_in_the_middle_of_its_queue_gets_all_of_it_once() -> None:
    core = crowded()
    subscriber(core, properties={"receive_maximum": 3}).drop()
    fill(core, 60)
    found = []
    while len(found) < 60:
        client = core.resume("s", user_name="durable", properties={"receive_maximum": 3})
        taken = client.publishes()[:2]
        client.acknowledge(*(one.packet_id for one in taken))
        found += [one.payload for one in taken]
        client.drop()
        is_within(core)
        if len(found) % 20 == 0:
            core = crash(core)
    assert found == payloads(0, 60)
    nothing_left(core)


# ---------------------------------------------------------------- what does not wait


@contextmanager
def gathered(core: Core) -> Iterator[None]:
    """What is published meanwhile makes one chunk: a batch is under way all the time."""
    core.in_flight = True
    yield
    core.in_flight = False
    core.run()


def full_and_passed_over() -> tuple[Core, list[bytes]]:
    """Three sessions with room for six: what is recorded for all of them is refused by those that are full by then."""
    core = crowded(deliveries=1, queue_messages_maximum=6)
    for client_id in ("a", "b", "c"):
        subscriber(core, client_id=client_id).drop()
    fill(core, 8)
    assert core.drops(DropReason.QUEUE_FULL) == 6
    return core, payloads(0, 6)


@pytest.mark.parametrize("fold", [1, 1 << 40])
@pytest.mark.parametrize("crashes", [False, True], ids=["", "crash"])
def test_what_was_recorded_and_refused_does_not_come_out_of_a_run(crashes: bool, fold: int) -> None:
    core, expected = full_and_passed_over()
    core.shard.set_fold(fold)
    pass_batches(core, 3)
    if crashes:
        core = crash(core)
        core.shard.set_fold(fold)
        pass_batches(core, 3)
        core = crash(core)
    for client_id in ("a", "b", "c"):
        assert drain(core.resume(client_id, user_name="durable")) == expected
    nothing_left(core)


@pytest.mark.parametrize("crashes", [False, True], ids=["", "crash"])
@pytest.mark.parametrize("at", [2, 6, 100])
def test_no_run_reaches_across_what_was_recorded_and_refused(at: int, crashes: bool) -> None:
    core = crowded(at, deliveries=1)
    number = core.grant("limited", synced=True)
    subscriber(core, client_id="keeps").drop()
    for client_id in ("a", "b", "c"):
        client = core.keep(client_id, user_name="limited")
        client.subscribe("t/#", qos=1)
        client.drop()
    publisher = core.connect("p", user_name="plain")
    for part in range(10):
        with gathered(core):
            for message in range(10 * part, 10 * part + 10):
                limits = GrantLimits(queue_maximum_bytes=1) if message % 5 > 2 else GrantLimits()
                core.shard.put_grant(
                    credential("limited", b"pw"), 1, number, "limited", "", ("#",), ("#",), durability=SYNCED,
                    limits=limits,
                )  # fmt: skip
                publisher.publish("t/x", b"%d" % message, 1)
    assert core.all_drops() == {DropReason.DEVICE_BUDGET_FULL: 3 * 40}
    expected = [b"%d" % one for one in range(100) if one % 5 < 3]
    if crashes:
        core = crash(core, at)
        fill(core, 3, first=100)
        expected += payloads(100, 103)
    for client_id in ("a", "b", "c"):
        assert drain(core.resume(client_id, user_name="limited")) == expected
    assert drain(core.resume("keeps", user_name="durable")) == payloads(0, 103 if crashes else 100)
    nothing_left(core)


def test_runs_with_something_between_them_stay_apart_when_their_chunks_become_one() -> None:
    core = crowded()
    core.shard.set_merging(2, 2)
    number = core.grant("limited", synced=True)
    keeps = subscriber(core, client_id="keeps")
    client = core.keep("s", user_name="limited")
    client.subscribe("t/#", qos=1)
    client.drop()
    publisher = core.connect("p", user_name="plain")
    core.deliveries = 1
    for part in range(80):
        with gathered(core):
            for message in range(3):
                limits = GrantLimits(queue_maximum_bytes=1) if message == 0 else GrantLimits()
                core.shard.put_grant(
                    credential("limited", b"pw"), 1, number, "limited", "", ("#",), ("#",), durability=SYNCED,
                    limits=limits,
                )  # fmt: skip
                publisher.publish("t/x", b"%d" % (3 * part + message), 1)
        pass_batches(core, 2)
    pass_batches(core, 40)
    assert core.all_drops() == {DropReason.DEVICE_BUDGET_FULL: 79}  # whoever has nothing yet gets one
    assert parked(core.shard)["runs"] > 32
    assert parked(core.shard)["chunks"] < 40
    expected = [b"%d" % one for one in range(240) if one % 3 or one == 0]
    assert drain(core.resume("s", user_name="limited")) == expected
    assert drain(keeps) == payloads(0, 240)
    nothing_left(core)


def test_no_run_reaches_across_what_has_not_been_offered_yet() -> None:
    core = crowded(deliveries=1)
    for client_id in ("a", "b", "c"):
        subscriber(core, client_id=client_id).drop()
    last = core.resume("c", user_name="durable")
    last.subscribe("c", qos=1)
    last.drop()
    publisher, other = core.connect("p", user_name="plain"), core.connect("o", user_name="plain")
    core.in_flight = True
    other.publish("c", b"0", 1)
    publisher.publish("t/x", b"late", 1, run=False)
    core.slice()  # it is recorded for all, and has had one receiver
    for number in range(1, 6):
        other.publish("c", b"%d" % number, 1, run=False)
        core.shard.run(core.now_ns, 0)
    core.in_flight = False
    for number in range(6, 9):  # and so it stays while this chunk is on disk, and batches follow
        other.publish("c", b"%d" % number, 1, run=False)
        core.shard.run(core.now_ns, 0)
        core.seal()
        core.store.release()
    core.run()
    assert drain(core.resume("c", user_name="durable")) == [*payloads(0, 9), b"late"]
    assert drain(core.resume("a", user_name="durable")) == [b"late"]
    nothing_left(core)


def test_what_was_recorded_before_an_unsubscription_does_not_come_out_of_a_run() -> None:
    core = crowded(deliveries=1)
    subscriber(core, client_id="a").drop()
    client = subscriber(core, client_id="b", properties={"receive_maximum": 1})
    client.subscribe("u", qos=1)
    publisher = core.connect("p", user_name="plain")
    with gathered(core):
        for number in range(4):
            publisher.publish("u", b"%d" % number, 1)
        publisher.publish("t/x", b"recorded", 1, run=False)
        client.send(Unsubscribe(1, ("t/#",)), run=False)
        core.engine.answer(core.shard.take_rare())
        core.run()
        client.drop()
        for number in range(4, 12):
            publisher.publish("u", b"%d" % number, 1)
    fill(core, 2)  # batches
    assert drain(core.resume("b", user_name="durable")) == payloads(0, 12)
    assert drain(core.resume("a", user_name="durable")) == [b"recorded", *payloads(0, 2)]
    nothing_left(core)


def with_less_rights(core: Core, number: int) -> None:
    policy = ("#",), ("t/#", "u")
    core.shard.put_grant(credential("some", b"pw"), 1, number, "some", "", *policy, durability=SYNCED)
    core.run()


def some(core: Core) -> tuple[int, Client]:
    """A client with rights that will go, which takes one message after the other."""
    number = core.grant("some", synced=True, subscribe=("t/#", "u", "gone"))
    client = core.keep("s", user_name="some", properties={"receive_maximum": 1})
    client.subscribe("t/#", "u", "gone", qos=1)
    return number, client


def publish_some(core: Core, first: int, topic_names: str) -> None:
    publisher = core.connect("p", user_name="plain")
    for at, name in enumerate(topic_names):
        publisher.publish("gone" if name == "g" else "u", b"%d" % (first + at), 1)
    publisher.send(Disconnect())


def test_what_a_client_may_not_have_any_more_does_not_come_out_of_a_run_of_what_it_had_in_memory() -> None:
    core = crowded()
    subscriber(core, client_id="keeps").subscribe("gone", "u", qos=1)
    number, client = some(core)
    with gathered(core):
        publish_some(core, 0, "uuugu")
        with_less_rights(core, number)
        client.drop()
        publish_some(core, 5, "uuu")
    publish_some(core, 8, "u")
    publish_some(core, 9, "u")
    assert drain(core.resume("s", user_name="some")) == [b"%d" % one for one in range(10) if one != 3]
    core.end()


def test_what_a_client_may_not_have_any_more_does_not_come_out_of_a_run_of_what_it_had_on_disk() -> None:
    core = crowded(100)
    subscriber(core, client_id="keeps").subscribe("gone", "u", qos=1)
    number, client = some(core)
    client.drop()
    with gathered(core):
        publish_some(core, 0, "uuugu")
    with_less_rights(core, number)
    core = crash_with_less_rights(core, number)
    client = core.resume("s", user_name="some", properties={"receive_maximum": 1})
    client.drop()
    core.shard.set_crowded(2)
    publish_some(core, 5, "uuu")
    assert parked(core.shard)["runs"]
    assert drain(core.resume("s", user_name="some")) == [b"%d" % one for one in range(8) if one != 3]
    core.end()


def crash_with_less_rights(core: Core, number: int) -> Core:
    core.granted = [grant for grant in core.granted if grant[0][2] != number]
    core._put_grant(credential("some", b"pw"), 1, number, "some", "", ("#",), ("t/#", "u"), durability=SYNCED)
    return crash(core, 100)


def test_a_message_that_a_session_gets_twice_comes_twice_out_of_its_runs() -> None:
    core = crowded()
    client = core.keep("s", user_name="durable")
    client.subscribe("t/#", "$share/g/t/#", qos=1)
    client.drop()
    fill(core, 20)
    expected = [payload for payload in payloads(0, 20) for _ in range(2)]
    core = crash(core)
    fill(core, 3, first=20)
    found = drain(core.resume("s", user_name="durable"))
    assert found == [*expected, *(payload for payload in payloads(20, 23) for _ in range(2))]
    nothing_left(core)


# ---------------------------------------------------------------- the disk


def half_expires(core: Core, count: int = 30) -> list[bytes]:
    """One chunk or two, of which two thirds expire; gives what does not."""
    publisher = core.connect("p", user_name="plain")
    with gathered(core):
        for number in range(count):
            publisher.publish("t/x", b"%d" % number, 1, **(EXPIRES if number % 3 else {}))
    fill(core, 2, first=count)  # behind it: runs are made before a batch is sealed
    pass_batches(core, 2)
    return [b"%d" % number for number in range(count) if number % 3 == 0] + payloads(count, count + 2)


def test_what_expires_in_the_middle_of_a_run_leaves_it() -> None:
    core = crowded()
    subscriber(core).drop()
    expected = half_expires(core)
    assert parked(core.shard)["single"] <= 2
    core.wait(60)
    pass_batches(core, 3)
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 20
    assert core.shard.journal()["deliveries"] == len(expected)
    fill(core, 3, first=90)
    assert drain(core.resume("s", user_name="durable")) == expected + payloads(90, 93)
    nothing_left(core)


def test_a_chunk_is_not_read_while_the_disk_has_what_was_taken_out_of_it() -> None:
    core = crowded()
    subscriber(core).drop()
    fill(core, 1, first=90)
    expected = half_expires(core)
    client = core.resume("s", user_name="durable", properties={"receive_maximum": 1})
    (first,) = client.publishes()
    assert parked(core.shard)["runs"]  # the rest
    core.wait(60)
    core.hold()
    core.connecting("a batch", user_name="durable", clean_start=False)
    for _ in range(3):  # the chunk is read, and written again in a batch that is not on disk
        core.store.answer_reads()
        core.run()
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 20
    client.acknowledge(first.packet_id)
    core.store.answer_reads()
    core.run()
    core.release()
    assert drain(client) == expected
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 20
    core.end()


@pytest.mark.parametrize("which", [0, 3, 9])
def test_a_chunk_of_a_run_that_is_damaged_costs_its_own_deliveries_and_no_more(which: int) -> None:
    core = crowded()
    for client_id in ("s", "other"):
        subscriber(core, client_id=client_id).drop()
    fill(core, 10)
    core = crash(core)
    key, value = core.store.load("messages")[which]
    core.store.submit(0, [("messages", key, value[:-1] + b"?")], lambda *_: None)
    core.store.answer()
    expected = [payload for number, payload in enumerate(payloads(0, 10)) if number != which]
    for client_id in ("s", "other"):
        assert drain(core.resume(client_id, user_name="durable")) == expected
    assert core.all_drops() == {DropReason.LOST: 2}
    assert parked(core.shard)["chunks"] == 0
    nothing_left(core)


# ---------------------------------------------------------------- the end of a session, and other policies


@pytest.mark.parametrize("crashes", [False, True], ids=["", "crash"])
def test_a_session_that_ends_takes_its_runs_from_the_disk(crashes: bool) -> None:
    core = crowded()
    subscriber(core).drop()
    subscriber(core, client_id="stays").drop()
    fill(core, 40)
    if crashes:
        core = crash(core)
    core.connect("s", user_name="durable")  # with Clean Start
    assert core.shard.journal()["deliveries"] == 40
    assert core.drops(DropReason.SESSION_ENDED) == 40
    assert drain(core.resume("stays", user_name="durable")) == payloads(0, 40)
    nothing_left(core)


def member(core: Core, client_id: str) -> Client:
    client = core.keep(client_id, user_name="durable")
    client.subscribe("$share/g/t/#", qos=1)
    return client


def test_a_session_that_ends_hands_over_what_its_runs_have_of_a_group() -> None:
    core = crowded()
    member(core, "a").drop()
    fill(core, 20)
    member(core, "b").drop()
    core.connect("a", user_name="durable")
    assert drain(core.resume("b", user_name="durable")) == payloads(0, 20)
    nothing_left(core)


def test_a_queue_that_drops_its_oldest_has_no_runs() -> None:
    core = crowded(queue_full_policy=OLDEST, queue_messages_maximum=40)
    subscriber(core).drop()
    fill(core, 50)
    assert parked(core.shard)["runs"] == 0
    core = crash(core)
    assert parked(core.shard)["runs"] == 0
    fill(core, 10, first=50)
    assert drain(core.resume("s", user_name="durable")) == payloads(20, 60)
    nothing_left(core)


def test_a_queue_whose_policy_has_changed_drops_its_oldest_when_it_knows_them() -> None:
    core = crowded(queue_messages_maximum=40)
    subscriber(core).drop()
    fill(core, 40)
    assert parked(core.shard)["runs"]
    core.shard.put_account(1, AccountLimits(queue_full_policy=OLDEST + 1))
    fill(core, 60, first=40)
    found = drain(core.resume("s", user_name="durable"))
    assert core.drops(DropReason.QUEUE_FULL) == 60
    assert len(found) == 40
    assert found == sorted(found, key=int)
    assert int(found[-1]) >= 97, "what has just come drops what is oldest, unless that is being read"
    nothing_left(core)


def test_what_is_sent_again_and_what_waits_behind_it_come_in_order() -> None:
    core = crowded()
    client = subscriber(core)
    fill(core, 5)
    sent = client.publishes()
    client.drop()
    fill(core, 40, first=5)
    core = crash(core)
    client = core.resume("s", user_name="durable")
    again = client.publishes()
    assert [one.payload for one in again[:5]] == [one.payload for one in sent]
    assert all(isinstance(one, Publish) and one.dup for one in again[:5])
    client.acknowledge(*(one.packet_id for one in again))
    assert [one.payload for one in again] + drain(client) == payloads(0, 45)
    nothing_left(core)
