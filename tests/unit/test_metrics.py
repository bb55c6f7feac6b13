"""Figures as text: every figure that is counted is told, in words and units that are documented."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from broker._core.reactor import HOLD_BOUNDS_NS, Reactor
from broker._core.shard import Shard
from broker.config import Capabilities
from broker.net.gateway import core_limits
from broker.observability.alarms import Alarms
from broker.observability.logs import LogObserver
from broker.observability.metrics import FIGURES, LABELLED, Metrics
from broker.ports import COMMIT_BOUNDS_NS
from broker.reasons import DropReason
from broker.storage.memory import MemoryStore
from tests.upper import Upper

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def reactor() -> Reactor:
    shard = Shard(core_limits(Capabilities()), secret=bytes(32), hash_seed=1, now_ns=0)
    return Reactor(shard, on_rare=lambda _: None, on_batch=lambda: None, again=lambda _: None)


def sources(one: Reactor) -> dict[str, Mapping[str, object]]:
    store = MemoryStore().figures()
    upper = Upper()
    return {
        "core": one.shard.counters(),
        "reactor": one.figures(),
        "journal": one.shard.journal(),
        "store": store,
        "alarms": Alarms(LogObserver()).figures(),
        "directory": upper.directory.figures(),
        "timeline": upper.directory.devices.timeline.figures(),
        "certificates": {"not_after": {"https": 1_893_456_000}, "reloads": {"taken": 2, "refused": 1}},
    }


def told(read: Mapping[str, Mapping[str, object]]) -> dict[str, float]:
    """All samples by name, with their labels behind it."""
    asked = {name: (lambda figures=figures: figures) for name, figures in read.items()}
    text = Metrics("1.2.3", asked, HOLD_BOUNDS_NS).text().decode()
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_figure_that_is_counted_is_told() -> None:
    named = {(figure.source, figure.key) for figure in FIGURES} | LABELLED
    counted = {(source, key) for source, figures in sources(reactor()).items() for key in figures}
    assert named == counted


def test_each_figure_is_told_with_its_value_in_its_unit() -> None:
    read = sources(reactor())
    read["core"] = {**read["core"], "messages_received": 7, "connections": 3}
    read["reactor"] = {**read["reactor"], "longest_hold_ns": 2_500_000}
    samples = told(read)
    assert samples["iot_broker_messages_received_total"] == 7
    assert samples["iot_broker_connections"] == 3
    assert samples["iot_broker_longest_hold_seconds"] == pytest.approx(0.0025)
    assert samples["iot_broker_build_info 1.2.3"] == 1


def test_drops_are_told_by_the_name_of_their_reason_also_where_there_were_none() -> None:
    read = sources(reactor())
    drops = [0] * len(DropReason)
    drops[DropReason.QUEUE_FULL] = 5
    read["core"] = {**read["core"], "drops": drops}
    samples = told(read)
    assert samples["iot_broker_dropped_messages_total queue_full"] == 5
    for reason in DropReason:
        assert f"iot_broker_dropped_messages_total {reason.name.lower()}" in samples


def test_connections_are_told_by_level_also_where_there_are_none() -> None:
    read = sources(reactor())
    read["core"] = {**read["core"], "connected": [1, 0, 7]}
    samples = told(read)
    assert samples["iot_broker_connections_by_durability memory"] == 1
    assert samples["iot_broker_connections_by_durability relaxed"] == 0
    assert samples["iot_broker_connections_by_durability synced"] == 7


def test_rounds_are_told_as_a_histogram_with_bounds_around_five_milliseconds() -> None:
    read = sources(reactor())
    counts = [0] * (len(HOLD_BOUNDS_NS) + 1)
    counts[0], counts[HOLD_BOUNDS_NS.index(5_000_000)], counts[-1] = 10, 2, 1
    read["reactor"] = {**read["reactor"], "holds": counts, "held_ns": 3_000_000_000}
    samples = told(read)
    assert samples["iot_broker_loop_hold_seconds_bucket 0.004"] == 10
    assert samples["iot_broker_loop_hold_seconds_bucket 0.005"] == 12
    assert samples["iot_broker_loop_hold_seconds_bucket +Inf"] == samples["iot_broker_loop_hold_seconds_count"] == 13
    assert samples["iot_broker_loop_hold_seconds_sum"] == pytest.approx(3.0)


def test_commits_are_told_as_a_histogram_and_the_state_by_its_name() -> None:
    read = sources(reactor())
    counts = [0] * (len(COMMIT_BOUNDS_NS) + 1)
    counts[0], counts[-1] = 3, 1
    read["store"] = {**read["store"], "commit_counts": counts, "synced_ns": 6_001_000_000, "state": "full"}
    samples = told(read)
    assert samples["iot_broker_store_commit_seconds_bucket 0.0005"] == 3
    assert samples["iot_broker_store_commit_seconds_bucket +Inf"] == 4
    assert samples["iot_broker_store_commit_seconds_sum"] == pytest.approx(6.001)
    states = {name: value for name, value in samples.items() if name.startswith("iot_broker_store_state ")}
    assert states == {
        "iot_broker_store_state ok": 0,
        "iot_broker_store_state full": 1,
        "iot_broker_store_state failed": 0,
        "iot_broker_store_state read_only": 0,
    }


def test_certificates_are_told_by_listener_and_reloads_by_outcome() -> None:
    samples = told(sources(reactor()))
    assert samples["iot_broker_certificate_not_after_seconds https"] == 1_893_456_000
    assert samples["iot_broker_certificate_reloads_total taken"] == 2
    assert samples["iot_broker_certificate_reloads_total refused"] == 1


def test_the_reactor_counts_every_round_by_how_long_it_held_the_loop() -> None:
    one = reactor()
    for _ in range(5):
        one.on_ready()
    figures = one.figures()
    assert sum(figures["holds"]) == figures["rounds"] == 5
    assert len(figures["holds"]) == len(HOLD_BOUNDS_NS) + 1
    assert 0 < figures["longest_hold_ns"] <= figures["held_ns"]
    one.close()


def test_the_collector_joins_a_registry_of_the_programs_own() -> None:
    read = sources(reactor())
    asked = {name: (lambda figures=figures: figures) for name, figures in read.items()}
    registry = CollectorRegistry()
    registry.register(Metrics("1", asked, HOLD_BOUNDS_NS).collector)
    assert registry.get_sample_value("iot_broker_sessions") == 0


def test_every_figure_is_documented_with_its_type_and_no_other() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(iot_broker_\w+)` \| (\w+) \| .+ \|$", text, re.MULTILINE))
    asked = {name: (lambda figures=figures: figures) for name, figures in sources(reactor()).items()}
    served = re.findall(
        r"^# TYPE (iot_broker_\w+) (\w+)$", Metrics("1", asked, HOLD_BOUNDS_NS).text().decode(), re.MULTILINE
    )
    assert documented == set(served)
