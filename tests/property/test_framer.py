"""The test broker's proxy cuts bytes into packets as the core does, however they arrive, and loses none of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker._core.encoding import varint
from broker.testing.proxy import Framer

packets = st.builds(
    lambda kind, body: bytes((kind << 4,)) + varint(len(body)) + body,
    st.integers(1, 15),
    st.binary(max_size=300),
)


def fed(data: bytes, cuts: list[int]) -> tuple[list[bytes], bytes]:
    """What comes out when the data arrives in pieces, and what is kept."""
    framer, found, at = Framer(), [], 0
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found += framer.feed(data[at:end])
        at = end
    return found, framer.rest()


@given(st.lists(packets, max_size=10), st.binary(max_size=3), st.lists(st.integers(0, 10_000), max_size=10))
def test_packets_come_out_whole_and_in_order_wherever_the_bytes_are_cut(
    whole: list[bytes], rest: bytes, cuts: list[int]
) -> None:
    rest = rest and b"\x30\x7f" + rest  # the beginning of one more
    assert fed(b"".join(whole) + rest, cuts) == (whole, rest)


@given(st.binary(max_size=500), st.lists(st.integers(0, 10_000), max_size=10))
def test_no_byte_is_lost_or_changed_whatever_they_are(data: bytes, cuts: list[int]) -> None:
    found, rest = fed(data, cuts)
    assert b"".join(found) + rest == data


@given(st.binary(max_size=100), st.lists(st.integers(0, 10_000), max_size=5))
def test_what_cannot_be_a_packet_passes_at_once(data: bytes, cuts: list[int]) -> None:
    impossible = b"\x10\xff\xff\xff\xff" + data
    found, rest = fed(impossible, cuts)
    assert b"".join(found) == impossible
    assert rest == b""
