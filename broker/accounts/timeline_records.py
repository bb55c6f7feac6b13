"""The records of a device's timeline, and their bytes: msgpack lists that begin with a version.

Here belong entries and their encoding. Not here: how entries come about (``timeline``), what they mean to people
(``timeline_words``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from broker.errors import StoreError
from broker.storage.tables import number_key

VERSION = 1
RECENT_ENTRIES = 20
KEPT_ENTRIES = 100
"""Of a device, the newest."""

LAST_MS = 253_402_300_799_999  # the end of the year 9999

REFUSED = "refused_"

_RECENT, _OLDER = b"\0", b"\1"
_TYPES = (int, str, int, int, int, str, str, str, str)


@dataclass(frozen=True, slots=True)
class Entry:
    """What has happened ``count`` times, from ``first_ms`` to ``last_ms`` (milliseconds of UTC).

    ``protocol`` with its version, ``address``, ``other`` and ``text`` are of the last time: see ``stories.Event``.
    ``number`` grows with each entry of a device, and is new when an entry happens again; 0 before it is written.
    """

    code: str
    first_ms: int
    last_ms: int
    count: int = 1
    protocol: str = ""
    address: str = ""
    other: str = ""
    text: str = ""
    number: int = 0

    def says_the_same(self, other: Entry) -> bool:
        """Tell whether another one differs in its time alone.

        Refused logins are one whatever they come from: strangers must not push out what else there is.
        """
        if (self.code, self.text) != (other.code, other.text):
            return False
        mine = (self.protocol, self.address, self.other)
        return self.code.startswith(REFUSED) or mine == (other.protocol, other.address, other.other)


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest entries of a device, oldest first, the number of its next one, and the last commit's token."""

    next_number: int = 1
    token: int = 0
    entries: Sequence[Entry] = ()


def recent_key(device_number: int) -> bytes:
    """Key of a device's newest entries."""
    return number_key(device_number) + _RECENT


def older_key(device_number: int) -> bytes:
    """Key of the entries before those."""
    return number_key(device_number) + _OLDER


def is_timeline(key: bytes, value: bytes) -> bool:
    """Tell whether this can be one of the two. Raises ``StoreError`` for what is neither."""
    if len(key) != 5 or key[4:] not in (_RECENT, _OLDER):
        return False
    if key[4:] == _RECENT:
        decode_recent(value)
    else:
        decode_older(value)
    return True


def encode_recent(recent: Recent) -> bytes:
    """Bytes for the store."""
    packed: bytes = msgpack.packb([VERSION, recent.next_number, recent.token, *map(_row, recent.entries)])
    return packed


def encode_older(entries: Sequence[Entry]) -> bytes:
    """Bytes for the store."""
    packed: bytes = msgpack.packb([VERSION, *map(_row, entries)])
    return packed


def decode_recent(value: bytes) -> Recent:
    """Read what ``encode_recent`` wrote. Raises ``StoreError`` for anything else."""
    fields = _unpacked(value)
    if len(fields) < 2 or not all(type(one) is int and one >= 0 for one in fields[:2]):
        raise StoreError("a damaged record of a timeline: no numbers")
    return Recent(fields[0], fields[1], tuple(map(_entry, fields[2:])))


def decode_older(value: bytes) -> Sequence[Entry]:
    """Read what ``encode_older`` wrote. Raises ``StoreError`` for anything else."""
    return tuple(map(_entry, _unpacked(value)))


def _unpacked(value: bytes) -> list[Any]:
    try:
        version, *fields = msgpack.unpackb(value)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise StoreError(f"a damaged record of a timeline: {error}") from error
    if version != VERSION:
        raise StoreError(f"a record of a timeline of version {version}: this broker is too old for its store")
    found: list[Any] = fields
    return found


def _row(entry: Entry) -> list[object]:
    """Give an entry as a list, without the empty texts at its end."""
    row: list[object] = [
        entry.number, entry.code, entry.first_ms, entry.last_ms - entry.first_ms, entry.count,
        entry.protocol, entry.address, entry.text, entry.other,
    ]  # fmt: skip
    while row[-1] == "":
        row.pop()
    return row


def _entry(row: Any) -> Entry:
    if not isinstance(row, list) or not 5 <= len(row) <= len(_TYPES):
        raise StoreError("a damaged record of a timeline: an entry that is none")
    whole = [*row, *("" for _ in range(len(_TYPES) - len(row)))]
    if any(type(one) is not kind for one, kind in zip(whole, _TYPES, strict=True)):
        raise StoreError("a damaged record of a timeline: an entry that is none")
    number, code, first, lasted, times, protocol, address, text, other = whole
    if min(number, first, lasted, times) < 0 or first + lasted > LAST_MS:
        raise StoreError("a damaged record of a timeline: a number or a time that cannot be")
    return Entry(code, first, first + lasted, times, protocol, address, other, text, number)
