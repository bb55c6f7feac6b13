"""Who waits for what becomes of a message: bounded, and let go when the broker stops.

Here belong waiting and its bounds. Not here: what becomes of messages (``broker.accounts.messages``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from broker.accounts.messages import SentMessage
from broker.errors import RateLimited

ACCOUNT_WAITERS_MAXIMUM = 50  # half of the requests that an account may have under way
WAITERS_MAXIMUM = 500  # half of all


class Awaited:
    """The callers that wait, by message."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._of_account: Counter[int] = Counter()

    @contextmanager
    def place(self, account_id: int) -> Iterator[None]:
        """Hold a place among those who may wait. Raises ``RateLimited`` where there is none."""
        if self._of_account[account_id] >= ACCOUNT_WAITERS_MAXIMUM or self._of_account.total() >= WAITERS_MAXIMUM:
            raise RateLimited("too many requests wait for answers of devices", retry_after_s=1)
        self._of_account[account_id] += 1
        try:
            yield
        finally:
            self._of_account[account_id] -= 1
            if not self._of_account[account_id]:
                del self._of_account[account_id]

    async def end_of(self, message: SentMessage, wait_s: float) -> None:
        """Return when a message is answered, or nothing more will become of it; after ``wait_s`` in any case."""
        record = message.record
        if record.answered_at or (record.ended_at and not message.is_waiting):
            return
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[record.tracking] = ended
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await ended
        finally:
            del self._waiting[record.tracking]

    def ended(self, message: SentMessage) -> None:
        """Let go who waits for a message."""
        ended = self._waiting.get(message.record.tracking)
        if ended is not None and not ended.done():
            ended.set_result(None)

    def stop(self) -> None:
        """Let go all who wait: the broker stops."""
        for ended in self._waiting.values():
            if not ended.done():
                ended.set_result(None)
