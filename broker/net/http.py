"""The HTTP server in the broker's own loop: uvicorn, without its signal handlers.

Here belongs serving an ASGI application on a socket, start and stop. Not here: the application (``api``), signals
(``runtime``), TLS (``https``), and the rule for whom a proxy speaks (``forwarded``).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import h11
import uvicorn
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from broker.net.crowd import Crowd
from broker.net.forwarded import Network, client_address
from broker.net.https import SecureDoor

STOP_TIMEOUT_S = 2
TICKS_PER_S = 10  # of uvicorn's counter: a multiple of them is when the date is set
KEEP_ALIVE_S = 30
REQUEST_TIMEOUT_S = 30.0
HEAD_MAXIMUM_BYTES = 64 * 1024
CRUMB_BYTES = 256  # a part of a body that is smaller is a crumb
CRUMBS_MAXIMUM = 1000  # of one body: each is taken apart by Python, while nobody else has a turn


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


class _Parser(h11.Connection):
    """Takes requests apart until one comes in too many crumbs; from then on it finds nothing more."""

    def __init__(self, cut: Callable[[], None]) -> None:
        super().__init__(h11.SERVER, HEAD_MAXIMUM_BYTES)
        self._cut = cut
        self._crumbs = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """Find what comes next."""
        if self._crumbs > CRUMBS_MAXIMUM:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._crumbs = 0
        elif isinstance(event, h11.Data) and len(event.data) < CRUMB_BYTES:
            self._crumbs += 1
            if self._crumbs > CRUMBS_MAXIMUM:
                self._cut()
                return h11.NEED_DATA
        return event


class _InTime(H11Protocol):
    """A connection whose requests must arrive whole in time, and whose answers must be taken.

    uvicorn waits for ever for the first request, for a body, and for a caller who does not read, takes a body in parts
    of a byte, and as many connections as there are descriptors: here who has no room in the ``crowd`` is closed without
    a word.
    """

    request_timeout_s = REQUEST_TIMEOUT_S
    crowd = Crowd()
    _address: str | None = None  # while it counts
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.conn = _Parser(lambda: self.transport.abort())

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self.crowd.enter(address):
            transport.abort()
            return
        self._address = address
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request that is not whole yet keeps the deadline it has."""
        super().data_received(data)
        if self._is_whole():
            self._stop_waiting()
        else:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        if self._address is None:  # it never came in
            return
        self.crowd.leave(self._address)
        self._address = None
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; where an answer has begun, what follows is no other one."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Begin to wait for a caller who does not read its answer."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Go on: the caller has read."""
        self._stop_watching()
        super().resume_writing()

    def _get_upgrade(self) -> None:
        """Take a request to upgrade for the plain one that it also is: nothing here speaks anything but HTTP."""

    def _is_whole(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_timeout_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch(self) -> None:
        self._stop_watching()
        unread_bytes = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(self.request_timeout_s, self._look, unread_bytes)

    def _look(self, before_bytes: int) -> None:
        if self.transport.get_write_buffer_size() < before_bytes:
            self._watch()  # slow, but it reads
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class Forwarded:
    """Tells the application for whom a trusted proxy speaks: ``scope["client"]`` becomes the caller's address."""

    def __init__(self, inner: ASGIApp, trusted: Sequence[Network]) -> None:
        self._inner = inner
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope of the server."""
        if scope["type"] == "http" and scope.get("client"):
            peer, port = scope["client"]
            caller = client_address(peer, Headers(scope=scope).getlist("x-forwarded-for"), self._trusted)
            if caller != peer:
                scope["client"] = (caller, port)
        await self._inner(scope, receive, send)


class HttpServer:
    """Serves one ASGI application on one listening socket, through TLS where there is a ``door``.

    A request has ``request_timeout_s`` to come whole, and a caller as long to read on. ``trusted_proxies`` are believed
    for whom they speak. Servers that share a ``crowd`` share its room.
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
    ) -> None:
        crowd = crowd or Crowd(trusted_proxies=trusted_proxies)
        self._listening = listening
        self._door = door
        in_time = type("_InTime", (_InTime,), {"request_timeout_s": request_timeout_s, "crowd": crowd})
        self._server = _Server(
            uvicorn.Config(
                # uvicorn spells the same protocols in types of its own
                cast(Any, Forwarded(application, trusted_proxies)),
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
        """Finish the requests that are running, within two seconds, and close."""
        if self._task is None:
            return
        if self._door is not None:
            await self._door.close()
        self._server.stop()
        await self._task
        self._task = None
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()  # who has not taken its answer until now, or does not say goodbye
