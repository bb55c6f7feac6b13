"""The plain request of HTTP/1.1: what nearly all callers send, read and answered in a fifth of the time.

Here belongs one strict reading, of a head that has come whole, and the answer to such a request. What is in any way
out of the ordinary is not judged here but left to h11: a reading that says nothing wrong needs no rules for what is
wrong. Where this one reads a request, h11 would have read the same (a property test holds that). Not here: what a peer
may do with its connection (``http_connection``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, RequestResponseCycle

Headers = list[tuple[bytes, bytes]]

HEAD_MAXIMUM_BYTES = 16 * 1024  # a longer one is out of the ordinary
LINES_MAXIMUM = 100  # with the line of the request; each is taken apart by Python, while nobody else has a turn
LENGTH_MAXIMUM_DIGITS = 9
BODILESS = (204, 304)
CLOSE = (b"connection", b"close")

# A line of the request, and lines of a header, each with an end of its own; visible ASCII, blanks in values alone.
_REQUEST = re.compile(rb"(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) (/[!-~]*) HTTP/1\.1\r\n")
_FIELDS = re.compile(rb"(?:[-!#$%%&'*+.^_`|~0-9A-Za-z]+:[\t -~]*\r\n){1,%d}\r\n" % (LINES_MAXIMUM - 1))
_LENGTH = re.compile(rb"[0-9]{1,%d}" % LENGTH_MAXIMUM_DIGITS)
_ODD = frozenset((b"transfer-encoding", b"expect", b"upgrade"))  # what changes how a request is read, or answered


class PlainRequest(NamedTuple):
    """A head as it was sent, names in lower case; its body begins at ``end`` and has ``body_bytes``."""

    method: bytes
    target: bytes
    headers: Headers
    body_bytes: int
    end: int


def plain_request(data: bytes) -> PlainRequest | None:
    """Read the head at the beginning of what has arrived; None for one that is not whole, or not plain."""
    line = _REQUEST.match(data, 0, HEAD_MAXIMUM_BYTES)
    if line is None:
        return None
    fields = _FIELDS.match(data, line.end(), HEAD_MAXIMUM_BYTES)
    if fields is None:
        return None
    headers = []
    for text in data[line.end() : fields.end() - 4].split(b"\r\n"):
        name, _, value = text.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    body_bytes = _body_bytes(headers)
    if body_bytes is None:
        return None
    return PlainRequest(line[1], line[2], headers, body_bytes, fields.end())


def _body_bytes(headers: Headers) -> int | None:
    """Give what the headers say of the body's length; None where they are out of the ordinary."""
    hosts, length = 0, None
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            if length is not None or _LENGTH.fullmatch(value) is None:
                return None
            length = int(value)
        elif name in _ODD or (name == b"connection" and value.lower() != b"keep-alive"):
            return None
    return (length or 0) if hosts == 1 else None


class PlainCycle(RequestResponseCycle):
    """One plain request and its answer, of which head and body leave together where they come together.

    An answer whose length nobody has told is sent in chunks. Raises ``RuntimeError`` in ``send`` for an answer that
    would not be one: header lines with ends inside, a body of another length than was told.
    """

    def __init__(self, request: PlainRequest, **more: Any) -> None:
        super().__init__(**more)
        self.missing_bytes = request.body_bytes  # of the body
        self.more_body = request.body_bytes > 0
        self._without_body = request.method == b"HEAD"
        self._head = b""  # until it leaves with what is first of the body
        self._left_bytes: int | None = None  # of an answer whose length was told
        if not self.more_body:
            self.message_event.set()

    def take(self, data: bytes) -> bytes:
        """Take what belongs to the body; gives what is behind it. What nobody waits for any more is thrown away."""
        part = data[: self.missing_bytes]
        self.missing_bytes -= len(part)
        if not self.response_complete:
            self.body += part
            self.more_body = self.missing_bytes > 0
            self.message_event.set()
        return data[len(part) :]

    async def send(self, message: Any) -> None:
        """Send what the application says, as ASGI has it."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete or (message["type"] == "http.response.start") is self.response_started:
            raise RuntimeError(f"{message['type']} in the wrong place")
        if message["type"] == "http.response.start":
            self._begin(message["status"], [*self.default_headers, *message.get("headers", ())])
        else:
            self._go_on(message.get("body", b""), is_last=not message.get("more_body", False))

    def _begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        lengths = [int(value) for name, value in headers if name.lower() == b"content-length"]
        self._left_bytes = lengths[0] if lengths else None
        if status in BODILESS:
            self._without_body = True
        if self._left_bytes is None and status not in BODILESS:
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        if CLOSE in headers:
            self.keep_alive = False
        self._head = answer_head(status, headers)

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        part = b"" if self._without_body else self._framed(body, is_last=is_last)
        if self._head or part:
            self.transport.write(self._head + part)
            self._head = b""
        if is_last:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _framed(self, body: bytes, *, is_last: bool) -> bytes:
        if self._left_bytes is None:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk + b"0\r\n\r\n" if is_last else chunk
        self._left_bytes -= len(body)
        if self._left_bytes < 0 or (is_last and self._left_bytes):
            raise RuntimeError("the answer has another length than was told")
        return body


def answer_head(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Write the head of an answer. Raises ``RuntimeError`` where a header would be more than one line."""
    lines = [b"HTTP/1.1 %d %b" % (status, STATUS_PHRASES[status])]
    lines += [b"%b: %b" % header for header in headers]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
        raise RuntimeError("an end of line inside a header")
    return head
