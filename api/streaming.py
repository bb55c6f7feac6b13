"""Answers that are written part by part, and work that ends when its caller has hung up.

Here belongs looking whether the caller is there. Not here: what is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

FoundT = TypeVar("FoundT")


class Parts(StreamingResponse):
    """An answer in parts, given up when its caller hangs up; raises ``ClientDisconnect`` then.

    (Starlette's own way loads a library at the first such answer, which holds the loop for 20 ms.)
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        """Write it."""
        await until_gone(self.stream_response(send), receive)


async def until_gone(work: Coroutine[Any, Any, FoundT], receive: Receive) -> FoundT:
    """Do some work that may wait, for as long as its caller is there. Raises ``ClientDisconnect``."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for one in (working, leaving):
            one.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def gone(receive: Receive) -> None:
    """Return when the caller has hung up; its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
