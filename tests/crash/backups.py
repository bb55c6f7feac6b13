"""A backup that is made while others write and somebody is killed, and the restore that is killed as well.

Here belongs the way from one data directory to the one that a backup holds. The clients of the ledger rest meanwhile,
so that whatever a whole backup holds is what they were promised; other clients, whom nobody asks later, make traffic.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from pathlib import Path

from tests.crash.actor import World, cancel
from tests.crash.brokers import IotBroker
from tests.crash.ledger import BACKUP_WRONG, Ledger, Stream
from tests.crash.publisher import Publisher
from tests.crash.receiver import Receiver
from tests.integration.wire import V5

MANY = 100_000
LONGEST_S = 30.0
USUAL_S = 0.6


class BackupRound:
    """One backup and one restore."""

    def __init__(self, target: IotBroker, rng: random.Random, ledger: Ledger) -> None:
        self._target = target
        self._rng = rng
        self._ledger = ledger
        self._number = ledger.counts["backups begun"] = ledger.counts["backups begun"] + 1
        self._backup = target.folder / f"backup-{self._number}"
        self._code = -1

    async def make(self, key: str) -> None:
        """Make a backup beside traffic; the broker, the command or nobody is killed meanwhile."""
        noise = self._noise(key)
        tasks = [asyncio.create_task(one.live()) for one in noise.actors]
        noise.opened()
        process = await self._target.begin("backup", str(self._backup), "--data-dir", str(self._target.data_dir))
        victim = self._rng.choice(("broker", "command", "nobody", "nobody"))
        if victim != "nobody":
            await asyncio.sleep(self._rng.uniform(0.4, 1.2) * USUAL_S)
        if victim == "broker":
            await self._target.kill()
        elif victim == "command" and process.returncode is None:
            process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(LONGEST_S):
            said, _ = await process.communicate()
        assert process.returncode is not None
        self._code = process.returncode
        if victim == "nobody" and self._code:
            self._ledger.find(BACKUP_WRONG, f"exit code {self._code}: {said.decode()[-500:]}")
        noise.up.clear()
        await cancel(tasks)
        for actor in noise.actors:
            actor.drop()

    def _noise(self, key: str) -> World:
        ledger = Ledger()
        world = World(ledger, random.Random(self._rng.random()), self._target.login(key))
        world.port = self._target.port
        topic_name = f"noise/{self._number}"
        publisher = Publisher(world, f"noise-publisher-{self._number}", V5, [Stream(topic_name, 1)], 20)
        receiver = Receiver(world, f"noise-receiver-{self._number}", V5, 1, [topic_name], ledger.inbox("noise"))
        publisher.left = MANY
        for actor in (publisher, receiver):
            actor.wanted.set()
        return world

    async def restore(self) -> int:
        """Go on with what the backup holds, if it is whole, else with what there was; returns how many were killed."""
        if not self._backup.exists():
            if self._code == 0:
                self._ledger.find(BACKUP_WRONG, "the command said that it was made, and nothing is there")
            return 0
        restored = self._target.folder / f"restored-{self._number}"
        kills = await self._cut_short(restored) if self._rng.random() < 0.5 else 0
        code, said = await self._target.run("restore", str(self._backup), "--force", "--data-dir", str(restored))
        if code == 0:
            self._ledger.counts["backups restored"] += 1
            _replace(self._target.data_dir, restored)
        elif self._code == 0:
            self._ledger.find(BACKUP_WRONG, f"a whole backup cannot be restored: {said[-500:]}")
        else:
            self._ledger.counts["backups refused"] += 1
        return kills

    async def _cut_short(self, restored: Path) -> int:
        process = await self._target.begin("restore", str(self._backup), "--data-dir", str(restored))
        await asyncio.sleep(self._rng.uniform(0.4, 1.2) * USUAL_S)
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()
        return 1


def _replace(data_dir: Path, restored: Path) -> None:
    shutil.rmtree(data_dir)
    restored.rename(data_dir)
