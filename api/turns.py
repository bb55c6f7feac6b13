"""Who may go on with long work, and when: one step of one request in each turn of the loop, fairly among accounts.

Here belongs taking turns. Not here: what the work is. MQTT shares the loop: a hundred requests that each do a
millisecond's work in a turn would hold it for a tenth of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SHORT_BYTES = 16 * 1024


class Turns:
    """Long work of an application, which lives in one loop."""

    def __init__(self) -> None:
        self._step = asyncio.Lock()
        self._of_account: dict[int, _Queue] = {}  # none that nobody waits in is kept

    @asynccontextmanager
    async def of(self, account_id: int) -> AsyncIterator[None]:
        """Do long work of an account: one request's after another's, so that many have no more of the loop than one."""
        queue = self._of_account.setdefault(account_id, _Queue())
        queue.inside += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.inside -= 1
            if not queue.inside:
                del self._of_account[account_id]

    async def between(self, size_bytes: int) -> None:
        """Let everybody else have a turn between two steps of work on so many bytes, if these are many."""
        if size_bytes > SHORT_BYTES:
            await self.next()

    async def next(self) -> None:
        """Let everybody else have a turn, and then nobody but the caller."""
        async with self._step:
            await asyncio.sleep(0)


class _Queue:
    """Requests of one account with long work; one goes on."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.inside = 0
