"""What is no request: it is refused once, takes no other answer's place, and costs little."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.net.http import HttpServer
from broker.net.http_plain import LINES_MAXIMUM
from broker.net.http_requests import HEAD_MAXIMUM_BYTES, Requests

ENDLESS = b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, /unread before anything is read, anything but /more as the last answer."""
    more = scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    headers = {} if scope["path"] == "/more" else {"Connection": "close"}
    await PlainTextResponse("answer", headers=headers)(scope, receive, send)


async def told(*parts: bytes, application: ASGIApp = application) -> bytes:
    """Send parts, each when the server has seen the one before; gives all that is said until the connection ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(application, listening)
        await server.start()
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await server.stop()
    return said


def statuses(*parts: bytes, application: ASGIApp = application) -> list[bytes]:
    """Give the status of each answer to what is sent."""
    said = asyncio.run(told(*parts, application=application))
    return [one[:3] for one in said.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("parts", [[ENDLESS % b"unread" + b"no chunk\r\n"], [ENDLESS % b"", b"no chunk\r\n"]])
def test_who_is_told_that_its_body_is_none_is_told_nothing_else(
    parts: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    assert statuses(*parts) == [b"400"]
    assert not [one.message for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize("behind", [b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0"])
@pytest.mark.parametrize("line", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"])
def test_what_comes_behind_a_last_request_takes_no_answer_from_it(
    line: bytes, behind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = b"GET / " + line + b"\r\n"
    came, missing_bytes, take = asyncio.Event(), len(last + behind), Requests.data_received

    def data_received(connection: Requests, data: bytes) -> None:
        nonlocal missing_bytes
        take(connection, data)
        missing_bytes -= len(data)
        if not missing_bytes:
            came.set()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await came.wait()
        await application(scope, receive, send)

    monkeypatch.setattr(Requests, "data_received", data_received)
    assert statuses(last, behind, application=late) == [b"200"]


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nX-A: b\r\nContent-Length: 0\r\n",
    ],
)
def test_a_body_whose_end_is_told_in_two_ways_is_refused(lines: bytes) -> None:
    head = b"POST /more HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n"
    assert statuses(head + b"0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n") == [b"400"]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("odd", [b"", b"Connection: x\r\n"])
def test_a_head_has_so_many_lines_and_no_more(end: bytes, odd: bytes) -> None:
    begin = b"GET / HTTP/1.1\r\nHost: x\r\n" + odd
    head = begin + (b"a:" + end) * (LINES_MAXIMUM - begin.count(b"\n"))
    assert statuses(head + end) == [b"200"]
    for parts in ([head + b"a:" + end + end], [head, b"a:" + end], [head + b"a:" + end]):
        assert statuses(*parts) == [b"400"]


@pytest.mark.parametrize("odd", [b"", b"Connection: x\r\n"])
def test_a_head_has_so_many_bytes_and_no_more(odd: bytes) -> None:
    begin = b"GET / HTTP/1.1\r\nHost: x\r\n" + odd + b"X: "
    room = HEAD_MAXIMUM_BYTES - len(begin)
    assert statuses(begin + b"a" * (room - 10) + b"\r\n\r\n") == [b"200"]
    for end in (b"", b"\r\n\r\n"):  # also where all of it comes at once
        assert statuses(begin + b"a" * (room + 1) + end) == [b"400"]


def test_lines_of_a_body_or_of_what_comes_behind_it_are_none_of_a_head() -> None:
    odd = b"POST /more HTTP/1.1\r\nHost: x\r\nConnection: x\r\nContent-Length: 500\r\n\r\n" + b"\n" * 500
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: x\r\n\r\n"
    assert statuses(odd * 5 + last) == [b"200"] * 6
