"""Strings: what counts as UTF-8 in MQTT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker._core.utf8 import is_valid_utf8

ILL_FORMED = [
    "ED A0 80",  # first surrogate
    "ED BF BF",  # last surrogate
    "C0 AF",  # overlong
    "C1 BF",
    "E0 9F BF",
    "F0 8F BF BF",
    "F4 90 80 80",  # above U+10FFFF
    "F5 80 80 80",
    "C3 28",  # no tail
    "80",  # a tail alone
    "E2 82",  # cut short
    "F0 9F 92",
    "FF",
    "FE",
]
WELL_FORMED = ["", "41", "7F", "01", "C2 80", "DF BF", "E0 A0 80", "ED 9F BF", "EE 80 80", "EF BF BF", "F0 90 80 80",
               "F4 8F BF BF", "EF BB BF 61"]  # fmt: skip


def everywhere(data: bytes) -> list[bytes]:
    """The bytes alone, and at each place relative to the words of eight that the fast path takes."""
    return [data] + [b"a" * before + data + b"b" * after for before in range(10) for after in range(10)]


@pytest.mark.clause("v5:MQTT-1.5.4-1", "v311:MQTT-1.5.3-1")
@pytest.mark.parametrize("data", ILL_FORMED)
def test_ill_formed_utf8_is_refused_at_every_offset(data: str) -> None:
    assert not any(is_valid_utf8(one) for one in everywhere(bytes.fromhex(data)))


@pytest.mark.clause("v5:MQTT-1.5.4-2", "v311:MQTT-1.5.3-2")
def test_u0000_is_refused_at_every_offset() -> None:
    assert not any(is_valid_utf8(one) for one in everywhere(b"\0"))


@pytest.mark.clause("v5:MQTT-1.5.4-3", "v311:MQTT-1.5.3-3")
@pytest.mark.parametrize("data", WELL_FORMED)
def test_well_formed_utf8_is_accepted_at_every_offset(data: str) -> None:
    assert all(is_valid_utf8(one) for one in everywhere(bytes.fromhex(data)))


@given(st.binary(max_size=40) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_the_verdict_is_that_of_python_and_no_u0000(data: bytes) -> None:
    try:
        expected = "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        expected = False
    assert is_valid_utf8(data) == expected
