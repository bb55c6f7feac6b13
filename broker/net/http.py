"""The HTTP server in the broker's own loop: uvicorn, without its signal handlers.

Here belongs serving an ASGI application on a socket, start and stop. Not here: the application (``api``), signals
(``runtime``).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

STOP_TIMEOUT_S = 2
KEEP_ALIVE_S = 30


class _Server(uvicorn.Server):
    """The runtime owns the process's signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signal handlers as they are."""
        yield


class HttpServer:
    """Serves one ASGI application on one listening socket."""

    def __init__(self, application: ASGIApp, listening: socket.socket) -> None:
        self._listening = listening
        self._server = _Server(
            uvicorn.Config(
                cast(Any, application),  # uvicorn spells the same protocol in types of its own
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
                h11_max_incomplete_event_size=64 * 1024,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve from now on. Raises what the server could not start for."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listening]), name="http")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the HTTP server ended at its start")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish the requests that are running, within two seconds, and close."""
        if self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._task = None
