"""A run: campaign after campaign until so many rounds are done.

Here belong the template that campaigns begin with, their seeds, and what is said meanwhile. Not here: the command line.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.config import BrokerConfig
from tests.crash import evidence, plan
from tests.crash.brokers import PROGRAM, DidNotStart, IotBroker, Mosquitto, Target
from tests.crash.campaign import Campaign, Settings
from tests.crash.ledger import Tally
from tests.crash.report import as_row
from tests.crash.wills import GRACE_S

ROUNDS_A_CAMPAIGN = 20
SMALL_MAP_BYTES = 16 * 1024 * 1024


@dataclass
class Options:
    """What may be chosen."""

    rounds: int
    seed: int
    target: str = "iot-broker"
    mode: str = "on-changes"
    words: list[str] = field(default_factory=lambda: [str(PROGRAM)])
    kinds: tuple[str, ...] = (plan.PLAIN, plan.SMALL, plan.OLD)
    quiet_s: float = 5.0
    stop_at_finding: bool = True
    stop_after_failures: int = 10
    keep: Path = Path("build/crash")
    verbose: bool = False
    spare: bool = False


def say(text: str) -> None:
    """Progress goes to standard error: standard output is the table's."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Run:
    """All campaigns of one target."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.tally = Tally()
        self.rounds = 0
        self.start_s: list[float] = []
        self.failures: list[Path] = []
        self._key = ""
        self._usual_start_s = 0.1

    @property
    def is_ours(self) -> bool:
        """Tell whether it is our broker that dies."""
        return self.options.target == "iot-broker"

    async def prepare(self) -> None:
        """Make the data directory that campaigns begin with: an account without limits, and a key."""
        if not self.is_ours:
            return
        first = IotBroker(self.folder / "template", random.Random(), [str(PROGRAM)], {})
        started = time.monotonic()
        await first.spawn()
        await first.wait_until_ready()
        self._usual_start_s = time.monotonic() - started
        self._key = first.shown_key()
        code, said = await first.run(
            "accounts", "set-plan", "default", "unlimited", "--data-dir", str(first.data_dir)
        )  # fmt: skip
        await first.end(15)
        if code:
            raise DidNotStart(said)

    async def play(self) -> None:
        """Play all rounds."""
        seed = self.options.seed
        while self.rounds < self.options.rounds and len(self.failures) < self.options.stop_after_failures:
            await self._campaign(seed)
            seed += 1

    async def _campaign(self, seed: int) -> None:
        rng = random.Random(seed)
        kind = plan.draw_kind(rng, list(self.options.kinds)) if self.is_ours else plan.PLAIN
        target = self._target(seed, kind, rng)
        stop = self.options.stop_at_finding and self.is_ours
        settings = Settings(self.options.quiet_s, stop, self.options.keep, self._usual_start_s, self.options.spare)
        key = evidence.sample_key() if kind == plan.OLD else self._key
        campaign = Campaign(target, seed, kind, key, settings)
        left = self.options.rounds - self.rounds
        await campaign.run(min(ROUNDS_A_CAMPAIGN, left), self._told if self.options.verbose else _quietly)
        self.rounds += campaign.rounds
        self.tally.add(campaign.ledger)
        self.tally.kills.update(campaign.kills)
        self.start_s += campaign.start_s
        if campaign.start_s:
            self._usual_start_s = sorted(campaign.start_s)[len(campaign.start_s) // 2]
        self._conclude(campaign)

    def _target(self, seed: int, kind: str, rng: random.Random) -> Target:
        folder = self.folder / f"seed-{seed}"
        if not self.is_ours:
            return Mosquitto(folder, rng, self.options.mode)
        settings = {"restart_grace_s": str(GRACE_S)} if "restart_grace_s" in BrokerConfig.model_fields else {}
        if kind == plan.SMALL:
            settings["store_map_size_bytes"] = str(SMALL_MAP_BYTES)
        evidence.copy_data(evidence.SAMPLE if kind == plan.OLD else self.folder / "template" / "data", folder / "data")
        return IotBroker(folder, rng, self.options.words, settings)

    def _conclude(self, campaign: Campaign) -> None:
        findings = campaign.ledger.findings
        line = f"seed {campaign.seed} ({campaign.kind}): {campaign.rounds} rounds, {len(findings)} findings"
        if findings and (self.is_ours or self.options.spare):
            where = self.options.keep / f"seed-{campaign.seed}-round-{campaign.rounds}"
            evidence.keep(campaign.target, campaign.ledger, where)
            self.failures.append(where)
            line += f"\n  {findings[0].kind}: {findings[0].text}\n  {_how_to_look(where, campaign)}"
        else:
            shutil.rmtree(campaign.target.folder, ignore_errors=True)
        say(f"[{self.rounds}/{self.options.rounds}] {line}")

    def _told(self, campaign: Campaign) -> None:
        counts = campaign.ledger.counts
        done = f"{counts['acknowledged']} acknowledged, {counts['delivered']} delivered"
        say(f"  seed {campaign.seed} round {campaign.rounds}: {done}, {len(campaign.ledger.findings)} findings")

    def row(self, seconds: float) -> dict[str, Any]:
        """Sum up."""
        name = "iot-broker" if self.is_ours else f"mosquitto ({self.options.mode})"
        return as_row(name, self.rounds, self.tally, self.start_s, seconds)


def _quietly(campaign: Campaign) -> None:
    pass


def _how_to_look(where: Path, campaign: Campaign) -> str:
    look = f"look: {where}/findings.json, log, killed/ (the store as the last kill left it), data/ (as it is now)"
    again = f"again: make crash-test ROUNDS={campaign.rounds} ARGS='--seed {campaign.seed}'"
    return f"{look}\n  {again} (what is drawn is the same, the moments are not)"


async def run(options: Options) -> tuple[dict[str, Any], list[Path]]:
    """Play all rounds in a folder of its own; returns the sums and the folders of failed campaigns."""
    started = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # brokers must not be left behind
    with tempfile.TemporaryDirectory(prefix="crash-test-") as folder:
        one = Run(options, Path(folder))
        await one.prepare()
        with suppress(asyncio.CancelledError):  # what was done is told all the same
            await one.play()
    return one.row(time.monotonic() - started), one.failures
