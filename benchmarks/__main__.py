"""``python -m benchmarks``: measures the installed broker beside mosquitto, prints a table, writes JSON.

Belongs here: the command line and the files of results. Not here: how anything is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import generator, machine, syscalls
from benchmarks.brokers import BrokerFailed, Contestant, IotBroker, Mosquitto, own_command
from benchmarks.campaign import Plan, Result, as_json, run_scenario
from benchmarks.scenarios import BY_NAME, SCENARIOS, Scenario
from benchmarks.table import BASELINE, scenario_text

TRACED = ("sparse",)
TRACED_SECONDS = 2.0


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """The options, documented in docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=sorted(BY_NAME), help="only this one; may be repeated")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each contestant (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of a run (default 3)")
    parser.add_argument("--quick", action="store_true", help="one repetition of one second: a smoke test, no figures")
    parser.add_argument("--peer-config", choices=["tuned", "default", "both", "none"], default="both")
    parser.add_argument(
        "--mode", choices=["credentials", "open", "both", "none"], default="both", help="of our own broker"
    )
    parser.add_argument("--broker-command", default=None, help="words that start our broker, instead of iot-broker")
    parser.add_argument("--baseline-command", default=None, help="words that start an older build of ours, beside it")
    parser.add_argument("--broker-core", type=int, default=0)
    parser.add_argument("--generator-core", type=int, default=1)
    parser.add_argument("--real-time", action="store_true", help="SCHED_FIFO for broker and generator (root alone)")
    parser.add_argument("--no-syscalls", action="store_true", help="skip the separate runs under strace")
    parser.add_argument("--output", type=Path, default=generator.ROOT / "build" / "bench", help="folder for the JSON")
    options = parser.parse_args(words)
    if options.quick:
        options.repetitions, options.seconds = 1, 1.0
    return options


def say(text: str) -> None:
    """Progress goes to standard error: standard output is the table alone."""
    print(text, file=sys.stderr, flush=True)


def choose_contestants(options: argparse.Namespace) -> list[Contestant]:
    """Ours first; each configuration of the peer is a contestant of its own."""
    words = own_command(options.broker_command) if options.mode != "none" else []
    modes = {"credentials": [False], "open": [True], "both": [False, True], "none": []}[options.mode]
    peers = {"both": ["tuned", "default"], "none": []}.get(options.peer_config, [options.peer_config])
    ours = [IotBroker(words, open_mode=mode) for mode in modes]
    if options.baseline_command:
        older = shlex.split(options.baseline_command)
        ours += [IotBroker(older, open_mode=mode, name=BASELINE) for mode in modes]
    return [*ours, *(Mosquitto(config) for config in peers)]


def plan_of(options: argparse.Namespace) -> Plan:
    """Cores only where there are two of them."""
    cores = os.sched_getaffinity(0)
    if {options.broker_core, options.generator_core} <= cores and options.broker_core != options.generator_core:
        return Plan(
            options.repetitions, options.seconds, options.broker_core, options.generator_core, options.real_time
        )
    say("these cores are not there: broker and generator share what there is, and figures are not comparable")
    return Plan(options.repetitions, options.seconds, None, None)


def count_calls(
    scenario: Scenario, contestants: list[Contestant], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """System calls per message, for the scenarios where they decide."""
    if scenario.name not in TRACED or options.no_syscalls or not syscalls.available():
        return {}
    counted = {}
    for contestant in contestants:
        say(f"{scenario.name}: system calls of {contestant.name}")
        counted[contestant.name] = syscalls.per_message(contestant, scenario, min(TRACED_SECONDS, options.seconds))
    return counted


def write_json(folder: Path, document: dict[str, Any]) -> Path:
    """Write under a name that sorts by time, and as latest.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / time.strftime("%Y%m%dT%H%M%SZ.json", time.gmtime())
    text = json.dumps(document, indent=1) + "\n"
    path.write_text(text)
    (folder / "latest.json").write_text(text)
    return path


def measure(options: argparse.Namespace, contestants: list[Contestant]) -> dict[str, Any]:
    """All scenarios; each table is printed as soon as it is known."""
    plan = plan_of(options)
    document: dict[str, Any] = {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.facts(),
        "versions": {contestant.name: contestant.version() for contestant in contestants},
        "plan": vars(plan),
        "scenarios": {},
    }
    print("\n".join(f"- {name}: {value}" for name, value in (document["machine"] | document["versions"]).items()), "\n")
    for name in options.scenario or [scenario.name for scenario in SCENARIOS]:
        scenario = BY_NAME[name]
        playing = [variant for contestant in contestants for variant in contestant.variants(scenario)]
        results: dict[str, Result] = run_scenario(scenario, playing, plan, say)
        calls = count_calls(scenario, playing, options)
        document["scenarios"][name] = {"title": scenario.title, "results": as_json(results), "system_calls": calls}
        print(scenario_text(scenario, results, calls), flush=True)
    return document


def main() -> int:
    """Exit status 1 when something could not be measured."""
    options = parse_arguments(sys.argv[1:])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # children inherit it: 10,000 connections need it
    try:
        generator.build()
        document = measure(options, choose_contestants(options))
    except (BrokerFailed, generator.GeneratorFailed) as error:
        say(f"error: {error}")
        return 1
    say(f"written: {write_json(options.output, document)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
