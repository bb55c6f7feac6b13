"""A store in memory that tests make delay, fail and lose on command; also for brokers that promise nothing.

Here belongs nothing that a durable store would not promise as well, besides the commands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from broker.errors import StoreError
from broker.ports import (
    CommitCallback,
    Entries,
    EntriesCallback,
    HealthCallback,
    PlainChange,
    ReadCallback,
    StoreFigures,
    StoreHealth,
    StoreState,
    no_store_figures,
)
from broker.storage.tables import TABLES, check_change

log = logging.getLogger(__name__)

_CLOSED = "the store is closed"


@dataclass(slots=True)
class _Submit:
    """One ticket, and what became of it when its commit has been made before its answer."""

    ticket: int
    changes: Sequence[PlainChange]
    on_committed: CommitCallback
    settled: bool = False
    error: BaseException | None = None


class MemoryStore:
    """Implements ``ports.Store``; each ticket and each read is answered in the loop's next round.

    Without a running event loop, or after ``delay()``, both wait for a command: ``commit`` and ``answer`` take some
    tickets further, ``answer_reads`` some reads, ``release`` everything. ``budget_bytes`` bounds nothing: it is told.
    """

    def __init__(self, committed: Mapping[str, Mapping[bytes, bytes]] | None = None, *, budget_bytes: int = 0) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {name: {} for name in TABLES}
        for name, entries in (committed or {}).items():
            self._tables[name].update(entries)
        self._waiting: deque[_Submit] = deque()
        self._reads: deque[
            tuple[Callable[[], Sequence[Any]], Callable[[Sequence[Any], BaseException | None], None]]
        ] = deque()
        self._delayed = False
        self._error: BaseException | None = None
        self._failures_left = 0
        self._alive = True
        self._closed = False
        self._health = StoreHealth(budget_bytes=budget_bytes)
        self._watchers: list[HealthCallback] = []
        self._used_bytes = sum(len(key) + len(value) for rows in self._tables.values() for key, value in rows.items())
        self._figures = no_store_figures()

    # ------------------------------------------------------------ as every store

    @property
    def health(self) -> StoreHealth:
        """What ``set_health`` said, and the bytes of keys and values."""
        return replace(self._health, used_bytes=self._used_bytes)

    def watch(self, callback: HealthCallback) -> None:
        """Call back inside ``set_health``, when it changes something."""
        self._watchers.append(callback)

    def load(self, table: str) -> list[tuple[bytes, bytes]]:
        """All committed entries of a table in key order."""
        return sorted(self._rows(table).items())

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Committed entries of a table in key order, as they are now."""
        yield from self.load(table)

    def read(self, table: str, keys: Sequence[bytes], on_read: ReadCallback) -> None:
        """Answer with committed values, never inside this call; they are those of the moment of the answer."""
        self._reads.append((partial(self._values, table, keys), on_read))
        self._soon()

    def read_range(self, table: str, first: bytes, end: bytes, at_most: int, on_read: EntriesCallback) -> None:
        """Answer with committed entries, as ``read`` does."""
        self._reads.append((partial(self._range, table, first, end, at_most), on_read))
        self._soon()

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        """Take changes for the next commit; the answer never comes inside this call."""
        self._waiting.append(_Submit(ticket, changes, on_committed))
        self._soon()

    def figures(self) -> StoreFigures:
        """Tell what was done since the start; nothing here takes time."""
        return {
            **self._figures,
            "waiting": self.waiting,
            "healthy": int(self._health.state == "ok"),
            "state": self._health.state,
            "used_bytes": self._used_bytes,
            "budget_bytes": self._health.budget_bytes,
        }

    async def close(self) -> None:
        """Commit what was submitted and answer its tickets and reads; later ones are answered with an error."""
        self.release()
        self._closed = True

    # ------------------------------------------------------------ commands: hold, and take further

    @property
    def waiting(self) -> int:
        """How many tickets are not answered yet."""
        return len(self._waiting)

    @property
    def reads_waiting(self) -> int:
        """How many reads are not answered yet."""
        return len(self._reads)

    def delay(self) -> None:
        """Hold every answer, and its commit, from now on."""
        self._delayed = True

    def release(self) -> None:
        """Commit and answer all that waits, now, in order, and hold nothing any more."""
        self._delayed = False
        self.answer_reads()
        self.answer()

    def commit(self, count: int | None = None) -> int:
        """Make the first ``count`` waiting tickets (all) durable, or fail them, and answer none of them yet.

        A crash now finds them on disk though nobody was told. Returns how many were taken.
        """
        pending = [submit for submit in self._waiting if not submit.settled][:count]
        for submit in pending if self._alive else ():
            submit.error = self._commit(submit.changes)
            submit.settled = True
            self._count(submit)
        return len(pending)

    def answer(self, count: int | None = None) -> int:
        """Answer the first ``count`` waiting tickets (all that wait now), committed first where they are not yet."""
        done = 0
        while self._waiting and self._alive and (count is None or done < count):
            if not self._waiting[0].settled:
                self.commit(1)
            submit = self._waiting.popleft()
            done += 1
            try:
                submit.on_committed(submit.ticket, submit.error)
            except Exception:
                log.exception("store: the owner of ticket %d failed on its answer", submit.ticket)
        return done

    def answer_reads(self, count: int | None = None) -> int:
        """Answer the first ``count`` waiting reads (all that wait now) with what is committed; returns how many."""
        done = 0
        while self._reads and self._alive and (count is None or done < count):
            read, on_read = self._reads.popleft()
            done += 1
            try:
                on_read(*self._read(read))
            except Exception:
                log.exception("store: who asked for records failed on the answer")
        return done

    def drop_reads(self) -> None:
        """Never answer the reads that wait."""
        self._reads.clear()

    # ------------------------------------------------------------ commands: trouble

    def fail(self, error: BaseException | None, count: int = 0) -> None:
        """Let every commit from now on fail with ``error``, or the next ``count`` of them; None ends it."""
        self._error = error
        self._failures_left = count

    def set_health(self, state: StoreState, reason: str = "") -> None:
        """Say how the disk is, and tell those who watch; whether commits fail is what ``fail`` says."""
        if (state, reason) == (self._health.state, self._health.reason):
            return
        self._health = replace(self._health, state=state, reason=reason)
        for watcher in self._watchers:
            watcher(self.health)

    def lose(self) -> MemoryStore:
        """Crash: what was not committed is gone and never answered; returns the store that a restart would open."""
        self._alive = False
        self._waiting.clear()
        self._reads.clear()
        return MemoryStore(self._tables, budget_bytes=self._health.budget_bytes)

    # ------------------------------------------------------------ inside

    def _soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        loop.call_soon(self._drain_unless_delayed)

    def _drain_unless_delayed(self) -> None:
        if not self._delayed:
            self.answer_reads()
            self.answer()

    def _count(self, submit: _Submit) -> None:
        if submit.error is None:
            self._figures["commits"] += 1
            self._figures["changes"] += len(submit.changes)
        else:
            self._figures["failed_commits"] += 1

    def _rows(self, table: str) -> dict[bytes, bytes]:
        try:
            return self._tables[table]
        except KeyError:
            raise StoreError(f"there is no table {table!r}") from None

    def _read(self, read: Callable[[], Sequence[Any]]) -> tuple[Sequence[Any], BaseException | None]:
        if self._closed:
            return (), StoreError(_CLOSED)
        try:
            found = read()
        except StoreError as error:
            return (), error
        self._figures["reads"] += len(found)
        return found, None

    def _values(self, table: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        rows = self._rows(table)
        return [rows.get(key) for key in keys]

    def _range(self, table: str, first: bytes, end: bytes, at_most: int) -> Entries:
        rows = self._rows(table)
        return [(key, rows[key]) for key in sorted(key for key in rows if first <= key < end)[:at_most]]

    def _commit(self, changes: Sequence[PlainChange]) -> BaseException | None:
        if self._closed:
            return StoreError(_CLOSED)
        if (error := self._next_failure()) is not None:
            return error
        for table, key, _ in changes:
            wrong = check_change(table, key)
            if wrong:
                return StoreError(wrong)
        for change in changes:
            self._apply(*change)
        return None

    def _next_failure(self) -> BaseException | None:
        error = self._error
        if error is not None and self._failures_left:
            self._failures_left -= 1
            if not self._failures_left:
                self._error = None
        return error

    def _apply(self, table: str, key: bytes, value: bytes | None) -> None:
        rows = self._tables[table]
        before = rows.pop(key, None)
        if before is not None:
            self._used_bytes -= len(key) + len(before)
        if value is not None:
            rows[key] = value
            self._used_bytes += len(key) + len(value)
