"""The order of runs: contestants in alternation, a fresh process each, disturbed runs repeated.

Belongs here: alternation, repetition, which runs count. Not here: what a run is made of.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import disk, figures, generator
from benchmarks.brokers import Contestant, Running
from benchmarks.generator import pinned
from benchmarks.scenarios import REST_PER_S, Scenario

MAX_OTHERS_SHARE = 0.10
MAX_REPEATS = 2
NEWCOMERS = 2000
REST_LONGER_S = 2.0  # than what is measured, with its warm-up and its drain
IN_WHAT_IS_LEFT = ("chrt", "--idle", "0")  # of a core by others, words before a command


@dataclass(frozen=True)
class Plan:
    """What the command line asked for. Cores are None where the machine has one only."""

    repetitions: int
    seconds: float
    broker_core: int | None
    generator_core: int | None
    real_time: bool = False

    @property
    def wrapper(self) -> tuple[str, ...]:
        """Words before both commands."""
        return ("chrt", "-f", "1") if self.real_time else ()


@dataclass
class Result:
    """All runs of one contestant in one scenario; ``dropped`` were disturbed by others on the broker's core."""

    runs: list[generator.Report] = field(default_factory=list)
    dropped: list[generator.Report] = field(default_factory=list)


def others_share(report: generator.Report) -> float:
    """Share of the broker's core that neither the broker nor idleness took during the measured time."""
    return max(0.0, float(report.get("core_busy_share", 0.0)) - float(report["broker_cpu_share"]))


def run_once(contestant: Contestant, scenario: Scenario, plan: Plan) -> generator.Report:
    """One fresh broker, one load."""
    with contestant.start(scenario, plan.broker_core, plan.wrapper) as running:
        where = ["--port", str(running.port), "--broker-pid", str(running.process_id)]
        if plan.broker_core is not None:
            where += ["--broker-core", str(plan.broker_core)]
        arguments = [*scenario.generator_arguments(plan.seconds), *where, *running.client_arguments]
        return hide_secrets(run_load(scenario, running, arguments, plan))


def run_load(scenario: Scenario, running: Running, arguments: list[str], plan: Plan) -> generator.Report:
    """One load, and what the scenario wants to know beside it."""
    if scenario.kind == "hold" and running.http_port:
        return run_watched(running, arguments, plan)
    if scenario.kind == "levels":
        return run_between_syncs(running, arguments, plan)
    if scenario.kind == "newcomers":
        return run_beside_newcomers(scenario, running, arguments, plan)
    if scenario.kind == "rest":
        return run_beside_rest(running, arguments, plan)
    report = generator.run(arguments, core=plan.generator_core, wrapper=plan.wrapper)
    return report | kept_of(report) if scenario.kind == "queue" else report


def run_between_syncs(running: Running, arguments: list[str], plan: Plan) -> generator.Report:
    """One load, with what a sync of the broker's disk takes before it and after it."""
    before = disk.sync_times_us(running.folder, real_time=plan.real_time)
    report = generator.run(arguments, core=plan.generator_core, wrapper=plan.wrapper)
    after = disk.sync_times_us(running.folder, real_time=plan.real_time)
    return report | {"sync_p50_us": statistics.median([*before, *after])}


def run_beside_newcomers(scenario: Scenario, running: Running, arguments: list[str], plan: Plan) -> generator.Report:
    """The load undisturbed, and again while many clients come, from another process on the generator's core.

    That one has what the measuring one leaves of it: real clients do not share a core with each other.
    """
    undisturbed = generator.run(arguments, core=plan.generator_core, wrapper=plan.wrapper)
    words = ["--json", "--quiet", "--mode", "connect", "--clients", str(NEWCOMERS), "--client-id-prefix", "newcomer-"]
    words += ["--tls", "--port", str(running.port), "--settle-s", "0", "--hold-s", "0", *_without_pids(running)]
    came: list[generator.Report] = []
    storm = threading.Thread(
        target=lambda: came.append(generator.run(words, core=plan.generator_core, wrapper=IN_WHAT_IS_LEFT))
    )

    def begin(mark: str) -> None:
        if mark == "measuring":
            storm.start()

    report = generator.run(arguments, core=plan.generator_core, wrapper=plan.wrapper, on_mark=begin)
    storm.join()
    if not came:
        raise generator.GeneratorFailed(f"{scenario.name}: nobody came")
    told = {"undisturbed_latency_p50_us": undisturbed["latency_p50_us"], "newcomers": came[0]["connected"]}
    return report | told | {"newcomers_s": came[0]["duration_s"]}


def run_beside_rest(running: Running, arguments: list[str], plan: Plan) -> generator.Report:
    """The load undisturbed, and again beside backends that use the REST API, who have what is left of the core."""
    undisturbed = generator.run(arguments, core=plan.generator_core, wrapper=plan.wrapper)
    with backends(running, plan) as told:
        report = generator.run(arguments, core=plan.generator_core, wrapper=plan.wrapper)
    quiet = {f"undisturbed_{name}": undisturbed[name] for name in ("latency_p50_us", "latency_p99_us")}
    return report | quiet | told


@contextlib.contextmanager
def backends(running: Running, plan: Plan) -> Iterator[generator.Report]:
    """Let backends use the REST API meanwhile; afterwards the report says what came of it."""
    words = [sys.executable, "-m", "benchmarks.rest_load", "--port", str(running.http_port)]
    words += ["--callers", str(running.folder / "callers.json")]
    words += ["--rate-per-s", str(REST_PER_S), "--seconds", str(plan.seconds + REST_LONGER_S)]
    command = [*pinned(plan.generator_core), *IN_WHAT_IS_LEFT, *words]
    told: generator.Report = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=generator.ROOT) as process:
        yield told
        said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise generator.GeneratorFailed("the REST API could not be asked")
    told |= json.loads(said)


def _without_pids(running: Running) -> list[str]:
    """How newcomers log in: as applications do."""
    words = running.client_arguments
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    renamed = {"--subscriber-username": "--username", "--subscriber-password": "--password"}
    return [word for name, plain in renamed.items() if name in pairs for word in (plain, pairs[name])]


def kept_of(report: generator.Report) -> generator.Report:
    """Fields of a report: queue entries a second, and a CPU second, that were there when their sessions came back."""
    kept = report["received"] - report["duplicated"]
    per_cpu_s = kept / report["broker_cpu_s"] if report.get("broker_cpu_s") else 0.0
    return {"kept_per_s": kept / report["publish_s"], "kept_per_cpu_s": per_cpu_s}


def run_watched(running: Running, arguments: list[str], plan: Plan) -> generator.Report:
    """One load, with what the broker's own figures say about the measured time."""
    seen: dict[str, figures.Figures] = {}
    report = generator.run(
        arguments,
        core=plan.generator_core,
        wrapper=plan.wrapper,
        on_mark=lambda mark: seen.update({mark: figures.read(running.http_port)}),
    )
    return report | figures.hold_of(seen["measuring"], seen["measured"])


def hide_secrets(report: generator.Report) -> generator.Report:
    """Passwords given as arguments do not belong in a file of results."""
    words = report["command"]
    hidden = ["..." if i and words[i - 1].endswith("-password") else word for i, word in enumerate(words)]
    return report | {"command": ["..." if i and words[i - 1] == "--password" else w for i, w in enumerate(hidden)]}


def run_counted(
    contestant: Contestant, scenario: Scenario, plan: Plan, result: Result, say: Callable[[str], None]
) -> None:
    """Run until a run is undisturbed, at most three times; the least disturbed counts if none is."""
    tries: list[generator.Report] = []
    for _ in range(1 + MAX_REPEATS):
        report = run_once(contestant, scenario, plan)
        tries.append(report)
        if scenario.kind in {"connections", "handshakes"} or plan.real_time or others_share(report) <= MAX_OTHERS_SHARE:
            break
        say(f"{contestant.name}: others took {others_share(report):.0%} of the broker's core; run dropped")
    best = min(tries, key=others_share) if len(tries) > MAX_REPEATS else tries[-1]
    result.runs.append(best)
    result.dropped += [report for report in tries if report is not best]


def run_scenario(
    scenario: Scenario, contestants: list[Contestant], plan: Plan, say: Callable[[str], None]
) -> dict[str, Result]:
    """Every contestant in turn, ``repetitions`` times, the order reversed every second time."""
    results = {contestant.name: Result() for contestant in contestants}
    for repetition in range(plan.repetitions):
        order = contestants if repetition % 2 == 0 else contestants[::-1]
        for contestant in order:
            say(f"{scenario.name}, {repetition + 1} of {plan.repetitions}: {contestant.name}")
            run_counted(contestant, scenario, plan, results[contestant.name], say)
    return results


def as_json(results: dict[str, Result]) -> dict[str, Any]:
    """Every run as the generator reported it, the dropped ones apart."""
    return {name: {"runs": result.runs, "dropped": result.dropped} for name, result in results.items()}
