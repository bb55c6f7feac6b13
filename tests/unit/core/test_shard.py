"""The shard's Python face: handles, ownership, limits, and sizes that every client pays."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from broker._core.core_probe import struct_sizes, topic_tables
from broker._core.shard import LIMITS, Shard
from broker.config import Capabilities
from broker.errors import WrongThread
from broker.net.gateway import core_limits
from broker.wire import Publish, Subscribe, Subscription
from tests.support.core import SECRET, Core


def make(**changes: Any) -> Shard:
    limits = {**core_limits(Capabilities.model_validate({})), **changes}
    return Shard(limits, secret=SECRET, hash_seed=1, now_ns=0)


def test_the_limits_are_exactly_those_the_core_names() -> None:
    assert sorted(core_limits(Capabilities.model_validate({}))) == sorted(LIMITS)
    with pytest.raises(ValueError, match="surprise"):
        make(surprise=1)
    limits = core_limits(Capabilities.model_validate({}))
    del limits["queue_maximum_bytes"]
    with pytest.raises(ValueError, match="queue_maximum_bytes"):
        Shard(limits, secret=SECRET, hash_seed=1, now_ns=0)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("topic_levels_maximum", 251, ValueError),
        ("outbound_inflight_maximum", 65_536, ValueError),
        ("server_receive_maximum", 65_536, ValueError),
        ("queue_messages_maximum", -1, OverflowError),
        ("queue_messages_maximum", 2**32, OverflowError),
        ("connect_timeout_ns", "soon", TypeError),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        make(**{name: value})


@pytest.mark.parametrize("size", [0, 31, 33])
def test_the_secret_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32"):
        Shard(core_limits(Capabilities.model_validate({})), secret=bytes(size), hash_seed=1, now_ns=0)


def test_a_credential_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        make().put_grant(b"short", 1, 1, "p", "", (), ())
    assert make().remove_grant(b"short") == 0


def test_a_handle_is_good_for_one_connection() -> None:
    core = Core()
    core.grant()
    first = core.connect("a")
    first.drop()
    second = core.connect("a")
    assert first.handle != second.handle
    assert first.handle & 0xFFFF_FFFF == second.handle & 0xFFFF_FFFF  # the same slot
    shard = core.shard
    assert not shard.is_open(first.handle)
    assert not shard.is_stopped(first.handle)
    assert shard.describe(first.handle) is None
    assert shard.take_output(first.handle) == b""
    shard.close_connection(first.handle)
    shard.fail_connection(first.handle, 0x80)
    assert not shard.admit(first.handle, 1, 1, "p", "", (), ())
    for call in (
        lambda: shard.feed(first.handle, b"x", core.now_ns),
        lambda: shard.reply(first.handle, b"x"),
        lambda: shard.subscribe(first.handle, b"a", 0),
        lambda: shard.unsubscribe(first.handle, b"a"),
        lambda: shard.may_subscribe(first.handle, b"a"),
        lambda: shard.may_publish(first.handle, b"a"),
    ):
        with pytest.raises(LookupError):
            call()
    assert second.is_open
    core.end()


@pytest.mark.parametrize("state", ["await_connect", "authenticating"])
def test_who_is_not_connected_has_no_session_to_work_on(state: str) -> None:
    core = Core()
    client = core.open() if state == "await_connect" else core.connecting("c", user_name="stranger")
    for call in (
        lambda: core.shard.subscribe(client.handle, b"a", 0),
        lambda: core.shard.unsubscribe(client.handle, b"a"),
        lambda: core.shard.may_subscribe(client.handle, b"a"),
        lambda: core.shard.may_publish(client.handle, b"a"),
    ):
        with pytest.raises(LookupError):
            call()
    core.end()


@pytest.mark.parametrize("handle", [0, 1, 2**32, 2**32 + 10**6, 2**64 - 1])
def test_numbers_that_are_no_handles_find_nothing(handle: int) -> None:
    shard = make()
    assert shard.describe(handle) is None
    assert not shard.is_open(handle)


def test_another_thread_is_turned_away() -> None:
    core = Core()
    client = core.open()
    calls: list[Callable[[], object]] = [
        lambda: core.shard.run(0), lambda: core.shard.feed(client.handle, b"x", 0), core.shard.counters,
        core.shard.collect, core.shard.seal, core.shard.take_rare, lambda: core.shard.publish(1, b"a", b"", 0, 0),
        lambda: core.shard.put_grant(b"x" * 32, 1, 1, "p", "", (), ()), lambda: core.shard.is_open(client.handle),
        lambda: core.shard.open_connection(0, 0), lambda: core.shard.settle(1), core.shard.next_deadline_ns,
    ]  # fmt: skip
    refused: list[bool] = []

    def elsewhere() -> None:
        for call in calls:
            try:
                call()
            except WrongThread:
                refused.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(refused) == len(calls)
    core.end()


@pytest.mark.parametrize("table", ["sessions", "retained", "accounts", ""])
def test_records_of_the_cores_own_are_not_written_from_outside(table: str) -> None:
    core = Core()
    with pytest.raises(ValueError, match="not written"):
        core.shard.erase(table, b"key")
    with pytest.raises(ValueError, match="not written"):
        core.shard.put(table, b"key", b"value")
    for key in (b"", bytes(512)):
        with pytest.raises(ValueError, match="1 to 511"):
            core.shard.erase("devices", key)
    core.shard.erase("devices", bytes(511))
    core.shard.put("answers", b"key", b"value")
    core.shard.put("answers", b"empty", b"")
    sealed = core.shard.seal()
    assert sealed is not None
    others = [change for change in sealed[1] if change[0] != "meta"]
    assert others == [("devices", bytes(511), None), ("answers", b"key", b"value"), ("answers", b"empty", b"")]


def test_a_shard_is_no_global() -> None:
    one, two = Core(), Core()
    one.grant()
    client = one.connect("c")
    client.subscribe("t")
    two.publish("t", b"x")
    client.expect()
    assert two.shard.counters()["sessions"] == 0
    one.end()


def test_a_client_costs_what_it_was_planned_to() -> None:
    assert struct_sizes()["connection"] <= 224
    assert struct_sizes()["session"] <= 176  # with a client identifier of up to 24 bytes
    assert struct_sizes()["subscription"] <= 56


def test_topic_tables_shrink_with_what_they_hold() -> None:
    core = Core(subscriptions_per_application_session_maximum=10_000)
    core.grant()
    core.connect("k").subscribe("keep")
    client = core.connect("c")
    before = topic_tables(core.shard, 1)
    for number in range(3000):
        assert core.shard.subscribe(client.handle, b"exact/%d" % number, 0)
        assert core.shard.subscribe(client.handle, b"wild/%d/+/x" % number, 0)
    full = topic_tables(core.shard, 1)
    assert full is not None
    assert full["topics"] == 3001
    assert full["nodes"] == 3001
    client.drop()
    after = topic_tables(core.shard, 1)
    assert after is not None
    assert before is not None
    sizes = ("buckets", "node_buckets", "filter_chunk_bytes")
    assert {**after, **dict.fromkeys(sizes, 0)} == {**before, **dict.fromkeys(sizes, 0), "sessions": 1}
    assert full["filter_bytes"] - after["filter_bytes"] >= 6000 * 100
    assert full["filter_chunk_bytes"] > 4 << 18 or full["filter_chunk_bytes"] == 0  # 0: the sanitizers' malloc
    assert after["filter_chunk_bytes"] <= before["filter_chunk_bytes"] + (1 << 18)  # a spare one at most
    assert after["buckets"] <= 64
    assert after["node_buckets"] <= 64
    core.end()


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def allocated() -> int:
    """Bytes in use by malloc's callers, Python's large objects included."""
    gc.collect()
    read = ctypes.CDLL(None).mallinfo2
    read.restype = Mallinfo
    found: Mallinfo = read()
    return int(found.uordblks + found.hblkhd)


def churn() -> None:
    """A life of a shard with everything in it."""
    core = Core(deliveries=2, outbound_inflight_maximum=2)
    core.grant()
    core.grant("durable", synced=True)
    clients = [
        core.connect(f"c{number}", 4 + number % 2, user_name=("user", "durable")[number % 2]) for number in range(6)
    ]
    for client in clients:
        client.subscribe("t", "a/+/b", "#", qos=1)
    core.hold()
    for client in clients:
        for size in (1, 300, 5000, 60_000):
            client.publish("a/x/b", b"." * size, 1, run=False)
    core.run()
    core.connecting("s", user_name="stranger")
    clients[0].feed(b"\x30\xff\xff\x03" + b"x" * 3000)
    clients[1].drop()
    core.release()


def test_no_memory_is_left_behind_by_a_shard() -> None:
    for _ in range(5):
        churn()
    before = allocated()
    for _ in range(30):
        churn()
    assert allocated() - before < 30_000  # one forgotten message of each life would be more


def test_clients_that_come_and_go_leave_memory_flat() -> None:
    core = Core()
    core.grant()

    def visit() -> None:
        for number in range(50):
            client = core.connect(f"c{number}")
            client.send(Subscribe(1, (Subscription("a/+"), Subscription("b"))), Publish("b", b"x" * 3000))
            client.drop()
        core.clients.clear()

    for _ in range(3):
        visit()
    before = allocated()
    for _ in range(20):
        visit()
    assert allocated() - before < 50_000
    core.end()
