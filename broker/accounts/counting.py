"""Usage on its way from the core to the book and to disk: every second, at midnight, and whenever somebody asks.

Here belongs when it is brought. Not here: what is counted (the core), and what becomes of it (``usage``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from broker.accounts.days import DAY_S
from broker.accounts.rates import Rates
from broker.accounts.usage import UsageBook
from broker.errors import Unavailable
from broker.ports import UsageRow, UsageSource

log = logging.getLogger(__name__)

COUNT_S = 1.0
LEAST_S = 0.001
REST_S = 10.0  # at most
REST = 3  # times as long as a write took: a hundred thousand active devices a second must not take the loop's time
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

    async def run(self) -> None:
        """Count every second and write, until the task is cancelled; days and months end when they end."""
        loop = asyncio.get_running_loop()
        write_at = loop.time()
        while True:
            await asyncio.sleep(self._pause_s())
            try:
                if loop.time() < write_at:
                    await self.count()
                    continue
                started = loop.time()
                await self.settle()
                write_at = loop.time() + min(REST * (loop.time() - started), REST_S)
            except Exception:
                log.exception("usage could not be counted")

    async def settle(self) -> bool:
        """Count until now, and store it; False where the disk takes nothing, and it is kept for later."""
        await self.count()
        try:
            await self._book.write()
        except Unavailable as error:
            if not self._failing:
                log.warning("usage could not be stored: %s", error)
            self._failing = True
            return False
        self._failing = False
        return True

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
        for account_id in {row[0] for row in rows}:  # before the day may turn
            self._book.note_peak(account_id, self._core.connections_peak(account_id))
        self._rates.note(rows, self._monotonic_s())
        self._tell(rows)
        return True

    def _see_day(self) -> None:
        """The day may have ended in silence."""
        self._tell(())

    def _tell(self, rows: Sequence[UsageRow]) -> None:
        self._book.add(rows, self._wall_s())
        if self._book.day is not None:
            self._core.begin_day(self._book.day)

    def _monotonic_s(self) -> float:
        return self._monotonic_ns() / NS_PER_S

    def _wall_s(self) -> int:
        return self._wall_ns() // NS_PER_S

    def _pause_s(self) -> float:
        """Until the next second has passed, or the day."""
        left_ns = DAY_S * NS_PER_S - self._wall_ns() % (DAY_S * NS_PER_S)
        return max(min(COUNT_S, left_ns / NS_PER_S), LEAST_S)
