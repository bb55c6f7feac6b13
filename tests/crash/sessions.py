"""Sessions that begin and end all the time, and whether Session Present is what the last CONNACK promised.

Here belong sessions without messages. Not here: sessions that are kept through a whole campaign (every ``Actor``).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.crash.actor import Actor, Cut, World
from tests.crash.ledger import SESSION_BACK, SESSION_FORGOTTEN


class Guest(Actor):
    """One client identifier whose session is made and ended in turn; None while an answer is missing."""

    def __init__(self, world: World, name: str, version: int) -> None:
        super().__init__(world, name, version)
        self.kept: bool | None = False

    async def come_and_stay(self) -> None:
        """Leave a session behind."""
        await self._visit(keep=True)

    async def end(self) -> None:
        """End the session: Clean Start, and nothing is kept afterwards."""
        await self._visit(keep=False)

    async def _visit(self, *, keep: bool) -> None:
        before, self.kept = self.kept, None
        self.present = False  # what may be expected is compared here
        self.expiry_s = Actor.expiry_s if keep else 0
        session_present = await self.enter(clean=not keep)
        if keep and before is not None and session_present != before:
            self.world.ledger.find(SESSION_FORGOTTEN if before else SESSION_BACK, f"{self.name}: Session Present")
        self.kept = keep
        self.world.ledger.counts["sessions kept" if keep else "sessions ended"] += 1
        link = self.link
        self.depart()
        if link is not None:
            await link.lost.wait()

    def waits_for(self) -> str:
        return ""


class Guests:
    """Some of them, coming and going."""

    def __init__(self, world: World, count: int) -> None:
        self.world = world
        self._all = [Guest(world, f"guest-{number}", 4 + number % 2) for number in range(count)]

    async def come_and_go(self, pause_s: float) -> None:
        """Make and end sessions until cancelled or until the broker is gone."""
        with suppress(Cut, OSError, TimeoutError):
            while True:
                guest = self.world.rng.choice(self._all)
                await (guest.end() if guest.kept else guest.come_and_stay())
                await asyncio.sleep(self.world.rng.uniform(0, pause_s))

    async def check(self) -> None:
        """Look at all of them; each has a session afterwards. Raises ``Cut`` when the broker dies."""
        for guest in self._all:
            await guest.come_and_stay()
