"""Counts that gather until they are brought into rows of days together, with the totals of accounts among them.

Here belongs what is there of one such time, and what of it was not taken. Not here: which of them there are, and their
records (``counted``). Totals are messages and bytes, both directions together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Final

from broker._core.tally import Tally, packed_accounts
from broker.errors import StoreError
from broker.ports import OWN_PRINCIPALS, UsageRow
from broker.storage.tables import day_key

TOTAL_END: Final = day_key(0, 0, 2**32 - 1)[8:]
"""How the key of an account's total of a day ends."""
NO_KEY: Final = day_key(0, 0, 0)

_DEVICE = struct.Struct("=II")


class Gathered:
    """A ``Tally`` and its totals; keys are those of rows of days."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._totals: dict[bytes, tuple[int, int]] = {}  # by account and day, what was not taken

    def __len__(self) -> int:
        """How many sums were not taken."""
        return len(self.tally)

    def add(
        self,
        rows: Sequence[UsageRow],
        sums: Mapping[int, tuple[int, int, int, int]],
        day: int,
        accounts: Container[int],
        is_application: Callable[[int], bool],
    ) -> None:
        """Take rows of these accounts, and the sums by account of all rows."""
        self.tally.add(rows, day, accounts, is_application, OWN_PRINCIPALS)
        for account_id, counted in sums.items():
            if account_id in accounts:
                self._add(day_key(account_id, day, 0)[:8], counted[0] + counted[2], counted[1] + counted[3])

    def unpack(self, packed: bytes, sums: int, day: int, behind: bytes) -> None:
        """Take what was packed before, but for keys up to ``behind``. Raises ``StoreError`` where it is damaged.

        With keys that are left out totals are not right until ``recount``.
        """
        try:
            self.tally.unpack(packed, sums, day, behind)
            for account_id, used in packed_accounts(packed, sums).items():
                self._add(day_key(account_id, day, 0)[:8], *used)
        except ValueError as error:
            raise StoreError(f"a damaged record of counts: {error}") from error

    def recount(self) -> None:
        """Work out the totals from what is there, one by one."""
        accounts = {int.from_bytes(key[:4], "big") for key in self._totals}
        self._totals = {}
        for account_id in accounts:
            for key in self.keys_of(account_id):
                self._add(key[:8], *_used(self.tally.get(key) or (0, 0, 0, 0)))

    def take(self, at_most: int) -> dict[bytes, tuple[int, ...]]:
        """Take the sums with the smallest keys, in their order."""
        taken: dict[bytes, tuple[int, ...]] = dict(self.tally.take(at_most))
        for key, counted in taken.items():
            if not key.endswith(TOTAL_END):
                messages, size = _used(counted)
                self._add(key[:8], -messages, -size)
        return taken

    def total(self, account_and_day: bytes) -> tuple[int, int]:
        """Give what is there of an account on a day, by the first eight bytes of its keys."""
        return self._totals.get(account_and_day, (0, 0))

    def keys_of(self, account_id: int) -> Iterator[bytes]:
        """Give the keys of what is there of an account at the moment of the call, but for totals."""
        devices = self.tally.devices_of(account_id)
        return (day_key(account_id, day, device) for day, device in _DEVICE.iter_unpack(devices))

    def _add(self, account_and_day: bytes, messages: int, size: int) -> None:
        before = self._totals.get(account_and_day, (0, 0))
        self._totals[account_and_day] = before[0] + messages, before[1] + size


def _used(counted: tuple[int, ...]) -> tuple[int, int]:
    return counted[0] + counted[2], counted[1] + counted[3]
