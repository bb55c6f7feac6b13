"""The HTTP server in the broker's own loop: uvicorn, without its signal handlers.

Here belongs serving an ASGI application on a socket, start and stop. Not here: the application (``api``), signals
(``runtime``), TLS (``https``), what a peer may do with its connection (``http_connection``), and the rule for whom a
proxy speaks (``forwarded``).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.net.crowd import Crowd
from broker.net.forwarded import Network, client_address
from broker.net.http_connection import CUT, REQUEST_TIMEOUT_S, InTime
from broker.net.http_requests import HEAD_MAXIMUM_BYTES
from broker.net.http_slices import in_slices
from broker.net.https import SecureDoor

STOP_TIMEOUT_S = 2
TICKS_PER_S = 10  # of uvicorn's counter: a multiple of them is when the date is set
CANCELLED_TIMEOUT_S = 1
KEEP_ALIVE_S = 30


def nobody() -> None:
    """Give way where nobody else is."""


class _Server(uvicorn.Server):
    """The runtime owns the process's signals, and a ``door`` accepts in the server's place where there is one."""

    def __init__(self, config: uvicorn.Config, door: SecureDoor | None, crowd: Crowd) -> None:
        super().__init__(config)
        self.door = door
        self.crowd = crowd
        self._end = asyncio.Event()

    def stop(self) -> None:
        """End soon; uvicorn's own word for it is asked for ten times a second."""
        self.should_exit = True
        self._end.set()

    async def main_loop(self) -> None:
        """Set the date of answers once a second, until the end."""
        while not await self.on_tick(TICKS_PER_S):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._end.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        if self.door is None or not sockets:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        arguments = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        self.servers = []
        protocol = partial(cast(Any, self.config.http_protocol_class), **arguments)
        self.door.open(sockets[0], protocol, self.crowd)
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signal handlers as they are."""
        yield


class Forwarded:
    """Tells the application for whom a trusted proxy speaks: ``scope["client"]`` becomes the caller's address."""

    def __init__(self, inner: ASGIApp, trusted: Sequence[Network]) -> None:
        self._inner = inner
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope of the server."""
        if self._trusted and scope["type"] == "http" and scope.get("client"):
            peer, port = scope["client"]
            named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
            caller = client_address(peer, named, self._trusted)
            if caller != peer:
                scope["client"] = (caller, port)
        await self._inner(scope, receive, send)


class CutOff:
    """Closes the connection of a request that the stop has cancelled and that has no whole answer.

    (The server would call it a failure of the application, with a traceback for each.)
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope of the server."""
        try:
            await self._inner(scope, receive, send)
        except asyncio.CancelledError:
            scope["state"][CUT]()
            while (await receive())["type"] != "http.disconnect":
                pass


class HttpServer:
    """Serves one ASGI application on one listening socket, through TLS where there is a ``door``.

    A request has ``request_timeout_s`` to come whole; in as long a caller has to take what is worth the time (see
    ``InTime``). ``trusted_proxies`` are believed for whom they speak. Servers that share a ``crowd`` share its room.
    ``give_way`` is called before each part of the work, for those who share the loop.
    """

    def __init__(
        self,
        application: ASGIApp,
        listening: socket.socket,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        *,
        door: SecureDoor | None = None,
        trusted_proxies: Sequence[Network] = (),
        crowd: Crowd | None = None,
        give_way: Callable[[], None] | None = None,
    ) -> None:
        crowd = crowd or Crowd(trusted_proxies=trusted_proxies)
        self._listening = listening
        self._door = door
        in_time = type(
            "_InTime",
            (InTime,),
            {"request_timeout_s": request_timeout_s, "crowd": crowd, "give_way": staticmethod(give_way or nobody)},
        )
        self._server = _Server(
            uvicorn.Config(
                # uvicorn spells the same protocols in types of its own
                cast(Any, in_slices(CutOff(Forwarded(application, trusted_proxies)))),
                http=in_time,
                proxy_headers=False,  # uvicorn would believe whatever comes from loopback
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
                h11_max_incomplete_event_size=HEAD_MAXIMUM_BYTES,
            ),
            door,
            crowd,
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
        """Finish the requests that are running, within two seconds, and close.

        What is not finished then is cancelled; its connection is closed, unless the application answers at once.
        """
        if self._task is None:
            return
        if self._door is not None:
            await self._door.close()
        self._server.stop()
        await self._task
        self._task = None
        if cancelled := set(self._server.server_state.tasks):
            await asyncio.wait(cancelled, timeout=CANCELLED_TIMEOUT_S)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()  # who has not taken its answer until now, or does not say goodbye
