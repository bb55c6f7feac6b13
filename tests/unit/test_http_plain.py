"""Plain requests, which the server reads by itself: nobody can tell from outside which of the two ways one took."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Sequence

import pytest
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from broker.net import http_requests
from broker.net.http import HttpServer
from broker.net.http_plain import answer_head
from broker.net.http_requests import CRUMBS_MAXIMUM

GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in each way that there is, by the path; else with the request, as it was understood."""
    path = scope["path"]
    body, more = b"", path != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    told = {name: scope[name] for name in ("method", "raw_path", "query_string", "http_version", "scheme", "headers")}
    answer: Response = PlainTextResponse(f"{told} {len(body)}")
    if path == "/none":
        answer = Response(status_code=204)
    elif path == "/parts":
        answer = StreamingResponse(iter((b"one", b"", b"two")))
    elif path == "/long":
        answer = PlainTextResponse("short", headers={"Content-Length": "7"})
    elif path == "/short":
        answer = PlainTextResponse("longer", headers={"Content-Length": "3"})
    elif path == "/split":
        answer = Response("x", headers={"X-A": "b\r\nX-C: d"})
    elif path == "/bye":
        answer = Response("x", headers={"Connection": "close"})
    elif path == "/failure":
        raise ValueError("a failure")
    await answer(scope, receive, send)


async def said_to(parts: Sequence[bytes]) -> bytes:
    """Send parts, each when the server has seen the one before; gives all that is said until the connection ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(application, listening)
        await server.start()
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.01)
            said = await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()
            await server.stop()
    return re.sub(rb"date: [^\r]*", b"date", said)


@pytest.mark.parametrize(
    "parts",
    [
        [GET % b"", LAST],
        [GET % b"" + GET % b"again?a=%20" + LAST],
        [b"GET / HT", b"TP/1.1\r\nHost: x\r\n\r\n", GET % b"again", LAST],
        [POST % (b"", 5) + b"12345" + LAST],
        [POST % (b"", 5), b"12", b"345", LAST],
        [POST % (b"", 5) + b"12", b"345" + GET % b"" + LAST],
        [POST % (b"unread", 5), b"12", b"345" + LAST],
        [POST % (b"unread", 200_000), bytes(100_000), bytes(100_000), LAST],
        [POST % (b"", 200_000), bytes(100_000), bytes(100_000) + LAST],
        [POST % (b"", 0) + LAST],
        [GET.replace(b"GET", b"HEAD") % b"", LAST],
        [GET.replace(b"GET", b"HEAD") % b"parts", LAST],
        [GET % b"none" + GET % b"parts", LAST],
        [GET % b"bye", LAST],
        [GET % b"bye" + GET % b"never"],
        [GET % b"failure", LAST],
        [GET % b"", b"\r\n" + GET % b"", LAST],
        [GET % b"", POST % (b"", 3) + b"abcno request\r\n\r\n", LAST],
        [GET % b"", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + LAST],
        [GET % b"", POST % (b"", 4), b"GET ", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"],
    ],
)
def test_a_plain_request_is_answered_as_any_other(
    parts: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    taken: list[object] = []
    read = http_requests.plain_request

    def noted(data: bytes) -> object:
        taken.append(request := read(data))
        return request

    monkeypatch.setattr(http_requests, "plain_request", noted)
    by_itself = asyncio.run(said_to(parts))
    monkeypatch.setattr(http_requests, "plain_request", lambda _data: None)
    assert comparable(by_itself) == comparable(asyncio.run(said_to(parts)))
    assert b"HTTP/1.1" in by_itself
    assert any(taken)


@pytest.mark.parametrize("path", [b"long", b"short", b"split"])
def test_what_would_be_no_answer_ends_the_connection_instead(path: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert asyncio.run(said_to([GET % path, LAST])) == b""
    assert [one.message for one in caplog.records if one.levelno >= logging.ERROR] == [
        "Exception in ASGI application\n"
    ]


def comparable(said: bytes) -> bytes:
    """Leave out what the two ways may differ in: the order and the case of headers, where h11 adds them."""
    said = said.replace(b"Transfer-Encoding", b"transfer-encoding").replace(b"Connection: close", b"connection: close")
    heads = re.split(rb"(HTTP/1\.1 [^\0]*?\r\n\r\n)", said)
    return b"|".join(b"\n".join(sorted(one.split(b"\r\n"))) if place % 2 else one for place, one in enumerate(heads))


def test_who_sends_a_body_of_known_length_in_crumbs_is_cut() -> None:
    async def body() -> int:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(application, listening)
            await server.start()
            _, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(POST % (b"", 100 * CRUMBS_MAXIMUM))
            await asyncio.sleep(0.01)
            (connection,) = server._server.server_state.connections
            sent = 0
            while not connection.transport.is_closing() and sent < 2 * CRUMBS_MAXIMUM:
                connection.data_received(b"a")  # type: ignore[union-attr]
                sent += 1
            writer.close()
            await server.stop()
        return sent

    assert asyncio.run(body()) == CRUMBS_MAXIMUM + 1


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\nb", b"a\rb"])
def test_an_end_of_line_in_a_header_is_never_sent(value: bytes) -> None:
    assert answer_head(200, [(b"a", b"b")]) == b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"
    with pytest.raises(RuntimeError):
        answer_head(200, [(b"a", value)])
