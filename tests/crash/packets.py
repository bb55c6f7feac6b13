"""What this machine's clients send and read: CONNECT with everything that outlives it, and packets out of a stream.

Here belong bytes alone. Not here: packets that ``tests.integration.wire`` makes already, and what a packet means.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tests.integration.wire import CONNECT, V5, binary, packet, properties

SESSION_EXPIRY = b"\x11"
RECEIVE_MAXIMUM = b"\x21"
WILL_DELAY = b"\x18"
NO_RETAINED = 0x20
"""Retain handling 2 among the options of a subscription: nothing that is retained is sent."""


class Will(NamedTuple):
    """What a CONNECT asks to be published when its connection is lost."""

    topic_name: str
    payload: bytes
    qos: int
    delay_s: int = 0


class Login(NamedTuple):
    """Who connects; None for a broker that asks nobody."""

    username: str
    password: str


def connect(
    version: int,
    client_id: str,
    login: Login | None,
    *,
    clean: bool,
    expiry_s: int,
    will: Will | None = None,
    receive_maximum: int = 0,
) -> bytes:
    """CONNECT; 3.1.1 knows ``clean`` alone, and keeps for ever what is not."""
    flags = (0xC0 if login else 0) | (0x02 if clean else 0)
    own = SESSION_EXPIRY + struct.pack("!I", expiry_s)
    own += RECEIVE_MAXIMUM + struct.pack("!H", receive_maximum) if receive_maximum else b""
    tail = binary(client_id)
    if will is not None:
        flags |= 0x04 | will.qos << 3
        tail += properties(version, WILL_DELAY + struct.pack("!I", will.delay_s))
        tail += binary(will.topic_name) + binary(will.payload)
    if login is not None:
        tail += binary(login.username) + binary(login.password)
    head = binary("MQTT") + bytes([version, flags]) + b"\0\0"
    return packet(CONNECT << 4, head + properties(version, own) + tail)


def acknowledgement(first_byte: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP with success, the same in both versions."""
    return struct.pack("!BBH", first_byte, 2, packet_id)


class Published(NamedTuple):
    """A PUBLISH as it arrived."""

    topic_name: str
    packet_id: int
    payload: bytes


def read_publish(version: int, flags: int, body: bytes) -> Published:
    """Take a PUBLISH apart."""
    size = body[0] << 8 | body[1]
    topic_name = body[2 : 2 + size].decode()
    at = 2 + size
    packet_id = 0
    if flags & 6:
        packet_id = body[at] << 8 | body[at + 1]
        at += 2
    if version == V5:
        length, shift = 0, 0
        while True:
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        at += length
    return Published(topic_name, packet_id, body[at:])


class Splitter:
    """Whole packets out of a stream: ``(kind, flags, body)``."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Take what came; return the packets that are whole now."""
        if self._rest:
            data = self._rest + data
        found = []
        at, end = 0, len(data)
        while end - at >= 2:
            length, shift, start = 0, 0, at + 1
            while start < end:
                byte = data[start]
                start += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            else:
                break
            if start + length > end:
                break
            found.append((data[at] >> 4, data[at] & 15, data[start : start + length]))
            at = start + length
        self._rest = data[at:]
        return found
