"""``python -m tests.fuzz [--target NAME] [--seconds N] [--seed N] [--atheris ...]``: fuzz until the time is over."""

from __future__ import annotations

import argparse
import time

from tests.fuzz.driver import TARGETS, run, run_atheris


def main() -> None:
    """Run one target, or all of them in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Feed the core damaged bytes.")
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all in turn")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=None, help="default: the clock; printed, so that a run can be repeated"
    )
    parser.add_argument("--atheris", nargs=argparse.REMAINDER, help="use libFuzzer; the rest are its arguments")
    options = parser.parse_args()
    seed = time.time_ns() if options.seed is None else options.seed
    for name in options.target or TARGETS:
        if options.atheris is not None:
            run_atheris(name, options.atheris)
        done = run(name, seed, seconds=options.seconds)
        print(f"{name}: {done} inputs, seed {seed}, no failure")  # noqa: T201


if __name__ == "__main__":
    main()
