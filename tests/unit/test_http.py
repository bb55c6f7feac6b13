"""Rules of the HTTP server itself, whatever it serves."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from contextlib import suppress

import h11
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api.errors import error_body
from broker.errors import BadRequest
from broker.net import http as http_server
from broker.net import http_connection
from broker.net.crowd import Crowd
from broker.net.http import HttpServer
from broker.net.http_requests import CRUMB_BYTES, CRUMBS_MAXIMUM

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: broker\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Endless:
    """An application that answers more than any socket holds, and tells when it has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": bytes(64 * 1024), "more_body": True})
        finally:
            self.ended.set()


def test_a_caller_who_does_not_take_its_answer_is_let_go() -> None:
    async def body() -> None:
        endless = Endless()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(endless, listening, request_timeout_s=0.2)
            await server.start()
            with socket.create_connection(listening.getsockname()) as caller:
                caller.sendall(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
                await asyncio.wait_for(endless.ended.wait(), 5)
            await server.stop()

    asyncio.run(body())


def test_a_caller_who_reads_slowly_gets_all_of_its_answer() -> None:
    async def body() -> None:
        size = 8 * 1024 * 1024
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(PlainTextResponse(bytes(size)), listening, request_timeout_s=0.3)
            await server.start()
            reader, writer = await asyncio.open_connection(*listening.getsockname(), limit=64 * 1024)
            writer.write(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(8):
                await reader.readexactly(size // 8)
                await asyncio.sleep(0.1)
            writer.close()
            await server.stop()

    asyncio.run(body())


class Large:
    """An application with an answer that no socket holds, in one part, and one that waits for ever below /wait."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/begin":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if scope["path"] != "/":
            await asyncio.sleep(3600)
        await PlainTextResponse(bytes(16 * 1024 * 1024))(scope, receive, send)


@pytest.mark.parametrize("head", [b"", b"Connection: close\r\n"])
def test_who_takes_next_to_nothing_of_an_answer_loses_its_place(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "TAKEN_BYTES_PER_S_MINIMUM", 64 * 1024 * 1024)

    async def body() -> None:
        crowd = Crowd()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            server = HttpServer(Large(), listening, request_timeout_s=0.2, crowd=crowd)
            await server.start()
            reader, writer = await asyncio.open_connection(*listening.getsockname(), limit=4096)
            writer.write(b"GET / HTTP/1.1\r\nHost: broker\r\n" + head + b"\r\n")
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                while crowd.inside:
                    await asyncio.sleep(0.02)
                    with suppress(ConnectionError):
                        await reader.read(1024)
            writer.close()
            await server.stop()

    asyncio.run(body())


@pytest.mark.parametrize("path", ["/wait", "/begin"])
def test_a_stop_closes_what_is_not_answered_in_time_and_says_nothing_of_failures(
    path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "STOP_TIMEOUT_S", 0.1)

    async def body() -> tuple[bytes, int]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(Large(), listening)
            await server.start()
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(f"GET {path} HTTP/1.1\r\nHost: broker\r\n\r\n".encode())
            await asyncio.sleep(0.05)
            before = len(asyncio.all_tasks())
            await server.stop()
            said = b""
            with suppress(ConnectionError):
                said = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return said, before - len(asyncio.all_tasks())

    said, ended = asyncio.run(body())
    assert said.endswith(b"begun\r\n") if path == "/begin" else said == b""
    assert ended == 2  # the server's own, and the request's
    assert not [one for one in caplog.records if one.exc_info or "ASGI" in one.getMessage()]


async def answer_to(request: bytes) -> bytes:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(PlainTextResponse("plain"), listening)
        await server.start()
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await server.stop()
        return answer


def test_a_request_to_upgrade_is_answered_as_the_plain_request_that_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = asyncio.run(answer_to(UPGRADE))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"plain")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_no_request_is_refused_in_the_shape_of_the_api() -> None:
    answer = asyncio.run(answer_to(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert (400, json.loads(body)) == error_body(BadRequest("this is no HTTP request"))


async def length(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer how long a body is; of /unread without reading it."""
    size, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    await PlainTextResponse(str(size))(scope, receive, send)


async def said_to(path: str, chunk: bytes, times: int) -> bytes:
    """Send a body in so many chunks; gives all that is said until the connection ends, which it has to."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    part = f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(length, listening, request_timeout_s=60)
        await server.start()
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        said = b""
        try:
            writer.write(head + part * times + b"0\r\n\r\n")
            async with asyncio.timeout(10):
                while more := await reader.read(65536):
                    said += more
        except ConnectionError:
            pass
        finally:
            writer.close()
            await server.stop()
    return said


@pytest.mark.parametrize(("chunk", "times"), [(b"a", CRUMBS_MAXIMUM), (bytes(CRUMB_BYTES), 3 * CRUMBS_MAXIMUM)])
def test_a_body_may_come_in_many_parts(chunk: bytes, times: int) -> None:
    said = asyncio.run(said_to("/", chunk, times))
    assert said.endswith(str(len(chunk) * times).encode())


@pytest.mark.parametrize("path", ["/", "/unread"])
def test_who_sends_a_body_in_crumbs_is_cut(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[object] = []
    looked = h11.Connection.next_event

    def next_event(connection: h11.Connection) -> object:
        parts.append(event := looked(connection))
        return event

    monkeypatch.setattr(h11.Connection, "next_event", next_event)
    said = asyncio.run(said_to(path, b"a", 100 * CRUMBS_MAXIMUM))
    assert b"100000" not in said
    assert len(parts) < CRUMBS_MAXIMUM + 50


@pytest.mark.parametrize(
    "request_bytes", [b"no request\r\n\r\n", b"POST /unread HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
def test_who_sends_what_is_no_request_is_let_go_and_is_no_error_of_ours(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(length, listening, request_timeout_s=60)
            await server.start()
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(request_bytes)
            said = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"no chunk\r\n")
            with suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 10)
            writer.close()
            await server.stop()
        return said

    said = asyncio.run(body())
    assert said.split(b" ")[1] in (b"400", b"200")
    if b" 400 " in said:
        assert b"application/json" in said
    assert not [one.message for one in caplog.records if one.levelno >= logging.ERROR]
