"""The contract of ``ports.Store``, for every implementation; and the commands that only the memory store has."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import StoreError
from broker.ports import Change, Store, StoreHealth
from broker.storage.environment import RESERVE_BYTES, Environment
from broker.storage.lmdb import LmdbStore
from broker.storage.memory import MemoryStore
from broker.storage.tables import ACCOUNTS, DEVICES, MESSAGES, OPS, RETAINED, key_number, number_key
from broker.testing.store import FaultyStore

MAP_SIZE_BYTES = 16 * 1024 * 1024
Opener = Callable[[], Store]
Body = Callable[[Store], Awaitable[None]]


@pytest.fixture(params=["lmdb", "memory", "faulty"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Open the same store again and again, as restarts would; call it on a running loop."""
    if request.param == "lmdb":
        return lambda: LmdbStore(tmp_path / "store", map_size_bytes=MAP_SIZE_BYTES)
    if request.param == "faulty":
        return lambda: FaultyStore(LmdbStore(tmp_path / "store", map_size_bytes=MAP_SIZE_BYTES))
    kept: list[MemoryStore] = []

    def reopen() -> Store:
        kept.append(kept[-1].lose() if kept else MemoryStore())
        return kept[-1]

    return reopen


def run(opener: Opener, body: Body) -> None:
    async def whole() -> None:
        store = opener()
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(whole())


class Answers:
    """Collects what tickets were answered with, in order."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, BaseException | None]] = []
        self.news = asyncio.Event()

    def __call__(self, ticket: int, error: BaseException | None) -> None:
        self.answers.append((ticket, error))
        self.news.set()

    async def wait(self, count: int) -> list[tuple[int, BaseException | None]]:
        async with asyncio.timeout(10):
            while len(self.answers) < count:
                self.news.clear()
                await self.news.wait()
        return self.answers


def put(key: bytes, value: bytes | None = b"v", table: str = DEVICES) -> Change:
    return Change(table, key, value)


def test_a_committed_change_is_there_after_a_restart(opener: Opener) -> None:
    async def write(store: Store) -> None:
        answers = Answers()
        store.submit(7, [put(b"a"), put(b"b", b"w"), put(b"a", b"j", RETAINED)], answers)
        assert await answers.wait(1) == [(7, None)]

    async def read(store: Store) -> None:
        assert list(store.load(DEVICES)) == [(b"a", b"v"), (b"b", b"w")]
        assert list(store.load(RETAINED)) == [(b"a", b"j")]
        assert list(store.load(ACCOUNTS)) == []

    run(opener, write)
    run(opener, read)


def test_what_was_committed_is_told_in_figures(opener: Opener) -> None:
    async def body(store: Store) -> None:
        before = store.figures()
        assert {before[name] for name in ("commits", "failed_commits", "changes", "busy_ns", "waiting", "reads")} == {0}
        answers = Answers()
        store.submit(1, [put(b"a"), put(b"b")], answers)
        assert store.figures()["waiting"] <= 1
        await answers.wait(1)
        store.submit(2, [Change("no such table", b"a", b"v")], answers)
        await answers.wait(2)
        told = store.figures()
        assert (told["commits"], told["failed_commits"], told["changes"], told["waiting"]) == (1, 1, 2, 0)

    run(opener, body)


def test_none_deletes_and_deleting_what_is_not_there_is_no_error(opener: Opener) -> None:
    async def body(store: Store) -> None:
        answers = Answers()
        store.submit(1, [put(b"a"), put(b"b")], answers)
        store.submit(2, [put(b"a", None), put(b"absent", None)], answers)
        assert await answers.wait(2) == [(1, None), (2, None)]
        assert list(store.load(DEVICES)) == [(b"b", b"v")]

    run(opener, body)


def test_an_empty_value_is_a_value(opener: Opener) -> None:
    async def body(store: Store) -> None:
        answers = Answers()
        store.submit(1, [put(b"a", b"")], answers)
        await answers.wait(1)
        assert list(store.load(DEVICES)) == [(b"a", b"")]

    run(opener, body)


def test_an_answer_never_comes_inside_submit_and_exactly_once_in_order(opener: Opener) -> None:
    async def body(store: Store) -> None:
        answers = Answers()
        for ticket in range(500):
            store.submit(ticket, [put(number_key(ticket))], answers)
            assert (ticket, None) not in answers.answers
        assert await answers.wait(500) == [(ticket, None) for ticket in range(500)]
        await store.close()
        assert len(answers.answers) == 500

    run(opener, body)


@pytest.mark.parametrize("bad", [put(b""), put(b"k" * 512), put(b"k", table="nowhere")])
def test_a_submit_is_all_or_nothing_and_spoils_no_other(opener: Opener, bad: Change) -> None:
    async def body(store: Store) -> None:
        answers = Answers()
        store.submit(1, [put(b"before")], answers)
        store.submit(2, [put(b"half"), bad], answers)
        store.submit(3, [put(b"k" * 511)], answers)
        outcome = await answers.wait(3)
        assert [ticket for ticket, _ in outcome] == [1, 2, 3]
        assert [type(error) for _, error in outcome] == [type(None), StoreError, type(None)]
        assert [key for key, _ in store.load(DEVICES)] == [b"before", b"k" * 511]

    run(opener, body)


def test_a_failing_owner_does_not_silence_the_next_answer(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    def broken(ticket: int, error: BaseException | None) -> None:
        raise RuntimeError("owner")

    async def body(store: Store) -> None:
        answers = Answers()
        store.submit(1, [put(b"a")], broken)
        store.submit(2, [put(b"b")], answers)
        assert await answers.wait(1) == [(2, None)]

    run(opener, body)
    assert "owner of ticket 1" in caplog.text


def test_close_commits_and_answers_what_was_submitted_before_it(opener: Opener) -> None:
    async def write(store: Store) -> None:
        answers = Answers()
        for ticket in range(50):
            store.submit(ticket, [put(number_key(ticket))], answers)
        await store.close()
        await store.close()
        assert await answers.wait(50) == [(ticket, None) for ticket in range(50)]
        store.submit(99, [put(b"late")], answers)
        ticket, error = (await answers.wait(51))[-1]
        assert ticket == 99
        assert isinstance(error, StoreError)

    async def read(store: Store) -> None:
        assert [key_number(key) for key, _ in store.load(DEVICES)] == list(range(50))

    run(opener, write)
    run(opener, read)


def test_a_plain_tuple_is_a_change_and_the_later_one_counts(opener: Opener) -> None:
    async def body(store: Store) -> None:
        answers = Answers()
        store.submit(1, [(DEVICES, b"a", b"1"), (DEVICES, b"a", b"2"), (OPS, b"o", b"")], answers)
        store.submit(2, [(DEVICES, b"b", b"1"), (DEVICES, b"b", None)], answers)
        assert await answers.wait(2) == [(1, None), (2, None)]
        assert list(store.load(DEVICES)) == [(b"a", b"2")]

    run(opener, body)


@pytest.mark.parametrize("count", [1, 8, 9, 3000])
def test_many_changes_are_as_good_as_few(opener: Opener, count: int) -> None:
    numbers = list(range(count))
    random.Random(count).shuffle(numbers)

    async def body(store: Store) -> None:
        answers = Answers()
        store.submit(1, [put(number_key(number), b"%d" % number, MESSAGES) for number in numbers], answers)
        store.submit(2, [put(number_key(number), None, MESSAGES) for number in numbers if number % 2], answers)
        store.submit(3, [put(number_key(0), b"again", MESSAGES), put(number_key(count), b"last", MESSAGES)], answers)
        assert await answers.wait(3) == [(1, None), (2, None), (3, None)]
        kept = [(number_key(number), b"%d" % number) for number in range(2, count, 2)]
        assert list(store.load(MESSAGES)) == [(number_key(0), b"again"), *kept, (number_key(count), b"last")]
        assert list(store.scan(MESSAGES)) == store.load(MESSAGES)

    run(opener, body)


class Reads:
    """Collects what reads were answered with, in order."""

    def __init__(self) -> None:
        self.answers: list[tuple[list[bytes | None], BaseException | None]] = []
        self.news = asyncio.Event()

    def __call__(self, values: Sequence[bytes | None], error: BaseException | None) -> None:
        self.answers.append((list(values), error))
        self.news.set()

    async def wait(self, count: int) -> list[tuple[list[bytes | None], BaseException | None]]:
        async with asyncio.timeout(10):
            while len(self.answers) < count:
                self.news.clear()
                await self.news.wait()
        return self.answers


def test_a_read_is_answered_later_with_what_is_durable(opener: Opener) -> None:
    async def body(store: Store) -> None:
        answers, reads = Answers(), Reads()
        store.submit(1, [put(b"a"), put(b"b", b""), put(b"c")], answers)
        store.submit(2, [put(b"c", None)], answers)
        await answers.wait(2)
        store.read(DEVICES, [b"b", b"absent", b"a", b"c"], reads)
        store.read(ACCOUNTS, [b"a"], reads)
        store.read(DEVICES, [], reads)
        assert reads.answers == []
        assert await reads.wait(3) == [([b"", None, b"v", None], None), ([None], None), ([], None)]
        assert store.figures()["reads"] == 5

    run(opener, body)


def test_a_read_of_no_table_is_an_error_and_spoils_no_other(opener: Opener) -> None:
    async def body(store: Store) -> None:
        reads = Reads()
        store.read("nowhere", [b"a"], reads)
        store.read(DEVICES, [b"a"], reads)
        (values, error), second = await reads.wait(2)
        assert (values, type(error), second) == ([], StoreError, ([None], None))

    run(opener, body)


class Ranges:
    """Asks for ranges and waits for the answers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(
        self, first: bytes, end: bytes, at_most: int, table: str = DEVICES
    ) -> list[tuple[bytes, bytes]] | BaseException:
        answer = asyncio.get_running_loop().create_future()
        self._store.read_range(table, first, end, at_most, lambda *found: answer.set_result(found))
        assert not answer.done()
        entries, error = await asyncio.wait_for(answer, 10)
        assert error is None or not entries
        return error or list(entries)


def test_a_range_is_read_in_key_order_from_its_first_key_to_before_its_end(opener: Opener) -> None:
    async def body(store: Store) -> None:
        answers, ranges = Answers(), Ranges(store)
        keys = [b"a", b"ab", b"b", b"b\x00", b"c", b"\xff"]
        assert await ranges(b"", b"\xff", 10) == []
        store.submit(1, [put(key, key) for key in reversed(keys)], answers)
        store.submit(2, [put(b"b", b"", ACCOUNTS)], answers)
        await answers.wait(2)
        whole = [(key, key) for key in keys]
        assert await ranges(b"", b"\xff\xff", 10) == whole
        assert await ranges(b"", b"\xff", 10) == whole[:5]
        assert await ranges(b"ab", b"b", 10) == whole[1:2]
        assert await ranges(b"ab", b"b\x00", 10) == whole[1:3]
        assert await ranges(b"aa", b"bb", 2) == whole[1:3]
        assert await ranges(b"ab\x00", b"bb", 2) == whole[2:4]
        assert await ranges(b"c", b"c", 10) == await ranges(b"d", b"b", 10) == []
        assert await ranges(b"", b"\xff\xff", 0) == []
        assert await ranges(b"", b"z", 10, ACCOUNTS) == [(b"b", b"")]
        assert isinstance(await ranges(b"", b"z", 10, "nowhere"), StoreError)
        assert store.figures()["reads"] == 19
        await store.close()
        assert isinstance(await ranges(b"", b"z", 10), StoreError)

    run(opener, body)


def test_reads_of_both_kinds_are_answered_in_their_order(opener: Opener) -> None:
    async def body(store: Store) -> None:
        told: list[str] = []
        for number in range(50):
            store.read(DEVICES, [b"a"], lambda _values, _error, number=number: told.append(f"read {number}"))
            store.read_range(
                DEVICES, b"a", b"b", 1, lambda _entries, _error, number=number: told.append(f"range {number}")
            )
        await store.close()
        assert told == [f"{kind} {number}" for number in range(50) for kind in ("read", "range")]

    run(opener, body)


@given(st.sets(st.binary(min_size=1, max_size=3)), st.binary(max_size=3), st.binary(max_size=3), st.integers(0, 9))
def test_the_environment_and_the_memory_store_give_the_same_ranges(
    tmp_path_factory: pytest.TempPathFactory, keys: set[bytes], first: bytes, end: bytes, at_most: int
) -> None:
    environment = Environment.opened(tmp_path_factory.mktemp("ranges"), map_size_bytes=MAP_SIZE_BYTES)
    try:
        environment.write([[put(key, key) for key in keys]])
        found = environment.read_range(DEVICES, first, end, at_most)
    finally:
        environment.close()
    assert found == [(key, key) for key in sorted(keys) if first <= key < end][:at_most]


def test_close_answers_the_reads_before_it_and_refuses_those_behind(opener: Opener) -> None:
    async def body(store: Store) -> None:
        reads = Reads()
        for _ in range(20):
            store.read(DEVICES, [b"a"], reads)
        await store.close()
        assert await reads.wait(20) == [([None], None)] * 20
        store.read(DEVICES, [b"a"], reads)
        assert isinstance((await reads.wait(21))[-1][1], StoreError)

    run(opener, body)


def test_a_store_is_well_and_tells_its_room(opener: Opener) -> None:
    async def body(store: Store) -> None:
        told: list[StoreHealth] = []
        store.watch(told.append)
        answers = Answers()
        store.submit(1, [put(b"a", bytes(100_000))], answers)
        await answers.wait(1)
        await asyncio.sleep(0.3)  # pages are not counted at each commit
        store.submit(2, [put(b"b")], answers)
        await answers.wait(2)
        health, figures = store.health, store.figures()
        assert (health.state, health.reason, told) == ("ok", "", [])
        assert health.used_bytes >= 100_000
        assert (figures["healthy"], figures["state"], figures["used_bytes"]) == (1, "ok", health.used_bytes)

    run(opener, body)


@given(
    st.lists(
        st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.none() | st.binary(max_size=4)), max_size=4),
        max_size=12,
    )
)
def test_the_store_is_a_sorted_dictionary(submits: list[list[tuple[bytes, bytes | None]]]) -> None:
    async def body() -> None:
        store, answers, model = MemoryStore(), Answers(), dict[bytes, bytes]()
        for ticket, changes in enumerate(submits):
            store.submit(ticket, [put(key, value) for key, value in changes], answers)
            for key, value in changes:
                model.pop(key, None) if value is None else model.__setitem__(key, value)
        await answers.wait(len(submits))
        assert list(store.load(DEVICES)) == sorted(model.items())

    asyncio.run(body())


# What LMDB alone can show.


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    run(lambda: LmdbStore(tmp_path / "store", map_size_bytes=MAP_SIZE_BYTES), lambda store: asyncio.sleep(0))
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "store").iterdir()}
    assert modes == {0o600}


def test_a_full_map_fails_that_ticket_and_the_store_stays_usable(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        answers = Answers()
        store.submit(1, [put(b"small")], answers)
        store.submit(2, [put(b"huge", bytes(MAP_SIZE_BYTES + RESERVE_BYTES))], answers)
        store.submit(3, [put(b"small2")], answers)
        outcome = await answers.wait(3)
        assert [error is None for _, error in outcome] == [True, False, True]
        assert [key for key, _ in store.load(DEVICES)] == [b"small", b"small2"]

    run(lambda: LmdbStore(tmp_path / "store", map_size_bytes=MAP_SIZE_BYTES), body)


def test_a_folder_that_is_no_store_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"no environment" * 1000)

    async def body() -> None:
        with pytest.raises(StoreError, match="cannot be opened"):
            LmdbStore(tmp_path / "store", map_size_bytes=MAP_SIZE_BYTES)

    asyncio.run(body())


# What the memory store does on command.


def test_delayed_tickets_are_neither_committed_nor_answered_until_released() -> None:
    async def body() -> None:
        store, answers = MemoryStore(), Answers()
        store.delay()
        store.submit(1, [put(b"a")], answers)
        await asyncio.sleep(0.01)
        assert (answers.answers, store.load(DEVICES), store.waiting) == ([], [], 1)
        store.release()
        assert answers.answers == [(1, None)]
        assert store.load(DEVICES) == [(b"a", b"v")]

    asyncio.run(body())


def test_without_a_loop_tickets_wait_for_release() -> None:
    store, answers = MemoryStore(), list[tuple[int, BaseException | None]]()
    store.submit(1, [put(b"a")], lambda ticket, error: answers.append((ticket, error)))
    assert answers == []
    store.release()
    assert answers == [(1, None)]


def test_failing_commits_change_nothing_and_say_why() -> None:
    store, answers = MemoryStore(), list[BaseException | None]()
    store.fail(OSError("disk"))
    store.submit(1, [put(b"a")], lambda ticket, error: answers.append(error))
    store.release()
    store.fail(None)
    store.submit(2, [put(b"b")], lambda ticket, error: answers.append(error))
    store.release()
    assert isinstance(answers[0], OSError)
    assert answers[1] is None
    assert store.load(DEVICES) == [(b"b", b"v")]


def test_a_crash_loses_what_was_not_committed_and_answers_nothing_more() -> None:
    store, answers = MemoryStore(), list[int]()
    store.submit(1, [put(b"kept")], lambda ticket, error: answers.append(ticket))
    store.release()
    store.delay()
    store.submit(2, [put(b"lost")], lambda ticket, error: answers.append(ticket))
    restarted = store.lose()
    store.release()
    assert answers == [1]
    assert restarted.load(DEVICES) == [(b"kept", b"v")]


def test_what_is_committed_but_not_answered_survives_a_crash() -> None:
    store, answers = MemoryStore(), list[int]()
    for ticket, key in enumerate((b"a", b"b", b"c")):
        store.submit(ticket, [put(key)], lambda ticket, error: answers.append(ticket))
    assert store.answer(1) == 1
    assert store.commit(1) == 1
    assert (answers, store.waiting) == ([0], 2)
    assert [key for key, _ in store.load(DEVICES)] == [b"a", b"b"]
    assert [key for key, _ in store.lose().load(DEVICES)] == [b"a", b"b"]
    assert answers == [0]


def test_tickets_that_were_committed_early_are_answered_once_and_in_order() -> None:
    store, answers = MemoryStore(), list[tuple[int, BaseException | None]]()
    failure = OSError("disk")
    store.fail(failure, 1)
    for ticket in range(3):
        store.submit(ticket, [put(b"%d" % ticket)], lambda ticket, error: answers.append((ticket, error)))
    assert store.commit(2) == 2
    store.release()
    assert answers == [(0, failure), (1, None), (2, None)]
    assert [key for key, _ in store.load(DEVICES)] == [b"1", b"2"]
    assert store.figures()["commits"] == 2


def test_reads_wait_for_a_command_and_see_what_is_committed_then() -> None:
    store, answers = MemoryStore(), list[list[bytes | None]]()
    for _ in range(2):
        store.read(DEVICES, [b"a"], lambda values, error: answers.append(list(values)))
    assert store.reads_waiting == 2
    store.answer_reads(1)
    store.submit(1, [put(b"a")], lambda ticket, error: None)
    store.commit()
    store.answer_reads()
    assert answers == [[None], [b"v"]]


def test_health_is_what_a_command_says_and_each_change_is_told_once() -> None:
    store, told = MemoryStore(budget_bytes=1000), list[StoreHealth]()
    store.watch(told.append)
    store.submit(1, [put(b"a", b"12345")], lambda ticket, error: None)
    store.release()
    store.set_health("full", "no room")
    store.set_health("full", "no room")
    assert told == [StoreHealth("full", "no room", used_bytes=6, budget_bytes=1000)] == [store.health]
    store.set_health("ok")
    assert [one.state for one in told] == ["full", "ok"]


def test_a_full_disk_fails_what_comes_then_and_keeps_the_order_of_answers(tmp_path: Path) -> None:
    async def whole() -> None:
        store = FaultyStore(LmdbStore(tmp_path / "store", map_size_bytes=MAP_SIZE_BYTES))
        answers = Answers()
        store.submit(1, [put(b"a")], answers)
        told: list[tuple[str, str]] = []
        store.watch(lambda health: told.append((health.state, health.reason)))
        store.full = True
        store.submit(2, [put(b"b")], answers)
        store.full = False
        assert told == [("failed", "No space left on device"), ("ok", "")]
        store.submit(3, [put(b"c")], answers)
        found = await answers.wait(3)
        assert [ticket for ticket, _ in found] == [1, 2, 3]
        assert [error is None for _, error in found] == [True, False, True]
        assert "No space left" in str(found[1][1])
        assert [key for key, _ in store.load(DEVICES)] == [b"a", b"c"]
        assert (store.refused, store.figures()["failed_commits"]) == (1, 1)
        await store.close()

    asyncio.run(whole())
