"""One data directory's life: rounds of traffic, death, return and judgement, until a promise is broken or all are done.

Here belong the order of a round and what is kept of one that fails. Not here: who plays (``cast``), and what is drawn
(``plan``).
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash import plan
from tests.crash.actor import Cut, World
from tests.crash.brokers import DidNotStart, IotBroker, Target
from tests.crash.cast import Cast
from tests.crash.devices import Api, Devices
from tests.crash.ledger import NOT_STARTED, STUCK, Ledger
from tests.crash.plan import Death, Round
from tests.crash.wills import GRACE_S, SLACK_S

CHECK_TRIES = 3
PAHO_PART = 0.3
ENOUGH_BIG = 6_000


@dataclass(frozen=True)
class Settings:
    """What is the same for all campaigns of one run."""

    quiet_s: float
    stop_at_finding: bool
    keep: Path
    spare: bool = False
    """Nobody is killed: all connections are cut in place of it, which must break no promise of any broker's."""


class Campaign:
    """Rounds on one data directory; ``kills`` counts by phase."""

    def __init__(self, target: Target, seed: int, kind: str, key: str, settings: Settings) -> None:
        self.target = target
        self.seed = seed
        self.kind = kind
        self.settings = settings
        self.ledger = Ledger(lenient=not target.is_ours)
        self.kills: Counter[str] = Counter()
        self.start_s: list[float] = []
        self.rounds = 0
        self._key = key
        self._rng = random.Random(seed)
        self._world = World(self.ledger, random.Random(seed + 1), None)
        self._world.port = target.port
        self._world.spare = settings.spare

    async def run(self, rounds: int, after_round: Callable[[Campaign], None]) -> None:
        """Play so many rounds, or fewer when something is found."""
        cast = self._cast()
        try:
            await self._first_start(cast)
            for number in range(rounds):
                self.rounds += 1
                await self._round(cast, plan.draw_round(self._rng, self.kind, number, can_back_up=False))
                after_round(self)
                if self.ledger.findings and self.settings.stop_at_finding:
                    return
            await cast.await_wills(GRACE_S + SLACK_S + 2.0)
        except DidNotStart as error:
            self.ledger.find(NOT_STARTED, str(error))
        finally:
            await cast.end()
            await self.target.kill()

    def _cast(self) -> Cast:
        if not isinstance(self.target, IotBroker):
            return Cast(self._world, None)
        self._world.login = self.target.login(self._key)
        for actor in self._world.actors:
            actor.login = self._world.login
        return Cast(self._world, Devices(self._world, Api(self.target.http_port, self._key)))

    async def _first_start(self, cast: Cast) -> None:
        await self._start()
        self._world.opened()
        if cast.devices is not None:
            await cast.add_device_publisher()
        cast.begin()
        if self._rng.random() < PAHO_PART:
            cast.add_paho()
        await cast.settle(self.settings.quiet_s)

    # ------------------------------------------------------------ a round

    async def _round(self, cast: Cast, what: Round) -> None:
        cast.play(what.messages)
        if what.fills_up:
            await cast.fill_up(ENOUGH_BIG)
        await self._die_of(cast, what.deaths)
        cast.call_back()
        await self._start()
        self._world.opened()
        await cast.settle(self.settings.quiet_s)
        await self._check(cast)

    async def _check(self, cast: Cast) -> None:
        text = ""
        for _ in range(CHECK_TRIES):
            try:
                await cast.check()
                return
            except (Cut, OSError, EOFError, TimeoutError) as error:
                text = f"{type(error).__name__}: {error}"
        self.ledger.find(STUCK, f"the state could not be read: {text}")

    async def _die_of(self, cast: Cast, deaths: tuple[Death, ...]) -> None:
        """Die once for each death; between them the broker is started again."""
        for number, death in enumerate(deaths):
            if number:
                await self._restart_for(death)
            await asyncio.sleep(death.after_s)
            self._world.up.clear()
            await self._kill(death.phase)
            await cast.stop_scenes()
            if cast.devices is not None:
                cast.devices.api.close()
            if not self.settings.spare:
                self._remember()

    async def _restart_for(self, death: Death) -> None:
        if death.phase in {plan.STARTING, plan.MIGRATION} and not self.target.is_running:
            await self.target.spawn()
        else:
            await self._start()
            self._world.opened()

    async def _kill(self, phase: str) -> None:
        if self.settings.spare:
            for actor in self._world.actors:
                actor.drop()
            return
        self.kills[phase] += 1
        process = self.target.process
        if phase == plan.STOPPING and process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(self._rng.uniform(0.0, 0.1))
        await self.target.kill()

    async def _start(self) -> None:
        started = time.monotonic()
        if not self.target.is_running:
            await self.target.spawn()
        await self.target.wait_until_ready()
        self.start_s.append(time.monotonic() - started)

    # ------------------------------------------------------------ evidence

    def _remember(self) -> None:
        """Keep the data directory as the last kill has left it."""
        if self.target.is_ours:
            kept = self.target.folder / "killed"
            shutil.rmtree(kept, ignore_errors=True)
            ignored = shutil.ignore_patterns("*.sock")
            shutil.copytree(self.target.data_dir, kept, ignore=ignored)

    def keep(self) -> Path:
        """Move what a failed campaign has left to where it stays; returns that folder."""
        where = self.settings.keep / f"seed-{self.seed}-round-{self.rounds}"
        shutil.rmtree(where, ignore_errors=True)
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.target.folder, where)
        told = [{"kind": one.kind, "text": one.text} for one in self.ledger.findings]
        (where / "findings.json").write_text(json.dumps(told, indent=1) + "\n")
        return where
