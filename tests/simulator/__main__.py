"""``python -m tests.simulator [--seed N] [--steps M] [--runs R | --seconds S]``: play runs until one fails."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.simulator.faults import FAULTS
from tests.simulator.play import Failure, play, shrink


def main() -> int:
    """Play runs with seeds N, N+1, ... of M steps each; tell how fast, and how a failure is repeated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="Crash the broker, in one process.")
    parser.add_argument("--seed", type=int, default=None, help="of the first run; default: the clock")
    parser.add_argument("--steps", type=int, default=1000, help="of each run (default %(default)s)")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="instead of --runs: as many as fit")
    parser.add_argument("--level", choices=("synced", "memory"), help="of all clients")
    parser.add_argument("--fault", action="append", default=[], choices=FAULTS, help="a bug to plant")
    parser.add_argument("--lying", choices=("prefix", "subset"), default="", help="what a disk keeps that lies")
    parser.add_argument("--shrink", action="store_true", help="look for fewer steps that fail alike")
    options = parser.parse_args()
    logging.disable()  # disks fail all the time here
    first = time.time_ns() // 1000 % 1_000_000_000 if options.seed is None else options.seed
    faults = frozenset(options.fault)
    begun = time.monotonic()
    done = runs = 0
    while runs < options.runs or time.monotonic() - begun < options.seconds:
        outcome = play(first + runs, options.steps, level=options.level, faults=faults, lying=options.lying)
        done += options.steps
        runs += 1
        if isinstance(outcome, Failure):
            print(outcome.text())  # noqa: T201
            if options.shrink:
                print(shrink(outcome).text())  # noqa: T201
            return 1
    took = time.monotonic() - begun
    print(f"{runs} runs from seed {first}, {done} steps, {done / took:.0f} steps/s: nothing was lost")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
