"""The days: whose row a count belongs to, midnight, what a crash and a failing disk leave, and the end of old rows."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.accounts import days as days_module
from broker.accounts import usage as usage_module
from broker.accounts.counting import COUNT_S, Counting
from broker.accounts.days import ALL, KEPT_DAYS, OWN, day_of, decode_day, encode_day
from broker.accounts.device_description import DeviceDescription
from broker.accounts.records import UsedInMonth
from broker.accounts.usage import SWEEP_AFTER_S
from broker.errors import StoreError, Unavailable
from broker.ports import OWN_PRINCIPALS, PlainChange, UsageRow
from broker.storage.memory import MemoryStore
from broker.storage.tables import DAILY, USAGE, day_key
from tests.support.days import DAY_S, TODAY, rows_of, run
from tests.upper import NOW_S, Upper

LAST_SECOND = int(datetime(2025, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp())
LAST_DAY = day_of(LAST_SECOND)


async def device(upper: Upper) -> int:
    made, _ = await upper.directory.devices.create(1, DeviceDescription("Sensor", "sensor"), NOW_S)
    return made.device_number


def test_devices_have_rows_of_their_own_and_the_account_has_one_for_all_else_and_a_total() -> None:
    async def body(upper: Upper) -> None:
        one, other = await device(upper), await device(upper)
        key, _ = await upper.directory.keys.create(1, "app", NOW_S)
        book = upper.directory.usage
        book.add([(1, one, 2, 20, 1, 5), (1, key.principal_id, 3, 30, 0, 0)], NOW_S)
        book.add([(1, None, 1, 7, 0, 0), (1, other, 0, 0, 4, 40), (1, OWN_PRINCIPALS + 1, 1, 1, 1, 1)], NOW_S)
        book.add([(1, one, 1, 10, 0, 0)], NOW_S)
        await book.write()
        assert rows_of(upper.store) == {
            (1, TODAY, OWN): [5, 38, 1, 1],
            (1, TODAY, one): [3, 30, 1, 5],
            (1, TODAY, other): [0, 0, 4, 40],
            (1, TODAY, ALL): [8, 68, 6, 46, 2, 0],
        }

    run(body)


def test_what_is_counted_later_is_added_to_what_is_on_disk_and_nothing_is_kept_in_memory() -> None:
    async def body(upper: Upper) -> None:
        one = await device(upper)
        upper.directory.usage.add([(1, one, 2, 20, 1, 5)], NOW_S)
        await upper.directory.usage.write()
        found = upper.restart()
        found.directory.usage.add([(1, one, 1, 10, 0, 0), (1, None, 1, 1, 0, 0)], NOW_S)
        await found.directory.usage.write()
        assert not found.directory.usage.days.waiting
        assert rows_of(found.store) == {
            (1, TODAY, OWN): [1, 1, 0, 0],
            (1, TODAY, one): [3, 30, 1, 5],
            (1, TODAY, ALL): [4, 31, 1, 5, 1, 0],
        }

    run(body)


def test_days_and_the_month_end_at_midnight_of_utc() -> None:
    async def body(upper: Upper) -> None:
        one = await device(upper)
        book = upper.directory.usage
        book.add([], LAST_SECOND)
        book.add([(1, one, 1, 10, 0, 0)], LAST_SECOND + 1)  # counted until midnight
        book.add([(1, one, 2, 20, 0, 0)], LAST_SECOND + 1)
        book.add([(1, one, 4, 40, 0, 0)], LAST_SECOND + 1 + DAY_S)
        book.add([(1, one, 8, 80, 0, 0)], LAST_SECOND + 1 + DAY_S)
        await book.write()
        found = {day: row[0] for (_, day, number), row in rows_of(upper.store).items() if number == ALL}
        assert found == {LAST_DAY: 1, LAST_DAY + 1: 6, LAST_DAY + 2: 8}
        assert book.of(1).messages == 2 + 4 + 8  # of December

    run(body)


def test_a_clock_that_is_set_back_counts_for_the_day_that_it_says() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, None, 1, 1, 0, 0)], NOW_S)
        book.add([], NOW_S - 2 * DAY_S)
        book.add([(1, None, 2, 2, 0, 0)], NOW_S - 2 * DAY_S)
        book.add([], NOW_S)
        book.add([(1, None, 4, 4, 0, 0)], NOW_S)
        await book.write()
        found = {day: row[0] for (_, day, number), row in rows_of(upper.store).items() if number == OWN}
        assert found == {TODAY: 5, TODAY - 2: 2}
        book.add([], -5)  # before 1970
        book.add([(1, None, 8, 8, 0, 0)], -5)
        await book.write()
        assert rows_of(upper.store)[1, 0, OWN] == [8, 8, 0, 0]

    run(body)


class Doubtful(MemoryStore):
    """A store whose commits may be on disk though they are reported as failed."""

    doubtful = False

    def _commit(self, changes: Sequence[PlainChange]) -> BaseException | None:
        error = super()._commit(changes)
        return StoreError("nobody knows") if self.doubtful else error


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_commit_whose_fate_nobody_knows_counts_nothing_twice_and_loses_nothing(on_disk: bool) -> None:
    async def body(upper: Upper) -> None:
        one = await device(upper)
        book = upper.directory.usage
        store = upper.store
        assert isinstance(store, Doubtful)
        book.add([(1, one, 2, 20, 0, 0)], NOW_S)
        await book.write()
        for _ in range(3):
            book.add([(1, one, 1, 10, 0, 0), (1, None, 1, 1, 0, 0)], NOW_S)
            store.doubtful = on_disk
            if not on_disk:
                store.fail(OSError("no space left"), 1)
            with pytest.raises(Unavailable):
                await book.write()
            store.doubtful = False
            book.add([(1, one, 1, 10, 0, 0)], NOW_S)
        await book.write()
        assert rows_of(store) == {
            (1, TODAY, OWN): [3, 3, 0, 0],
            (1, TODAY, one): [8, 80, 0, 0],
            (1, TODAY, ALL): [11, 83, 0, 0, 1, 0],
        }
        assert book.of(1).messages == 11

    run(body, Upper(Doubtful()))


def test_a_disk_that_cannot_be_read_keeps_counts_waiting() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(1, None, 1, 1, 0, 0)], NOW_S)
        values = upper.store._values
        upper.store._values = lambda table, keys: (_ for _ in ()).throw(StoreError("gone"))  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await book.write()
        upper.store._values = values  # type: ignore[method-assign]
        await book.write()
        assert rows_of(upper.store)[1, TODAY, ALL] == [1, 1, 0, 0, 0, 0]

    run(body)


def test_who_gives_up_waiting_for_a_write_takes_nothing_with_him() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        for _ in range(5):
            book.add([(1, None, 1, 1, 0, 0)], NOW_S)
            for steps in range(6):
                writing = asyncio.create_task(book.write())
                for _ in range(steps):
                    await asyncio.sleep(0)
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        await book.write()
        assert rows_of(upper.store)[1, TODAY, ALL] == [5, 5, 0, 0, 0, 0]
        assert UsedInMonth.decode(upper.store.load(USAGE)[0][1]).messages == 5

    run(body)


def test_the_rows_of_a_deleted_device_stay_true() -> None:
    async def body(upper: Upper) -> None:
        made, _ = await upper.directory.devices.create(1, DeviceDescription("Sensor", "sensor"), NOW_S)
        book = upper.directory.usage
        book.add([(1, made.device_number, 2, 20, 0, 0)], NOW_S)
        await book.write()
        await upper.directory.devices.delete(1, made.device_id)
        book.add([(1, made.device_number, 1, 10, 0, 0)], NOW_S)  # the last that was counted
        await book.write()
        assert rows_of(upper.store)[1, TODAY, made.device_number] == [3, 30, 0, 0]
        assert rows_of(upper.store)[1, TODAY, ALL] == [3, 30, 0, 0, 1, 0]

    run(body)


def test_rows_leave_after_400_days_a_few_with_each_write_and_not_for_a_moments_wrong_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(days_module, "REMOVED_AT_ONCE", 3)
    oldest = TODAY - KEPT_DAYS + 1

    async def body(upper: Upper) -> None:
        await upper.admin.operator.create_account("other", "free")
        for day in (0, oldest - 2, oldest - 1, oldest, TODAY):
            for account in (1, 2, 3):  # the third is not there any more
                for number in (OWN, 7, ALL):
                    figures = (1,) * (6 if number == ALL else 4)
                    upper.store._tables[DAILY][day_key(account, day, number)] = encode_day(figures)
        book = upper.directory.usage

        async def left_after(writes: int, wall_s: int) -> dict[int, int]:
            for _ in range(writes):
                book.add([], wall_s)
                await book.write()
            return {one: sum(key[0] == one for key in rows_of(upper.store)) for one in (1, 2, 3)}

        whole = {1: 15, 2: 15, 3: 15}
        assert await left_after(50, NOW_S + 1000 * DAY_S) == whole
        assert await left_after(50, NOW_S) == whole
        assert await left_after(50, NOW_S + SWEEP_AFTER_S - 1) == whole
        assert await left_after(1, NOW_S + SWEEP_AFTER_S) == {**whole, 1: 12}
        assert await left_after(2, NOW_S + SWEEP_AFTER_S) == {**whole, 1: 6}
        assert await left_after(9, NOW_S + SWEEP_AFTER_S) == {1: 6, 2: 6, 3: 15}
        assert {day for _, day, _ in rows_of(upper.store) if day} >= {oldest, TODAY}
        before = upper.store.figures()["commits"]
        assert await left_after(9, NOW_S + SWEEP_AFTER_S + 5) == {1: 6, 2: 6, 3: 15}
        assert upper.store.figures()["commits"] == before

    run(body)


def test_a_damaged_row_begins_anew_and_keeps_no_other_from_being_written(caplog: pytest.LogCaptureFixture) -> None:
    async def body(upper: Upper) -> None:
        for bad in (
            b"",
            b"\xc1",
            b"\x05",
            encode_day((1,))[:-1] + b"\xff\xff",
            b"\x93\x02\x01\x01",
            encode_day((1, 2, 3)),
        ):
            upper.store._tables[DAILY][day_key(1, TODAY, OWN)] = bad
            upper.directory.usage.add([(1, None, 1, 1, 0, 0)], NOW_S)
            await upper.directory.usage.write()
            assert rows_of(upper.store)[1, TODAY, OWN] == [1, 1, 0, 0]

    run(body)
    assert caplog.text.count("passed over") == 6


def test_a_stored_row_is_what_it_was_when_it_was_first_written() -> None:
    assert encode_day(
        (
            1,
            200,
            3,
            70_000,
        )
    ) == bytes.fromhex("95 01 01 ccc8 03 ce00011170")
    assert decode_day(bytes.fromhex("95 01 01 ccc8 03 ce00011170")) == (1, 200, 3, 70_000)
    assert day_key(1, 20_397, 7) == bytes.fromhex("00000001 00004fad 00000007")


Step = tuple[str, list[tuple[int, int, int]]]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("count"),
            st.lists(st.tuples(st.integers(1, 2), st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=4),
        ),
        st.tuples(st.sampled_from(["write", "fail", "night", "crash"]), st.just([])),
    ),
    max_size=30,
)


@given(STEPS, st.integers(1, 4))
def test_every_state_on_disk_is_a_sum_of_what_was_counted(steps: list[Step], at_once: int) -> None:
    """Whatever is written, lost and counted: totals are sums of rows, and nothing is more than was counted."""

    async def body(upper: Upper) -> None:
        await upper.admin.operator.create_account("other", "free")
        counted: defaultdict[tuple[int, int, int], int] = defaultdict(int)
        wall_s = LAST_SECOND - 2 * DAY_S
        upper.directory.usage.add([], wall_s)
        written = dict(counted)
        for kind, rows in steps:
            book = upper.directory.usage
            if kind == "count":
                for account, principal, more in rows:
                    number = OWN if principal < 3 else 100 + principal
                    told: UsageRow = (account, None if number == OWN else number, more, more, more, 0)
                    book.add([told], wall_s)
                    counted[account, day_of(wall_s), number] += more
            elif kind == "night":
                wall_s += DAY_S
                book.add([], wall_s)
            elif kind == "crash":
                upper = upper.restart()
                upper.directory.usage.add([], wall_s)
                counted = defaultdict(int, {key: row[0] for key, row in rows_of(upper.store).items() if key[2] != ALL})
            elif kind == "write":
                await book.write()
                written = dict(counted)
            else:
                upper.store.fail(OSError("full"), 1)
                with contextlib.suppress(Unavailable):
                    await book.write()
                upper.store.fail(None)
            found = rows_of(upper.store)
            for (account, day, number), row in found.items():
                if number == ALL:
                    parts = {key[2]: one for key, one in found.items() if key[:2] == (account, day) and key[2] != ALL}
                    assert row[:4] == [sum(column) for column in zip(*parts.values(), strict=True)]
                    assert row[4] == len(parts.keys() - {OWN})
                else:
                    assert written.get((account, day, number), 0) <= row[0] <= counted[account, day, number]

    before = usage_module.WRITTEN_AT_ONCE
    usage_module.WRITTEN_AT_ONCE = at_once
    try:
        run(body)
    finally:
        usage_module.WRITTEN_AT_ONCE = before


def test_counting_wakes_within_every_second_and_at_midnight() -> None:
    upper = Upper()
    wall = [NOW_S * 10**9]
    counting = Counting(upper.directory.usage, upper.core, lambda: wall[0], upper.clock.monotonic_ns)
    assert counting._pause_s() == COUNT_S < 1
    wall[0] = (LAST_SECOND + 1) * 10**9 - 250_000_000
    assert counting._pause_s() == pytest.approx(0.25)
    wall[0] = (LAST_SECOND + 1) * 10**9 - 1
    assert counting._pause_s() == 0.001
    wall[0] += 1
    assert counting._pause_s() == COUNT_S


def test_counting_tells_of_a_failing_disk_once_and_brings_all_when_it_is_well(caplog: pytest.LogCaptureFixture) -> None:
    async def body(upper: Upper) -> None:
        counting = upper.counting
        upper.core.counted += [(1, None, 1, 1, 0, 0)] * 3
        upper.store.fail(OSError("no space left"))
        assert [await counting.settle() for _ in range(3)] == [False] * 3
        upper.store.fail(None)
        assert await counting.settle()
        assert rows_of(upper.store)[1, TODAY, ALL][0] == 3
        upper.core.counted.append((1, None, 4, 4, 0, 0))
        counting.count_at_once()
        assert upper.directory.usage.of(1).messages == 7

    run(body)
    assert caplog.text.count("usage could not be stored") == 1


def test_totals_of_many_days_look_at_their_own_part_of_what_is_on_its_way_into_rows() -> None:
    looks = 0

    class Noted(dict[bytes, tuple[int, ...]]):
        def items(self) -> Any:
            nonlocal looks
            looks += 1
            return super().items()

    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        for day in range(3):
            book.see(NOW_S + day * DAY_S)
            book.add([(1, 1000 + one, 1, 10, 0, 0) for one in range(4)], NOW_S + day * DAY_S)
        await book.keep()
        book.begin_fold()
        take = book._counted.take
        book._counted.take = lambda at_most: Noted(take(at_most))  # type: ignore[method-assign]
        await book.days.part(500)
        before, days = looks, range(TODAY - 100, TODAY + 3)
        keys = [day_key(1, day, ALL) for day in days]
        totals = [book.days.total(key, None) for key in keys]
        assert [total[0] for total in totals] == [0] * 100 + [4] * 3
        assert looks == before
        await book.write()
        assert [rows_of(upper.store)[1, day, ALL][0] for day in days[-3:]] == [4] * 3

    run(body)
