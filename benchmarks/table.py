"""The table of results, as Markdown.

Belongs here: medians, ranges, ratios, words for figures. Not here: any decision which runs count.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.campaign import Result
from benchmarks.generator import Report
from benchmarks.scenarios import Scenario

OURS = ("iot-broker", "iot-broker-open")


def human(value: float) -> str:
    """Three digits that mean something: 1.23M, 45.6k, 789, 0.12."""
    for limit, suffix in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e6 if suffix == 'M' else 1e3):.3g}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Median, and the range where there is one."""
    if not values:
        return "-"
    middle = human(statistics.median(values))
    return middle if len(values) == 1 else f"**{middle}** ({human(min(values))}–{human(max(values))})"  # noqa: RUF001


def _values(result: Result, field: str) -> list[float]:
    return [float(run[field]) for run in result.runs if field in run]


def median(result: Result, field: str) -> float | None:
    """Median over the runs that count, or None."""
    values = _values(result, field)
    return statistics.median(values) if values else None


def best_peer(results: dict[str, Result], field: str, *, most: bool) -> tuple[str, float] | None:
    """The peer configuration with the better median: ours is compared with no weaker one."""
    found = [(name, value) for name, result in results.items() if name not in OURS and (value := median(result, field))]
    return (max if most else min)(found, key=lambda pair: pair[1]) if found else None


def ratio(results: dict[str, Result], name: str, field: str, *, most: bool = True) -> float | None:
    """Ours over the better peer configuration's, or None for a peer or without one."""
    peer = best_peer(results, field, most=most)
    own = median(results[name], field)
    return own / peer[1] if name in OURS and peer and own is not None else None


def _ratio_text(results: dict[str, Result], name: str, field: str, *, most: bool = True) -> str:
    value = ratio(results, name, field, most=most)
    return "" if value is None else f"{value:.3g} ×"  # noqa: RUF001


def _faults(runs: list[Report]) -> str:
    return " / ".join(f"{sum(run[field] for run in runs):,}" for field in ("lost", "duplicated", "reordered"))


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _message_table(scenario: Scenario, results: dict[str, Result]) -> str:
    field = "delivered_per_cpu_s"
    closed = "--rate-per-s" not in scenario.arguments
    header = [
        "broker", "delivered per broker CPU second", "against mosquitto's best", "delivered/s",
        "p50 µs (depth of the window)" if closed else "p50 µs",
        "lost / duplicated / reordered", "memory KiB", "runs dropped",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, field)), _ratio_text(results, name, field),
            spread(_values(result, "delivered_per_s")), spread(_values(result, "latency_p50_us")),
            _faults(result.runs), spread(_values(result, "broker_rss_kib")), str(len(result.dropped)),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def _memory_table(results: dict[str, Result]) -> str:
    field = "rss_per_connection_bytes"
    header = ["broker", "bytes per idle connection", "against mosquitto's best", "connected", "connects per CPU second"]
    rows = [
        [
            name, spread(_values(result, field)), _ratio_text(results, name, field, most=False),
            spread(_values(result, "connected")), spread(_values(result, "connects_per_cpu_s")),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def _calls_text(name: str, calls: dict[str, float]) -> str:
    return f"{name} {calls['receives']:.3g} receives, {calls['sends']:.3g} sends, {calls['all']:.3g} of all kinds"


def scenario_text(scenario: Scenario, results: dict[str, Result], calls: dict[str, dict[str, float]]) -> str:
    """One scenario as a heading and its table."""
    table = _memory_table(results) if scenario.storm else _message_table(scenario, results)
    text = f"### {scenario.title}\n\nUnder way at most: {scenario.window}.\n\n{table}\n"
    if calls:
        text += f"\nSystem calls per delivered message: {'; '.join(_calls_text(*row) for row in calls.items())}.\n"
    return text
