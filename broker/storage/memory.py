"""A store in memory that tests make delay, fail and lose on command; also for brokers that promise nothing.

Here belongs nothing that a durable store would not promise as well, besides the commands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from broker.errors import StoreError
from broker.ports import Change, CommitCallback, StoreFigures
from broker.storage.tables import TABLES, check_change

log = logging.getLogger(__name__)


class MemoryStore:
    """Implements ``ports.Store``; each ticket is answered in the loop's next round.

    Without a running event loop, or after ``delay()``, tickets wait until ``release()``, which answers them at once.
    """

    def __init__(self, committed: Mapping[str, Mapping[bytes, bytes]] | None = None) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {name: {} for name in TABLES}
        for name, entries in (committed or {}).items():
            self._tables[name].update(entries)
        self._waiting: list[tuple[int, Sequence[Change], CommitCallback]] = []
        self._delayed = False
        self._error: BaseException | None = None
        self._alive = True
        self._closed = False
        self._figures = StoreFigures(commits=0, failed_commits=0, changes=0, busy_ns=0, waiting=0)

    @property
    def waiting(self) -> int:
        """How many tickets are not answered yet."""
        return len(self._waiting)

    def load(self, table: str) -> list[tuple[bytes, bytes]]:
        """All committed entries of a table in key order."""
        return sorted(self._tables[table].items())

    def submit(self, ticket: int, changes: Sequence[Change], on_committed: CommitCallback) -> None:
        """Take changes for the next commit; the answer never comes inside this call."""
        self._waiting.append((ticket, changes, on_committed))
        if not self._delayed:
            self._answer_soon()

    def figures(self) -> StoreFigures:
        """Tell what was done since the start; nothing here takes time."""
        return {**self._figures, "waiting": self.waiting}

    async def close(self) -> None:
        """Commit what was submitted and answer its tickets; later ones are answered with an error."""
        self.release()
        self._closed = True

    def delay(self) -> None:
        """Hold every answer, and its commit, from now on."""
        self._delayed = True

    def release(self) -> None:
        """Commit and answer all that waits, now, in order, and hold nothing any more."""
        self._delayed = False
        self._drain()

    def fail(self, error: BaseException | None) -> None:
        """Let every commit from now on fail with ``error``; None ends it."""
        self._error = error

    def lose(self) -> MemoryStore:
        """Crash: what was not committed is gone and never answered; returns the store that a restart would open."""
        self._alive = False
        self._waiting.clear()
        return MemoryStore(self._tables)

    def _answer_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        loop.call_soon(self._drain_unless_delayed)

    def _drain_unless_delayed(self) -> None:
        if not self._delayed:
            self._drain()

    def _drain(self) -> None:
        while self._waiting and self._alive:
            ticket, changes, on_committed = self._waiting.pop(0)
            error = self._commit(changes)
            self._count(changes, error)
            try:
                on_committed(ticket, error)
            except Exception:
                log.exception("store: the owner of ticket %d failed on its answer", ticket)

    def _count(self, changes: Sequence[Change], error: BaseException | None) -> None:
        if error is None:
            self._figures["commits"] += 1
            self._figures["changes"] += len(changes)
        else:
            self._figures["failed_commits"] += 1

    def _commit(self, changes: Sequence[Change]) -> BaseException | None:
        if self._closed:
            return StoreError("the store is closed")
        if self._error is not None:
            return self._error
        for change in changes:
            wrong = check_change(change.table, change.key)
            if wrong:
                return StoreError(wrong)
        for change in changes:
            if change.value is None:
                self._tables[change.table].pop(change.key, None)
            else:
                self._tables[change.table][change.key] = change.value
        return None
