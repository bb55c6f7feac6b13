"""Which runs count, and what the table makes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import campaign, disk, figures, generator, syscalls, table
from benchmarks.brokers import Contestant, IotBroker, Running
from benchmarks.campaign import Plan, Result
from benchmarks.scenarios import BY_NAME, SCENARIOS, Scenario

PLAN = Plan(repetitions=3, seconds=1.0, broker_core=0, generator_core=1)
SPARSE = BY_NAME["sparse"]


class Idle(Contestant):
    """A broker that is none: the generator's answers are made up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def version(self) -> str:
        return "0"

    def command(self, scenario: Any, folder: Path, port: int) -> list[str]:
        return []

    def wait_until_ready(self, folder: Path, port: int, process: Any) -> dict[str, int]:
        return {"mqtt": port}

    @contextlib.contextmanager
    def start(self, scenario: Any, core: int | None, wrapper: tuple[str, ...] = ()) -> Iterator[Running]:
        yield Running(1, 1, ["--password", "secret", "--subscriber-password", "secret"], http_port=1)


HELD = """\
# TYPE iot_broker_loop_hold_seconds histogram
iot_broker_loop_hold_seconds_bucket{{le="0.003"}} {short}
iot_broker_loop_hold_seconds_bucket{{le="0.005"}} {medium}
iot_broker_loop_hold_seconds_bucket{{le="0.01"}} {all}
iot_broker_loop_hold_seconds_bucket{{le="+Inf"}} {all}
iot_broker_loop_hold_seconds_sum 1
iot_broker_loop_hold_seconds_count {all}
"""


def answers(monkeypatch: pytest.MonkeyPatch, shares: list[float]) -> None:
    """Let the generator find others taking these shares of the core, one after the other, then none."""
    left = iter(shares)

    def run(arguments: list[str], *, on_mark: Any = None, **_: object) -> generator.Report:
        taken = next(left, 0.0)
        for mark in ("measuring", "measured") if on_mark else ():
            on_mark(mark)
        faults = dict.fromkeys(("lost", "duplicated", "reordered"), 0) | {"received": 900, "publish_s": 0.5}
        faults |= {"latency_p50_us": 20.0, "latency_p99_us": 40.0, "connected": 2000, "duration_s": 1.5}
        return {"core_busy_share": 0.5 + taken, "broker_cpu_share": 0.5, "command": ["loadgen", *arguments], **faults}

    monkeypatch.setattr(generator, "run", run)


def play(contestants: list[Contestant], scenario: Scenario = SPARSE) -> tuple[dict[str, Result], list[str]]:
    said: list[str] = []
    return campaign.run_scenario(scenario, contestants, PLAN, said.append), said


def test_contestants_alternate_and_the_order_is_reversed_every_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [])
    _, said = play([Idle("a"), Idle("b")])
    assert [line[-1] for line in said] == ["a", "b", "b", "a", "a", "b"]


def test_a_disturbed_run_is_dropped_and_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [0.3, 0.05])
    results, said = play([Idle("a")])
    assert len(results["a"].runs) == 3
    assert len(results["a"].dropped) == 1
    assert any("30%" in line for line in said)


def test_a_run_is_repeated_at_most_twice_and_then_the_quietest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [0.4, 0.2, 0.3])
    results, _ = play([Idle("a")])
    assert len(results["a"].dropped) == 2
    assert campaign.others_share(results["a"].runs[0]) == pytest.approx(0.2)


def test_before_all_others_no_run_is_disturbed_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [0.9])
    plan = Plan(1, 1.0, 0, 1, real_time=True)
    results = campaign.run_scenario(SPARSE, [Idle("a")], plan, lambda _: None)
    assert len(results["a"].runs) == 1
    assert results["a"].dropped == []


def test_passwords_are_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [])
    results, _ = play([Idle("a")])
    assert "secret" not in str(campaign.as_json(results))


def test_how_long_the_loop_is_held_is_asked_when_the_measured_time_begins_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(monkeypatch, [])
    told = iter([HELD.format(short=90, medium=95, all=99), HELD.format(short=190, medium=197, all=201)] * 3)
    monkeypatch.setattr(figures, "read", lambda _: figures.parse(next(told)))
    results, _ = play([Idle("a")], BY_NAME["wide-fan-out"])
    assert [run["rounds"] for run in results["a"].runs] == [102] * 3
    assert results["a"].runs[0]["longest_hold_at_most_ms"] == pytest.approx(5.0)
    assert results["a"].runs[0]["rounds_over_5_ms"] == 0


def test_a_broker_that_tells_no_figures_is_measured_without_them() -> None:
    assert figures.hold_of({}, {}) == {}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_every_scenario_has_a_table(monkeypatch: pytest.MonkeyPatch, scenario: Scenario) -> None:
    answers(monkeypatch, [])
    monkeypatch.setattr(figures, "read", lambda _: figures.parse(HELD.format(short=1, medium=2, all=3)))
    monkeypatch.setattr(disk, "sync_times_us", lambda *_, **__: [100.0])
    monkeypatch.setattr(campaign, "backends", lambda *_: contextlib.nullcontext({"rest_per_s": 500.0}))
    results, _ = play([Idle("iot-broker"), Idle("mosquitto-tuned")], scenario)
    text = table.scenario_text(scenario, results, {})
    assert scenario.title in text
    assert "| iot-broker |" in text


def test_beside_stalled_readers_each_run_is_compared_with_itself() -> None:
    runs: list[generator.Report] = [
        {"latency_p50_us": 30.0, "undisturbed_latency_p50_us": 20.0},
        {"latency_p50_us": 44.0, "undisturbed_latency_p50_us": 40.0},
    ]
    assert table.slowdowns(Result(runs)) == pytest.approx([1.5, 1.1])


def test_a_queue_entry_counts_when_its_session_came_back_to_it() -> None:
    kept = campaign.kept_of({"received": 1010, "duplicated": 10, "publish_s": 0.5, "broker_cpu_s": 0.25})
    assert kept == {"kept_per_s": 2000, "kept_per_cpu_s": 4000}


def test_levels_of_durability_are_measured_in_our_broker_alone() -> None:
    ours = IotBroker(["iot-broker"], open_mode=False)
    synced, memory = ours.variants(BY_NAME["latency"])
    assert (synced, memory.name) == (ours, "iot-broker-memory")
    assert "memory" in memory.environment["IOT_BROKER_LISTENERS"]
    assert not ours.environment
    assert Idle("mosquitto-tuned").variants(BY_NAME["latency"]) == []
    assert ours.variants(SPARSE) == [ours]


def test_a_sync_is_timed_before_and_after_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [])
    times = iter([[100.0, 100.0], [300.0, 500.0]])
    monkeypatch.setattr(disk, "sync_times_us", lambda *_, **__: next(times))
    report = campaign.run_once(Idle("iot-broker"), BY_NAME["latency"], PLAN)
    assert report["sync_p50_us"] == 200


def test_added_latency_is_told_in_syncs_of_the_same_runs() -> None:
    field = "ack_latency_p50_us"
    results = {
        "iot-broker": Result([{field: 700.0, "sync_p50_us": 200.0}]),
        "iot-broker-memory": Result([{field: 200.0, "sync_p50_us": 100.0}]),
    }
    assert table.added_syncs(results, "iot-broker", field) == 2.5
    assert table.added_syncs(results, "iot-broker-memory", field) is None


def test_the_time_of_a_sync_is_measured_on_a_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    times = disk.sync_times_us(tmp_path, count=5)
    assert len(times) == 5
    assert min(times) > 0
    assert list(tmp_path.iterdir()) == []


def test_an_older_build_is_compared_in_the_same_mode() -> None:
    results = results_of(iot_broker=[90], iot_broker_open=[200], baseline=[100], mosquitto_tuned=[10])
    assert table.against_baseline(results, "iot-broker", "delivered_per_cpu_s") == pytest.approx(0.9)
    assert table.against_baseline(results, "iot-broker-open", "delivered_per_cpu_s") is None
    assert table.ratio(results, "baseline", "delivered_per_cpu_s") == 10


def results_of(**figures: list[float]) -> dict[str, Result]:
    field = "delivered_per_cpu_s"
    return {name.replace("_", "-"): Result([{field: value} for value in values]) for name, values in figures.items()}


def test_ours_is_compared_with_the_better_configuration_of_the_peer() -> None:
    results = results_of(iot_broker=[300, 100, 200], mosquitto_tuned=[10, 10, 10], mosquitto_default=[20, 20, 20])
    assert table.ratio(results, "iot-broker", "delivered_per_cpu_s") == 10
    assert table.ratio(results, "iot-broker", "delivered_per_cpu_s", most=False) == 20
    assert table.ratio(results, "mosquitto-tuned", "delivered_per_cpu_s") is None


@pytest.mark.parametrize(
    ("values", "text"),
    [([1234567.0], "1.23M"), ([45678.0, 40000.0, 50000.0], "**45.7k** (40k–50k)"), ([], "-"), ([0.123], "0.123")],  # noqa: RUF001
)
def test_a_cell_is_the_median_and_the_range(values: list[float], text: str) -> None:
    assert table.spread(values) == text


STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.100000           5     20000           sendto
 40.00    0.050000           3     20010        10 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.150000           4     40010        10 total
"""


def test_calls_are_read_from_the_summary_of_strace() -> None:
    assert syscalls.parse_summary(STRACE) == {"sendto": 20000, "recvfrom": 20010}
