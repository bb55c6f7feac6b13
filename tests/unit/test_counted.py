"""The journal of what was counted: what a crash leaves of it, at any moment and with many devices, and its own end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.accounts import counted as counted_module
from broker.accounts import history as history_module
from broker.accounts import usage as usage_module
from broker.accounts.counted import BROUGHT_KEY, Brought, Counts
from broker.accounts.counting import FOLD_TURNS
from broker.accounts.days import ALL, OWN, day_of
from broker.accounts.usage import UsageBook
from broker.errors import StoreError
from broker.ports import EntriesCallback, ReadCallback, UsageRow
from broker.storage.memory import MemoryStore
from broker.storage.tables import COUNTED, USAGE, day_key, long_key
from tests.support.days import DAY_S, TODAY, rows_of, run
from tests.upper import NOW_S, Upper

ACTIVE = 20_000
SECONDS = 2
MONTHS_END = int(datetime(2025, 11, 30, 12, tzinfo=UTC).timestamp())


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
            if number == 1:  # it is brought into rows while others are counted
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


def test_what_is_counted_while_a_total_is_written_counts_once() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, 1000, 1, 10, 0, 0)], NOW_S)
        upper.store.delay()
        keeping = asyncio.create_task(book.keep())  # and the first total of the account
        await asyncio.sleep(0)
        assert upper.store.waiting == 1
        book.add([(1, 1000, 2, 20, 0, 0)], NOW_S)  # while its counts are on their way
        upper.store.release()
        await keeping
        await book.keep()
        found = upper.restart()
        assert used(found.directory.usage) == (3, 30)
        await found.directory.usage.write()
        assert rows_of(found.store)[1, TODAY, 1000] == [3, 30, 0, 0]

    run(body)


def test_a_month_that_begins_in_silence_behind_a_clock_that_was_years_ahead_is_on_record() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, 1000, 1, 10, 0, 0)], MONTHS_END + 5 * 366 * DAY_S)
        await book.keep()
        book.see(MONTHS_END)
        book.see(MONTHS_END + DAY_S)
        assert used(book) == (0, 0)
        await book.keep()
        found = upper.restart().directory.usage
        found.see(MONTHS_END + DAY_S)
        assert used(found) == (0, 0)

    run(body)


@pytest.mark.parametrize("folds", range(5))
def test_answers_are_whole_when_a_crash_has_left_a_part_of_it_in_rows(
    folds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "WRITTEN_AT_ONCE", 2)

    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, 1000 + one, 1 << one, 0, 0, 0) for one in range(5)], NOW_S)
        await book.keep()
        book.begin_fold()
        for _ in range(folds):
            await book.fold()
        found = upper.restart().directory
        period = await found.history.of_account(1, range(TODAY, TODAY + 1), lambda _: True)
        assert [(day.messages, day.active_devices) for day in period.days] == [(31, 5)]
        assert (await found.history.day(1, TODAY)).messages == 31
        assert [used for _, (used, _) in period.top] == [16, 8, 4, 2, 1]

    run(body)


@pytest.mark.parametrize("on_disk", [True, False])
def test_answers_are_right_while_nobody_knows_whether_a_part_is_on_disk(on_disk: bool) -> None:
    async def body(upper: Upper) -> None:
        book, history = upper.directory.usage, upper.directory.history
        book.add([(1, 1000, 1, 0, 0, 0)], NOW_S)
        await book.write()
        book.add([(1, 1000, 2, 0, 0, 0)], NOW_S)
        await book.keep()
        book.begin_fold()
        await book.fold()  # the month's total
        upper.store.delay()
        folding = asyncio.create_task(book.fold())
        for _ in range(3):
            await asyncio.sleep(0)
            upper.store.answer_reads()
        assert upper.store.waiting == 1
        if on_disk:
            upper.store.commit()
        days = range(TODAY, TODAY + 1)
        of_account = asyncio.create_task(history.of_account(1, days, lambda _: True))
        of_device = asyncio.create_task(history.of_device(1, 1000, days))
        for _ in range(6):
            await asyncio.sleep(0)
            upper.store.answer_reads()
        assert [day.messages for day in (await of_account).days] == [3]
        assert [day.messages for day in (await of_device).days] == [3]
        assert (await of_account).top == [(1000, (3, 0))]
        upper.store.release()
        await folding

    run(body)


def test_records_stay_until_what_is_in_them_is_in_rows() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        for number in (1, 2, 4, 8):
            book.add([(1, 1000, number, 0, 0, 0)], NOW_S)
            await book.keep()
            if number == 2:
                book.begin_fold()
        while await book.fold():
            pass
        await book.keep()
        assert rows_of(upper.store)[1, TODAY, 1000] == [3, 0, 0, 0]
        assert records(upper.store) == [3, 4]
        assert used(upper.restart().directory.usage) == (15, 0)

    run(body)


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
                await book.keep()
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
                if kind in ("keep", "begin", "write"):
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
        period = await found.directory.history.of_account(1, DAYS, lambda _: True)
        await found.directory.usage.write()
        assert period == await found.directory.history.of_account(1, DAYS, lambda _: True)
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


SCHEDULE = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=16)
DAYS = range(day_of(MONTHS_END) - 1, day_of(MONTHS_END) + 12)


class Early(MemoryStore):
    """A store whose reads are of the moment at which they are asked for, and told later."""

    def read(self, table: str, keys: Sequence[bytes], on_read: ReadCallback) -> None:
        found = self._values(table, keys)
        self._reads.append((lambda: found, on_read))
        self._soon()

    def read_range(self, table: str, first: bytes, end: bytes, at_most: int, on_read: EntriesCallback) -> None:
        found = self._range(table, first, end, at_most)
        self._reads.append((lambda: found, on_read))
        self._soon()


@given(
    STEPS,
    st.lists(COUNT, max_size=2),
    st.sampled_from(["keep", "all", "write"]),
    SCHEDULE,
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
)
def test_answers_hold_what_was_counted_wherever_it_is_on_its_way(
    steps: list[tuple[str, list[tuple[int, int, int]]]],
    later: list[tuple[str, list[tuple[int, int, int]]]],
    last: str,
    schedule: list[tuple[int, int, int]],
    at_once: int,
    write_first: bool,
    early: bool,
) -> None:
    """Questions are asked while something is being written, and reads and commits are answered in any order."""

    async def body(upper: Upper) -> None:
        await upper.admin.operator.create_account("other", "free")
        book, history = upper.directory.usage, upper.directory.history
        counted: defaultdict[tuple[int, int], int] = defaultdict(int)
        wall_s = MONTHS_END - DAY_S

        async def fold_all() -> None:
            while await book.fold():
                pass

        verbs = {"keep": book.keep, "fail": book.keep, "fold": book.fold, "write": book.write, "all": fold_all}
        for kind, rows in [("night", []), *steps, ("begin", []), *later]:
            upper.store.fail(OSError("full") if kind == "fail" else None)
            if kind == "count":
                for account, principal, more in rows:
                    number = OWN if principal < 3 else 100 + principal
                    book.add([(account, None if number == OWN else number, more, 0, more, more)], wall_s)
                    if account == 1:
                        counted[day_of(wall_s), number] += more
            elif kind == "night":
                wall_s += DAY_S // 4
                book.add([], wall_s)
            elif kind == "begin":
                await book.keep()
                book.begin_fold()
            else:
                await asyncio.gather(verbs[kind](), return_exceptions=True)
        upper.store.fail(None)
        upper.store.delay()
        under_way = asyncio.create_task(verbs[last]()) if write_first else None
        of_account = asyncio.create_task(history.of_account(1, DAYS, lambda _: True))
        of_device = asyncio.create_task(history.of_device(1, 103, DAYS))
        today = asyncio.create_task(history.day(1, day_of(wall_s)))
        under_way = under_way or asyncio.create_task(verbs[last]())
        for reads, commits, answers in schedule:
            await asyncio.sleep(0)
            upper.store.answer_reads(reads)
            upper.store.commit(commits)
            upper.store.answer(answers)
        await asyncio.sleep(0)
        upper.store.release()
        await under_way
        by_day = {day: 2 * sum(more for (one, _), more in counted.items() if one == day) for day in DAYS}
        period = await of_account
        assert {day.day: day.messages for day in period.days} == by_day
        assert {day.day: day.bytes for day in period.days} == {day: one // 2 for day, one in by_day.items()}
        active = {day: sum(one == day and number != OWN for one, number in counted) for day in DAYS}
        assert {day.day: day.active_devices for day in period.days} == active
        devices = {number for _, number in counted} - {OWN}
        assert period.active_devices == len(devices)
        assert dict(period.top) == {
            number: (2 * sum_of, sum_of)
            for number in devices
            for sum_of in [sum(more for (_, one), more in counted.items() if one == number)]
        }
        assert [day.messages for day in (await of_device).days] == [2 * counted[day, 103] for day in reversed(DAYS)]
        assert (await today).messages == by_day[day_of(wall_s)]

    before = usage_module.WRITTEN_AT_ONCE, counted_module.RECORD_SUMS, history_module.PAGE_ROWS
    usage_module.WRITTEN_AT_ONCE = counted_module.RECORD_SUMS = history_module.PAGE_ROWS = at_once
    try:
        run(body, Upper(Early() if early else None))
    finally:
        usage_module.WRITTEN_AT_ONCE, counted_module.RECORD_SUMS, history_module.PAGE_ROWS = before


@pytest.mark.parametrize("by", ["fold", "write"])
def test_what_is_brought_into_rows_waits_until_the_records_of_what_was_brought_before_are_gone(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_module, "REMOVED_AT_ONCE", 1)
    monkeypatch.setattr(usage_module, "WRITTEN_AT_ONCE", 1)

    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        for _ in range(8):  # more records than go with a commit
            book.add([(1, 1000, 1, 0, 0, 0)], NOW_S)
            await book.keep()
        book.begin_fold()
        while await book.fold():
            pass
        book.add([(1, 999, 1, 0, 0, 0), (1, 1001, 1, 0, 0, 0)], NOW_S)
        await book.keep()
        if by == "fold":
            while not book.begin_fold():
                await book.keep()
            await book.fold()  # the month's total
            await book.fold()  # one of the two rows
            assert (1, TODAY, 999) in rows_of(upper.store)
        else:
            upper.store.delay()
            writing = asyncio.create_task(book.write())
            while (1, TODAY, 999) not in rows_of(upper.store) and not writing.done():
                await asyncio.sleep(0)
                upper.store.answer_reads()
                upper.store.answer(1)
            writing.cancel()
        found = upper.restart()
        await found.directory.usage.write()
        rows = rows_of(found.store)
        assert [rows[1, TODAY, device][0] for device in (999, 1000, 1001)] == [1, 8, 1]
        assert len(records(found.store)) == 1

    run(body)


def test_no_number_is_given_twice_where_only_the_mark_has_survived() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        for _ in range(3):
            book.add([(1, 1000, 1, 0, 0, 0)], NOW_S)
            await book.keep()
        await book.write()
        for table in (USAGE, COUNTED):  # as a rescue of a damaged store may leave them
            upper.store._tables[table] = {
                key: value for key, value in upper.store._tables[table].items() if key == BROUGHT_KEY
            }
        found = upper.restart()
        found.directory.usage.add([(1, 1000, 1, 0, 0, 0)], NOW_S)
        await found.directory.usage.keep()
        found = found.restart()
        await found.directory.usage.write()
        assert rows_of(found.store)[1, TODAY, 1000] == [4, 0, 0, 0]

    run(body)
