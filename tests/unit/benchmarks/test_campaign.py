"""Which runs count, and what the table makes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import campaign, generator, syscalls, table
from benchmarks.brokers import Contestant, Running
from benchmarks.campaign import Plan, Result
from benchmarks.scenarios import BY_NAME

PLAN = Plan(repetitions=3, seconds=1.0, broker_core=0, generator_core=1)
SPARSE = BY_NAME["sparse"]


class Idle(Contestant):
    """A broker that is none: the generator's answers are made up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def version(self) -> str:
        return "0"

    def command(self, folder: Path, port: int) -> list[str]:
        return []

    def wait_until_ready(self, folder: Path, port: int, process: Any) -> int:
        return port

    @contextlib.contextmanager
    def start(self, scenario: Any, core: int | None, wrapper: tuple[str, ...] = ()) -> Iterator[Running]:
        yield Running(1, 1, ["--password", "secret", "--subscriber-password", "secret"])


def answers(monkeypatch: pytest.MonkeyPatch, shares: list[float]) -> None:
    """Let the generator find others taking these shares of the core, one after the other, then none."""
    left = iter(shares)

    def run(arguments: list[str], **_: object) -> generator.Report:
        taken = next(left, 0.0)
        return {"core_busy_share": 0.5 + taken, "broker_cpu_share": 0.5, "command": ["loadgen", *arguments]}

    monkeypatch.setattr(generator, "run", run)


def play(contestants: list[Contestant]) -> tuple[dict[str, Result], list[str]]:
    said: list[str] = []
    return campaign.run_scenario(SPARSE, contestants, PLAN, said.append), said


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


def test_passwords_are_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [])
    results, _ = play([Idle("a")])
    assert "secret" not in str(campaign.as_json(results))


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
