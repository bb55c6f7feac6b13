"""The requests of one connection: plain ones read here, those that are out of the ordinary by h11.

Here belongs who reads what, in which order, and in how many parts a body may come. Not here: how a plain request is
read and answered (``http_plain``), and the time that a peer has (``http_connection``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import h11
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from broker.net.http_plain import LINES_MAXIMUM, PlainCycle, PlainRequest, plain_request
from broker.net.http_slices import leave_in_process

HEAD_MAXIMUM_BYTES = 32 * 1024
CRUMB_BYTES = 256  # a part of a body that is smaller is a crumb
CRUMBS_MAXIMUM = 1000  # of one body: each is taken apart by Python, while nobody else has a turn
LENGTHS = frozenset((b"content-length", b"transfer-encoding"))  # a body's end, in one of two ways

_HEADS_END = re.compile(rb"\n\r?\n")  # as h11 finds it


class Crumbs:
    """Counts the small parts in which a body comes; ``cut`` is called for the one that is too many."""

    def __init__(self, cut: Callable[[], None]) -> None:
        self._cut = cut
        self._count = 0

    @property
    def are_too_many(self) -> bool:
        """Whether this body came in too many."""
        return self._count > CRUMBS_MAXIMUM

    def begin(self) -> None:
        """Count those of another body."""
        self._count = 0

    def is_too_many_with(self, part_bytes: int) -> bool:
        """Count a part, where it is a crumb."""
        if part_bytes < CRUMB_BYTES:
            self._count += 1
            if self.are_too_many:
                self._cut()
        return self.are_too_many


class _Parser(h11.Connection):
    """Takes requests apart until one comes in too many crumbs; from then on it finds nothing more.

    Raises ``h11.RemoteProtocolError`` also for a head that is too large, before it is taken apart, and for a body whose
    end is told in two ways: somebody in between may have believed the other one.
    """

    def __init__(self, crumbs: Crumbs) -> None:
        super().__init__(h11.SERVER, HEAD_MAXIMUM_BYTES)
        self._crumbs = crumbs

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """Find what comes next."""
        if self._crumbs.are_too_many:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            _require_small_head(self.trailing_data[0])
        event = super().next_event()
        if isinstance(event, h11.Request):
            if LENGTHS.issubset(name for name, _ in event.headers):
                raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding")
            self._crumbs.begin()
        elif isinstance(event, h11.Data) and self._crumbs.is_too_many_with(len(event.data)):
            return h11.NEED_DATA
        return event


class Requests(H11Protocol):
    """A connection of uvicorn's that reads plain requests by itself; what is behind one waits until it is answered.

    What is not plain is h11's, with all that is behind it in its buffer. What comes behind the last request is thrown
    away.
    """

    _plain: PlainCycle | None = None  # until it is answered and its body has come
    _held = b""  # what has come behind it

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._crumbs = Crumbs(self._cut)
        self.conn = _Parser(self._crumbs)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin."""
        leave_in_process(transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._unset_keepalive_if_required()
        while data and not self.transport.is_closing() and self.conn.their_state is not h11.MUST_CLOSE:
            if self._plain is not None:
                data = self._go_on(self._plain, data)
            elif not self._is_idle() or (request := plain_request(data)) is None:
                super().data_received(data)
                return
            else:
                self._begin(request)
                data = data[request.end :]

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        super().on_response_complete()
        if self._plain is not None and not self._plain.missing_bytes:
            self._plain = None
            held, self._held = self._held, b""
            if held:
                self.data_received(held)

    def _is_idle(self) -> bool:
        return self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _begin(self, request: PlainRequest) -> None:
        """Serve a plain request, as uvicorn serves any."""
        self._crumbs.begin()
        path, _, query_string = request.target.partition(b"?")
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": cast(Any, self.scheme),
            "method": request.method.decode("ascii"),
            "root_path": "",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query_string,
            "headers": request.headers,
            "state": self.app_state.copy(),
        }
        self.cycle = self._plain = PlainCycle(
            request,
            scope=self.scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self.on_response_complete,
        )
        task = self.loop.create_task(self._plain.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _go_on(self, plain: PlainCycle, data: bytes) -> bytes:
        """Give the request that is under way what has come of its body; gives what has to be looked at now."""
        if plain.missing_bytes:
            if self._crumbs.is_too_many_with(min(len(data), plain.missing_bytes)):
                return b""
            data = plain.take(data)
            if len(plain.body) > HIGH_WATER_LIMIT and not plain.response_complete:
                self.flow.pause_reading()
        if plain.response_complete and not plain.missing_bytes:
            self._plain = None
        elif data:
            self._held += data
            self.flow.pause_reading()
            return b""
        return data

    def _cut(self) -> None:
        self.transport.abort()


def _require_small_head(data: bytes) -> None:
    """Raise ``h11.RemoteProtocolError`` where a head at the beginning has too many bytes or lines, whole or not."""
    if len(data) <= HEAD_MAXIMUM_BYTES and data.count(b"\n") <= LINES_MAXIMUM:
        return
    found = _HEADS_END.search(data)
    end = found.start() + 1 if found else len(data)
    if end > HEAD_MAXIMUM_BYTES or data.count(b"\n", 0, end) > LINES_MAXIMUM:
        raise h11.RemoteProtocolError(f"more than {HEAD_MAXIMUM_BYTES} bytes or {LINES_MAXIMUM} lines")
