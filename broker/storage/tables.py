"""The names of the store's tables, and the one spelling of their keys.

Here belongs what every implementation and every owner of records must agree on. Not here: the records themselves.
"""

from __future__ import annotations

import struct

ACCOUNTS = "accounts"
KEYS = "keys"
DEVICES = "devices"
SEEN = "seen"
COUNTERS = "counters"
JOURNAL = "journal"

TABLES = (ACCOUNTS, KEYS, DEVICES, SEEN, COUNTERS, JOURNAL)

MAXIMUM_KEY_BYTES = 511

_NUMBER = struct.Struct(">I")


def number_key(number: int) -> bytes:
    """Key of a 32-bit number: big-endian, so that key order is the order in which numbers were given."""
    return _NUMBER.pack(number)


def key_number(key: bytes) -> int:
    """Return the number that ``number_key`` packed."""
    number: int = _NUMBER.unpack(key)[0]
    return number


def check_change(table: str, key: bytes) -> str:
    """Say what is wrong with a change's place, or an empty string: the law is the same in every implementation."""
    if table not in TABLES:
        return f"there is no table {table!r}"
    if not 0 < len(key) <= MAXIMUM_KEY_BYTES:
        return f"a key has 1 to {MAXIMUM_KEY_BYTES} bytes, not {len(key)}"
    return ""
