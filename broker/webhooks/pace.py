"""How many messages are read for webhooks: so many a second, for each account and for all.

Here belongs the pace; time is an argument. Not here: reading (``runner``). What is not read stays in the core, which
drops it when there is too much of it: that costs nobody anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

TICKS_PER_S = 10


class Pace:
    """Lets readers go on, or wait for the next tenth of a second.

    Who reads now has an equal part of what all may, and who got nothing in one tenth goes first in the next.
    """

    def __init__(
        self,
        per_s_maximum: int,
        account_per_s_maximum: int,
        monotonic_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._maximum = max(1, per_s_maximum // TICKS_PER_S)
        self._account_maximum = max(1, account_per_s_maximum // TICKS_PER_S)
        self._share = self._account_maximum
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._tick = -1
        self._read = 0
        self._read_of: Counter[int] = Counter()  # by account, in this tick
        self._refused: dict[int, None] = {}  # accounts that got nothing in this tick; who waits longest stands first
        self._asked: set[int] = set()  # who of them has asked in this tick
        self._owed: dict[int, None] = {}  # of those of the last tick, as many as this one has room for

    async def take(self, account_id: int) -> None:
        """Return when one more message may be read for an account."""
        while not self._may(account_id):
            into_tick = self._monotonic_s() * TICKS_PER_S - self._tick
            await self._sleep(max(1.0 - into_tick, 0.01) / TICKS_PER_S)
        self._read += 1
        self._read_of[account_id] += 1
        self._owed.pop(account_id, None)
        self._refused.pop(account_id, None)

    def _may(self, account_id: int) -> bool:
        tick = int(self._monotonic_s() * TICKS_PER_S)
        if tick != self._tick:
            self._begin(tick)
        if self._read_of[account_id] >= self._share:
            return False
        kept = 0 if account_id in self._owed else len(self._owed)
        if self._read + kept < self._maximum:
            return True
        if not self._read_of[account_id]:
            self._refused[account_id] = None
            self._asked.add(account_id)
        return False

    def _begin(self, tick: int) -> None:
        active = len(self._read_of.keys() | self._refused.keys())
        self._share = min(self._account_maximum, max(1, self._maximum // max(active, 1)))
        waiting = [one for one in self._refused if one in self._asked]  # the others have gone
        self._owed = dict.fromkeys(waiting[: self._maximum])
        self._refused, self._asked = dict.fromkeys(waiting), set()
        self._tick, self._read = tick, 0
        self._read_of.clear()
