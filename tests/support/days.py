"""Upper floors in tests of usage, and the rows of days as a store has them.

Belongs here: what tests of days and of the journal of counts share. Not here: the floors themselves (``tests.upper``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from broker.accounts.days import day_of, decode_day
from broker.storage.memory import MemoryStore
from broker.storage.tables import DAILY, day_key_parts
from tests.upper import NOW_S, Upper

Body = Callable[[Upper], Awaitable[None]]
Rows = dict[tuple[int, int, int], list[int]]

TODAY = day_of(NOW_S)
DAY_S = 24 * 3600


def run(body: Body, upper: Upper | None = None) -> None:
    """Run a test's body on floors that are bootstrapped."""

    async def whole() -> None:
        floors = upper or Upper()
        await floors.bootstrap()
        await body(floors)

    asyncio.run(whole())


def rows_of(store: MemoryStore) -> Rows:
    """Read all rows of days, by account, day and device."""
    return {day_key_parts(key): list(decode_day(value)) for key, value in store.load(DAILY)}
