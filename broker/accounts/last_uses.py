"""When keys were last used, as far as it is recorded: noted at once, stored once a minute.

Here belong the moments. Not here: the keys themselves, and what the core knows of connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.accounts.ledger import Ledger
from broker.accounts.records import decode_number, encode_number
from broker.ports import Change
from broker.storage.tables import SEEN, key_number, number_key


class LastUses:
    """By the number of a key, of either kind: numbers are given once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._at: dict[int, int] = {}
        self._since_flush: dict[int, int] = {}

    def load(self, is_key: Callable[[int], bool]) -> None:
        """Read the moments of the numbers that are a key's."""
        for key, value in self._ledger.rows(SEEN):
            if is_key(key_number(key)):
                self._at[key_number(key)] = decode_number(value)

    def at(self, number: int) -> int:
        """When a key was last used; 0 for never."""
        return self._at.get(number, 0)

    def note(self, number: int, now_s: int) -> None:
        """Remember that a key was used; ``flush`` stores it later."""
        if self._at.get(number) != now_s:
            self._at[number] = self._since_flush[number] = now_s

    def forget(self, number: int) -> Change:
        """Forget a key that is on record no more; gives the change that goes with its record's."""
        self._at.pop(number, None)
        self._since_flush.pop(number, None)
        return Change(SEEN, number_key(number), None)

    async def flush(self) -> None:
        """Store what was noted since the last time; what could not be stored is tried again with the next."""
        used, self._since_flush = self._since_flush, {}
        if used:
            await self._ledger.commit(seen_changes(used), lambda: None, lambda: self._keep(used))

    def _keep(self, used: Mapping[int, int]) -> None:
        self._since_flush = {**used, **self._since_flush}  # what was noted meanwhile is newer


def seen_changes(seen: Mapping[int, int]) -> list[Change]:
    """Make the changes that store when numbers were last seen (seconds)."""
    return [Change(SEEN, number_key(number), encode_number(at)) for number, at in seen.items()]
