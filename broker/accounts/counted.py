"""What was counted and is not in its row of a day yet: on disk second by second, in memory as sums.

Here belong the records of this journal, their numbers, and which of them are done with. Not here: rows of days
(``days``), months (``usage``), and when anything is written (``counting``).

Sums gather in one ``Tally`` while those of the one before it are brought into their rows, in the order of their keys.
A commit that holds some of these rows says up to which key that was done (``Brought``), so that after a crash each sum
is brought exactly once: records up to its number are added again but for those keys, later ones as a whole. When all
of a tally is in its rows, its records go, before the next one is brought. The newest record stays, so that no number
is given twice.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from typing import Final, Self

from broker._core.tally import packed_accounts
from broker.accounts.gathered import NO_KEY, Gathered
from broker.accounts.ledger import Ledger
from broker.errors import StoreError
from broker.ports import Change, UsageRow
from broker.storage.tables import COUNTED, long_key

log = logging.getLogger(__name__)

VERSION = 1
RECORD_SUMS = 5000  # at most, in one record: some 60 KB, packed in a fraction of a millisecond
ORDERED_AT_ONCE = 2000
REMOVED_AT_ONCE = 500

BROUGHT_KEY: Final = long_key(0)
LAST_KEY: Final = b"\xff" * len(NO_KEY)

_CRC = struct.Struct("<I")
_COUNTS = struct.Struct("<BIII")
_BROUGHT = struct.Struct("<BQ12s")


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted in a second or so: ``sums`` of them, packed by a ``Tally``, all of one month and one day."""

    month: int
    day: int
    sums: int
    packed: bytes

    def encode(self) -> bytes:
        """Bytes for the store."""
        return _checked(_COUNTS.pack(VERSION, self.month, self.day, self.sums) + self.packed)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read what ``encode`` wrote, but for the sums. Raises ``StoreError`` for anything else."""
        body = _whole(value, _COUNTS.size)
        _, month, day, sums = _COUNTS.unpack_from(body)
        return cls(month, day, sums, body[_COUNTS.size :])

    def by_account(self) -> dict[int, tuple[int, int]]:
        """Messages and bytes of each account. Raises ``StoreError`` where the sums are none."""
        try:
            return packed_accounts(self.packed, self.sums)
        except ValueError as error:
            raise StoreError(f"a damaged record of counts: {error}") from error


@dataclass(frozen=True, slots=True)
class Brought:
    """What is in rows of days: of records up to ``number`` all that has a key up to ``key``."""

    number: int = 0
    key: bytes = NO_KEY

    def encode(self) -> bytes:
        """Bytes for the store."""
        return _checked(_BROUGHT.pack(VERSION, self.number, self.key))

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read what ``encode`` wrote. Raises ``StoreError`` for anything else."""
        body = _whole(value, _BROUGHT.size)
        if len(body) != _BROUGHT.size:
            raise StoreError("a damaged record of counts: it has another length")
        _, number, key = _BROUGHT.unpack(body)
        return cls(number, key)


def _checked(body: bytes) -> bytes:
    return _CRC.pack(zlib.crc32(body)) + body


def _whole(value: bytes, least: int) -> bytes:
    body = value[_CRC.size :]
    if len(body) < least or _CRC.unpack_from(value)[0] != zlib.crc32(body):
        raise StoreError("a damaged record of counts: its checksum is wrong")
    if body[0] != VERSION:
        raise StoreError(f"a record of counts of version {body[0]}: this broker is too old for its store")
    return body


class Counted:
    """The counts of all accounts. One writer at a time: ``changes``, commit, ``settled``."""

    def __init__(self, ledger: Ledger, is_application: Callable[[int], bool]) -> None:
        """``is_application`` tells principals that are no devices."""
        self._ledger = ledger
        self._is_application = is_application
        self._open = Gathered()
        self._closed: Gathered | None = None  # what is being brought into rows
        self._closed_number = 0  # its last record
        self._brought: Brought | None = None  # as the start has found it, or as it was written first
        self._first = Brought()  # what is written where there is none
        self._period = 0, 0  # the month and the day of what is fresh
        self._given = 0  # the highest number
        self._numbers: deque[int] = deque()  # of records that are on disk, or on their way
        self._gone_number = 0  # up to it all is in rows
        self._waiting: list[Change] = []  # whether they are on disk is not known
        self._going: list[int] = []

    # ------------------------------------------------------------ start

    def load(self) -> Iterator[tuple[int, Counts]]:
        """Read all of it, once; gives each whole record with its number, oldest first."""
        for key, value in self._ledger.scan(COUNTED):
            number = int.from_bytes(key, "big")
            try:
                if number == 0:
                    self._brought = Brought.decode(value)
                    self.skip_to(self._brought.number)
                    continue
                counts = self._take_record(number, value)
            except StoreError as error:
                log.error("a record of what was counted is passed over: %s", error)
                continue
            yield number, counts
        if self._brought is None:  # what was passed over for that stays so
            self._first = Brought(self._given, LAST_KEY)
        if self._closed is None:
            self._gone_number = (self._brought or self._first).number
        else:
            self._closed.recount()

    def _take_record(self, number: int, value: bytes) -> Counts:
        self._given = max(self._given, number)
        self._numbers.append(number)
        if self._brought is None:
            raise StoreError("which counts are in the rows of days already is not on record")
        counts, into, behind = Counts.decode(value), self._open, NO_KEY
        if number <= self._brought.number:
            into, behind = self._closed or Gathered(), self._brought.key
        into.unpack(counts.packed, counts.sums, counts.day, behind)
        if into is not self._open and len(into):
            self._closed, self._closed_number = into, self._brought.number
        return counts

    def skip_to(self, number: int) -> None:
        """Give none of the numbers up to this one: somebody has named it."""
        self._given = max(self._given, number)

    # ------------------------------------------------------------ counting

    @property
    def number(self) -> int:
        """The last number that was given."""
        return self._given

    @property
    def is_known(self) -> bool:
        """Whether all that was added is on disk."""
        return not self._open.tally.has_fresh and not self._waiting

    def add(
        self,
        rows: Sequence[UsageRow],
        sums: Mapping[int, tuple[int, int, int, int]],
        month: int,
        day: int,
        accounts: Container[int],
    ) -> None:
        """Take what was counted until now for these accounts, of whatever account the other rows and sums are."""
        self._turn(month, day)
        self._open.add(rows, sums, day, accounts, self._is_application)

    def note_peak(self, account_id: int, month: int, day: int, connections: int) -> None:
        """Take how many connections an account has had at once on a day, until now."""
        self._turn(month, day)
        self._open.tally.note_peak(account_id, day, connections)

    def _turn(self, month: int, day: int) -> None:
        """Let no record hold counts of two days."""
        if (month, day) != self._period:
            self.pack_all()
            self._period = month, day

    # ------------------------------------------------------------ the journal

    def pack(self) -> bool:
        """Make a record of what was counted since the last one, or of a part of it; False when there is no more."""
        sums, packed = self._open.tally.pack(RECORD_SUMS)
        if sums:
            self._put(Counts(*self._period, sums, packed))
        return self._open.tally.has_fresh

    def begin_month(self, month: int) -> None:
        """Make records of what was counted in the last month, and one that says that another has begun."""
        self.pack_all()
        self._put(Counts(month, self._period[1], 0, b""))

    def _put(self, counts: Counts) -> None:
        self._given += 1
        self._numbers.append(self._given)
        self._waiting.append(Change(COUNTED, long_key(self._given), counts.encode()))

    def pack_all(self) -> None:
        """Make records of all that was counted."""
        while self.pack():
            pass

    @property
    def waits(self) -> bool:
        """Whether there are records of which nobody knows that they are on disk."""
        return bool(self._waiting)

    def changes(self) -> list[Change]:
        """Give all records that wait, and the ends of some that are done with."""
        self._going = [*takewhile(lambda number: number < self._end, islice(self._numbers, REMOVED_AT_ONCE))]
        first = [] if self._brought else [Change(COUNTED, BROUGHT_KEY, self._first.encode())]
        ends = [Change(COUNTED, long_key(number), None) for number in self._going]
        return [*(first if self._waiting or ends else ()), *self._waiting, *ends]

    @property
    def _end(self) -> int:
        """The first number that is not done with."""
        return min(self._gone_number + 1, self._numbers[-1]) if self._numbers else 0  # the newest one stays

    @property
    def has_ends(self) -> bool:
        """Whether ``changes`` has more ends to give: records that are done with, and on disk for all that is known."""
        return bool(self._numbers) and self._numbers[0] < self._end

    def settled(self, changes: Sequence[Change]) -> None:
        """These, which ``changes`` gave, are on disk."""
        del self._waiting[: sum(value is not None and key != BROUGHT_KEY for _, key, value in changes)]
        if changes and self._brought is None:
            self._brought = self._first
        for _ in self._going:
            self._numbers.popleft()
        self._going = []

    # ------------------------------------------------------------ on the way into rows

    @property
    def to_bring(self) -> int:
        """How many sums of what is being brought into rows are left."""
        return 0 if self._closed is None else len(self._closed)

    def close(self) -> bool:
        """Begin to bring what was counted until now into rows; False while that is under way, or with nothing there.

        All of it has to be known to be on disk, and no record any more of what was brought before: ``mark`` knows them
        apart by nothing but their keys.
        """
        if self._closed is not None or self.has_ends or not self.is_known or not len(self._open):
            return False
        self._closed, self._closed_number = self._open, self._given
        self._open = Gathered()
        return True

    def order(self) -> bool:
        """Put some of it in order, so that ``take`` can be asked; True when that is done."""
        return self._closed is None or self._closed.tally.order(ORDERED_AT_ONCE)

    def take(self, at_most: int) -> dict[bytes, tuple[int, ...]]:
        """Take the next sums, by their keys; they are with whoever has taken them until they are ``brought``."""
        return {} if self._closed is None else self._closed.take(at_most)

    def mark(self, key: bytes) -> Change:
        """Say what is brought with the commit that this goes into: all up to a key."""
        return Change(COUNTED, BROUGHT_KEY, Brought(self._closed_number, key).encode())

    def brought(self) -> None:
        """All that was taken is in rows on disk."""
        if self._closed is not None and not len(self._closed):
            self._closed, self._gone_number = None, self._closed_number

    # ------------------------------------------------------------ what is in no row yet, and was not taken

    def of_row(self, key: bytes) -> list[tuple[int, ...]]:
        """Give what there is for a row, by its key; of a total, the highest peaks, each in the first place."""
        return [counted for one in self._parts() if (counted := one.tally.get(key)) is not None]

    def of_total(self, account_and_day: bytes) -> tuple[int, int]:
        """Give messages and bytes of an account on a day, by the first eight bytes of its keys."""
        messages, size = zip(*(one.total(account_and_day) for one in self._parts()), strict=True)
        return sum(messages), sum(size)

    def keys_of(self, account_id: int) -> Iterator[bytes]:
        """Give the keys of rows of an account for which there is something, some of them twice."""
        return chain.from_iterable([one.keys_of(account_id) for one in self._parts()])

    def _parts(self) -> list[Gathered]:
        return [self._open] if self._closed is None else [self._open, self._closed]
