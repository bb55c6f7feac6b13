"""The process that looks at images, one after the other; whatever a broken file may do, it is done here.

    python -P -m tests.powercut.look PLAN FIRST WORK

PLAN is JSON (``machine.Plan``); FIRST the number of the first image to look at, WORK a folder of its own. A failure is
a line of JSON on standard output; ``WORK/at`` holds the number of the image it is at, and how many it has looked at,
for whoever finds it dead.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.powercut import journal
from tests.powercut.check import Check
from tests.powercut.cuts import CHOSEN, DURABLE, EVERYTHING, image, write_out
from tests.powercut.disk import Disk

CLOSE_LOOK_EVERY = 16
CHECKS = {
    "store": ("tests.powercut.check", "StoreCheck"),
    "move": ("tests.powercut.check_move", "MoveCheck"),
    "broker": ("tests.powercut.check_broker", "BrokerCheck"),
}
"""Imported when it is needed: a whole broker takes a second."""
FAILURES_ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """Which log, what its judge is given, and how many seeded variants of each moment are looked at.

    ``before``: a copy of what lay there before the first record, if anything did. ``only``: the one image to look at,
    -1 for all. ``every``: of all moments each so manieth. ``until_s``: stop then.
    """

    log: str
    root: str
    seed: int
    variants: int
    kind: str
    check: list[Any]
    before: str = ""
    only: int = -1
    every: int = 1
    until_s: float = 1e9

    def made_check(self) -> Check:
        """Make the judge of this kind of log."""
        module, name = CHECKS[self.kind]
        check: Check = getattr(importlib.import_module(module), name)(*self.check)
        return check


def moments(plan: Plan, check: Check) -> Iterator[tuple[int, Disk]]:
    """Each moment at which the disk or the promises are new: its number, and the disk; ``check`` is told on the way."""
    disk = Disk(Path(plan.root), Path(plan.before) if plan.before else None)
    number = 0
    for record in journal.read(Path(plan.log)):
        disk.begin(record)
        if record.kind not in (journal.SYNC, journal.MARK) or (
            record.kind == journal.MARK and check.hear(record.first.decode())
        ):
            yield number, disk
            number += 1
        disk.finish(record)


def images(plan: Plan, check: Check) -> Iterator[tuple[int, int, Disk]]:
    """Each image to look at: its number, its variant, and the disk it is made of."""
    each = CHOSEN + plan.variants
    for moment, disk in moments(plan, check):
        for variant in (EVERYTHING, DURABLE, *range(CHOSEN, each)):
            number = moment * each + variant
            if plan.only in (-1, number) and moment % plan.every == 0:
                yield number, variant, disk


class Looker:
    """Looks at images from a number on."""

    def __init__(self, plan: Plan, work: Path) -> None:
        self._plan = plan
        self._work = work
        self._wrong = 0
        self._end = time.monotonic() + plan.until_s
        self._at = os.open(work / "at", os.O_WRONLY | os.O_CREAT, 0o600)

    def run(self, first: int) -> None:
        """Look."""
        check = self._plan.made_check()
        looked = 0
        for number, variant, disk in images(self._plan, check):
            if number < first:
                continue
            looked += 1
            os.pwrite(self._at, b"%20d%20d" % (number, looked), 0)
            self._look(check, number, variant, disk)
            if self._wrong >= FAILURES_ENOUGH or time.monotonic() > self._end:
                break

    def _look(self, check: Check, number: int, variant: int, disk: Disk) -> None:
        folder = self._work / "image"
        folder.mkdir()
        write_out(image(disk, self._plan.seed + number, variant), folder)
        wrong = check.look(folder, closely=number % CLOSE_LOOK_EVERY == 0)
        if wrong:
            self._wrong += 1
            click.echo(json.dumps({"image": number, "wrong": wrong}))
        if self._plan.only == -1:
            shutil.rmtree(folder)


def main() -> None:
    """Read the command line."""
    logging.disable(logging.ERROR)  # a rescue says so, thousands of times
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    Looker(plan, Path(sys.argv[3])).run(int(sys.argv[2]))


if __name__ == "__main__":
    main()
