"""When devices were last seen, on record, and when a login of theirs was last refused.

Here belong those moments, by device number. Not here: presence, which the core knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.accounts.last_uses import seen_changes
from broker.accounts.ledger import Ledger
from broker.accounts.records import decode_number
from broker.storage.tables import SEEN, key_number


class Sightings:
    """The moments of all devices; ``is_there`` tells whether a number is a device's that is not being removed.

    ``refused`` hears of each device at its first refusal since the start.
    """

    def __init__(self, ledger: Ledger, is_there: Callable[[int], bool], refused: Callable[[int], None]) -> None:
        self._ledger = ledger
        self._is_there = is_there
        self._refused = refused
        self._last_seen: dict[int, int] = {}
        self._refused_at: dict[int, float] = {}

    def load(self) -> None:
        """Read when devices were last seen; once the devices are known."""
        for number, value in self._ledger.rows(SEEN):
            if self._is_there(key_number(number)):
                self._last_seen[key_number(number)] = decode_number(value)

    def last_seen_at(self, device_number: int) -> int:
        """When a device was last seen, as far as it is recorded; 0 for never."""
        return self._last_seen.get(device_number, 0)

    async def record(self, seen: Mapping[int, int]) -> None:
        """Store when devices were last seen (seconds of UTC); what exists no more is passed over."""
        news = {
            number: at for number, at in seen.items() if self._is_there(number) and self._last_seen.get(number) != at
        }
        if news:
            await self._ledger.commit(seen_changes(news), lambda: self._note(news))

    def note_refused(self, device_number: int, at: float) -> None:
        """Remember that a login was refused (monotonic seconds), until the process ends."""
        if device_number not in self._refused_at:
            self._refused(device_number)
        self._refused_at[device_number] = at

    def refused_at(self, device_number: int) -> float | None:
        """When a login of this device was last refused (monotonic seconds); None for not since the start."""
        return self._refused_at.get(device_number)

    def forget(self, device_number: int) -> None:
        """Forget a device that was removed."""
        self._last_seen.pop(device_number, None)
        self._refused_at.pop(device_number, None)

    def _note(self, news: Mapping[int, int]) -> None:
        self._last_seen.update({number: at for number, at in news.items() if self._is_there(number)})
