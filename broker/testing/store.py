"""A store whose disk is full on command.

Here belongs the wrapper around any store. Not here: what is stored.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from broker.errors import StoreError
from broker.ports import (
    CommitCallback,
    EntriesCallback,
    HealthCallback,
    PlainChange,
    ReadCallback,
    Store,
    StoreFigures,
    StoreHealth,
)

log = logging.getLogger(__name__)

NO_SPACE = os.strerror(errno.ENOSPC)


@dataclass(slots=True)
class _Pending:
    """One ticket, and its answer when there is one: tickets are answered in their order."""

    ticket: int
    on_committed: CommitCallback
    answered: bool = False
    error: BaseException | None = None


class FaultyStore:
    """Implements ``ports.Store`` over another one; while ``full`` is set nothing is committed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: deque[_Pending] = deque()
        self._full = False
        self._watchers: list[HealthCallback] = []
        self._store.watch(self._tell)
        self.refused = 0

    @property
    def full(self) -> bool:
        """Whether the disk is full; those who watch the store's health are told inside the assignment."""
        return self._full

    @full.setter
    def full(self, full: bool) -> None:
        if full is not self._full:
            self._full = full
            self._tell(self.health)

    @property
    def health(self) -> StoreHealth:
        """How the store behind is, or that the disk is full."""
        behind = self._store.health
        return replace(behind, state="failed", reason=NO_SPACE) if self._full else behind

    def watch(self, callback: HealthCallback) -> None:
        """Call back when the disk is full, when it no longer is, and when the store behind says something."""
        self._watchers.append(callback)

    def load(self, table: str) -> Sequence[tuple[bytes, bytes]]:
        """All committed entries of a table."""
        return self._store.load(table)

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Committed entries of a table."""
        return self._store.scan(table)

    def read(self, table: str, keys: Sequence[bytes], on_read: ReadCallback) -> None:
        """Read through: a full disk can be read."""
        self._store.read(table, keys, on_read)

    def read_range(self, table: str, first: bytes, end: bytes, at_most: int, on_read: EntriesCallback) -> None:
        """Read through, as ``read`` does."""
        self._store.read_range(table, first, end, at_most, on_read)

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        """Pass changes on, or let them fail as on a full disk."""
        pending = _Pending(ticket, on_committed)
        self._pending.append(pending)
        if self.full:
            self.refused += 1
            error = StoreError(f"the store cannot be written: {NO_SPACE}")
            asyncio.get_running_loop().call_soon(self._answer, pending, ticket, error)
        else:
            self._store.submit(ticket, changes, partial(self._answer, pending))

    def figures(self) -> StoreFigures:
        """Tell what was done since the start; commits that were refused have failed."""
        behind = self._store.figures()
        health = self.health
        return {
            **behind,
            "failed_commits": behind["failed_commits"] + self.refused,
            "healthy": int(health.state == "ok"),
            "state": health.state,
        }

    async def close(self) -> None:
        """Close the store behind."""
        await self._store.close()

    def _tell(self, _behind: StoreHealth) -> None:
        for watcher in self._watchers:
            watcher(self.health)

    def _answer(self, pending: _Pending, _ticket: int, error: BaseException | None) -> None:
        pending.answered = True
        pending.error = error
        while self._pending and self._pending[0].answered:
            first = self._pending.popleft()
            try:
                first.on_committed(first.ticket, first.error)
            except Exception:  # one bad callback does not silence the next
                log.exception("store: the owner of ticket %d failed on its answer", first.ticket)
