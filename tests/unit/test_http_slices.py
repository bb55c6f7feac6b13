"""Of a long answer as much leaves as its reader takes, and it is under way until then."""

from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from broker.net.http import HttpServer
from broker.net.http_connection import outgoing
from broker.net.http_slices import SLICE_BYTES, UNSENT_MAXIMUM_BYTES, in_slices

SIZE = 8 * 1024 * 1024


@pytest.mark.parametrize("odd", [b"", b"Connection: keep-alive, x\r\n"], ids=["plain", "odd"])
def test_an_answer_that_nobody_takes_is_under_way_and_takes_little_memory(odd: bytes) -> None:
    answered = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(bytes(SIZE))(scope, receive, send)
        answered.set()

    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as caller:
            server = HttpServer(application, listening)
            await server.start()
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(listening.getsockname())
            caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + odd + b"\r\n")
            await asyncio.sleep(0.2)
            (connection,) = server._server.server_state.connections
            waiting = connection.transport.get_write_buffer_size() + outgoing(connection.transport).untaken_bytes
            assert not answered.is_set()
            assert waiting < 2 * (SLICE_BYTES + UNSENT_MAXIMUM_BYTES) + 512 * 1024
            caller.setblocking(False)
            loop, got = asyncio.get_running_loop(), 0
            while got < SIZE:
                part = await loop.sock_recv(caller, 1024 * 1024)
                assert part
                got += len(part)
            await answered.wait()
            await server.stop()

    asyncio.run(body())


@pytest.mark.parametrize("size", [0, 1, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES])
@pytest.mark.parametrize("more", [True, False])
def test_slices_are_the_answer(size: int, more: bool) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytes(size), "more_body": more})

    asyncio.run(in_slices(application)({}, receive, send))
    start, *parts = sent
    assert start == {"type": "http.response.start", "status": 200}
    assert b"".join(part["body"] for part in parts) == bytes(size)
    assert max(len(part["body"]) for part in parts) <= SLICE_BYTES
    assert [part["more_body"] for part in parts] == [True] * (len(parts) - 1) + [more]
