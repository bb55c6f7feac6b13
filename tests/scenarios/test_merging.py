"""Small chunks that stay become one: each of them would have a place in memory, and be read by itself."""

from __future__ import annotations

import zlib

import pytest

from broker._core.core_probe import parked
from broker.reasons import DropReason
from tests.support.core import Core
from tests.support.kept import drain, fill, nothing_left, payloads, subscriber, synced

EXPIRES = {"properties": {"message_expiry_interval": 50}}


def chunks(core: Core) -> int:
    found = parked(core.shard)["chunks"]
    assert found == len(core.store.load("messages"))
    return found


def small(core: Core | None = None) -> Core:
    core = core or synced()
    core.shard.set_merging(2, 2)
    return core


def pass_batches(core: Core, count: int = 40) -> None:
    """Let chunks grow old, and become one."""
    properties = {"session_expiry_interval": 600}
    for number in range(count):
        core.connecting(f"passing {number}", user_name="durable", clean_start=False, properties=properties).drop()


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_that_come_one_by_one_do_not_stay_a_chunk_each(qos: int) -> None:
    core = synced()
    core.shard.set_merging(256, 8)  # as usual
    subscriber(core, qos=qos).drop()
    for first in range(0, 1500, 250):
        fill(core, 250, qos, first)
    assert chunks(core) < 500
    core = core.crash()
    assert core.left_out == {}
    assert chunks(core) < 500
    assert drain(core.resume("s", user_name="durable")) == payloads(0, 1500)
    assert core.all_drops() == {}
    nothing_left(core)


def test_a_few_chunks_are_left_alone() -> None:
    core = synced()
    core.shard.set_merging(256, 8)  # as usual
    subscriber(core).drop()
    fill(core, 200)
    pass_batches(core)
    assert chunks(core) == 200
    core.end()


def test_of_many_receivers_each_gets_its_own_out_of_the_one() -> None:
    core = small()
    names = [f"s{number}" for number in range(5)]
    for number, name in enumerate(names):
        client = core.keep(name, user_name="durable")
        client.subscribe(*(f"t/{one}" for one in range(number + 1)), qos=1)
        client.drop()
    publisher = core.connect("p", user_name="plain")
    for number in range(60):
        publisher.publish(f"t/{number % 5}", b"%d" % number, 1)
    pass_batches(core)
    assert chunks(core) <= 4
    core = small(core.crash())
    for number, name in enumerate(names):
        expected = [b"%d" % one for one in range(60) if one % 5 <= number]
        assert drain(core.resume(name, user_name="durable")) == expected
    assert chunks(core) == 0
    nothing_left(core)


def test_what_is_done_while_chunks_become_one_does_not_come_again() -> None:
    core = small()
    client = subscriber(core)
    fill(core, 40)
    deliveries = client.publishes()
    assert len(deliveries) == 40
    for done in range(0, 40, 3):
        client.acknowledge(deliveries[done].packet_id)
        pass_batches(core, 3)
    left = [one.payload for number, one in enumerate(deliveries) if number % 3]
    assert chunks(core) < len(left)
    client.drop()
    core = core.crash()
    assert drain(core.resume("s", user_name="durable")) == left
    nothing_left(core)


@pytest.mark.parametrize("taken", [1, 4, 7])
def test_a_chunk_that_ends_between_its_being_taken_and_the_last_of_them_is_not_written_again(taken: int) -> None:
    core = synced()
    core.shard.set_merging(2, 8)
    client = subscriber(core)
    fill(core, 8)
    deliveries = client.publishes()
    core.read = lambda: False  # type: ignore[method-assign]  # this test answers what is read, one by one
    pass_batches(core, 20)
    keys = core.shard.wanted()
    assert len(keys) == 8
    values = dict(core.store.load("messages"))
    for key in keys[:taken]:
        core.shard.loaded(key, values[key])
    client.acknowledge(deliveries[taken - 1].packet_id)
    for key in keys[taken:]:
        core.shard.loaded(key, values[key])
    core.run()
    assert chunks(core) == 7
    client.drop()
    core = core.crash()
    expected = [payload for number, payload in enumerate(payloads(0, 8)) if number != taken - 1]
    assert drain(core.resume("s", user_name="durable")) == expected
    nothing_left(core)


def test_who_waits_for_a_chunk_gets_it_though_it_becomes_part_of_another_one() -> None:
    core = small()
    for name in ("a", "b"):
        subscriber(core, client_id=name).drop()
    fill(core, 30)
    core.hold()
    client = core.connecting("a", user_name="durable", clean_start=False, properties={"session_expiry_interval": 600})
    for _ in range(10):
        pass_batches(core, 2)
        core.store.release()
        core.store.answer_reads()
        core.run()
    core.release()
    assert drain(client) == payloads(0, 30)
    assert drain(core.resume("b", user_name="durable")) == payloads(0, 30)
    nothing_left(core)


def test_the_one_is_not_read_while_the_disk_has_it_without_the_others() -> None:
    core = small()
    core.shard.set_merging(1000, 8)
    client = subscriber(core, properties={"receive_maximum": 1})
    client.drop()
    fill(core, 12)
    client = core.resume("s", user_name="durable", properties={"receive_maximum": 1})
    (first,) = client.publishes()  # it has read one chunk, and the others wait
    pass_batches(core, 18)
    core.shard.set_merging(2, 2)
    core.hold()
    core.connecting("a batch", user_name="durable", clean_start=False)
    for _ in range(3):  # some become one, in a batch that is not on disk
        core.store.answer_reads()
        core.run()
    assert parked(core.shard)["chunks"] < len(core.store.load("messages"))
    client.acknowledge(first.packet_id)
    core.store.answer_reads()
    core.run()
    core.release()
    assert drain(client) == payloads(1, 12)
    assert core.all_drops() == {}
    nothing_left(core)


def test_one_that_is_damaged_costs_its_own_deliveries_and_no_more() -> None:
    core = small()
    subscriber(core).drop()
    fill(core, 10)
    (_, _), (_, _), (key, value), *_ = core.store.load("messages")
    core.store.submit(0, [("messages", key, value[:-1] + b"?")], lambda *_: None)
    core.store.answer()
    pass_batches(core)
    assert drain(core.resume("s", user_name="durable")) == [one for one in payloads(0, 10) if one != b"2"]
    assert core.all_drops() == {DropReason.LOST: 1}
    nothing_left(core)


def test_one_that_is_damaged_behind_a_right_checksum_is_not_read_for_ever_when_it_expires() -> None:
    core = synced()
    subscriber(core).drop()
    publisher = core.connect("p", user_name="plain")
    for number in range(3):
        publisher.publish("t/x", b"%d" % number, 1, **EXPIRES)
    key, value = core.store.load("messages")[1]
    value += bytes(5)
    value = zlib.crc32(value[4:]).to_bytes(4, "little") + value[4:]
    core.store.submit(0, [("messages", key, value)], lambda *_: None)
    core.store.answer()
    core.wait(60)
    pass_batches(core)
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 2
    assert drain(core.resume("s", user_name="durable")) == []
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: 3}
    nothing_left(core)


def test_what_expires_leaves_the_one_that_it_has_become_part_of() -> None:
    core = small()
    subscriber(core).drop()
    publisher = core.connect("p", user_name="plain")
    for number in range(30):
        publisher.publish("t/x", b"%d" % number, 1, **(EXPIRES if number % 3 else {}))
    pass_batches(core)
    assert chunks(core) <= 3
    core.wait(60)
    pass_batches(core, 10)
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 20
    expected = [b"%d" % number for number in range(30) if number % 3 == 0]
    core = core.crash()
    assert drain(core.resume("s", user_name="durable")) == expected
    nothing_left(core)
