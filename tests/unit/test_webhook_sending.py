"""One delivery to an endpoint that means no good: how much of its answer is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import h11
import pytest

from broker.accounts.endpoints import parse_url
from broker.webhooks.sending import ANSWER_PARTS_MAXIMUM, DeliveryFailed, post

WAIT_S = 10.0
PIECE = 1000


def delivered_to(begins: bytes, goes_on: bytes) -> None:
    """Send one delivery to who answers so, and never ends. Raises what the delivery does."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begins)
        with suppress(ConnectionError):
            while goes_on:
                writer.write(goes_on)
                await writer.drain()
        writer.close()

    async def body() -> None:
        async with await asyncio.start_server(endless, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with asyncio.timeout(WAIT_S):
                await post(parse_url(f"http://127.0.0.1:{port}/", allow_http=True), "127.0.0.1", [], b"{}", None)

    asyncio.run(body())


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What of answers was looked at."""
    seen: list[object] = []
    looked: Callable[[h11.Connection], object] = h11.Connection.next_event

    def next_event(connection: h11.Connection) -> object:
        event = looked(connection)
        if event is not h11.NEED_DATA:
            seen.append(event)
        return event

    monkeypatch.setattr(h11.Connection, "next_event", next_event)
    return seen


def test_who_says_for_ever_that_an_answer_will_come_has_not_answered(parts: list[object]) -> None:
    with pytest.raises(DeliveryFailed, match="not HTTP"):
        delivered_to(b"", b"HTTP/1.1 100 \r\n\r\n" * PIECE)
    assert len(parts) == ANSWER_PARTS_MAXIMUM


@pytest.mark.parametrize("status", [200, 500])
def test_of_an_answer_in_crumbs_the_status_counts_and_few_crumbs_are_looked_at(
    parts: list[object], status: int
) -> None:
    head = f"HTTP/1.1 {status} \r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    if status == 200:
        delivered_to(head, b"1\r\na\r\n" * PIECE)
    else:
        with pytest.raises(DeliveryFailed, match="it answered 500"):
            delivered_to(head, b"1\r\na\r\n" * PIECE)
    assert len(parts) == ANSWER_PARTS_MAXIMUM


def test_some_words_before_an_answer_are_none_of_it(parts: list[object]) -> None:
    delivered_to(b"HTTP/1.1 102 \r\n\r\n" * 3 + b"HTTP/1.1 204 \r\n\r\n", b"")
    assert len(parts) < ANSWER_PARTS_MAXIMUM
