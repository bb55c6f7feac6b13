"""What was counted on each UTC day: rows of devices and of accounts on disk.

Here belong the rows, how counts get into them, and their end after ``KEPT_DAYS``. Not here: what was counted and is in
no row yet (``counted``), when rows are written (``counting``), and what they are asked for (``history``).

A row is never more than was counted. It is made of what is on disk and what was counted since, and written as a whole
with its account's total of that day: a commit whose fate nobody knows is submitted again as it was, before anything
new. A device that is deleted leaves its rows behind until they are too old like all others: what an account did on a
day stays true, and no number is given twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import add
from typing import Final, TypeVar

import msgpack

from broker.accounts.counted import Counted
from broker.accounts.gathered import TOTAL_END
from broker.accounts.ledger import Ledger
from broker.errors import StoreError
from broker.ports import Change, Entries
from broker.storage.tables import DAILY, day_key

log = logging.getLogger(__name__)

DAY_S = 24 * 3600
KEPT_DAYS = 400

OWN = 0
"""In a device's place: what belongs to no device, but to the account itself (applications, messages over REST)."""
ALL = 2**32 - 1
"""In a device's place: the account's total of the day."""

VERSION = 1
DAY_FIGURES = 4
"""Of a row: PUBLISH packets and their bytes in, the same out."""
TOTAL_FIGURES = 6
"""Of a total, behind those: devices that were active, and the most connections at once."""
DEVICES_PLACE, PEAK_PLACE = 4, 5

NO_TOTAL: Final = (0,) * TOTAL_FIGURES

REMOVED_AT_ONCE = 500
SLICE_ROWS = 100  # brought into a part between two turns of the loop

_PACKER: Final = msgpack.Packer(autoreset=True)  # to make one takes longer than to pack a row

Figures = tuple[int, ...]
FoundT = TypeVar("FoundT")

_OWN_END = day_key(0, 0, OWN)[8:]


def day_of(wall_s: int) -> int:
    """Days (UTC) that had passed since 1970; none before it."""
    return max(wall_s, 0) // DAY_S


def encode_day(figures: Figures) -> bytes:
    """Bytes of a row for the store."""
    packed: bytes = _PACKER.pack((VERSION, *figures))
    return packed


def decode_day(value: bytes) -> Figures:
    """Read what ``encode_day`` wrote. Raises ``StoreError`` for anything else."""
    try:
        version, *figures = msgpack.unpackb(value, use_list=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise StoreError(f"a damaged record of a day: {error}") from error
    if version != VERSION:
        raise StoreError(f"a record of a day of version {version}: this broker is too old for its store")
    return tuple(figures)


class DayBook:
    """The days of all accounts. One writer at a time: ``part``, commit, ``settled``."""

    def __init__(self, ledger: Ledger, counted: Counted) -> None:
        self._ledger = ledger
        self._counted = counted
        self._taken: dict[bytes, Figures] = {}  # on the way into rows, by key; they are not ``_counted``'s any more
        self._taken_of: dict[bytes, list[tuple[bytes, Figures]]] = {}  # the same, by the key of their total
        self._unsettled: dict[bytes, Figures] = {}  # whole rows of those; whether they are on disk is not known
        self._parts = 0  # that were settled
        self._too_old: list[bytes] = []
        self._sweeping = 0  # the account that those are of
        self._to_sweep: deque[int] = deque()  # accounts that may have rows that are too old
        self._oldest = 0  # the first day that is kept

    @property
    def waiting(self) -> int:
        """How many counts are on their way into rows."""
        return len(self._taken) + self._counted.to_bring

    # ------------------------------------------------------------ writing

    async def part(self, at_most: int) -> list[Change]:
        """Give the next rows to be written, with their totals; the same ones until they are ``settled``.

        Raises ``Unavailable`` where what is on disk cannot be read.
        """
        is_ordered = self._counted.order()
        while not is_ordered:
            await asyncio.sleep(0)
            is_ordered = self._counted.order()
        if not self._taken:
            self._take(at_most)
        if not self._taken:
            return []
        if not self._unsettled:
            await self._fill()
        rows = [Change(DAILY, key, encode_day(row)) for key, row in self._unsettled.items()]
        return [*rows, self._counted.mark(next(reversed(self._taken)))]

    def _take(self, at_most: int) -> None:
        self._taken, self._taken_of = self._counted.take(at_most), {}
        for key, counted in self._taken.items():
            self._taken_of.setdefault(key[:8] + TOTAL_END, []).append((key, counted))

    def settled(self) -> None:
        """The part is on disk."""
        self._taken, self._taken_of, self._unsettled = {}, {}, {}
        self._parts += 1
        self._counted.brought()

    async def _fill(self) -> None:
        """Make whole rows of what was taken; whoever gives up on the way leaves it to be done once more."""
        counts = [one for one in self._taken.items() if not one[0].endswith(TOTAL_END)]
        totals = dict.fromkeys(self._taken_of, NO_TOTAL)
        found = await self._ledger.read(DAILY, [*totals, *(key for key, _ in counts)])
        rows: dict[bytes, Figures] = {}
        for number, ((key, counted), value) in enumerate(zip(counts, found[len(totals) :], strict=True), 1):
            before, total = readable_day(value, DAY_FIGURES), key[:8] + TOTAL_END
            is_new_device = before is None and not key.endswith(_OWN_END)
            totals[total] = _sum(totals[total], (*counted, int(is_new_device), 0))
            rows[key] = counted if before is None else _sum(before, counted)
            if number % SLICE_ROWS == 0:
                await asyncio.sleep(0)
        for (key, more), value in zip(totals.items(), found[: len(totals)], strict=True):
            row = _sum(readable_day(value, TOTAL_FIGURES) or NO_TOTAL, more)
            rows[key] = _with_peak(row, self._taken.get(key, (0,))[0])
        self._unsettled = rows

    # ------------------------------------------------------------ up to this moment

    async def read(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Read rows as they are on disk, for ``row`` and ``total``, before anything else is awaited."""
        return await self._steady(partial(self._ledger.read, DAILY, keys))

    async def read_range(self, first: bytes, end: bytes, at_most: int) -> Entries:
        """Read the first rows with ``first`` <= key < ``end`` in the same way."""
        return await self._steady(partial(self._ledger.read_range, DAILY, first, end, at_most))

    async def _steady(self, read: Callable[[], Awaitable[FoundT]]) -> FoundT:
        """Read until nothing is brought into rows meanwhile: it would be missing in what is there and in the rows."""
        while True:
            parts = self._parts
            found = await read()
            if parts == self._parts:
                return found

    def row(self, key: bytes, value: bytes | None) -> Figures | None:
        """Give a device's row with what was counted for it since; ``value`` is what is on disk."""
        known = self._unsettled.get(key)
        more = self._counted.of_row(key)
        if known is None:
            known = readable_day(value, DAY_FIGURES)
            more += [self._taken[key]] if key in self._taken else []
        for counted in more:
            known = counted if known is None else _sum(known, counted)
        return known

    def total(self, key: bytes, value: bytes | None) -> Figures:
        """Give an account's total in the same way; its devices are those that have rows."""
        known = self._unsettled.get(key)
        used = [self._counted.of_total(key[:8])]
        peaks = [counted[0] for counted in self._counted.of_row(key)]
        if known is None:
            known = readable_day(value, TOTAL_FIGURES) or NO_TOTAL
            for taken, counted in self._taken_of.get(key, ()):
                if taken == key:
                    peaks.append(counted[0])
                else:
                    used.append((counted[0] + counted[2], counted[1] + counted[3]))
        for messages, size in used:  # no direction is asked for in totals: all of it stands with what came in
            known = _sum(known, (messages, size, 0, 0, 0, 0))
        return _with_peak(known, max(peaks, default=0))

    def keys_of(self, account_id: int) -> Iterator[bytes]:
        """Give keys of rows of an account that may be more than they are on disk, or not there; some of them twice."""
        taken = (key for key in list(self._taken) if not key.endswith(TOTAL_END))
        mine = (key for key in taken if int.from_bytes(key[:4], "big") == account_id)
        return chain(mine, self._counted.keys_of(account_id))

    # ------------------------------------------------------------ what is too old

    def sweep(self, account_ids: Iterable[int], today: int) -> None:
        """Look through these accounts for days that are too old, a little with each write."""
        self._oldest = max(today - KEPT_DAYS + 1, 0)
        self._to_sweep = deque(account_ids)

    async def too_old(self) -> list[Change]:
        """Give some rows to be removed, of one account; ``swept`` when they are. Raises ``Unavailable``."""
        self._too_old = []
        if self._to_sweep:
            self._sweeping = self._to_sweep[0]
            first, end = day_key(self._sweeping, 0, 0), day_key(self._sweeping, self._oldest, 0)
            entries = await self._ledger.read_range(DAILY, first, end, REMOVED_AT_ONCE)
            self._too_old = [key for key, _ in entries]
        return [Change(DAILY, key, None) for key in self._too_old]

    def swept(self) -> None:
        """What was given is removed: go on with this account, or with the next one."""
        done = len(self._too_old) < REMOVED_AT_ONCE
        if done and self._to_sweep and self._to_sweep[0] == self._sweeping:
            self._to_sweep.popleft()


def _sum(one: Figures, other: Figures) -> Figures:
    return tuple(map(add, one, other))


def _with_peak(total: Figures, connections: int) -> Figures:
    return (*total[:PEAK_PLACE], max(total[PEAK_PLACE], connections))


def readable_day(value: bytes | None, figures: int) -> Figures | None:
    """Give a row of so many figures; None where there is none, or a damaged one.

    That one begins anew: it must neither keep others from being written nor a question from being answered.
    """
    if value is None:
        return None
    try:
        row = decode_day(value)
    except StoreError as error:
        log.error("a row of the table of days is passed over: %s", error)
        return None
    if len(row) == figures:
        return row
    log.error("a row of the table of days is passed over: it has %d figures, not %d", len(row), figures)
    return None
