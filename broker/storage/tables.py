"""The names of the store's tables, and the one spelling of their keys.

Here belongs what every implementation and every owner of records must agree on. Not here: the records themselves.
"""

from __future__ import annotations

import struct

FORMAT = 2
"""The format that this version writes; a store without ``META`` is format 0."""

META = "meta"
"""About the store itself: ``FORMAT_KEY`` and ``NUMBERS_KEY``."""

ACCOUNTS = "accounts"
KEYS = "keys"
ADMIN_KEYS = "admin_keys"
DEVICES = "devices"
SEEN = "seen"
COUNTERS = "counters"
USAGE = "usage"
PASSWORDS_USED = "passwords_used"
"""By device number and the beginning of the password's digest: when it last let somebody in."""
TIMELINE = "timeline"
"""By device number and which of its two records: what has happened to it."""
ONLINE = "online"
"""By device number: since when it has a connection, as of a moment ago; who has none has no record."""
DAILY = "daily"
"""By account, UTC day (since 1970) and device number: ``day_key``."""
COUNTED = "counted"
"""By number: what was counted and may not be in ``DAILY`` and ``USAGE`` yet; number 0 says what is."""
TRACKED = "tracked"
"""By device number and tracking number: what has become of messages to devices."""
ANSWERS = "answers"
"""By account and 16 bytes that follow from a caller's secrets: sealed answers, for who asks again."""
AUDIT = "audit"
"""By account and number of the entry: ``audit_key``."""
WEBHOOKS = "webhooks"
"""By account and the webhook's id."""

CLAIMS = "claims"
"""By account and the claim token's id."""
AUTHORITIES = "authorities"
"""By account and the authority's id."""
ENROLLED = "enrolled"
"""By account and the id of a claim token or an authority: what it has registered."""

SESSIONS = "sessions"
"""By session number: who it is and how long it is kept."""
SUBSCRIPTIONS = "subscriptions"
"""By session number and the digest of the filter."""
WILLS = "wills"
"""By session number."""
FLOWS = "flows"
"""By session number: what a session has queued and in flight, as of one ticket."""
MESSAGES = "messages"
"""Chunks of messages with their receivers, by the number of the chunk's first message."""
OPS = "ops"
"""What happened to deliveries, one blob a ticket."""
RETAINED = "retained"
"""By serial number."""

JOURNAL = "journal"
"""Of format 0 alone: no table of this one."""

TABLES = (
    META,
    ACCOUNTS,
    KEYS,
    ADMIN_KEYS,
    DEVICES,
    SEEN,
    COUNTERS,
    USAGE,
    PASSWORDS_USED,
    DAILY,
    COUNTED,
    ANSWERS,
    AUDIT,
    TIMELINE,
    ONLINE,
    TRACKED,
    WEBHOOKS,
    CLAIMS,
    AUTHORITIES,
    ENROLLED,
    SESSIONS,
    SUBSCRIPTIONS,
    WILLS,
    FLOWS,
    MESSAGES,
    OPS,
    RETAINED,
)

FORMAT_KEY = b"format"
"""In ``META``: the store's format, an unsigned 32-bit number, little-endian."""
NUMBERS_KEY = b"numbers"
"""In ``META``: up to where numbers of messages and of sessions are reserved, two unsigned 64-bit numbers."""

MAXIMUM_KEY_BYTES = 511

_NUMBER = struct.Struct(">I")
_LONG_NUMBER = struct.Struct(">Q")
_DAY = struct.Struct(">III")
_AUDIT = struct.Struct(">IQ")


def number_key(number: int) -> bytes:
    """Key of a 32-bit number: big-endian, so that key order is the order in which numbers were given."""
    return _NUMBER.pack(number)


def key_number(key: bytes) -> int:
    """Return the number that ``number_key`` packed."""
    number: int = _NUMBER.unpack(key)[0]
    return number


def day_key(account_id: int, day: int, device_number: int) -> bytes:
    """Key of what a device did on a day: an account's days follow each other, and on each day its devices."""
    return _DAY.pack(account_id, day, device_number)


def day_key_parts(key: bytes) -> tuple[int, int, int]:
    """Return account, day and device that ``day_key`` packed."""
    account_id, day, device_number = _DAY.unpack(key)
    return account_id, day, device_number


def audit_key(account_id: int, number: int) -> bytes:
    """Key of an entry of the audit log: an account's entries follow each other in their order."""
    return _AUDIT.pack(account_id, number)


def long_key(number: int) -> bytes:
    """Key of a 64-bit number (a session, a message, a ticket): big-endian, as ``number_key``."""
    return _LONG_NUMBER.pack(number)


def check_change(table: str, key: bytes) -> str:
    """Say what is wrong with a change's place, or an empty string: the law is the same in every implementation."""
    if table not in TABLES:
        return f"there is no table {table!r}"
    if not 0 < len(key) <= MAXIMUM_KEY_BYTES:
        return f"a key has 1 to {MAXIMUM_KEY_BYTES} bytes, not {len(key)}"
    return ""
