"""One connection of the HTTP server: what arrives and what is taken in time, in parts that are worth their work.

Here belongs the time that a peer has. Not here: how requests are read (``http_requests``), listening, start and stop
(``http``), and anything that is asked for (``api``).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11

from broker.net.crowd import Crowd
from broker.net.http_requests import Requests

REQUEST_TIMEOUT_S = 30.0
TAKEN_BYTES_PER_S_MINIMUM = 1024  # of an answer that waits for its reader
BYTES_ACKED = slice(120, 128)  # of Linux' struct tcp_info, since 4.1: tcpi_bytes_acked
NO_REQUEST = (  # in the shape of the API, which never sees it
    b'{"error": {"code": "INVALID_PARAMETER", "message": "this is no HTTP request"},'
    b' "detail": "this is no HTTP request"}'
)
CUT = "iot_broker.cut"  # in a request's ``state``: what ends its connection at once


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What the peer's kernel has ever acknowledged of a connection's bytes, and what ours holds beside it."""

    taken_bytes: int
    untaken_bytes: int


def outgoing(transport: asyncio.BaseTransport) -> Outgoing:
    """Ask the kernel: behind TLS a transport does not know how much waits.

    Where ours holds nothing, nothing waits in this process either.
    """
    try:
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
            info = same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED.stop)
            (untaken_bytes,) = struct.unpack("i", fcntl.ioctl(same, termios.TIOCOUTQ, bytes(4)))
    except OSError:  # it is closed
        return Outgoing(0, 0)
    return Outgoing(int.from_bytes(info[BYTES_ACKED], sys.byteorder), untaken_bytes)


class InTime(Requests):
    """A connection whose requests must arrive whole in time, and whose answers must be taken.

    uvicorn waits for ever for the first request, for a body, and for a caller who does not read, takes a body in parts
    of a byte, and as many connections as there are descriptors: here who has no room in the ``crowd`` is closed without
    a word. Of an answer that is waited for ``TAKEN_BYTES_PER_S_MINIMUM`` have to be taken, looked at each
    ``request_timeout_s``: who reads a byte now and then would keep its place for days. Whoever has something to say has
    ``give_way`` called first: of many who speak at once each may mean a request.
    """

    request_timeout_s = REQUEST_TIMEOUT_S
    give_way: Callable[[], None]
    crowd = Crowd()
    _address: str | None = None  # while it counts
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.app_state = {CUT: self._cut}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        self.give_way()
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
        self.give_way()
        super().data_received(data)
        if not self.flow.write_paused and not self.transport.is_closing():
            self._stop_watching()  # what waits from now on is of another answer as well
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

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words, in a shape that is not ours
        """Refuse what is no request; where an answer has begun, what follows is no other one."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._cut()
            return
        headers = [
            ("content-type", "application/json"),
            ("connection", "close"),
            ("content-length", str(len(NO_REQUEST))),
        ]
        answer = h11.Response(status_code=400, headers=headers, reason="Bad Request"), h11.Data(NO_REQUEST)
        self.transport.write(b"".join(self.conn.send(one) or b"" for one in (*answer, h11.EndOfMessage())))
        if self.cycle is not None and not self.cycle.response_complete:  # it has got its answer
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._close()

    def pause_writing(self) -> None:
        """Begin to wait for a caller who does not read its answer."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Go on: the caller has read."""
        self._stop_watching()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Go on to the next request; who wants no other has to take the rest of this answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch()
        elif not self.cycle.response_complete and not self._is_whole():  # the next one's head was here already
            self._await_request()

    def timeout_keep_alive_handler(self) -> None:
        """Close, unless the caller still takes its last answer."""
        if self._address is not None and outgoing(self.transport).untaken_bytes:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            if self._unread is None:
                self._watch()
        else:
            super().timeout_keep_alive_handler()

    def _get_upgrade(self) -> None:
        """Take a request to upgrade for the plain one that it also is: nothing here speaks anything but HTTP."""

    def _is_whole(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_timeout_s, self._close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch(self) -> None:
        """Look later whether enough has been taken meanwhile; a connection that is closing may have an answer yet."""
        self._stop_watching()
        if self._address is not None:
            taken_bytes = outgoing(self.transport).taken_bytes
            self._unread = self.loop.call_later(self.request_timeout_s, self._look, taken_bytes)

    def _look(self, before_bytes: int) -> None:
        self._unread = None
        now = outgoing(self.transport)
        if not now.untaken_bytes:
            return
        if now.taken_bytes - before_bytes >= self.request_timeout_s * TAKEN_BYTES_PER_S_MINIMUM:
            self._watch()
        else:
            self._cut()

    def _close(self) -> None:
        self.transport.close()
        self._watch()

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
