"""What has happened to each device, the newest entries of it, on disk.

Here belong the entries of a device: noted, put together where they are the same again, written a moment later, read.
Not here: sentences (``timeline_words``), where events come from (``telling``, and whoever refuses a login).

A device has two records: ``RECENT_ENTRIES`` that are written anew with each event, and behind them the older ones, so
that a fleet that comes back writes little. In memory is only what is not on disk yet. A crash loses what was noted in
the last second or so. Whoever takes part in a commit whose fate nobody knows has a token in the record, so that it is
never taken in twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

from broker.accounts.ledger import Ledger, nothing
from broker.accounts.timeline_records import (
    KEPT_ENTRIES,
    RECENT_ENTRIES,
    Entry,
    Recent,
    decode_older,
    decode_recent,
    encode_older,
    encode_recent,
    older_key,
    recent_key,
)
from broker.errors import StoreError
from broker.ports import Change
from broker.storage.tables import TIMELINE

log = logging.getLogger(__name__)

SAME_WITHIN_MS = 3_600_000  # what happens again within an hour is counted, and no entry of its own
WAITING_ENTRIES = 16  # of one device, until they are written
WAITING_DEVICES = 100_000
WRITTEN_AT_ONCE = 100  # devices in one commit
SLICE_DEVICES = 25  # brought into a part between two turns of the loop


@dataclass(slots=True)
class _Waiting:
    """Entries of one device that are not on disk, oldest first; ``token`` once they take part in a commit."""

    entries: list[Entry] = field(default_factory=list)
    token: int = 0


class TimelineBook:
    """The timelines of all devices; ``is_there`` tells whether a number is one's that is not being removed.

    ``wall_ms`` is milliseconds of UTC.
    """

    def __init__(self, ledger: Ledger, is_there: Callable[[int], bool], wall_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self._is_there = is_there
        self._wall_ms = wall_ms
        self._waiting: dict[int, _Waiting] = {}
        self._unsettled: dict[int, _Waiting] = {}  # in a commit whose end is not known
        self._writing = asyncio.Lock()
        self._tokens = count(secrets.randbits(60) + 1)
        self._lost = 0

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to be written."""
        return bool(self._waiting or self._unsettled)

    def figures(self) -> dict[str, int]:
        """Tell how many devices have entries that are not on disk, and how many entries found no room."""
        return {"waiting": len(self._waiting) + len(self._unsettled), "lost": self._lost}

    def note(self, device_number: int, *entries: Entry) -> None:
        """Take entries of a device; what exists no more is passed over."""
        if not self._is_there(device_number):
            return
        waiting = self._waiting.get(device_number)
        if waiting is None:
            if len(self._waiting) >= WAITING_DEVICES:
                self._lost += len(entries)
                return
            waiting = self._waiting[device_number] = _Waiting()
        for entry in entries:
            waiting.entries = merged(waiting.entries, entry)
        if len(waiting.entries) > WAITING_ENTRIES:
            self._lost += len(waiting.entries) - WAITING_ENTRIES
            waiting.entries = waiting.entries[-WAITING_ENTRIES:]

    def note_now(self, device_number: int, code: str, *, address: str = "", protocol: str = "") -> None:
        """Take an entry of this moment."""
        now_ms = self._wall_ms()
        self.note(device_number, Entry(code, now_ms, now_ms, address=address, protocol=protocol))

    def forget(self, device_number: int) -> None:
        """Forget a device that was removed."""
        self._waiting.pop(device_number, None)
        self._unsettled.pop(device_number, None)

    @staticmethod
    def records(device_number: int) -> list[tuple[str, bytes]]:
        """Give the table and the keys of what there may be of a device on disk."""
        return [(TIMELINE, recent_key(device_number)), (TIMELINE, older_key(device_number))]

    async def read(self, device_number: int, limit: int, before: int | None = None) -> tuple[list[Entry], bool]:
        """Give up to ``limit`` entries, the newest first, and whether there are more; ``before`` an entry's number.

        Also what is not on disk yet. Raises ``Unavailable`` where the disk cannot be read.
        """
        async with self._writing:
            waiting = [self._unsettled.get(device_number), self._waiting.get(device_number)]
            keys = [recent_key(device_number), older_key(device_number)]
            recent, older = await self._ledger.read(TIMELINE, keys)
        state = _readable(recent)
        entries = [*_readable_older(older), *taken_in(state, [one for one in waiting if one is not None]).entries]
        kept = [one for one in entries[-KEPT_ENTRIES:] if before is None or one.number < before]
        found = kept[::-1][:limit]
        return found, len(kept) > len(found)

    # ------------------------------------------------------------ writing

    async def write(self) -> None:
        """Write what has been noted until now.

        Raises ``Unavailable``; what could not be written is kept.
        """
        async with self._writing:
            left = len(self._waiting)
            while self._unsettled or left > 0:
                left -= WRITTEN_AT_ONCE
                await self._write_part()

    async def _write_part(self) -> None:
        if not self._unsettled:
            for number in list(islice(self._waiting, WRITTEN_AT_ONCE)):
                waiting = self._unsettled[number] = self._waiting.pop(number)
                waiting.token = next(self._tokens)
        numbers = list(self._unsettled)
        states = await self._ledger.read(TIMELINE, [recent_key(number) for number in numbers])
        full = []
        ready: dict[int, Recent] = {}
        for place, (number, value) in enumerate(zip(numbers, states, strict=True), 1):
            part = self._unsettled.get(number)
            if part is not None:  # else it was removed meanwhile
                ready[number] = taken_in(_readable(value), [part])
                if len(ready[number].entries) > RECENT_ENTRIES:
                    full.append(number)
            if place % SLICE_DEVICES == 0:
                await asyncio.sleep(0)
        older = await self._ledger.read(TIMELINE, [older_key(number) for number in full]) if full else ()
        await self._commit(ready, dict(zip(full, older, strict=True)))
        self._unsettled = {}

    async def _commit(self, ready: dict[int, Recent], older: dict[int, bytes | None]) -> None:
        changes = []
        for number, state in ready.items():
            if not self._is_there(number):  # its removal is on its way to disk
                continue
            kept = state
            if number in older:
                entries = [*_readable_older(older[number]), *state.entries][-KEPT_ENTRIES:]
                changes.append(Change(TIMELINE, older_key(number), encode_older(entries)))
                kept = replace(state, entries=())
            changes.append(Change(TIMELINE, recent_key(number), encode_recent(kept)))
        if changes:
            await self._ledger.commit(changes, nothing)


def merged(entries: Sequence[Entry], entry: Entry) -> list[Entry]:
    """Give entries, oldest first, with one more: put together with one that says the same, if it is not long ago."""
    for place, one in enumerate(entries):
        if one.says_the_same(entry) and -SAME_WITHIN_MS < entry.first_ms - one.last_ms < SAME_WITHIN_MS:
            both = replace(
                entry,
                first_ms=min(one.first_ms, entry.first_ms),
                last_ms=max(one.last_ms, entry.last_ms),
                count=one.count + entry.count,
            )
            return [*entries[:place], *entries[place + 1 :], both]
    return [*entries, entry]


def taken_in(state: Recent, parts: Iterable[_Waiting]) -> Recent:
    """Give the recent entries with what waits, unless they have it; each that is new or has changed has a number."""
    entries, number, token = list(state.entries), state.next_number, state.token
    for part in parts:
        if part.token and part.token == state.token:
            continue
        for entry in sorted(part.entries, key=lambda one: one.last_ms):
            entries = merged(entries, replace(entry, number=number))
            number += 1
        token = part.token or token
    return Recent(number, token, tuple(entries))


def _readable(value: bytes | None) -> Recent:
    try:
        return Recent() if value is None else decode_recent(value)
    except StoreError as error:
        log.error("a record of a timeline is passed over: %s", error)
        return Recent()


def _readable_older(value: bytes | None) -> Sequence[Entry]:
    try:
        return () if value is None else decode_older(value)
    except StoreError as error:
        log.error("a record of a timeline is passed over: %s", error)
        return ()
