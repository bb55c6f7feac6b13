"""The month: what was used, what that leaves, its turn, its plan, and what a restart finds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from broker.accounts import usage as usage_module
from broker.accounts.records import UsedInMonth
from broker.accounts.usage import UsageBook, month_of
from broker.errors import Unavailable
from broker.storage.tables import USAGE, number_key
from tests.upper import NOW_S, Upper

Body = Callable[[Upper], Awaitable[None]]

MESSAGES, BYTES = 10_000_000, 100 * 10**9  # of plan `professional`
FREE = (1_000_000, 10 * 10**9)
SECOND_OF_NOVEMBER = int(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp())  # its last
DECEMBER = SECOND_OF_NOVEMBER + 1


def run(body: Body) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(upper)

    asyncio.run(whole())


def used(book: UsageBook, account_id: int = 1) -> tuple[int, int]:
    return book.of(account_id).messages, book.of(account_id).bytes


def test_both_directions_of_all_principals_count() -> None:
    async def body(upper: Upper) -> None:
        upper.directory.usage.add([(1, 7, 10, 1000, 1, 50), (1, None, 1, 5, 0, 0)], NOW_S)
        assert used(upper.directory.usage) == (12, 1055)

    run(body)


def test_a_new_month_gives_back_what_was_used_in_the_last_and_nothing_that_was_counted_since() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([upper.core.count(1, 12, 1055)], SECOND_OF_NOVEMBER)
        upper.core.count(1, 3, 30)  # not taken yet when the month ends
        book.add([], SECOND_OF_NOVEMBER)
        assert used(book) == (12, 1055)
        book.add([], DECEMBER)
        assert used(book) == (0, 0)
        assert upper.core.quotas[1] == (MESSAGES - 3, BYTES - 30)
        book.add([(1, None, 3, 30, 0, 0)], DECEMBER)
        assert used(book) == (3, 30)

    run(body)


def test_a_new_plan_forgets_neither_what_was_used_nor_what_was_not_taken_yet() -> None:
    async def body(upper: Upper) -> None:
        upper.directory.usage.add([upper.core.count(1, 12, 1055)], NOW_S)
        upper.core.count(1, 3, 30)
        await upper.admin.operator.set_plan("default", "free")
        assert upper.core.quotas[1] == (FREE[0] - 15, FREE[1] - 1085)
        await upper.admin.operator.set_suspended("default", True)  # the same plan again changes nothing
        assert upper.core.quotas[1] == (FREE[0] - 15, FREE[1] - 1085)
        await upper.admin.operator.set_plan("default", "professional")
        assert upper.core.quotas[1] == (MESSAGES - 15, BYTES - 1085)

    run(body)


def test_what_was_written_is_there_after_a_crash_and_what_was_not_is_not_counted() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([upper.core.count(1, 12, 1055)], NOW_S)
        await book.write()
        book.add([upper.core.count(1, 5, 50)], NOW_S)
        found = upper.restart()
        assert used(found.directory.usage) == (12, 1055)
        assert found.core.quotas[1] == (MESSAGES - 12, BYTES - 1055)
        found.directory.usage.add([], NOW_S)  # the same month
        assert used(found.directory.usage) == (12, 1055)
        found.directory.usage.add([found.core.count(1, 1, 1)], NOW_S)
        await found.directory.usage.write()
        assert used(found.restart().directory.usage) == (13, 1056)

    run(body)


def test_a_restart_in_another_month_finds_whole_quotas() -> None:
    async def body(upper: Upper) -> None:
        upper.directory.usage.add([upper.core.count(1, 12, 1055)], SECOND_OF_NOVEMBER)
        await upper.directory.usage.write()
        found = upper.restart()
        found.directory.usage.add([], DECEMBER)
        assert used(found.directory.usage) == (0, 0)
        assert found.core.quotas[1] == (MESSAGES, BYTES)
        await found.directory.usage.write()
        assert found.store.load(USAGE) == []  # nothing of a month that has ended is kept
        again = found.restart()
        again.directory.usage.add([], DECEMBER)
        assert again.core.quotas[1] == (MESSAGES, BYTES)

    run(body)


def test_the_month_turns_on_disk_as_well() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([upper.core.count(1, 12, 1055)], SECOND_OF_NOVEMBER)
        await book.write()
        book.add([], DECEMBER)
        book.add([upper.core.count(1, 2, 20)], DECEMBER)
        await book.write()
        assert used(upper.restart().directory.usage) == (2, 20)

    run(body)


def test_a_clock_that_is_set_back_or_starts_at_1970_begins_no_month() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([upper.core.count(1, 12, 1055)], DECEMBER)
        book.add([], SECOND_OF_NOVEMBER)
        book.add([], DECEMBER)
        assert used(book) == (12, 1055)
        await book.write()
        found = upper.restart()
        found.directory.usage.add([], 1000)  # no battery
        found.directory.usage.add([], DECEMBER + 5)
        assert used(found.directory.usage) == (12, 1055)
        assert found.core.quotas[1] == (MESSAGES - 12, BYTES - 1055)

    run(body)


def test_a_clock_that_was_years_ahead_does_not_stop_the_months() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([upper.core.count(1, 12, 1055)], DECEMBER + 5 * 366 * 24 * 3600)
        book.add([], SECOND_OF_NOVEMBER)
        assert used(book) == (12, 1055)
        book.add([], DECEMBER)
        assert used(book) == (0, 0)
        book.add([upper.core.count(1, 2, 20)], DECEMBER)
        await book.write()
        found = upper.restart()
        found.directory.usage.add([], DECEMBER)
        assert used(found.directory.usage) == (2, 20)

    run(body)


def test_a_failing_disk_loses_no_count_and_the_next_write_has_them_all() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([upper.core.count(1, 12, 1055)], NOW_S)
        upper.store.fail(OSError("no space left"))
        with pytest.raises(Unavailable):
            await book.write()
        upper.store.fail(None)
        book.add([upper.core.count(1, 1, 1)], NOW_S)
        await book.write()
        assert used(upper.restart().directory.usage) == (13, 1056)

    run(body)


def test_many_accounts_are_written_in_parts_and_only_those_that_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "WRITTEN_AT_ONCE", 2)

    async def body(upper: Upper) -> None:
        for number in range(2, 6):
            await upper.admin.operator.create_account(f"account {number}", "free")
        book = upper.directory.usage
        book.add([upper.core.count(number, number, 10 * number) for number in range(1, 6)], NOW_S)
        before = upper.store.figures()["commits"]
        await book.write()
        assert upper.store.figures()["commits"] == before + 1 + 3 + 3  # counts, months, rows of days
        await book.write()
        assert upper.store.figures()["commits"] == before + 1 + 3 + 3
        book.add([upper.core.count(4, 1, 1)], NOW_S)
        await book.write()
        assert upper.store.figures()["commits"] == before + 7 + 1 + 1 + 1
        found = upper.restart().directory.usage
        assert used(found, 4) == (5, 41)
        assert [used(found, number) for number in (1, 2, 3, 5)] == [(n, 10 * n) for n in (1, 2, 3, 5)]

    run(body)


def test_who_is_no_account_of_the_directory_is_counted_and_not_stored() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.usage
        book.add([(0, 0, 7, 70, 0, 0)], SECOND_OF_NOVEMBER)  # an open listener's
        assert used(book, 0) == (7, 70)
        await book.write()
        assert upper.store.load(USAGE) == []
        book.add([], DECEMBER)
        assert used(book, 0) == (0, 0)

    run(body)


def test_a_stored_record_is_what_it_was_when_it_was_first_written() -> None:
    async def body(upper: Upper) -> None:
        upper.directory.usage.add([(1, None, 3, 30, 0, 0)], NOW_S)
        await upper.directory.usage.write()
        assert upper.store.load(USAGE) == [(number_key(1), bytes.fromhex("96 01 cd5ef6 03 1e 00 01"))]
        assert UsedInMonth.decode(bytes.fromhex("95 01 cd5ef6 03 1e 05")) == UsedInMonth(month_of(NOW_S), 3, 30, 5)
        # And before the last record of counts was named, and before there were warnings.
        assert UsedInMonth.decode(bytes.fromhex("96 01 cd5ef6 03 1e 05 07")) == UsedInMonth(
            month_of(NOW_S), 3, 30, 5, 7
        )
        assert UsedInMonth.decode(bytes.fromhex("94 01 cd5ef6 03 1e")) == UsedInMonth(month_of(NOW_S), 3, 30)

    run(body)
