"""Work beside the traffic: what comes again and again while a broker runs, and is ended before the stop goes on.

Here belongs how such work runs, fails and ends. Not here: what it does, and how often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

log = logging.getLogger(__name__)


def keep_doing(
    stack: AsyncExitStack,
    name: str,
    work: Coroutine[Any, Any, None],
    last: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Run ``work`` as a task of this name until the stack ends: it is cancelled then, and ``last`` done after it."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    stack.push_async_callback(_end, task, last)


async def every(pause_s: float, work: Callable[[], Awaitable[object]], failure: str) -> None:
    """Do something after each pause, until cancelled. Where it fails the log says ``failure``, and it goes on."""
    while True:
        await asyncio.sleep(pause_s)
        try:
            await work()
        except Exception:
            log.exception(failure)


async def _end(task: asyncio.Task[None], last: Callable[[], Awaitable[object]] | None) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if last is not None:
        await last()
