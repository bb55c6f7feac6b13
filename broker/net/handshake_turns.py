"""Handshakes of HTTPS in turns: each step holds the loop for as long as hundreds of messages take.

Here belongs whose step is next, and when. Not here: what a step is (``https``), and handshakes of MQTT, whose turns are
the core's.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

NS_PER_S = 1_000_000_000
RESTS = 3  # as long as the step took, while messages come: as the core's own handshakes


Result = TypeVar("Result")


class HandshakeTurns:
    """Runs one step in a turn of the loop, in the order in which they are asked for.

    While ``has_traffic`` the loop has three times as long for others behind each: handshakes are a quarter of its work
    at most. ``worked_ns`` is the time that this thread has worked.
    """

    def __init__(
        self,
        has_traffic: Callable[[], bool] = lambda: False,
        worked_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._has_traffic = has_traffic
        self._worked_ns = worked_ns
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._rest_until_s = 0.0
        self._next: asyncio.Handle | None = None

    async def step(self, do: Callable[[], Result]) -> Result:
        """Give what ``do`` returns or raises when its turn comes; who is cancelled meanwhile has none."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((do, done))
        self._await_turn()
        return await done

    def _await_turn(self) -> None:
        if self._next is not None or not self._waiting:
            return
        loop = asyncio.get_running_loop()
        rest_s = self._rest_until_s - loop.time()
        self._next = loop.call_later(rest_s, self._take_turn) if rest_s > 0 else loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._next = None
        while self._waiting:
            do, done = self._waiting.popleft()
            if not done.cancelled():
                self._take(do, done)
                break
        self._await_turn()

    def _take(self, do: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        started_ns = self._worked_ns()
        try:
            done.set_result(do())
        except Exception as error:  # noqa: BLE001 - it is told to who waits for it
            done.set_exception(error)
        if self._has_traffic():
            rest_ns = RESTS * (self._worked_ns() - started_ns)
            self._rest_until_s = asyncio.get_running_loop().time() + rest_ns / NS_PER_S
