"""Usage on its way from the core to the book and to disk: every second, at midnight, and whenever somebody asks.

Here belongs when it is brought. Not here: what is counted (the core), and what becomes of it (``usage``). A second's
counts go into the journal at once, for a crash to lose no more than those of the last second. Into rows of days they
are brought together with those of the half minute after them: a row is written so much less often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from broker.accounts.days import DAY_S
from broker.accounts.rates import Rates
from broker.accounts.usage import UsageBook
from broker.errors import Unavailable
from broker.ports import UsageSource

log = logging.getLogger(__name__)

COUNT_S = 0.9  # so that what is counted is on disk before a second has passed
LEAST_S = 0.001
FOLD_TURNS = 30  # the counts of so many turns are brought into rows together, in the course of as many
FOLD_LEAST = 500  # rows in a turn, though fewer would do
FOLD_S = 0.5  # of a turn, at most
NS_PER_S = 1_000_000_000


class Counting:
    """Keeps one book. ``wall_ns`` is nanoseconds of UTC, ``monotonic_ns`` those of the core's clock."""

    def __init__(
        self, book: UsageBook, core: UsageSource, wall_ns: Callable[[], int], monotonic_ns: Callable[[], int]
    ) -> None:
        self._book = book
        self._core = core
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._rates = Rates()
        self._failing = False
        self._turns = 0  # since rows were last begun

    async def run(self) -> None:
        """Count and store within every second, until the task is cancelled; days and months end when they end."""
        loop = asyncio.get_running_loop()
        took_s = 0.0
        while True:
            await asyncio.sleep(self._pause_s(took_s))
            began = loop.time()
            try:
                if await self.keep():
                    await self._fold(min(began + FOLD_S, loop.time() + self._left_of_day_s()))
            except Exception:
                log.exception("usage could not be counted")
            took_s = loop.time() - began

    async def keep(self) -> bool:
        """Count until now, and store it; False where the disk takes nothing, and it is kept for later."""
        return await self._store(self._book.keep)

    async def settle(self) -> bool:
        """Do the same, and bring all of it into rows of days: a store that is stopped is whole without its journal."""
        return await self._store(self._book.write)

    async def _store(self, store: Callable[[], Awaitable[None]]) -> bool:
        await self.count()
        try:
            await store()
        except Unavailable as error:
            if not self._failing:
                log.warning("usage could not be stored: %s", error)
            self._failing = True
            return False
        self._failing = False
        return True

    async def _fold(self, until: float) -> None:
        """Bring into rows what is due in this turn, until a time of the loop's."""
        loop = asyncio.get_running_loop()
        self._turns += 1
        if self._turns >= FOLD_TURNS and not self._book.to_fold and self._book.begin_fold():
            self._turns = 0
        left = max(-(-self._book.to_fold // max(FOLD_TURNS - self._turns, 1)), FOLD_LEAST)
        while left > 0 and loop.time() < until and (folded := await self._book.fold()):
            left -= folded

    async def count(self) -> None:
        """Bring what was counted until now to the book, in pieces."""
        more = self._take()
        while more:
            await asyncio.sleep(0)
            more = self._take()
        self._see_day()

    def count_at_once(self) -> None:
        """Do the same before this returns: for whoever is about to move the clock."""
        while self._take():
            pass
        self._see_day()

    def rate(self, account_id: int) -> tuple[float, float]:
        """Messages a second from and to an account, over the last seconds."""
        return self._rates.of(account_id, self._monotonic_s())

    def _take(self) -> bool:
        """Bring one piece; False when there was none."""
        rows = self._core.take_usage()
        if not rows:
            return False
        if self._book.day is None:
            self._see_day()
        sums = self._book.take(rows)
        for account_id in sums:  # before the day may turn
            self._book.note_peak(account_id, self._core.connections_peak(account_id))
        self._rates.note(sums, self._monotonic_s())
        self._see_day()
        return True

    def _see_day(self) -> None:
        """The day may have ended in silence."""
        self._book.see(self._wall_s())
        if self._book.day is not None:
            self._core.begin_day(self._book.day)

    def _monotonic_s(self) -> float:
        return self._monotonic_ns() / NS_PER_S

    def _wall_s(self) -> int:
        return self._wall_ns() // NS_PER_S

    def _pause_s(self, took_s: float = 0.0) -> float:
        """Until the next turn is due, of which so much has passed, or the day is over."""
        return max(min(COUNT_S - took_s, self._left_of_day_s()), LEAST_S)

    def _left_of_day_s(self) -> float:
        return (DAY_S * NS_PER_S - self._wall_ns() % (DAY_S * NS_PER_S)) / NS_PER_S
