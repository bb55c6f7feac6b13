"""The table of results, as Markdown.

Belongs here: medians, ranges, ratios, words for figures. Not here: any decision which runs count.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.brokers import IN_MEMORY
from benchmarks.campaign import Result
from benchmarks.generator import Report
from benchmarks.scenarios import Scenario

OURS = ("iot-broker", "iot-broker-open")
BASELINE = "baseline"
WRONG = ("foreign", "corrupted", "misrouted")


def is_peer(name: str) -> bool:
    """Whether this is another broker, not a build of ours."""
    return not name.startswith(("iot-broker", BASELINE))


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
    found = [(name, value) for name, result in results.items() if is_peer(name) and (value := median(result, field))]
    return (max if most else min)(found, key=lambda pair: pair[1]) if found else None


def ratio(results: dict[str, Result], name: str, field: str, *, most: bool = True) -> float | None:
    """Ours over the better peer configuration's, or None for a peer or without one."""
    peer = best_peer(results, field, most=most)
    own = median(results[name], field)
    return own / peer[1] if not is_peer(name) and peer and own is not None else None


def against_baseline(results: dict[str, Result], name: str, field: str) -> float | None:
    """Ours over the other build of ours in the same mode, or None where there is none."""
    if name not in OURS or (before := results.get(name.replace("iot-broker", BASELINE))) is None:
        return None
    was, own = median(before, field), median(results[name], field)
    return own / was if was and own is not None else None


def _ratio_text(results: dict[str, Result], name: str, field: str, *, most: bool = True) -> str:
    value = ratio(results, name, field, most=most)
    return "" if value is None else f"{value:.3g} ×"  # noqa: RUF001


def _faults(runs: list[Report]) -> str:
    counts = [sum(run[field] for run in runs) for field in ("lost", "duplicated", "reordered")]
    counts.append(sum(run.get(field, 0) for run in runs for field in WRONG))
    return " / ".join(f"{count:,}" for count in counts)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _message_table(scenario: Scenario, results: dict[str, Result]) -> str:
    field = "delivered_per_cpu_s"
    closed = "--rate-per-s" not in scenario.arguments
    header = [
        "broker", "delivered per broker CPU second", "against mosquitto's best", "delivered/s",
        "p50 µs (depth of the window)" if closed else "p50 µs",
        "lost / duplicated / reordered / wrong", "memory KiB", "runs dropped",
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


def _connection_table(results: dict[str, Result]) -> str:
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


def _handshake_table(results: dict[str, Result]) -> str:
    speed, took = "connects_per_cpu_s", "duration_s"
    header = [
        "broker", "connected per broker CPU second", "against mosquitto's best", "seconds until all were there",
        "against mosquitto's best", "connected", "by ticket", "failed", "bytes per idle connection",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, speed)), _ratio_text(results, name, speed),
            spread(_values(result, took)), _ratio_text(results, name, took, most=False),
            spread(_values(result, "connected")), spread(_values(result, "resumed")),
            spread(_values(result, "connections_failed")), spread(_values(result, "rss_per_connection_bytes")),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def _newcomers_table(results: dict[str, Result]) -> str:
    header = [
        "broker", "p50 µs undisturbed", "p50 µs while they come", "ratio", "p99 µs while they come",
        "newcomers connected", "lost / duplicated / reordered / wrong", "runs dropped",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, "undisturbed_latency_p50_us")), spread(_values(result, "latency_p50_us")),
            spread(slowdowns(result)), spread(_values(result, "latency_p99_us")),
            spread(_values(result, "newcomers")), _faults(result.runs), str(len(result.dropped)),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def _rest_table(results: dict[str, Result]) -> str:
    header = [
        "broker", "p50 µs undisturbed", "p50 µs beside requests", "ratio", "p99 µs undisturbed",
        "p99 µs beside requests", "ratio", "requests a second", "refused", "p50 µs of an answer",
        "lost / duplicated / reordered / wrong", "runs dropped",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, "undisturbed_latency_p50_us")), spread(_values(result, "latency_p50_us")),
            spread(slowdowns(result)), spread(_values(result, "undisturbed_latency_p99_us")),
            spread(_values(result, "latency_p99_us")), spread(slowdowns(result, "latency_p99_us")),
            spread(_values(result, "rest_per_s")), spread(_values(result, "rest_refused")),
            spread(_values(result, "rest_p50_us")), _faults(result.runs), str(len(result.dropped)),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def _subscription_table(results: dict[str, Result]) -> str:
    memory, speed = "rss_per_subscription_bytes", "delivered_per_cpu_s"
    header = [
        "broker", "bytes per subscription", "against mosquitto's best", "delivered per broker CPU second",
        "against mosquitto's best", "lost / duplicated / reordered / wrong", "runs dropped",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, memory)), _ratio_text(results, name, memory, most=False),
            spread(_values(result, speed)), _ratio_text(results, name, speed),
            _faults(result.runs), str(len(result.dropped)),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def _hold_table(results: dict[str, Result]) -> str:
    field = "delivered_per_cpu_s"
    header = [
        "broker", "longest hold of the loop, at most ms", "rounds over 5 ms", "rounds",
        "delivered per broker CPU second", "against mosquitto's best", "lost / duplicated / reordered / wrong",
        "runs dropped",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, "longest_hold_at_most_ms")), spread(_values(result, "rounds_over_5_ms")),
            spread(_values(result, "rounds")), spread(_values(result, field)), _ratio_text(results, name, field),
            _faults(result.runs), str(len(result.dropped)),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def slowdowns(result: Result, field: str = "latency_p50_us") -> list[float]:
    """Of each run: everybody's latency beside what disturbs, over that before."""
    undisturbed = f"undisturbed_{field}"
    return [run[field] / run[undisturbed] for run in result.runs if run.get(undisturbed)]


def _stall_table(results: dict[str, Result]) -> str:
    header = [
        "broker", "p50 µs undisturbed", "p50 µs beside stalled readers", "ratio", "p99 µs beside them",
        "stalled readers cut off", "lost / duplicated / reordered / wrong", "memory KiB", "runs dropped",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, "undisturbed_latency_p50_us")), spread(_values(result, "latency_p50_us")),
            spread(slowdowns(result)), spread(_values(result, "latency_p99_us")),
            spread(_values(result, "stalled_cut")), _faults(result.runs),
            spread(_values(result, "broker_rss_kib")), str(len(result.dropped)),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def _queue_table(results: dict[str, Result]) -> str:
    speed, per_cpu = "kept_per_s", "kept_per_cpu_s"
    header = [
        "broker", "queue entries/s", "against mosquitto's best", "queue entries per broker CPU second",
        "against mosquitto's best", "sessions still there", "lost / duplicated / reordered / wrong", "memory KiB",
        "runs dropped",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, speed)), _ratio_text(results, name, speed),
            spread(_values(result, per_cpu)), _ratio_text(results, name, per_cpu),
            spread(_values(result, "session_present")), _faults(result.runs),
            spread(_values(result, "broker_rss_kib")), str(len(result.dropped)),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def added_syncs(results: dict[str, Result], name: str, field: str) -> float | None:
    """Median latency above that of the same broker in memory, in syncs of the disk in between; None for others."""
    memory = results.get(name + IN_MEMORY)
    sync = median(results[name], "sync_p50_us")
    own, without = median(results[name], field), median(memory, field) if memory else None
    return None if own is None or without is None or not sync else (own - without) / sync


def _levels_table(results: dict[str, Result]) -> str:
    header = [
        "broker", "one sync of this disk, p50 µs", "to the receiver, p50 µs", "above memory, in syncs",
        "to the acknowledgement, p50 µs", "above memory, in syncs", "delivered/s",
        "lost / duplicated / reordered / wrong", "runs dropped",
    ]  # fmt: skip
    rows = [
        [
            name, spread(_values(result, "sync_p50_us")),
            spread(_values(result, "latency_p50_us")), _syncs_text(results, name, "latency_p50_us"),
            spread(_values(result, "ack_latency_p50_us")), _syncs_text(results, name, "ack_latency_p50_us"),
            spread(_values(result, "delivered_per_s")), _faults(result.runs), str(len(result.dropped)),
        ]
        for name, result in results.items()
    ]  # fmt: skip
    return _rows(header, rows)


def _syncs_text(results: dict[str, Result], name: str, field: str) -> str:
    value = added_syncs(results, name, field)
    return "" if value is None else f"{value:.2f}"


def _baseline_text(results: dict[str, Result], field: str) -> str:
    ratios = {name: value for name in OURS if (value := against_baseline(results, name, field)) is not None}
    if not ratios:
        return ""
    return f"\nAgainst the baseline: {'; '.join(f'{name} {value:.3g} ×' for name, value in ratios.items())}.\n"  # noqa: RUF001


def _calls_text(name: str, calls: dict[str, float]) -> str:
    return f"{name} {calls['receives']:.3g} receives, {calls['sends']:.3g} sends, {calls['all']:.3g} of all kinds"


def scenario_text(scenario: Scenario, results: dict[str, Result], calls: dict[str, dict[str, float]]) -> str:
    """One scenario as a heading and its table."""
    tables = {
        "connections": _connection_table, "subscriptions": _subscription_table,
        "hold": _hold_table, "stall": _stall_table, "queue": _queue_table, "levels": _levels_table,
        "handshakes": _handshake_table, "newcomers": _newcomers_table, "rest": _rest_table,
    }  # fmt: skip
    special = tables.get(scenario.kind)
    table = special(results) if special else _message_table(scenario, results)
    fields = {"connections": "rss_per_connection_bytes", "handshakes": "connects_per_cpu_s"}
    field = fields.get(scenario.kind, "delivered_per_cpu_s")
    text = f"### {scenario.title}\n\nUnder way at most: {scenario.window}.\n\n{table}\n{_baseline_text(results, field)}"
    if calls:
        text += f"\nSystem calls per delivered message: {'; '.join(_calls_text(*row) for row in calls.items())}.\n"
    return text
