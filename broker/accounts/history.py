"""What is asked about past days and about today, read from disk in pages, with what is not there yet.

Here belongs adding up rows of days. Not here: how they get there (``days``), and how an answer looks (``admin``).
Nothing is kept between two questions; one account's questions about all of its devices are answered one after the
other, so that many of them take no more of the loop's time than one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from weakref import WeakValueDictionary

from broker.accounts.days import ALL, DEVICES_PLACE, OWN, PEAK_PLACE, DayBook, Figures
from broker.accounts.gathered import TOTAL_END
from broker.ports import Entries
from broker.storage.tables import day_key, day_key_parts

PAGE_ROWS = 300
TOP_DEVICES = 10
PARTS = 1024  # of the devices of one question: a table that grows holds the loop for as long as it is large
AT_ONCE = 1000  # devices that are looked at between two turns of the loop

Used = tuple[int, int]
"""Messages and bytes, both directions together."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day of an account, or of a device; ``active_devices`` have sent or received something on it."""

    day: int
    messages: int = 0
    bytes: int = 0
    active_devices: int = 0
    connections_peak: int = 0


@dataclass(frozen=True, slots=True)
class Period:
    """Days, newest first, how many devices were active in all, and those with most messages by their numbers."""

    days: Sequence[Day]
    active_devices: int
    top: Sequence[tuple[int, Used]]


class History:
    """Questions about accounts that exist; days are numbers since 1970. Raises ``Unavailable`` like the disk."""

    def __init__(self, days: DayBook) -> None:
        self._days = days
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def day(self, account_id: int, day: int) -> Day:
        """One day of an account; its devices are those that have rows on disk."""
        key = day_key(account_id, day, ALL)
        (value,) = await self._days.read([key])
        return _day(day, self._days.total(key, value))

    async def of_device(self, account_id: int, device_number: int, days: range) -> Period:
        """A period of one device."""
        keys = [day_key(account_id, day, device_number) for day in days]
        values = await self._days.read(keys)
        found_rows = zip(days, map(self._days.row, keys, values), strict=True)
        rows = {day: row for day, row in found_rows if row is not None}
        found = {day: _day(day, (*row, 1, 0)) for day, row in rows.items()}
        if not rows:
            return Period(_newest_first(days, {}), 0, [])
        used = _used(tuple(map(sum, zip(*rows.values(), strict=True))))
        return Period(_newest_first(days, found), 1, [(device_number, used)])

    async def of_account(self, account_id: int, days: range, exists: Callable[[int], bool]) -> Period:
        """A period of an account; among the top ones are devices that still exist."""
        adding = _Sum(self._days)
        async with self._locks.setdefault(account_id, asyncio.Lock()):
            unseen = await self._not_on_disk(account_id, days)
            async for page in self._pages(day_key(account_id, days.start, OWN), day_key(account_id, days.stop, OWN)):
                adding.take(page)
                unseen.difference_update(key for key, _ in page)
            await self._take_unseen(adding, unseen)
            active = adding.active_devices
            return Period(_newest_first(days, adding.days()), active, await adding.top(exists))

    async def _pages(self, first: bytes, end: bytes) -> AsyncIterator[Entries]:
        """Read a range in pages, with turns of the loop between them."""
        page = await self._days.read_range(first, end, PAGE_ROWS)
        while page:
            yield page
            page = await self._days.read_range(page[-1][0] + b"\0", end, PAGE_ROWS)

    async def _not_on_disk(self, account_id: int, days: range) -> set[bytes]:
        """Give keys of rows, and of their totals, that may not be on disk, as of now."""
        found: set[bytes] = set()
        for number, key in enumerate(self._days.keys_of(account_id), 1):
            if day_key_parts(key)[1] in days:
                found.update((key, key[:8] + TOTAL_END))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    async def _take_unseen(self, adding: _Sum, unseen: set[bytes]) -> None:
        """Add what no page had, in pages: some of it may have reached the disk behind them."""
        while unseen:
            keys = [unseen.pop() for _ in range(min(len(unseen), PAGE_ROWS))]
            adding.take([*zip(keys, await self._days.read(keys), strict=True)])


class _Sum:
    """Rows of an account, added up, as they are when they are taken."""

    def __init__(self, days: DayBook) -> None:
        self._days = days
        self._totals: dict[int, Figures] = {}
        self._active: Counter[int] = Counter()
        self.devices: dict[int, dict[int, Used]] = {}  # by part; one that nobody is in costs nothing

    @property
    def active_devices(self) -> int:
        """How many devices did something."""
        return sum(map(len, self.devices.values()))

    def take(self, page: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Add a page."""
        for key, value in page:
            _, day, number = day_key_parts(key)
            if number == ALL:
                self._totals[day] = self._days.total(key, value)
            elif number != OWN and (row := self._days.row(key, value)) is not None:
                self._active[day] += 1
                messages, size = _used(row)
                devices = self.devices.setdefault(number % PARTS, {})
                before = devices.get(number)
                devices[number] = (messages, size) if before is None else (before[0] + messages, before[1] + size)

    def days(self) -> dict[int, Day]:
        """Give the days that were taken, with the devices that have rows."""
        return {day: replace(_day(day, total), active_devices=self._active[day]) for day, total in self._totals.items()}

    async def top(self, exists: Callable[[int], bool]) -> list[tuple[int, Used]]:
        """Pick those with most messages, a part at a time, which is let go of then: to free them all takes long too."""
        found: list[tuple[int, Used]] = []
        looked_at = 0
        while self.devices:
            _, part = self.devices.popitem()
            found = nlargest(TOP_DEVICES, [*found, *(one for one in part.items() if exists(one[0]))], key=_rank)
            looked_at += len(part)
            del part
            if looked_at >= AT_ONCE:
                looked_at = 0
                await asyncio.sleep(0)
        return found


def _rank(one: tuple[int, Used]) -> tuple[Used, int]:
    return one[1], -one[0]


def _used(row: Figures) -> Used:
    return row[0] + row[2], row[1] + row[3]


def _day(day: int, total: Figures) -> Day:
    return Day(day, *_used(total), total[DEVICES_PLACE], total[PEAK_PLACE])


def _newest_first(days: range, found: Mapping[int, Day]) -> list[Day]:
    return [found.get(day) or Day(day) for day in reversed(days)]
