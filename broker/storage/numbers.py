"""Numbers that are given once and never again, after a rescue that may have lost the records of the last ones.

Here belongs the search for the highest, and how far beyond it a rescued store begins. Not here: giving numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from broker.accounts.ledger import ACCOUNT_NUMBERS, MAXIMUM_NUMBER, PRINCIPAL_NUMBERS
from broker.accounts.records import ApiKey, Device, decode_number, encode_number
from broker.ports import PlainChange
from broker.storage.tables import (
    ACCOUNTS,
    ADMIN_KEYS,
    COUNTERS,
    DEVICES,
    FLOWS,
    KEYS,
    MESSAGES,
    META,
    NUMBERS_KEY,
    OPS,
    SESSIONS,
    SUBSCRIPTIONS,
    WILLS,
)

SKIPPED = 2**16
"""Of accounts and principals, of which there are 2**31."""
SKIPPED_LONG = 2**32
"""Of sessions and messages, of which there are 2**64: more than are ever reserved at once."""

LONG_MAXIMUM = 2**62 - SKIPPED_LONG

_NUMBERS = struct.Struct("<QQ")
_OWNERS = struct.Struct("<4xII")
_HIGH = struct.Struct("<8xQ")
_OP_NUMBER = struct.Struct("<16xQ")
_OPS_HEAD_BYTES = 8


class HighestNumbers:
    """Looks at rescued entries, which have to be records of their tables, and tells where numbers go on."""

    def __init__(self) -> None:
        self._account = self._principal = self._message = self._session = 0

    def look(self, entries: Iterable[tuple[str, bytes, bytes]]) -> None:
        """Note the numbers in some entries."""
        for table, key, value in entries:
            if table in (ACCOUNTS, DEVICES, KEYS, ADMIN_KEYS, COUNTERS):
                self._look_at_directory(table, key, value)
            elif table in (SESSIONS, SUBSCRIPTIONS, WILLS, FLOWS):
                self._look_at_session(table, key, value)
            elif table == MESSAGES:  # a chunk's number is its first message's, and it has fewer than SKIPPED_LONG
                self._message = max(self._message, int.from_bytes(key, "big"))
            elif table == OPS:
                numbers = (number for (number,) in _OP_NUMBER.iter_unpack(value[_OPS_HEAD_BYTES:]))
                self._message = max(self._message, max(numbers, default=0))
            elif table == META and key == NUMBERS_KEY:
                message, session = _NUMBERS.unpack(value)
                self._message, self._session = max(self._message, message), max(self._session, session)

    def _look_at_directory(self, table: str, key: bytes, value: bytes) -> None:
        if table == ACCOUNTS:
            self._account = max(self._account, int.from_bytes(key, "big"))
        elif table == COUNTERS:
            given = decode_number(value) - 1
            if key.decode() == ACCOUNT_NUMBERS:
                self._account = max(self._account, given)
            else:
                self._principal = max(self._principal, given)
        elif table == ADMIN_KEYS:
            self._principal = max(self._principal, int.from_bytes(key, "big"))
        else:
            record = ApiKey.decode(value) if table == KEYS else Device.decode(value)
            principal = record.principal_id if isinstance(record, ApiKey) else 0
            self._account = max(self._account, record.account_id)
            self._principal = max(self._principal, int.from_bytes(key, "big"), principal)

    def _look_at_session(self, table: str, key: bytes, value: bytes) -> None:
        self._session = max(self._session, int.from_bytes(key[:8], "big"))
        if table == FLOWS:
            self._message = max(self._message, _HIGH.unpack_from(value)[0])
        elif table == SESSIONS:
            account, principal = _OWNERS.unpack_from(value)
            self._account = max(self._account, account if account <= MAXIMUM_NUMBER else 0)
            self._principal = max(self._principal, principal if principal <= MAXIMUM_NUMBER else 0)

    def changes(self) -> list[PlainChange]:
        """Give the records that make all numbers go on behind the highest."""
        account, principal = (
            min(highest + 1 + SKIPPED, MAXIMUM_NUMBER) for highest in (self._account, self._principal)
        )
        message, session = (min(highest + SKIPPED_LONG, LONG_MAXIMUM) for highest in (self._message, self._session))
        return [
            (COUNTERS, ACCOUNT_NUMBERS.encode(), encode_number(account)),
            (COUNTERS, PRINCIPAL_NUMBERS.encode(), encode_number(principal)),
            (META, NUMBERS_KEY, _NUMBERS.pack(message, session)),
        ]
