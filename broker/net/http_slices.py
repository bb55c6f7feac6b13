"""Long answers, a slice at a time, as their readers take them.

Here belongs how much of an answer leaves at once. Not here: who reads too slowly (``http_connection``). An answer that
is written in one go is over for the application, which counts what is under way, while megabytes of it wait for a
reader: in this process, or in the kernel, which takes up to four for each connection.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SLICE_BYTES = 64 * 1024
UNSENT_MAXIMUM_BYTES = 128 * 1024  # that the kernel takes of what the network has not; it goes beyond by a slice


def in_slices(inner: ASGIApp) -> ASGIApp:
    """Let an application's answers leave in slices; the server waits before each until there is room for it."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= SLICE_BYTES:
                await send(message)
                return
            for start in range(0, len(body), SLICE_BYTES):
                end = start + SLICE_BYTES
                more = end < len(body) or message.get("more_body", False)
                await send({"type": message["type"], "body": body[start:end], "more_body": more})

        await inner(scope, receive, sent)

    return serve


def leave_in_process(transport: asyncio.BaseTransport) -> None:
    """Let the kernel take little of what a connection's peer does not: this process knows who is to blame for it."""
    with suppress(OSError):  # no connection over TCP
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MAXIMUM_BYTES
        )
