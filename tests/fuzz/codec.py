"""Fuzz target: the packet codec. The first byte of an input picks what follows, the rest is one packet.

Bits of the first byte: 1 is version 5, 2 is a packet from the server, 4 keeps the remaining length as it is; otherwise
it is made to fit, so that damage reaches the fields behind it. Handled means: a packet that survives being written and
read again, or a ``ProtocolViolation``.
"""

from __future__ import annotations

from broker._core.codec_probe import parse_exactly, publish_start
from broker._core.framing import fixed_header
from broker._core.packets import decode, encode
from broker.wire import ProtocolViolation


def one_input(data: bytes) -> None:
    """Decode, encode, decode; compare."""
    if not data:
        return
    version = 5 if data[0] & 1 else 4
    from_client = not data[0] & 2
    given = data[1:] if data[0] & 4 else with_fitting_length(data[1:])
    if given:
        parse_exactly(given[0], given[1:], version)
        parse_exactly(given[0], given[2:], version)
    try:
        packet = decode(given, version, from_client=from_client)
    except ProtocolViolation:
        return
    written = encode(packet, version)
    if decode(written, version, from_client=from_client) != packet:
        raise AssertionError(f"changed by its own encoding: {packet}")
    header = fixed_header(written)
    if header is None or sum(header) != len(written):
        raise AssertionError(f"wrong remaining length: {written.hex()}")


def with_fitting_length(data: bytes) -> bytes:
    """The same packet with the remaining length that it has."""
    behind = 1
    while behind < min(len(data), 4) and data[behind] & 0x80:
        behind += 1
    body = data[behind + 1 :]
    return publish_start(data[0], len(body)) + body if data else b""
