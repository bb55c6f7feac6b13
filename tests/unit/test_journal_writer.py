"""From the core's batches to the store: one at a time, in order, again until it is on disk, and who is refused when."""

from __future__ import annotations

import asyncio

import pytest

from broker.errors import StoreError
from broker.ports import PlainChange, ReadCallback
from broker.storage.journal import JournalWriter
from broker.storage.memory import MemoryStore
from broker.storage.tables import MESSAGES, OPS, long_key

NS_PER_S = 1_000_000_000
FAILURE = StoreError("the disk")


class Core:
    """Records what a core would be told; ``record`` is what it does."""

    def __init__(self) -> None:
        self.open: list[PlainChange] = []
        self.ticket = 0
        self.settled: list[int] = []
        self.refusing: list[bool] = []
        self.wants: list[bytes] = []
        self.given: list[tuple[bytes, bytes | None]] = []

    def record(self, value: bytes) -> None:
        self.open.append((OPS, long_key(self.ticket + 1), value))

    def seal(self) -> tuple[int, list[PlainChange]] | None:
        if not self.open:
            return None
        self.ticket += 1
        sealed, self.open = self.open, []
        return self.ticket, sealed

    def settle(self, ticket: int) -> None:
        self.settled.append(ticket)

    def set_refusing(self, refusing: bool) -> None:
        self.refusing.append(refusing)

    def newest_ticket(self) -> int:
        return self.ticket + bool(self.open)

    def open_batch_bytes(self) -> int:
        return sum(len(value or b"") for _, _, value in self.open)

    def wanted(self) -> list[bytes]:
        wanted, self.wants = self.wants, []
        return wanted

    def loaded(self, key: bytes, chunk: bytes | None) -> int:
        self.given.append((key, chunk))
        return 0

    def unread(self, key: bytes) -> None:
        self.wants.append(key)

    def settled_ticket(self) -> int:
        return self.settled[-1] if self.settled else 0


class Bench:
    """A writer between a core and a store that waits for commands."""

    def __init__(self, batch_maximum_bytes: int = 100) -> None:
        self.core, self.store = Core(), MemoryStore()
        self.store.delay()
        self.now_ns = 0
        self.reasons: list[str] = []
        self.rounds = 0
        self.writer = JournalWriter(
            self.core,
            self.store,
            monotonic_ns=lambda: self.now_ns,
            settled=self._count,
            refusing=self.reasons.append,
            slow_disk_s=2.0,
            batch_maximum_bytes=batch_maximum_bytes,
        )

    def _count(self) -> None:
        self.rounds += 1

    def write(self, value: bytes) -> None:
        self.core.record(value)
        self.writer.write()

    def on_disk(self) -> list[bytes]:
        return [value for _, value in self.store.load(OPS)]


def test_one_batch_is_under_way_and_the_next_gathers_meanwhile() -> None:
    bench = Bench()
    for value in (b"a", b"b", b"c"):
        bench.write(value)
    assert (bench.store.waiting, bench.core.ticket, len(bench.core.open)) == (1, 1, 2)
    bench.store.answer()
    assert (bench.core.settled, bench.rounds, bench.on_disk()) == ([1], 1, [b"a"])
    bench.writer.write()
    bench.store.answer()
    assert bench.core.settled == [1, 2]
    assert bench.on_disk() == [b"a", b"c"]  # the core packs; this one gives both the same key


def test_an_empty_batch_is_not_written() -> None:
    bench = Bench()
    bench.writer.write()
    assert bench.store.waiting == 0


def test_a_batch_that_failed_is_submitted_again_before_anything_newer_and_nothing_is_settled_before() -> None:
    bench = Bench()
    bench.store.fail(FAILURE)
    bench.store.set_health("failed", "Input/output error")
    bench.write(b"a")
    bench.store.answer()
    bench.write(b"b")
    bench.writer.look()
    assert (bench.store.waiting, bench.core.settled, bench.core.ticket) == (0, [], 1)
    bench.store.fail(None)
    bench.store.set_health("ok")
    assert bench.store.waiting == 1
    bench.store.answer()
    assert (bench.core.settled, bench.on_disk()) == ([1], [b"a"])
    bench.writer.write()
    bench.store.answer()
    assert bench.core.settled == [1, 2]


def test_a_batch_that_fails_on_a_disk_that_is_well_waits_for_the_next_look() -> None:
    bench = Bench()
    bench.store.fail(FAILURE)
    bench.write(b"a")
    assert bench.store.answer() == 1
    assert bench.store.waiting == 0
    bench.writer.look()
    assert bench.store.waiting == 1


@pytest.mark.parametrize("state", ["full", "failed", "read_only"])
def test_what_needs_the_disk_is_refused_while_the_store_is_not_well(state: str) -> None:
    bench = Bench()
    bench.store.set_health(state, "why")  # type: ignore[arg-type]
    bench.writer.look()
    assert (bench.core.refusing, bench.reasons, bench.writer.reason) == ([True], [f"{state}: why"], f"{state}: why")
    bench.store.set_health("ok")
    assert (bench.core.refusing, bench.reasons, bench.writer.reason) == ([True, False], [f"{state}: why", ""], "")


def test_a_full_store_is_still_written_to() -> None:
    bench = Bench()
    bench.store.set_health("full", "why")
    bench.write(b"a deletion, perhaps")
    bench.store.answer()
    assert bench.core.settled == [1]


def test_a_batch_that_waits_for_longer_than_a_slow_disk_may_take_refuses_newcomers_until_it_is_on_disk() -> None:
    bench = Bench()
    bench.write(b"a")
    bench.now_ns = 2 * NS_PER_S
    bench.writer.look()
    assert bench.core.refusing == []
    bench.now_ns += 1
    bench.writer.look()
    assert (bench.core.refusing, bench.reasons[-1][:4]) == ([True], "slow")
    bench.store.answer()
    assert (bench.core.refusing, bench.reasons[-1]) == ([True, False], "")


def test_more_gathered_than_a_batch_may_have_refuses_newcomers_only_while_another_is_under_way() -> None:
    bench = Bench(batch_maximum_bytes=10)
    bench.core.record(bytes(11))
    bench.writer.look()
    assert bench.core.refusing == []
    bench.writer.write()
    bench.core.record(bytes(11))
    bench.writer.look()
    assert bench.core.refusing == [True]
    bench.store.answer()
    assert bench.core.refusing == [True, False]


def test_chunks_that_are_wanted_are_read_and_those_that_are_gone_are_told() -> None:
    bench = Bench()
    bench.store = MemoryStore({MESSAGES: {b"a": b"chunk"}})
    bench.writer = JournalWriter(
        bench.core, bench.store, monotonic_ns=lambda: 0, settled=bench._count, refusing=bench.reasons.append
    )
    bench.core.wants = [b"a", b"gone"]
    bench.writer.read_wanted()
    bench.writer.read_wanted()
    assert bench.store.reads_waiting == 1
    bench.store.answer_reads()
    assert bench.core.given == [(b"a", b"chunk"), (b"gone", None)]
    assert bench.rounds == 1


def test_whoever_waits_for_durability_waits_for_what_was_recorded_before_and_for_no_more() -> None:
    async def body() -> None:
        bench = Bench()
        await bench.writer.durable()
        bench.write(b"under way")
        bench.core.record(b"gathered")
        waiter = asyncio.ensure_future(bench.writer.durable())
        await asyncio.sleep(0)
        bench.store.answer(1)
        await asyncio.sleep(0)
        assert not waiter.done()
        assert bench.core.ticket == 2, "nobody else has to ask for the next batch"
        bench.core.record(b"later")
        bench.store.answer(1)
        await waiter
        assert bench.core.open != []

    asyncio.run(body())


def test_a_stop_writes_the_rest_and_does_not_wait_for_a_disk_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        bench = Bench()
        bench.core.record(b"a")
        bench.store.release()
        await bench.writer.close()
        assert bench.on_disk() == [b"a"]
        bench.store.delay()
        bench.core.record(b"b")
        late = asyncio.ensure_future(bench.writer.durable())
        await bench.writer.close(timeout_s=0.01)
        await asyncio.gather(late, return_exceptions=True)
        assert late.cancelled()
        assert "did not take the last changes" in caplog.text

    asyncio.run(body())


def test_chunks_that_could_not_be_read_are_asked_for_again_when_the_disk_is_looked_at_next() -> None:
    bench = Bench()
    reads: list[ReadCallback] = []
    bench.store.read = lambda _table, _keys, on_read: reads.append(on_read)  # type: ignore[method-assign]
    bench.core.wants = [b"a"]
    bench.writer.read_wanted()
    reads.pop()((), FAILURE)
    bench.writer.read_wanted()
    assert reads == []  # not at once
    bench.writer.look()
    reads.pop()([b"chunk"], None)
    assert bench.core.given == [(b"a", b"chunk")]


def test_what_is_added_before_a_batch_is_sealed_goes_with_it_and_is_waited_for() -> None:
    async def body() -> None:
        bench = Bench()
        wanted = [b"first"]

        def add() -> None:
            while wanted:
                bench.core.record(wanted.pop())

        bench.writer.before_seal = add
        bench.write(b"batch")
        bench.store.commit()
        assert bench.on_disk() == [b"first"]  # of one key: the later one stands
        bench.store.answer()
        wanted.append(b"alone")
        waiting = asyncio.create_task(bench.writer.durable())
        await asyncio.sleep(0)
        assert not waiting.done()
        bench.store.release()
        await waiting
        assert bench.on_disk() == [b"first", b"alone"]

    asyncio.run(body())
