"""The machine: record a program, look at the disks it may leave behind, tell what is wrong with a seed to it.

Here belongs the order of these steps. Not here: each of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from broker.storage.rescue import look as findings
from tests.powercut import faults, journal
from tests.powercut.check import DATA
from tests.powercut.look import FAILURES_ENOUGH, Plan
from tests.powercut.record import Recorder, unlike

MAP_BYTES = 64 * 1024 * 1024
PAGE_BYTES = 4096


@dataclass(slots=True)
class Result:
    """What was looked at, and what was wrong: image number -> complaint."""

    looked: int = 0
    seconds: float = 0.0
    wrong: dict[int, str] = field(default_factory=dict)

    def add(self, other: Result) -> None:
        """Count another's in; complaints get numbers of their own."""
        self.looked += other.looked
        self.seconds += other.seconds
        self.wrong.update(enumerate(other.wrong.values(), len(self.wrong)))

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.looked} images in {self.seconds:.1f} s ({self.looked / max(self.seconds, 0.001) * 60:.0f} a minute)"
        )


@dataclass(frozen=True, slots=True)
class StoreCase:
    """A history, and the processes that write it, one after the other.

    ``deaths``: in which recorded call each but the last is killed; 0 lets it submit a part of the history and close.
    """

    seed: int
    tickets: int = 40
    deaths: Sequence[int] = ()
    fault: str = "none"
    sync_us: int = 300

    def record(self, work: Path, library: Path) -> Plan:
        """Run the writers in ``work``; returns what to look at. Raises where the recorder has missed something."""
        root = work / "root"
        root.mkdir()
        ignored = faults.IGNORED_SYNCS.get(self.fault, "")
        recorder = Recorder(library, root, work / "log", self.sync_us, ignored)
        for number, die in enumerate((*self.deaths, 0), 1):
            until = self.tickets * number // (len(self.deaths) + 1)
            given = (root / DATA, recorder.log, self.seed, self.tickets, until, MAP_BYTES, self.fault)
            recorder.run("tests.powercut.write_store", given, die=die)
        missed = unlike(root, recorder.log)
        if missed:
            raise RuntimeError(f"the recorder has missed something of {missed}")
        return Plan(str(recorder.log), str(root), self.seed, 0, "store", [self.seed, self.tickets, MAP_BYTES])


@dataclass(frozen=True, slots=True)
class BrokerCase:
    """A whole broker with clients, and starts of it without clients on what it has left.

    ``deaths``: in which recorded call each process but the last is killed; 0 lets it stop.
    """

    seed: int
    steps: int = 60
    deaths: Sequence[int] = ()
    fault: str = "none"
    sync_us: int = 300

    def record(self, work: Path, library: Path) -> Plan:
        """Run the broker and its clients in ``work``; returns what to look at."""
        root = work / "root"
        root.mkdir()
        ignored = faults.IGNORED_SYNCS.get(self.fault, "")
        recorder = Recorder(library, root, work / "log", self.sync_us, ignored)
        for number, die in enumerate((*self.deaths, 0)):
            given = (root / DATA, recorder.log, self.seed, 0 if number else self.steps, MAP_BYTES, self.fault)
            recorder.run("tests.powercut.write_broker", given, die=die)
        missed = unlike(root, recorder.log)
        if missed:
            raise RuntimeError(f"the recorder has missed something of {missed}")
        return Plan(str(recorder.log), str(root), self.seed, 0, "broker", [MAP_BYTES])


@dataclass(frozen=True, slots=True)
class Left:
    """What two brokers have left: folders with a data directory in each, and their states."""

    old: Path
    new: Path
    old_state: str
    new_state: str

    @classmethod
    def by_brokers(cls, work: Path, library: Path, seed: int) -> Left:
        """Let two brokers serve in ``work``, one after the other, unrecorded."""
        recorder = Recorder(library, work, work / "ignored")
        for number, name in enumerate(("old", "new")):
            (work / name).mkdir()
            given = (work / name / DATA, recorder.log, seed + number, 30, MAP_BYTES, "none")
            recorder.run("tests.powercut.write_broker", given, recorded=False)
        states = [_state(recorder, work / name) for name in ("old", "new")]
        return cls(work / "old", work / "new", *states)


@dataclass(frozen=True, slots=True)
class MoveCase:
    """A backup, a restore or a rescue of what a broker has left."""

    kind: str
    seed: int
    fault: str = "none"

    def record(self, work: Path, library: Path, left: Left) -> Plan:
        """Move a copy of what is left in ``work``; returns what to look at."""
        root = work / "root"
        shutil.copytree(left.old, root)
        recorder = Recorder(library, root, work / "log", 0, faults.IGNORED_SYNCS.get(self.fault, ""))
        old, new = self._states(work, recorder, left)
        before = work / "before"
        shutil.copytree(root, before)
        recorder.run("tests.powercut.move", (self.kind, root, recorder.log, MAP_BYTES))
        missed = unlike(root, recorder.log, before)
        if missed:
            raise RuntimeError(f"the recorder has missed something of {missed}")
        check = [self.kind, old, new, str(before), MAP_BYTES]
        return Plan(str(recorder.log), str(root), self.seed, 0, "move", check, str(before))

    def _states(self, work: Path, recorder: Recorder, left: Left) -> tuple[str, str]:
        """Prepare what is moved; returns the states before and after."""
        if self.kind == "backup":
            return left.old_state, left.old_state
        aside = work / "aside"
        if self.kind == "restore":
            shutil.copytree(left.new, aside)
            recorder.run("tests.powercut.move", ("backup", aside, work / "ignored", MAP_BYTES), recorded=False)
            shutil.move(aside / "backup", work / "backup")
            return left.old_state, left.new_state
        _damage(recorder.root / DATA / "store" / "data.mdb", self.seed)
        shutil.copytree(recorder.root, aside)
        return "", _state(recorder, aside)


def _state(recorder: Recorder, root: Path) -> str:
    """What ``move.state`` tells of a data directory."""
    log = root.with_name("state")
    log.unlink(missing_ok=True)
    recorder.run("tests.powercut.move", ("state", root, log, MAP_BYTES), recorded=False)
    first = next(record for record in journal.read(log) if record.kind == journal.MARK)
    return first.first.decode().removeprefix("state ")


def _damage(data_file: Path, seed: int) -> None:
    """Zero a page of a store that holds something."""
    whole = data_file.read_bytes()
    chance = random.Random(seed)
    while not findings(data_file):
        page = chance.randrange(2, len(whole) // PAGE_BYTES)
        zeroed = bytearray(whole)
        zeroed[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
        data_file.write_bytes(zeroed)


def look(plan: Plan, work: Path) -> Result:
    """Look at all images of a plan; a process that dies is a failure found."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    file = work / "plan.json"
    file.write_text(json.dumps(asdict(plan)))
    result = Result()
    started = time.monotonic()
    first = 0
    while first >= 0 and len(result.wrong) < FAILURES_ENOUGH:
        first = _look_on(file, first, work, result)
    result.seconds = time.monotonic() - started
    return result


def _look_on(file: Path, first: int, work: Path, result: Result) -> int:
    """Run one looker to its end or death; returns where to go on, or -1."""
    shutil.rmtree(work / "image", ignore_errors=True)
    command = [sys.executable, "-P", "-m", "tests.powercut.look", str(file), str(first), str(work)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, "LD_PRELOAD": ""}, text=True)
    for line in done.stdout.splitlines():
        told = json.loads(line)
        result.wrong[told["image"]] = told["wrong"]
    at, looked = map(int, (work / "at").read_text().split())
    result.looked += looked
    if done.returncode == 0:
        return -1
    if done.returncode > 0:
        raise RuntimeError(f"the looker failed at image {at}")
    result.wrong[at] = f"the process died of {signal.Signals(-done.returncode).name}"
    return at + 1
