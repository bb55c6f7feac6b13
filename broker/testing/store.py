"""A store whose disk is full on command.

Here belongs the wrapper around any store. Not here: what is stored.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from broker.errors import StoreError
from broker.ports import Change, CommitCallback, Store, StoreFigures

log = logging.getLogger(__name__)


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
        self.full = False
        self.refused = 0

    def load(self, table: str) -> Sequence[tuple[bytes, bytes]]:
        """All committed entries of a table."""
        return self._store.load(table)

    def submit(self, ticket: int, changes: Sequence[Change], on_committed: CommitCallback) -> None:
        """Pass changes on, or let them fail as on a full disk."""
        pending = _Pending(ticket, on_committed)
        self._pending.append(pending)
        if self.full:
            self.refused += 1
            error = StoreError(f"the store cannot be written: {os.strerror(errno.ENOSPC)}")
            asyncio.get_running_loop().call_soon(self._answer, pending, ticket, error)
        else:
            self._store.submit(ticket, changes, partial(self._answer, pending))

    def figures(self) -> StoreFigures:
        """Tell what was done since the start; commits that were refused have failed."""
        behind = self._store.figures()
        return {**behind, "failed_commits": behind["failed_commits"] + self.refused}

    async def close(self) -> None:
        """Close the store behind."""
        await self._store.close()

    def _answer(self, pending: _Pending, _ticket: int, error: BaseException | None) -> None:
        pending.answered = True
        pending.error = error
        while self._pending and self._pending[0].answered:
            first = self._pending.popleft()
            try:
                first.on_committed(first.ticket, first.error)
            except Exception:  # one bad callback does not silence the next
                log.exception("store: the owner of ticket %d failed on its answer", first.ticket)
