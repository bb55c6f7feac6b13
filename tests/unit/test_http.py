"""Rules of the HTTP server itself, whatever it serves."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest
from starlette.responses import PlainTextResponse

from broker.net.http import HttpServer

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: broker\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


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
