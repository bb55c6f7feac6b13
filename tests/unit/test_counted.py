"""The journal of what was counted: what a crash leaves of it, at any moment and with many devices, and its own end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.accounts import counted as counted_module
from broker.accounts import usage as usage_module
from broker.accounts.counted import BROUGHT_KEY, Brought, Counts
from broker.accounts.counting import FOLD_TURNS
from broker.accounts.days import ALL, OWN, day_of, decode_day
from broker.accounts.usage import UsageBook
from broker.errors import StoreError
from broker.ports import UsageRow
from broker.storage.memory import MemoryStore
from broker.storage.tables import COUNTED, DAILY, USAGE, day_key, day_key_parts, long_key
from tests.upper import NOW_S, Upper

Body = Callable[[Upper], Awaitable[None]]
Rows = dict[tuple[int, int, int], list[int]]

TODAY = day_of(NOW_S)
DAY_S = 24 * 3600
ACTIVE = 20_000
SECONDS = 3
MONTHS_END = int(datetime(2025, 11, 30, 12, tzinfo=UTC).timestamp())


def run(body: Body) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(upper)

    asyncio.run(whole())


def rows_of(store: MemoryStore) -> Rows:
    return {day_key_parts(key): list(decode_day(value)) for key, value in store.load(DAILY)}


def records(store: MemoryStore) -> list[int]:
    return [int.from_bytes(key, "big") for key, _ in store.load(COUNTED) if key != BROUGHT_KEY]


def used(book: UsageBook, account_id: int = 1) -> tuple[int, int]:
    return book.of(account_id).messages, book.of(account_id).bytes


def second(number: int) -> list[UsageRow]:
    """What many devices do in one second: each something else, in no order of theirs."""
    devices = ((one * 7_919) % ACTIVE for one in range(ACTIVE))
    return [(one % 20 + 1, 1000 + one, number, 100 + one % 13, one % 3, 7) for one in devices]


@pytest.mark.parametrize("folds", [0, 9])
def test_a_crash_with_twenty_thousand_active_devices_loses_the_last_second_and_no_other(folds: int) -> None:
    """However much of it was on its way into rows: what is there afterwards is exactly the seconds that were kept."""

    async def body(upper: Upper) -> None:
        for number in range(2, 21):
            await upper.admin.operator.create_account(f"account {number}", "professional")
        book = upper.directory.usage
        for number in range(1, SECONDS + 1):
            book.add(second(number), NOW_S + number)
            await book.keep()
            if number == 2:  # these two are brought into rows while others are counted
                book.begin_fold()
            for _ in range(folds):
                if not await book.fold():
                    break
        book.add(second(9), NOW_S + SECONDS + 1)  # the last second: nothing of it was kept
        assert (not rows_of(upper.store)) == (folds == 0)
        found = upper.restart()
        everything = [row for number in range(1, SECONDS + 1) for row in second(number)]
        for account_id in range(1, 21):
            mine = [row for row in everything if row[0] == account_id]
            total = (sum(row[2] + row[4] for row in mine), sum(row[3] + row[5] for row in mine))
            assert used(found.directory.usage, account_id) == total
        await found.directory.usage.write()
        expected: defaultdict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for account_id, device, *counted in everything:
            row = expected[account_id, TODAY, device]
            row[:] = [one + more for one, more in zip(row, counted, strict=True)]
        rows = rows_of(found.store)
        assert {key: row for key, row in rows.items() if key[2] != ALL} == expected
        assert {row[4] for key, row in rows.items() if key[2] == ALL} == {ACTIVE // 20}

    run(body)


def test_a_second_costs_some_bytes_for_each_device_and_no_row_of_its_own() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, 1000 + one, 1, 120, 1, 80) for one in range(ACTIVE)], NOW_S)
        before = upper.store.figures()["changes"]
        await book.keep()
        counts = [value for key, value in upper.store.load(COUNTED) if key != BROUGHT_KEY]
        assert upper.store.figures()["changes"] - before <= ACTIVE // 5000 + 2  # and the account's first total
        assert sum(map(len, counts)) <= 12 * ACTIVE
        assert max(map(len, counts)) <= 64 * 1024
        assert rows_of(upper.store) == {}

    run(body)


def test_turns_bring_all_into_rows_in_time_and_records_go_when_they_are_there() -> None:
    async def body(upper: Upper) -> None:
        core, counting = upper.core, upper.counting
        for turn in range(2 * FOLD_TURNS + 2):
            core.counted += [(1, 1000 + one, 1, 10, 0, 0) for one in range(3)]
            assert await counting.keep()
            await counting._fold(float("inf"))
            if turn + 1 < FOLD_TURNS:
                assert rows_of(upper.store) == {}
        assert rows_of(upper.store)[1, TODAY, 1000] == [2 * FOLD_TURNS, 20 * FOLD_TURNS, 0, 0]
        assert len(records(upper.store)) <= 2
        for _ in range(FOLD_TURNS + 2):  # in silence, too
            assert await counting.keep()
            await counting._fold(float("inf"))
        assert rows_of(upper.store)[1, TODAY, ALL][0] == 3 * (2 * FOLD_TURNS + 2)
        assert len(records(upper.store)) == 1, "the newest one stays, so that no number is given twice"
        changes = upper.store.figures()["changes"]
        for _ in range(FOLD_TURNS + 2):
            assert await counting.keep()
            await counting._fold(float("inf"))
        assert upper.store.figures()["changes"] == changes
        found = upper.restart().directory.usage
        assert used(found) == (3 * (2 * FOLD_TURNS + 2), 30 * (2 * FOLD_TURNS + 2))

    run(body)


def test_no_number_is_given_twice_over_restarts() -> None:
    async def body(upper: Upper) -> None:
        given = []
        for _ in range(4):
            upper.directory.usage.add([(1, 1000, 1, 10, 0, 0)], NOW_S)
            await upper.directory.usage.write()
            given.append(records(upper.store)[-1])
            upper = upper.restart()
        assert given == sorted(set(given))
        assert rows_of(upper.store)[1, TODAY, 1000] == [4, 40, 0, 0]
        assert used(upper.directory.usage) == (4, 40)

    run(body)


def test_peaks_of_connections_survive_a_crash() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, 1000, 1, 10, 0, 0)], NOW_S)
        for peak in (5, 3, 8, 7):
            book.note_peak(1, peak)
            await book.keep()
        found = upper.restart().directory
        await found.usage.write()
        assert (await found.history.day(1, TODAY)).connections_peak == 8

    run(body)


def test_counts_are_of_the_day_and_the_month_in_which_they_were_counted_whenever_they_are_stored() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, 1000, 1, 10, 0, 0)], MONTHS_END)
        book.add([], MONTHS_END + DAY_S)  # nothing was stored before midnight
        book.add([(1, 1000, 2, 20, 0, 0)], MONTHS_END + DAY_S)
        await book.keep()
        found = upper.restart()
        found.directory.usage.see(MONTHS_END + DAY_S)
        assert used(found.directory.usage) == (2, 20)
        await found.directory.usage.write()
        days = {day: row[0] for (_, day, number), row in rows_of(found.store).items() if number == ALL}
        assert days == {day_of(MONTHS_END): 1, day_of(MONTHS_END) + 1: 2}

    run(body)


def test_a_store_from_before_there_was_a_journal_goes_on() -> None:
    async def body(upper: Upper) -> None:
        upper.directory.usage.add([(1, 1000, 1, 10, 0, 0)], NOW_S)
        await upper.directory.usage.write()
        store = upper.store
        store._tables[COUNTED].clear()
        without = {key: b"\x95" + value[1:-1] for key, value in store._tables[USAGE].items()}
        store._tables[USAGE] = without  # as it was written before, without what names a record
        found = upper.restart()
        assert used(found.directory.usage) == (1, 10)
        found.directory.usage.add([(1, 1000, 2, 20, 0, 0)], NOW_S)
        await found.directory.usage.keep()
        found = found.restart()
        assert used(found.directory.usage) == (3, 30)
        await found.directory.usage.write()
        assert rows_of(found.store)[1, TODAY, 1000] == [3, 30, 0, 0]

    run(body)


def test_damaged_records_are_passed_over_and_told_and_the_others_count(caplog: pytest.LogCaptureFixture) -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        for _ in range(5):
            book.add([(1, 1000, 1, 10, 0, 0)], NOW_S)
            await book.keep()
        table = upper.store._tables[COUNTED]
        good = table[long_key(3)]
        for number, bad in ((2, b""), (3, good[:-1] + b"\xff"), (4, Counts(24_310, TODAY, 2, b"\x01").encode())):
            table[long_key(number)] = bad
        found = upper.restart()
        assert used(found.directory.usage) == (2, 20)
        await found.directory.usage.write()
        assert rows_of(found.store)[1, TODAY, 1000] == [2, 20, 0, 0]
        assert records(found.store) == [5]

    run(body)
    assert caplog.text.count("passed over") == 3


@pytest.mark.parametrize("bad", [None, b"", b"\0" * 25])
def test_what_nobody_knows_to_be_in_rows_or_not_is_not_counted_twice(bad: bytes | None) -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, 1000, 1, 10, 0, 0)], NOW_S)
        await book.write()
        book.add([(1, 1000, 1, 10, 0, 0)], NOW_S)
        await book.keep()
        upper.store._tables[COUNTED].pop(BROUGHT_KEY)
        if bad is not None:
            upper.store._tables[COUNTED][BROUGHT_KEY] = bad
        found = upper.restart()
        await found.directory.usage.write()
        assert rows_of(found.store)[1, TODAY, 1000] == [1, 10, 0, 0]
        found.directory.usage.add([(1, 1000, 1, 10, 0, 0)], NOW_S)
        await found.directory.usage.keep()
        found = found.restart()
        await found.directory.usage.write()
        assert rows_of(found.store)[1, TODAY, 1000] == [2, 20, 0, 0]

    run(body)


def test_a_stored_record_is_what_it_was_when_it_was_first_written() -> None:
    counts = bytes.fromhex("1308d407 01 f65e0000 ad4f0000 01000000 0107 02c80100 00")
    assert Counts(24_310, 20_397, 1, bytes((1, 7, 2, 200, 1, 0, 0))).encode() == counts
    assert Counts.decode(counts).by_account() == {1: (2, 200)}
    brought = bytes.fromhex("9fc9c4d9 01 0900000000000000 00000001 00004fad 00000007")
    assert Brought(9, day_key(1, 20_397, 7)).encode() == brought
    assert Brought.decode(brought) == Brought(9, day_key(1, 20_397, 7))
    for bad in (b"", brought[:-1] + b"\0", brought + b"\0", counts):
        with pytest.raises(StoreError):
            Brought.decode(bad)


COUNT = st.tuples(
    st.just("count"),
    st.lists(st.tuples(st.integers(1, 2), st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=4),
)
STEP = st.one_of(
    COUNT, COUNT, st.tuples(st.sampled_from(["keep", "begin", "fold", "write", "night", "fail"]), st.just([]))
)
STEPS = st.lists(STEP, max_size=25)


@given(STEPS, STEP, st.integers(0, 6), st.integers(0, 3), st.integers(1, 4))
def test_whenever_it_crashes_nothing_that_was_kept_is_lost_and_nothing_counts_twice(
    steps: list[tuple[str, list[tuple[int, int, int]]]],
    last: tuple[str, list[tuple[int, int, int]]],
    turns: int,
    unanswered: int,
    at_once: int,
) -> None:
    """The last step is broken off after some turns of the loop, with some commits on disk that nobody was told of."""

    async def body(upper: Upper) -> None:
        await upper.admin.operator.create_account("other", "free")
        counted: defaultdict[tuple[int, int, int], int] = defaultdict(int)
        months: defaultdict[tuple[int, int], int] = defaultdict(int)
        wall_s = MONTHS_END - DAY_S
        upper.directory.usage.add([], wall_s)
        book, kept, kept_months = upper.directory.usage, dict(counted), dict(months)

        def count(rows: list[tuple[int, int, int]]) -> None:
            for account, principal, more in rows:
                number = OWN if principal < 3 else 100 + principal
                book.add([(account, None if number == OWN else number, more, more, more, 0)], wall_s)
                counted[account, day_of(wall_s), number] += more
                months[account, usage_module.month_of(wall_s)] += 2 * more

        async def step(kind: str) -> None:
            if kind == "begin":
                book.begin_fold()
            elif kind == "fold":
                await book.fold()
            elif kind in ("keep", "fail"):
                await book.keep()
            elif kind == "write":
                await book.write()

        for kind, rows in steps:
            if kind == "count":
                count(rows)
            elif kind == "night":
                wall_s += DAY_S
                book.add([], wall_s)
            else:
                upper.store.fail(OSError("full") if kind == "fail" else None)
                await asyncio.gather(step(kind), return_exceptions=True)
                upper.store.fail(None)
                if kind in ("keep", "write"):
                    kept, kept_months = dict(counted), dict(months)
        count(last[1])
        upper.store.delay()
        under_way = asyncio.create_task(step(last[0]))
        for _ in range(turns):
            await asyncio.sleep(0)
            upper.store.answer_reads()
            upper.store.answer(1)
        await asyncio.sleep(0)
        upper.store.commit(unanswered)
        found = upper.restart()
        under_way.cancel()
        found.directory.usage.see(wall_s)
        month = usage_module.month_of(wall_s)
        for account in (1, 2):
            least = kept_months.get((account, month), 0)
            assert least <= found.directory.usage.of(account).messages <= months[account, month]
        await found.directory.usage.write()
        rows = rows_of(found.store)
        for (account, day, number), row in rows.items():
            if number == ALL:
                parts = {key[2]: one for key, one in rows.items() if key[:2] == (account, day) and key[2] != ALL}
                assert row[:4] == [sum(column) for column in zip(*parts.values(), strict=True)]
                assert row[4] == len(parts.keys() - {OWN})
            else:
                assert kept.get((account, day, number), 0) <= row[0] <= counted[account, day, number]
        for key, least in kept.items():
            assert not least or rows[key][0] >= least
        first = day_of(MONTHS_END) + 1 if month != usage_module.month_of(MONTHS_END) else 0
        for account in (1, 2):
            mine = [row for key, row in rows.items() if key[0] == account and key[1] >= first and key[2] != ALL]
            assert found.directory.usage.of(account).messages == sum(2 * row[0] for row in mine)

    before = usage_module.WRITTEN_AT_ONCE, counted_module.RECORD_SUMS
    usage_module.WRITTEN_AT_ONCE = counted_module.RECORD_SUMS = at_once
    try:
        run(body)
    finally:
        usage_module.WRITTEN_AT_ONCE, counted_module.RECORD_SUMS = before
