"""The PROXY protocol's header: both versions, whole and in parts."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker._core.proxy_header import proxy_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MAXIMUM_BYTES = 2048
V4 = ipaddress.IPv6Address("::ffff:192.0.2.7").packed
V6 = ipaddress.IPv6Address("2001:db8::7").packed


def binary(command: int, family: int, body: bytes, size: int | None = None) -> bytes:
    """A header of version 2."""
    length = len(body) if size is None else size
    return SIGNATURE + bytes([0x20 | command, family << 4 | 1]) + length.to_bytes(2, "big") + body


INET = ipaddress.IPv4Address("192.0.2.7").packed + bytes([192, 0, 2, 1]) + b"\x12\x34\x07\x5b"
INET6 = V6 + ipaddress.IPv6Address("2001:db8::1").packed + b"\x12\x34\x07\x5b"
LONGEST = b"2001:0db8:0000:0000:0000:0000:0000:0007"
GOOD = {
    "line, IPv4": (b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n", V4),
    "line, IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 1883\r\n", V6),
    "line, the longest": (b"PROXY TCP6 " + LONGEST + b" " + LONGEST + b" 65535 65535\r\n", V6),
    "line, of nobody known": (b"PROXY UNKNOWN\r\n", b""),
    "line, of nobody known, with words": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", b""),
    "binary, IPv4": (binary(1, 1, INET), V4),
    "binary, IPv6": (binary(1, 2, INET6), V6),
    "binary, with extensions": (binary(1, 1, INET + b"\x04\x00\x03abc"), V4),
    "binary, the largest": (binary(1, 1, INET + bytes(MAXIMUM_BYTES - 16 - len(INET))), V4),
    "binary, a health check": (binary(0, 0, b""), b""),
    "binary, a health check with an address": (binary(0, 1, INET), b""),
    "binary, a Unix socket": (binary(1, 3, bytes(216)), b""),
}
BAD = {
    "MQTT": b"\x10\x0c\0\4MQTT\4\2\0\0\0\0",
    "TLS": b"\x16\x03\x01\x02\x00",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "a line without end": b"PROXY TCP4 " + b"1" * 200,
    "a line that ends without CR": b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n",
    "an unknown family": b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
    "no address": b"PROXY TCP4 \r\n\r\n",
    "one word": b"PROXY TCP4 192.0.2.7\r\n",
    "IPv4 as IPv6": b"PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
    "IPv6 as IPv4": b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
    "no destination": b"PROXY TCP4 192.0.2.7 \r\n",
    "a destination that is none": b"PROXY TCP4 192.0.2.7 no address at all\r\n",
    "no ports": b"PROXY TCP4 192.0.2.7 192.0.2.1\r\n",
    "one port": b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n",
    "too large a port": b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 1\r\n",
    "a port below zero": b"PROXY TCP4 192.0.2.7 192.0.2.1 1 -1\r\n",
    "a port with a zero before it": b"PROXY TCP4 192.0.2.7 192.0.2.1 01 1\r\n",
    "five words": b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n",
    "two blanks": b"PROXY TCP4 192.0.2.7  192.0.2.1 1 2\r\n",
    "a NUL behind the address": b"PROXY TCP4 192.0.2.7\0x 192.0.2.1 1 2\r\n",
    "a word like UNKNOWN": b"PROXY UNKNOWNxyz\r\n",
    "a name": b"PROXY TCP4 localhost localhost 1 2\r\n",
    "too long an address": b"PROXY TCP4 " + b"1" * 60 + b" 1 1 1\r\n",
    "version 1 in binary": SIGNATURE + b"\x11\x11\x00\x0c" + INET,
    "an unknown command": binary(2, 1, INET),
    "a short IPv4": binary(1, 1, INET[:11]),
    "a short IPv6": binary(1, 2, INET6[:35]),
    "a length beyond the limit": binary(1, 1, INET, MAXIMUM_BYTES - 15),
}


@pytest.mark.parametrize("good", GOOD)
def test_a_header_is_read_whole_and_asks_for_more_before(good: str) -> None:
    header, address = GOOD[good]
    assert proxy_address(header + b"what follows") == (len(header), address)
    for at in range(len(header)):
        assert proxy_address(header[:at])[0] == 0, at


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_header_is_refused(bad: str) -> None:
    assert proxy_address(BAD[bad])[0] == -1


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(data: bytes) -> None:
    size, address = proxy_address(data)
    assert -1 <= size <= len(data)
    assert len(address) in {0, 16}


@given(st.binary(max_size=300))
def test_anything_behind_a_signature_is_judged(data: bytes) -> None:
    size, _ = proxy_address(SIGNATURE + data)
    assert -1 <= size <= len(data) + 12
