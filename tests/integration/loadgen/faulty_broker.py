"""A small broker that injects known faults, against which the load generator's counts are compared.

Belongs here: routing of PUBLISH to matching subscribers, with every Nth delivery dropped, repeated, held back or late,
and the count of what was really done. Not here: conformance; it accepts only what the load generator sends.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import struct
from collections.abc import Awaitable, Callable

Read = Callable[[int], Awaitable[bytes]]
Write = Callable[[bytes], None]

_WEBSOCKET_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def topic_matches(topic_filter: str, topic_name: str) -> bool:
    """Whether the filter matches the name, level by level."""
    filter_levels, name_levels = topic_filter.split("/"), topic_name.split("/")
    for i, level in enumerate(filter_levels):
        if level == "#":
            return True
        if i >= len(name_levels) or level not in ("+", name_levels[i]):
            return False
    return len(filter_levels) == len(name_levels)


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(out)


class FaultyBroker:
    """Routes every PUBLISH; every Nth delivery is faulty (0: never). ``delay_s`` holds each PUBLISH, and its reader.

    With ``misroute`` everybody gets everything.
    """

    def __init__(
        self,
        *,
        drop: int = 0,
        duplicate: int = 0,
        swap: int = 0,
        corrupt: int = 0,
        misroute: bool = False,
        delay_s: float = 0.0,
        websocket: bool = False,
    ) -> None:
        self.drop, self.duplicate, self.swap, self.corrupt = drop, duplicate, swap, corrupt
        self.misroute = misroute
        self.delay_s, self.websocket = delay_s, websocket
        self.subscriptions: dict[str, list[tuple[Write, int, bool]]] = {}
        self.deliveries = self.dropped = self.duplicated = self.swapped = self.corrupted = 0
        self.published = self.acks = self.pings = self.pongs = 0
        self.connects: set[bytes] = set()
        self.held: dict[object, bytes] = {}
        self._packet_id = 0

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The callback of ``asyncio.start_server``."""
        try:
            if self.websocket:
                await self._serve_websocket(reader, writer)
            else:
                await self._serve_mqtt(reader.readexactly, writer.write)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    # -- MQTT -----------------------------------------------------------------------------------------------------

    async def _serve_mqtt(self, read: Read, write: Write) -> None:
        version = 0
        while True:
            first_byte, body = await self._read_packet(read)
            packet_type = first_byte >> 4
            if packet_type == 1:
                version = body[6]
                assert body[:6] == b"\0\4MQTT"
                assert version in (4, 5)
                self.connects.add(body[10:])
                write(b"\x20\x03\x00\x00\x00" if version == 5 else b"\x20\x02\x00\x00")
            elif packet_type == 8:
                write(self._subscribe(body, write, version == 5))
            elif packet_type == 3:
                await self._publish(first_byte, body, write, version == 5)
            elif packet_type == 5:
                write(b"\x62\x02" + body[:2])
            elif packet_type == 6:
                write(b"\x70\x02" + body[:2])
            elif packet_type in (4, 7):
                self.acks += 1
            elif packet_type == 12:
                self.pings += 1
                write(b"\xd0\x00")
            elif packet_type == 14:
                return

    async def _read_packet(self, read: Read) -> tuple[int, bytes]:
        (first_byte,) = await read(1)
        length = shift = 0
        while True:
            (byte,) = await read(1)
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return first_byte, await read(length)

    def _subscribe(self, body: bytes, write: Write, v5: bool) -> bytes:
        at, codes = 3 if v5 else 2, b""
        while at < len(body):
            (n,) = struct.unpack_from(">H", body, at)
            qos = body[at + 2 + n] & 3
            self.subscriptions.setdefault(body[at + 2 : at + 2 + n].decode(), []).append((write, qos, v5))
            codes += bytes([qos])
            at += 3 + n
        answer = body[:2] + (b"\0" if v5 else b"") + codes
        return b"\x90" + _varint(len(answer)) + answer

    async def _publish(self, first_byte: int, body: bytes, write: Write, v5: bool) -> None:
        self.published += 1
        qos = (first_byte >> 1) & 3
        (n,) = struct.unpack_from(">H", body)
        name, at = body[: 2 + n], 2 + n
        if qos:
            write(bytes([0x40 if qos == 1 else 0x50, 2]) + body[at : at + 2])
            at += 2
        if v5:
            assert body[at] == 0, "no properties"
            at += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        for topic_filter, receivers in self.subscriptions.items():
            if not self.misroute and not topic_matches(topic_filter, name[2:].decode()):
                continue
            for i, (send, granted_qos, receiver_v5) in enumerate(receivers):
                packet = self._encode(name, body[at:], min(qos, granted_qos), receiver_v5)
                self._deliver(send, packet, (topic_filter, i, name))

    def _encode(self, name: bytes, payload: bytes, qos: int, v5: bool) -> bytes:
        self._packet_id = self._packet_id % 65535 + 1
        body = name + (struct.pack(">H", self._packet_id) if qos else b"") + (b"\0" if v5 else b"") + payload
        return bytes([0x30 | qos << 1]) + _varint(len(body)) + body

    def _deliver(self, send: Write, packet: bytes, receiver: object) -> None:
        self.deliveries += 1
        if self.drop and self.deliveries % self.drop == 0:
            self.dropped += 1
        elif self.corrupt and self.deliveries % self.corrupt == 0:
            self.corrupted += 1
            send(packet[:-1] + bytes([packet[-1] ^ 1]))
        elif receiver in self.held:  # the newer of a swapped pair goes first
            send(packet)
            send(self.held.pop(receiver))
        elif self.swap and self.deliveries % self.swap == 0:
            self.swapped += 1
            self.held[receiver] = packet
        else:
            send(packet)
            if self.duplicate and self.deliveries % self.duplicate == 0:
                self.duplicated += 1
                send(packet)

    # -- WebSocket ------------------------------------------------------------------------------------------------

    async def _serve_websocket(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._upgrade((await reader.readuntil(b"\r\n\r\n")).decode()))
        unframed = bytearray()

        async def read(n: int) -> bytes:
            while len(unframed) < n:
                unframed.extend(await self._read_frame(reader))
            taken = bytes(unframed[:n])
            del unframed[:n]
            return taken

        def write(data: bytes) -> None:  # in odd pieces, at times with a ping between, to test reassembly
            for i in range(0, len(data), 50):
                piece = data[i : i + 50]
                writer.write(bytes([0x82, len(piece)]) + piece)
            if self.deliveries % 97 == 0:
                writer.write(b"\x89\x02hi")

        await self._serve_mqtt(read, write)

    def _upgrade(self, request: str) -> bytes:
        headers = dict(line.split(": ", 1) for line in request.split("\r\n")[1:] if line)
        key = headers["Sec-WebSocket-Key"].encode()
        assert headers["Sec-WebSocket-Protocol"] == "mqtt"
        assert len(base64.b64decode(key)) == 16
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_MAGIC, usedforsecurity=False).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        )

    async def _read_frame(self, reader: asyncio.StreamReader) -> bytes:
        first_byte, length = await reader.readexactly(2)
        assert first_byte in (0x82, 0x8A), "whole binary frames, or a pong"
        assert length & 128, "a client's frames are masked"
        length &= 127
        if length == 126:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await reader.readexactly(8))
        mask = await reader.readexactly(4)
        data = bytes(x ^ mask[i & 3] for i, x in enumerate(await reader.readexactly(length)))
        if first_byte == 0x82:
            return data
        assert data == b"hi"
        self.pongs += 1
        return b""
