"""The native digest is BLAKE2b, by the standard library's word."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker._core.blake2b import keyed_digest
from broker.policy.credentials import credential as credential_of_the_directory
from tests.support.core import SECRET, Core, credential


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 255, 256, 257, 1000, 65_537])
@pytest.mark.parametrize("key_size", [0, 1, 32, 64])
def test_every_edge_of_a_block(size: int, key_size: int) -> None:
    data, key = bytes(number % 251 for number in range(size)), bytes(range(key_size))
    assert keyed_digest(data, key) == hashlib.blake2b(data, key=key, digest_size=32).digest()


@given(st.binary(max_size=600), st.binary(max_size=64))
def test_any_data_and_key(data: bytes, key: bytes) -> None:
    assert keyed_digest(data, key) == hashlib.blake2b(data, key=key, digest_size=32).digest()


def test_a_key_has_at_most_64_bytes() -> None:
    with pytest.raises(ValueError, match="64"):
        keyed_digest(b"", bytes(65))


def test_the_core_knows_what_the_directory_wrote() -> None:
    assert credential("user", b"pw") == credential_of_the_directory(SECRET, "user", b"pw")
    core = Core()
    core.grant("\u00e9" * 200, b"\x00" * 300)
    core.connect("c", user_name="\u00e9" * 200, password=b"\x00" * 300)
    core.end()


def test_name_and_password_do_not_run_together() -> None:
    assert credential("ab", b"c") != credential("a", b"bc")
