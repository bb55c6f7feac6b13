"""``python -m tests.crash [--rounds N] [--seed N] [--target mosquitto] ...``: kill, look, tell.

Here belongs the command line. Not here: anything it starts.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import uvloop

from tests.crash import plan
from tests.crash.brokers import MOSQUITTO_MODES
from tests.crash.planted import FAULTS
from tests.crash.report import details, table
from tests.crash.run import Options, run, say


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """The options, as docs/durability.md tells them."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="Kill brokers, look what is left.")
    parser.add_argument("--rounds", type=int, default=100, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=None, help="default: the clock; printed")
    parser.add_argument("--target", choices=("iot-broker", "mosquitto"), default="iot-broker")
    parser.add_argument("--mode", choices=sorted(MOSQUITTO_MODES), default="on-changes", help="how mosquitto saves")
    parser.add_argument("--broker-command", default=None, help="words that start our broker, instead of iot-broker")
    parser.add_argument("--fault", choices=sorted(FAULTS), default=None, help="a broker that breaks one promise")
    parser.add_argument("--kind", action="append", choices=(plan.PLAIN, plan.SMALL, plan.OLD), help="default: all")
    parser.add_argument("--quiet-s", type=float, default=5.0, help="what does not come for so long is lost")
    parser.add_argument("--keep", type=Path, default=Path("build/crash"), help="where failed campaigns stay")
    parser.add_argument("--go-on", action="store_true", help="a finding does not end its campaign")
    parser.add_argument("--spare", action="store_true", help="kill nobody, cut connections: must find nothing")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run, print the table and the sums, write JSON; 1 when our broker broke a promise."""
    chosen = parse_arguments(sys.argv[1:] if words is None else words)
    seed = time.time_ns() // 1_000_000 % 1_000_000_000 if chosen.seed is None else chosen.seed
    options = Options(
        chosen.rounds, seed, chosen.target, chosen.mode, quiet_s=chosen.quiet_s, keep=chosen.keep,
        stop_at_finding=not chosen.go_on, verbose=chosen.verbose, spare=chosen.spare,
    )  # fmt: skip
    if chosen.kind:
        options.kinds = tuple(chosen.kind)
    if chosen.broker_command:
        options.words = shlex.split(chosen.broker_command)
    if chosen.fault:
        options.words = [sys.executable, "-P", "-m", "tests.crash.planted", chosen.fault]
    say(f"seed {seed}")
    row, failures = uvloop.run(run(options))
    chosen.keep.mkdir(parents=True, exist_ok=True)
    file = chosen.keep / f"{options.target}-{seed}.json"
    file.write_text(json.dumps({"seed": seed, **row, "failures": [str(one) for one in failures]}, indent=1) + "\n")
    sys.stdout.write(f"{table([row])}\n\n{details(row)}\n")
    say(f"{row['seconds'] / max(1, row['rounds']):.2f} s a round; {file}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
