"""A caller of the HTTP server has a limited time for each request; what it does with its connection harms nobody."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Receive, Scope, Send

from broker.net.http import HttpServer

REQUEST_TIMEOUT_S = 0.5
WHOLE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, slower than a request may come if it says so."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    if body == b"slow":
        await asyncio.sleep(2 * REQUEST_TIMEOUT_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": body})


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(talk: Talk) -> None:
    async def whole() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(echo, listening, REQUEST_TIMEOUT_S)
            await server.start()
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            try:
                await asyncio.wait_for(talk(reader, writer), 20)
            finally:
                writer.close()
                await server.stop()

    asyncio.run(whole())


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return await reader.readexactly(4)


@pytest.mark.parametrize(
    "part", [b"", b"G", b"GET / HTTP/1.1\r\nX-Slow: ", WHOLE[:-1]], ids=["silence", "a-letter", "half-a-head", "no-end"]
)
def test_a_request_that_does_not_come_whole_in_time_is_cut(part: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started = time.monotonic()
        writer.write(part)
        assert await reader.read() == b""
        assert time.monotonic() - started < REQUEST_TIMEOUT_S + 5

    run(talk)


def test_a_request_that_drips_is_cut_however_often_it_drips() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.create_task(reader.read())
        for byte in WHOLE:
            writer.write(bytes([byte]))
            await asyncio.sleep(REQUEST_TIMEOUT_S / 8)
            if ended.done():
                break
        assert await ended == b""

    run(talk)


def test_the_second_request_of_a_connection_has_a_deadline_too() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE)
        assert await answer(reader) == b"body"
        writer.write(WHOLE[:20])
        assert await reader.read() == b""

    run(talk)


def test_an_answer_may_take_longer_than_a_request() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE.replace(b"body", b"slow"))
        assert await answer(reader) == b"slow"

    run(talk)


def test_requests_one_after_another_are_each_given_their_time() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(6):
            writer.write(WHOLE[:-2])
            await asyncio.sleep(REQUEST_TIMEOUT_S / 3)
            writer.write(WHOLE[-2:])
            assert await answer(reader) == b"body"
        writer.write(WHOLE * 3)
        assert [await answer(reader) for _ in range(3)] == [b"body"] * 3

    run(talk)


@pytest.mark.parametrize("odd", [b"", b"Connection: keep-alive, x\r\n"], ids=["plain", "odd"])
def test_a_request_that_came_with_the_one_before_it_has_a_deadline_too(odd: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = WHOLE.replace(b"Content-Length", odd + b"Content-Length")
        writer.write(whole + whole[:-1])
        assert await answer(reader) == b"body"
        assert await asyncio.wait_for(reader.read(), REQUEST_TIMEOUT_S + 5) == b""

    run(talk)
