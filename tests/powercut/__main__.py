"""``make power-cut-test``: round after round of recorded histories, each cut at every moment, until the time is over.

    python -P -m tests.powercut [--seconds S] [--seed N] [--kind KIND] [--variants V] [--fault NAME]
    python -P -m tests.powercut --again FOLDER --image N

Here belongs the command line. Not here: the machine. A round whose seed is known is repeated by
``--seed N --rounds 1``; its log is kept in ``build/powercut`` if anything was wrong: threads make it differ next time.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from tests.powercut import faults
from tests.powercut.look import Plan
from tests.powercut.machine import BrokerCase, Left, MoveCase, Result, StoreCase, look
from tests.powercut.record import build, fast_folder

KINDS = ("store", "broker", "backup", "restore", "rescue")
KEPT = Path("build") / "powercut"


def record(seed: int, kind: str, fault: str, work: Path, library: Path) -> Plan:
    """Invent a round of a kind, and record it."""
    if kind == "any":
        kind = random.Random(seed).choice(("store", "broker", "broker", "broker", "backup", "restore", "rescue"))
    if kind == "store":
        return store_case(seed, fault).record(work, library)
    if kind == "broker":
        chance = random.Random(seed)
        steps, sync_us = chance.choice(((20, 300), (60, 0), (60, 3000), (150, 300)))
        first, second = chance.randint(30, 1500), chance.randint(5, 60)
        deaths = chance.choice(((), (0,), (first,), (first, second)))
        return BrokerCase(seed, steps, deaths, fault, sync_us).record(work, library)
    left = work / "left"
    left.mkdir()
    return MoveCase(kind, seed, fault).record(work, library, Left.by_brokers(left, library, seed))


def store_case(seed: int, fault: str) -> StoreCase:
    """A round for the store alone: its length, its sync's time, and where its processes are killed."""
    chance = random.Random(seed)
    deaths = [chance.choice((0, chance.randint(1, 400))) for _ in range(chance.choice((0, 0, 1, 2)))]
    return StoreCase(seed, chance.choice((10, 40, 120)), deaths, fault, chance.choice((0, 300, 3000)))


def parser() -> argparse.ArgumentParser:
    """What may be asked."""
    made = argparse.ArgumentParser(prog="tests.powercut", description="power cuts, replayed from recorded writes")
    made.add_argument("--seconds", type=float, default=60.0, help="when to begin no further round")
    made.add_argument("--rounds", type=int, default=1_000_000, help="after how many rounds to end")
    made.add_argument("--seed", type=int, default=1, help="the first round's")
    made.add_argument("--variants", type=int, default=6, help="seeded images of each moment")
    made.add_argument("--fault", choices=faults.NAMES, default="none", help="a planted fault, to be found")
    made.add_argument("--kind", choices=("any", *KINDS), default="any", help="of rounds")
    made.add_argument("--again", type=Path, help="a kept round to look at once more")
    made.add_argument("--image", type=int, default=-1, help="the one image of it; it is left in FOLDER/again/image")
    return made


def one_round(seed: int, given: argparse.Namespace, folder: Path, library: Path) -> Result:
    """Record and look; keeps the log where something is wrong."""
    work = folder / f"seed-{seed}"
    work.mkdir()
    plan = record(seed, given.kind, given.fault, work, library)
    result = look(replace(plan, variants=given.variants), work / "look")
    if result.wrong:
        KEPT.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(KEPT / work.name, ignore_errors=True)
        shutil.move(work, KEPT / work.name)
    else:
        shutil.rmtree(work)
    return result


def tell(seed: int, result: Result) -> None:
    """A line for a round, and one for each thing wrong."""
    click.echo(f"seed {seed}: {result.text()}" + f", {len(result.wrong)} WRONG" * bool(result.wrong))
    for image, wrong in sorted(result.wrong.items())[:5]:
        click.echo(f"  image {image}: {wrong}\n    once more: --again {KEPT}/seed-{seed} --image {image}")


def again(folder: Path, image: int) -> Result:
    """Look at a kept round, or at one image of it."""
    plan = Plan(**json.loads((folder / "look" / "plan.json").read_text()))
    return look(replace(plan, log=str(folder / "log"), only=image), folder / "again")


def main() -> int:
    """Read the command line; 1 where anything was wrong."""
    given = parser().parse_args()
    if given.again is not None:
        result = again(given.again, given.image)
        click.echo("\n".join([result.text(), *(f"image {number}: {wrong}" for number, wrong in result.wrong.items())]))
        return int(bool(result.wrong))
    end = time.monotonic() + given.seconds
    whole = Result()
    with fast_folder() as folder:
        library = build(folder)
        for seed in range(given.seed, given.seed + given.rounds):
            result = one_round(seed, given, folder, library)
            tell(seed, result)
            whole.add(result)
            if time.monotonic() > end:
                break
    click.echo(f"in all: {whole.text()}, {len(whole.wrong)} wrong")
    return int(bool(whole.wrong))


if __name__ == "__main__":
    sys.exit(main())
