"""One data directory's life: rounds of traffic, death, return and judgement, until a promise is broken.

Here belongs the order of a round. Not here: who plays (``cast``), what is drawn (``plan``), backups (``backups``) and
what the files say (``evidence``).
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash import evidence, plan
from tests.crash.actor import Cut, World
from tests.crash.backups import BackupRound
from tests.crash.brokers import DidNotStart, IotBroker, Target
from tests.crash.cast import Cast
from tests.crash.devices import Api, Devices
from tests.crash.ledger import NOT_STARTED, STUCK, Ledger
from tests.crash.plan import Death, Round
from tests.crash.wills import GRACE_S, SLACK_S

CHECK_TRIES = 10
CHECK_AGAIN_S = 0.5
PAHO_PART = 0.3
ENOUGH_BIG = 6_000
AFTERWARDS = 20
CHECKED_PART = 0.1


@dataclass(frozen=True)
class Settings:
    """What is the same for all campaigns of one run."""

    quiet_s: float
    stop_at_finding: bool
    keep: Path
    usual_start_s: float = 0.1
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
        self.world = World(self.ledger, random.Random(seed + 1), None)
        self.world.port = target.port
        self.world.spare = settings.spare
        self._key = key
        self._rng = random.Random(seed)

    async def run(self, rounds: int, after_round: Callable[[Campaign], None]) -> None:
        """Play so many rounds, or fewer when something is found."""
        cast = self._cast()
        try:
            await self._first_start(cast)
            for _ in range(rounds):
                self.rounds += 1
                await self._round(cast, plan.draw_round(self._rng, self.kind))
                after_round(self)
                if self.ledger.findings and self.settings.stop_at_finding:
                    return
            await self._last_words(cast)
        except DidNotStart as error:
            self.ledger.find(NOT_STARTED, str(error))
        finally:
            await cast.end()
            await self.target.kill()

    def _cast(self) -> Cast:
        if not isinstance(self.target, IotBroker):
            return Cast(self.world, None)
        self.world.login = self.target.login(self._key)
        return Cast(self.world, Devices(self.world, Api(self.target.http_port, self._key)))

    async def _first_start(self, cast: Cast) -> None:
        for death in plan.draw_first_deaths(self._rng, self.kind) if not self.settings.spare else ():
            await self._spawn()
            await asyncio.sleep(death.after * self.settings.usual_start_s)
            await self._kill(death.phase)
        await self.start()
        self.world.opened()
        if cast.devices is not None:
            cast.devices.expect(evidence.sample_devices() if self.kind == plan.OLD else [])
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
        if what.with_backup and isinstance(self.target, IotBroker) and not self.settings.spare:
            await asyncio.sleep(what.deaths[0].after)
            await self._back_up(cast, self.target)
        else:
            await self._die_of(cast, what.deaths)
        cast.call_back(everybody=what.fills_up)
        await self.start()
        self.world.opened()
        await cast.settle(self.settings.quiet_s)
        await self._check(cast)

    async def _back_up(self, cast: Cast, target: IotBroker) -> None:
        """Let everybody finish, then make a backup beside other people's traffic, die, and go on with what it holds."""
        await cast.stop_scenes()
        cast.end_silence()
        await cast.settle(self.settings.quiet_s)
        cast.wills.forgive()
        one = BackupRound(target, self._rng, self.ledger)
        await one.make(self._key)
        self.world.closed()
        await self._kill(plan.BACKUP)
        if cast.devices is not None:
            cast.devices.api.close()
        self.kills[plan.RESTORE] += await one.restore()

    async def _check(self, cast: Cast) -> None:
        text = ""
        for _ in range(CHECK_TRIES):
            try:
                await cast.check()
                return
            except (Cut, OSError, EOFError, TimeoutError) as error:
                text = f"{type(error).__name__}: {error}"
                await asyncio.sleep(CHECK_AGAIN_S)
        self.ledger.find(STUCK, f"the state could not be read: {text}")

    async def _last_words(self, cast: Cast) -> None:
        """Let wills come, see that everything works again, and what the files say."""
        await cast.await_wills(GRACE_S + SLACK_S + 2.0)
        if isinstance(self.target, IotBroker):
            await cast.see_it_work(AFTERWARDS, self.settings.quiet_s)
            self.world.closed()
            await self._kill(plan.TRAFFIC)
            await evidence.check_store(self.target, self.ledger)
            if not cast.paho:
                evidence.check_usage(self.target, self.ledger, self.kills.total())

    # ------------------------------------------------------------ deaths

    async def _die_of(self, cast: Cast, deaths: tuple[Death, ...]) -> None:
        """Die once for each death; between them the broker is started again."""
        for number, death in enumerate(deaths):
            starting = death.phase == plan.STARTING
            if starting and not self.target.is_running:
                await self._spawn()
            elif number:
                await self.start()
                self.world.opened()
            await asyncio.sleep(death.after * (self.settings.usual_start_s if starting else 1.0))
            self.world.closed()
            await self._kill(death.phase)
            await cast.stop_scenes()
            if cast.devices is not None:
                cast.devices.api.close()
            if self.target.is_ours and not self.settings.spare:
                evidence.remember(self.target)
        if isinstance(self.target, IotBroker) and not self.settings.spare and self._rng.random() < CHECKED_PART:
            await evidence.check_store(self.target, self.ledger)

    async def _kill(self, phase: str) -> None:
        if self.settings.spare:
            for actor in self.world.actors:
                actor.drop()
            return
        self.kills[phase] += 1
        process = self.target.process
        if phase == plan.STOPPING and process is not None and process.returncode is None:
            self.world.stopping = True
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(self._rng.uniform(0.0, 0.1))
        await self.target.kill()
        self.world.died()

    async def _spawn(self) -> None:
        self.world.begins()
        await self.target.spawn()

    async def start(self) -> None:
        """Start the broker, unless it runs, and wait until it serves. Raises ``DidNotStart``."""
        started = time.monotonic()
        if not self.target.is_running:
            await self._spawn()
        await self.target.wait_until_ready()
        self.start_s.append(time.monotonic() - started)
