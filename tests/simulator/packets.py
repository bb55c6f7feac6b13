"""The packets that a run is full of, between bytes and tuples, without the broker's codec.

Here belong PUBLISH and its acknowledgements; the rare ones go through ``broker._core.packets``. Not here: what a
packet means to a client.
"""

from __future__ import annotations

PUBACK, PUBREC, PUBREL, PUBCOMP = 4, 5, 6, 7
PINGREQ = b"\xc0\x00"
SUBSCRIPTION_IDENTIFIER = 0x0B
MESSAGE_EXPIRY_INTERVAL = 0x02
USER_PROPERTY = 0x26


def varint(value: int) -> bytes:
    """Write a Variable Byte Integer."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a Variable Byte Integer; returns it and where it ends. ``IndexError`` when it is not whole."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def ack(kind: int, packet_id: int, reason_code: int = 0) -> bytes:
    """Write an acknowledgement in its shortest form; 3.1.1 has no reason code but 0."""
    first = kind << 4 | (2 if kind == PUBREL else 0)
    if reason_code:
        return bytes((first, 3, packet_id >> 8, packet_id & 255, reason_code))
    return bytes((first, 2, packet_id >> 8, packet_id & 255))


def publish(
    version: int, topic: bytes, payload: bytes, qos: int, packet_id: int, *, retain: bool, dup: bool, properties: bytes
) -> bytes:
    """Write a PUBLISH; ``properties`` are encoded, without their length."""
    body = len(topic).to_bytes(2, "big") + topic
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == 5:
        body += varint(len(properties)) + properties
    return bytes((0x30 | dup << 3 | qos << 1 | retain,)) + varint(len(body) + len(payload)) + body + payload


def read_publish(data: bytes, first: int, at: int, end: int, version: int) -> tuple[bytes, int, bytes, tuple[int, ...]]:
    """Read topic, packet identifier (0: none), payload and subscription identifiers; ``at`` is behind the header."""
    topic_end = at + 2 + (data[at] << 8 | data[at + 1])
    topic, at = data[at + 2 : topic_end], topic_end
    packet_id = 0
    identifiers: tuple[int, ...] = ()
    if first & 6:
        packet_id = data[at] << 8 | data[at + 1]
        at += 2
    if version == 5:
        if data[at] == 0:
            at += 1
        else:
            at, identifiers = read_properties(data, at)
    return topic, packet_id, data[at:end], identifiers


def read_properties(data: bytes, at: int) -> tuple[int, tuple[int, ...]]:
    """Read a PUBLISH's properties: where they end, and the subscription identifiers."""
    length, at = read_varint(data, at)
    end = at + length
    identifiers: tuple[int, ...] = ()
    while at < end:
        kind = data[at]
        at += 1
        if kind == SUBSCRIPTION_IDENTIFIER:
            one, at = read_varint(data, at)
            identifiers += (one,)
        elif kind == MESSAGE_EXPIRY_INTERVAL:
            at += 4
        elif kind == USER_PROPERTY:
            for _ in range(2):
                at += 2 + (data[at] << 8 | data[at + 1])
        else:
            raise AssertionError(f"a property that nobody has sent: {kind}")
    return end, identifiers
