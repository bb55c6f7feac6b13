"""Messages that a test waits for, from any thread and from any event loop.

Here belongs waiting with a deadline, for tests with and without asyncio. Not here: the subscription behind it, which
lives in the broker's own loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Self

from broker.local import Message, MessageStream

TIMEOUT_S = 5.0
QUIET_S = 0.2

Call = Callable[[Coroutine[Any, Any, Message]], "Future[Message]"]


class NothingArrived(AssertionError):
    """A message that a test waited for did not come in time."""


class Inbox:
    """Messages of one subscription, in the order in which they came.

    ``next`` and ``take`` wait in a plain test, ``anext`` and ``async for`` in a coroutine; each gives up in time with
    ``NothingArrived``.
    """

    def __init__(self, stream: MessageStream, call: Call) -> None:
        self._stream = stream
        self._call = call
        self._seen: list[Message] = []

    @property
    def seen(self) -> list[Message]:
        """The messages that have been taken so far."""
        return list(self._seen)

    def next(self, timeout_s: float = TIMEOUT_S) -> Message:
        """Wait for the next message."""
        return self._call(self._next(timeout_s)).result()

    def take(self, count: int, timeout_s: float = TIMEOUT_S) -> list[Message]:
        """Wait for so many messages."""
        return [self.next(timeout_s) for _ in range(count)]

    def expect_nothing(self, within_s: float = QUIET_S) -> None:
        """Demand that no message comes for so long. Raises ``AssertionError`` with the one that did."""
        try:
            found = self.next(within_s)
        except NothingArrived:
            return
        raise AssertionError(f"nothing was expected, but this came: {found}")

    async def anext(self, timeout_s: float = TIMEOUT_S) -> Message:
        """Wait for the next message without holding the test's event loop."""
        return await asyncio.wrap_future(self._call(self._next(timeout_s)))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return await self.anext()

    async def _next(self, timeout_s: float) -> Message:
        try:
            async with asyncio.timeout(timeout_s):
                message = await anext(self._stream)
        except TimeoutError:
            filters = ", ".join(self._stream.topic_filters)
            raise NothingArrived(
                f"no message to {filters} within {timeout_s} s; {len(self._seen)} had come before"
            ) from None
        self._seen.append(message)
        return message
