"""A small MQTT client written from the specification, for what libraries refuse to send and do not show.

Here belong packets as bytes and a blocking socket to send them on. Not here: anything of the broker's own codec, which
is what these bytes test.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Self

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK = range(1, 10)
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(10, 16)
V311, V5 = 4, 5
TIMEOUT_S = 15.0


class Packet(NamedTuple):
    """One packet as received."""

    kind: int
    flags: int
    body: bytes

    @property
    def topic_name(self) -> str:
        (length,) = struct.unpack_from("!H", self.body)
        return self.body[2 : 2 + length].decode()

    def payload(self, version: int) -> bytes:
        """The payload of a PUBLISH."""
        at = 2 + struct.unpack_from("!H", self.body)[0] + (2 if self.flags & 6 else 0)
        if version == V5:
            length, size = _read_varint(self.body[at:])
            at += size + length
        return self.body[at:]

    @property
    def packet_id(self) -> int:
        """The identifier of a PUBLISH with QoS 1 or 2, or of an acknowledgement."""
        at = 2 + struct.unpack_from("!H", self.body)[0] if self.kind == PUBLISH else 0
        number: int = struct.unpack_from("!H", self.body, at)[0]
        return number


def _read_varint(data: bytes) -> tuple[int, int]:
    value = 0
    for size in range(4):
        value |= (data[size] & 0x7F) << 7 * size
        if data[size] < 0x80:
            return value, size + 1
    raise AssertionError("a variable byte integer has four bytes at most")


def varint(value: int) -> bytes:
    """A variable byte integer in its shortest form."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def binary(data: bytes | str) -> bytes:
    """Two bytes of length, then the data."""
    raw = data.encode() if isinstance(data, str) else data
    return struct.pack("!H", len(raw)) + raw


def packet(first_byte: int, body: bytes = b"") -> bytes:
    return bytes([first_byte]) + varint(len(body)) + body


def properties(version: int, raw: bytes = b"") -> bytes:
    """The property field of a version: nothing before 5."""
    return varint(len(raw)) + raw if version == V5 else b""


def connect(
    version: int,
    client_id: str | bytes = "raw",
    username: str | bytes | None = None,
    password: str | bytes | None = None,
    *,
    keep_alive_s: int = 0,
    flags: int | None = None,
    raw_properties: bytes = b"",
    name: bytes = b"MQTT",
    level: int | None = None,
) -> bytes:
    own = 2 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = binary(name) + bytes([version if level is None else level, own if flags is None else flags])
    body += struct.pack("!H", keep_alive_s) + properties(version, raw_properties) + binary(client_id)
    body += b"".join(binary(one) for one in (username, password) if one is not None)
    return packet(0x10, body)


def publish(
    version: int,
    topic_name: str | bytes,
    payload: bytes = b"",
    packet_id: int = 0,
    *,
    first_byte: int | None = None,
    raw_properties: bytes = b"",
) -> bytes:
    """A PUBLISH; with an identifier it is of QoS 1 unless the first byte says otherwise."""
    first = (0x32 if packet_id else 0x30) if first_byte is None else first_byte
    identifier = struct.pack("!H", packet_id) if first & 6 else b""
    return packet(first, binary(topic_name) + identifier + properties(version, raw_properties) + payload)


def subscribe(
    version: int, packet_id: int, filters: Sequence[str | bytes], options: int = 1, raw_properties: bytes = b""
) -> bytes:
    body = b"".join(binary(one) + bytes([options]) for one in filters)
    return packet(0x82, struct.pack("!H", packet_id) + properties(version, raw_properties) + body)


def unsubscribe(version: int, packet_id: int, filters: Sequence[str]) -> bytes:
    return packet(0xA2, struct.pack("!H", packet_id) + properties(version) + b"".join(map(binary, filters)))


def puback(packet_id: int) -> bytes:
    return packet(0x40, struct.pack("!H", packet_id))


def open_socket(port: int, receive_buffer_bytes: int = 0) -> socket.socket:
    """A connection to the broker; a small receive buffer makes a slow reader."""
    one = socket.socket()
    one.settimeout(TIMEOUT_S)
    if receive_buffer_bytes:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    try:
        one.connect(("127.0.0.1", port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an error where the other end is closed already
    except OSError:
        one.close()
        raise
    return one


class Client:
    """One connection; every wait ends after fifteen seconds with an error."""

    def __init__(self, port: int, version: int = V5, receive_buffer_bytes: int = 0) -> None:
        self.version = version
        self.socket = open_socket(port, receive_buffer_bytes)
        self._received = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; that the broker has closed meanwhile is seen by reading."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def login(self, username: str, password: str, client_id: str = "raw", keep_alive_s: int = 0) -> Client:
        """Connect and demand to be let in."""
        self.send(connect(self.version, client_id, username, password, keep_alive_s=keep_alive_s))
        answer = self.expect(CONNACK)
        assert answer.body[1] == 0, answer
        return self

    def read(self) -> Packet | None:
        """The next packet, or None when the broker has closed and everything before that was read."""
        while True:
            found = self._take()
            if found is not None:
                return found
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                assert not self._received, f"cut within a packet: {bytes(self._received[:64])!r}"
                return None
            self._received += more

    def _take(self) -> Packet | None:
        data = self._received
        if len(data) < 2 or (len(data) < 5 and all(byte & 0x80 for byte in data[1:])):
            return None
        length, size = _read_varint(bytes(data[1:5]))
        end = 1 + size + length
        if len(data) < end:
            return None
        found = Packet(data[0] >> 4, data[0] & 15, bytes(data[1 + size : end]))
        del data[:end]
        return found

    def expect(self, kind: int) -> Packet:
        """The next packet, which must be of this kind."""
        found = self.read()
        assert found is not None, f"closed instead of a packet of type {kind}"
        assert found.kind == kind, found
        return found

    def expect_closed(self, reason_code: int | None = None) -> None:
        """Demand the end of the connection; with a reason code, after a DISCONNECT that names it."""
        found = self.read()
        if reason_code is not None:
            assert found is not None, f"closed without DISCONNECT 0x{reason_code:02X}"
            assert (found.kind, found.body[:1].hex()) == (DISCONNECT, f"{reason_code:02x}"), found
            found = self.read()
        assert found is None, found

    def expect_refused(self, code: int | None) -> None:
        """Demand a CONNACK with a code, or none at all, and then the end."""
        if code is not None:
            assert self.expect(CONNACK).body[1] == code
        self.expect_closed()

    def ping(self) -> None:
        """One PINGREQ and its answer."""
        self.send(b"\xc0\x00")
        self.expect(PINGRESP)

    def subscribe(self, *filters: str, packet_id: int = 1, options: int = 1) -> list[int]:
        """One SUBSCRIBE; gives the codes of its answer."""
        self.send(subscribe(self.version, packet_id, filters, options))
        answer = self.expect(SUBACK)
        assert answer.packet_id == packet_id
        return list(answer.body[3 if self.version == V5 else 2 :])

    def publish_qos1(self, topic_name: str, payload: bytes, packet_id: int = 1) -> int:
        """One PUBLISH and its PUBACK; gives the reason code."""
        self.send(publish(self.version, topic_name, payload, packet_id))
        answer = self.expect(PUBACK)
        assert answer.packet_id == packet_id
        return answer.body[2] if len(answer.body) > 2 else 0

    def read_kind(self) -> int | None:
        """The type of the next packet; None at the end."""
        found = self.read()
        return None if found is None else found.kind

    def publish_within(self, topic_name: str, payload: bytes) -> list[bytes]:
        """Publish with QoS 1 to what oneself has subscribed to; gives all payloads that arrive before a PINGRESP.

        Each of them is acknowledged. The PUBACK may wait for the store, and come behind it.
        """
        self.send(publish(self.version, topic_name, payload, 1) + b"\xc0\x00")
        found: list[bytes] = []
        acknowledged = False
        answered = False
        while not (acknowledged and answered):
            one = self.read()
            assert one is not None, "the connection ended first"
            if one.kind == PUBLISH:
                found.append(one.payload(self.version))
                self.send(puback(one.packet_id))
            acknowledged |= one.kind == PUBACK
            answered |= one.kind == PINGRESP
        return found


def seconds_since(start: float) -> float:
    return time.monotonic() - start
