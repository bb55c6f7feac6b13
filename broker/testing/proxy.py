"""A TCP proxy that understands where MQTT packets begin and end: the place where faults of the network act.

Here belong sockets and framing. Not here: which packets are struck (``faults``). What is no MQTT passes untouched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Self

from broker._core.framing import fixed_header
from broker._core.packets import decode
from broker.testing.faults import ANY_CLIENT, PACKET_TYPES, Direction, Faults, Kind
from broker.wire import Connack, Connect, ProtocolViolation

READ_BYTES = 64 * 1024
DUP_FLAG = 0x08
QOS_FLAGS = 0x06

Sleep = Callable[[float], Awaitable[None]]


class Framer:
    """Cuts a stream of bytes into packets; what cannot be one is given as it is, from there to the end."""

    def __init__(self) -> None:
        self._buffer = b""
        self._blind = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes, give the packets that are whole."""
        self._buffer += data
        while self._buffer:
            size = self._size()
            if size is None or size > len(self._buffer):
                return
            whole, self._buffer = self._buffer[:size], self._buffer[size:]
            yield whole

    def _size(self) -> int | None:
        if self._blind:
            return len(self._buffer)
        try:
            header = fixed_header(self._buffer[:5])
        except ProtocolViolation:
            self._blind = True
            return len(self._buffer)
        return None if header is None else sum(header)

    def rest(self) -> bytes:
        """Give what has come of a packet that is not whole."""
        return self._buffer


class _Cut(Exception):
    """A fault ends this connection."""


class _Passage:
    """One client's connection through the proxy."""

    def __init__(
        self, faults: Faults, sleep: Sleep, client: asyncio.StreamWriter, broker: asyncio.StreamWriter
    ) -> None:
        self._faults = faults
        self._sleep = sleep
        self._client = client
        self._broker = broker
        self._version = 5
        self.client_id = ""
        self.is_connected = False

    def cut(self) -> None:
        """End both sides at once, without a word."""
        self._client.transport.abort()
        self._broker.transport.abort()

    async def run(self, from_client: asyncio.StreamReader, from_broker: asyncio.StreamReader) -> None:
        """Carry both directions until both have ended, or one is cut."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(from_client, self._broker, "to_broker"))
                both.create_task(self._carry(from_broker, self._client, "to_client"))
        except* (OSError, _Cut):
            self.cut()
        finally:
            self.is_connected = False
            for writer in (self._client, self._broker):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        framer = Framer()
        while data := await reader.read(READ_BYTES):
            for packet in framer.feed(data):
                self._look(packet, direction)
                await self._pass(packet, writer, direction)
            await writer.drain()
        if framer.rest():
            writer.write(framer.rest())
        if writer.can_write_eof():
            writer.write_eof()

    async def _pass(self, packet: bytes, writer: asyncio.StreamWriter, direction: Direction) -> None:
        hit = self._faults.meet(self.client_id, packet[0] >> 4, direction)
        if hit is None:
            writer.write(packet)
        elif hit.kind is Kind.DELAY:
            await self._sleep(hit.seconds)
            writer.write(packet)
        elif hit.kind is Kind.DUPLICATE:
            writer.write(packet + _again(packet))
        elif hit.kind is Kind.DISCONNECT:
            raise _Cut

    def _look(self, packet: bytes, direction: Direction) -> None:
        """Learn whose connection it is from its CONNECT, or from the CONNACK that assigns an id."""
        kind = packet[0] >> 4
        if direction == "to_broker" and kind == PACKET_TYPES["CONNECT"]:
            self._version = _level(packet)
            with suppress(ProtocolViolation):
                connect = decode(packet, self._version)
                self.client_id = connect.client_id if isinstance(connect, Connect) else ""
        elif direction == "to_client" and kind == PACKET_TYPES["CONNACK"]:
            with suppress(ProtocolViolation):
                connack = decode(packet, self._version, from_client=False)
                if isinstance(connack, Connack) and connack.reason_code == 0:
                    self.client_id = str(connack.properties.get("assigned_client_identifier", self.client_id))
                    self.is_connected = True


class Proxy:
    """Listens on a free port of 127.0.0.1 and carries each connection to ``port``; ``async with`` opens and ends it."""

    def __init__(self, port: int, faults: Faults, sleep: Sleep) -> None:
        self._broker_port = port
        self._faults = faults
        self._sleep = sleep
        self._server: asyncio.Server | None = None
        self._passages: dict[asyncio.Task[None], _Passage] = {}
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._server is not None
        self._server.close()
        running = list(self._passages)
        for passage in self._passages.values():
            passage.cut()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._server.wait_closed()

    def client_ids(self) -> list[str]:
        """Ids of the clients that are connected, in the order in which they came."""
        return [one.client_id for one in list(self._passages.values()) if one.is_connected]

    def cut(self, client_id: str) -> None:
        """Cut a client's connections now. Raises ``LookupError`` with the ids that are connected."""
        found = [
            passage
            for passage in self._passages.values()
            if passage.is_connected and client_id in (passage.client_id, ANY_CLIENT)
        ]
        if not found:
            names = ", ".join(repr(one) for one in self.client_ids()) or "nobody"
            raise LookupError(f"no client {client_id!r} is connected; there is {names}")
        for passage in found:
            passage.is_connected = False
            passage.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except OSError:
            writer.close()
            return
        passage = self._passages[task] = _Passage(self._faults, self._sleep, writer, to_broker)
        try:
            await passage.run(reader, from_broker)
        except asyncio.CancelledError:
            passage.cut()  # the test is over; asyncio before 3.12 shouts when this goes further
        finally:
            del self._passages[task]


def _again(packet: bytes) -> bytes:
    """Make the second copy: a PUBLISH that is acknowledged says that it is one."""
    if packet[0] >> 4 == PACKET_TYPES["PUBLISH"] and packet[0] & QOS_FLAGS:
        return bytes((packet[0] | DUP_FLAG,)) + packet[1:]
    return packet


def _level(packet: bytes) -> int:
    """Find the protocol version of a CONNECT, 4 where it cannot be told."""
    header = fixed_header(packet[:5])
    start = header[0] if header else 2
    at = start + 2 + int.from_bytes(packet[start : start + 2], "big")
    return 5 if packet[at : at + 1] == b"\x05" else 4
