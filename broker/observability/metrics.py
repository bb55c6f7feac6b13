"""Figures in Prometheus' text format: read when somebody asks for them, so that no message costs anything for it.

Here belong the names, units and words of all figures. Not here: counting (the core, the store), who may see them
(``broker.admin``), and HTTP (``api``). ``docs/metrics.md`` has the table; a test compares it with this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from broker.ports import COMMIT_BOUNDS_NS, Durability, StoreState
from broker.reasons import DropReason

PREFIX = "iot_broker_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NS = 1e-9

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily
Source = Callable[[], Mapping[str, object]]
"""Gives one part's figures now, by the names that the part has for them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: whose it is and what its owner calls it, its name here, what it tells, and its scale to the unit."""

    source: str
    key: str
    kind: Literal["counter", "gauge"]
    name: str
    text: str
    scale: float = 1


FIGURES = (
    Figure("core", "connections", "gauge", "connections", "Open network connections."),
    Figure(
        "core",
        "unauthenticated_connections",
        "gauge",
        "unauthenticated_connections",
        "Connections whose CONNECT was not accepted yet.",
    ),
    Figure("core", "connections_accepted", "counter", "connections_accepted", "Network connections that were opened."),
    Figure(
        "core",
        "connections_refused",
        "counter",
        "connections_refused",
        "Network connections that were refused, for a limit or at CONNECT.",
    ),
    Figure("core", "sessions", "gauge", "sessions", "Sessions, with and without a connection."),
    Figure("core", "subscriptions", "gauge", "subscriptions", "Subscriptions of all sessions."),
    Figure("core", "filter_bytes", "gauge", "filter_bytes", "Subscriptions and their filters, as their budgets count."),
    Figure(
        "core", "accounts", "gauge", "accounts_in_use", "Accounts that the core knows, those without name included."
    ),
    Figure("core", "policies", "gauge", "policies", "Different sets of rights, with those that nobody has any more."),
    Figure("core", "grants", "gauge", "grants", "Credentials that the core knows."),
    Figure("core", "principals", "gauge", "principals", "Devices and applications that the core knows."),
    Figure("core", "packets_received", "counter", "packets_received", "MQTT packets received."),
    Figure("core", "bytes_received", "counter", "received_bytes", "Bytes of MQTT received."),
    Figure("core", "bytes_sent", "counter", "sent_bytes", "Bytes of MQTT sent."),
    Figure("core", "messages_received", "counter", "messages_received", "PUBLISH packets received."),
    Figure("core", "messages_sent", "counter", "messages_sent", "PUBLISH packets sent."),
    Figure("core", "retained_count", "gauge", "retained_messages", "Topics with a retained message."),
    Figure("core", "retained_bytes", "gauge", "retained_bytes", "What they are counted as in their budgets."),
    Figure("core", "queued_bytes", "gauge", "queued_bytes", "Messages that wait in queues, as their budgets count."),
    Figure("core", "outbox_bytes", "gauge", "outbox_bytes", "Memory for what clients have not read yet."),
    Figure("core", "messages_kept", "gauge", "messages_kept", "Messages that are held in memory, whatever for."),
    Figure("core", "promises", "gauge", "promises_held", "Acknowledgements that wait for the store."),
    Figure(
        "core",
        "tracked_lost",
        "counter",
        "tracked_lost",
        "What became of messages to devices, and answers of devices, that was not noted for want of room.",
    ),
    Figure("core", "timers", "gauge", "timers_armed", "Deadlines that are set."),
    Figure(
        "core", "events_lost", "counter", "events_lost", "Events of devices that found no room until they were taken."
    ),
    Figure("core", "match_steps", "counter", "match_steps", "Nodes looked at while topic names were matched."),
    Figure("reactor", "sockets", "gauge", "sockets", "Open sockets of MQTT connections, closing ones included."),
    Figure("reactor", "accepts", "counter", "accepts", "Sockets accepted."),
    Figure(
        "reactor", "lost_accepts", "counter", "lost_accepts", "Accepts that failed for want of descriptors or memory."
    ),
    Figure("reactor", "handshakes", "counter", "tls_handshakes", "Handshakes of TLS that were completed."),
    Figure("reactor", "resumptions", "counter", "tls_resumptions", "Of them, those by a session ticket."),
    Figure("reactor", "failed_handshakes", "counter", "tls_failed_handshakes", "Handshakes that came to nothing."),
    Figure(
        "reactor",
        "handshakes_ns",
        "counter",
        "tls_handshake_seconds",
        "Time that the event loop spent on handshakes.",
        NS,
    ),
    Figure(
        "reactor",
        "handshake_rests",
        "counter",
        "tls_handshake_rests",
        "Rounds in which handshakes waited for the sake of clients that exchange messages.",
    ),
    Figure("reactor", "receives", "counter", "receives", "System calls that received."),
    Figure("reactor", "sends", "counter", "sends", "System calls that sent."),
    Figure(
        "reactor",
        "longest_hold_ns",
        "gauge",
        "longest_hold_seconds",
        "The longest that one round has held the event loop since the start.",
        NS,
    ),
    Figure("journal", "settled_ticket", "counter", "journal_batches", "Batches of promises that are on disk."),
    Figure("journal", "in_flight", "gauge", "journal_in_flight", "Whether a batch is being written (1) or not (0)."),
    Figure(
        "journal",
        "refusing",
        "gauge",
        "journal_refusing",
        "Whether QoS 1 and 2 that need the disk are refused (1) or taken (0).",
    ),
    Figure(
        "journal", "promises", "gauge", "journal_promises", "Acknowledgements and deliveries that wait for the disk."
    ),
    Figure("journal", "batch_bytes", "gauge", "journal_batch_bytes", "What is gathered for the next batch."),
    Figure("journal", "sessions", "gauge", "journal_sessions", "Sessions that are on disk."),
    Figure("journal", "deliveries", "gauge", "journal_deliveries", "Deliveries on disk that are not acknowledged yet."),
    Figure("journal", "flows", "gauge", "journal_flows", "Sessions of whose deliveries something is in ops alone."),
    Figure(
        "journal",
        "chunks",
        "gauge",
        "journal_chunks",
        "Chunks of messages on disk: a chunk is what one batch has written.",
    ),
    Figure("journal", "chunk_bytes", "gauge", "journal_chunk_bytes", "The size of all chunks."),
    Figure(
        "journal",
        "ops_bytes",
        "gauge",
        "journal_ops_bytes",
        "What has happened to deliveries and is in no flow record yet.",
    ),
    Figure("store", "commits", "counter", "store_commits", "Transactions of the store that were committed and synced."),
    Figure("store", "failed_commits", "counter", "store_failed_commits", "Transactions that failed."),
    Figure("store", "changes", "counter", "store_changes", "Records written or removed by committed transactions."),
    Figure("store", "busy_ns", "counter", "store_busy_seconds", "Time spent in transactions and syncs.", NS),
    Figure("store", "waiting", "gauge", "store_waiting", "Submitted changes that are not committed yet."),
    Figure("store", "reads", "counter", "store_reads", "Records that were read from the store while the broker runs."),
    Figure(
        "store",
        "last_sync_ns",
        "gauge",
        "store_last_commit_seconds",
        "How long the last commit waited for the disk.",
        NS,
    ),
    Figure(
        "store",
        "longest_sync_ns",
        "gauge",
        "store_longest_commit_seconds",
        "The longest that a commit has waited for the disk since the start.",
        NS,
    ),
    Figure(
        "store", "healthy", "gauge", "store_healthy", "1 while the store keeps what it is given and has room, else 0."
    ),
    Figure("store", "used_bytes", "gauge", "store_used_bytes", "Pages of the store that hold something."),
    Figure("store", "free_bytes", "gauge", "store_free_bytes", "Pages of the store's file that hold nothing any more."),
    Figure("store", "file_bytes", "gauge", "store_file_bytes", "Length of the store's file."),
    Figure("store", "budget_bytes", "gauge", "store_budget_bytes", "What the store's file may take."),
    Figure("alarms", "now", "gauge", "alarms", "Alarms that are raised now; `GET /readyz` names them."),
    Figure("alarms", "raised", "counter", "alarms_raised", "Alarms that were raised."),
    Figure(
        "timeline", "waiting", "gauge", "timelines_waiting", "Devices with timeline entries that are not on disk yet."
    ),
    Figure(
        "timeline", "lost", "counter", "timeline_entries_lost", "Timeline entries that found no room before the disk."
    ),
    Figure("directory", "accounts", "gauge", "accounts", "Accounts."),
    Figure("directory", "devices", "gauge", "devices", "Registered devices."),
    Figure("directory", "keys", "gauge", "api_keys", "API keys that are not revoked."),
)

DROPPED = "dropped_messages"
DROPPED_TEXT = "Deliveries that did not happen, by the reason."
LEVELS = "connections_by_durability"
LEVELS_TEXT = "Connections that were let in, by the level of durability that they were told."
HELD = "loop_hold_seconds"
HELD_TEXT = "How long each round of the reactor held the event loop."
COMMITTED = "store_commit_seconds"
COMMITTED_TEXT = "How long each commit waited for the disk."
STATE = "store_state"
STATE_TEXT = "1 for the state that the store is in."
CERTIFICATE_END = "certificate_not_after_seconds"
CERTIFICATE_END_TEXT = "When each listener's certificate ends, in seconds since 1970, UTC."
CERTIFICATE_RELOADS = "certificate_reloads"
CERTIFICATE_RELOADS_TEXT = "Changed certificates, by what became of them."
BUILD = "build"
BUILD_TEXT = "The version that runs."

# Figures with labels, by the keys that make them.
LABELLED = {
    ("core", "drops"),
    ("core", "connected"),
    ("reactor", "rounds"),
    ("reactor", "holds"),
    ("reactor", "held_ns"),
    ("store", "commit_counts"),
    ("store", "synced_ns"),
    ("store", "state"),
    ("certificates", "not_after"),
    ("certificates", "reloads"),
}


class Metrics:
    """All figures of one broker, in a registry of its own, so that several brokers in one process do not clash.

    ``sources`` are asked, on the thread of whoever collects: that has to be the broker's. ``hold_bounds_ns`` are the
    upper bounds of the reactor's ``holds``, all but the last, which has none. ``collector`` may be registered with
    another ``prometheus_client`` registry as well.
    """

    def __init__(self, version: str, sources: Mapping[str, Source], hold_bounds_ns: Sequence[int]) -> None:
        self.collector = BrokerCollector(version, sources, hold_bounds_ns)
        self._registry = CollectorRegistry()
        self._registry.register(self.collector)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Everything as text of the type ``CONTENT_TYPE``."""
        return generate_latest(self._registry)


class BrokerCollector(Collector):
    """Asks the sources once for each collection."""

    def __init__(self, version: str, sources: Mapping[str, Source], hold_bounds_ns: Sequence[int]) -> None:
        self._version = version
        self._sources = sources
        self._hold_bounds_ns = hold_bounds_ns

    def collect(self) -> Iterator[Family]:
        """Give every family with the figures of now."""
        read = {name: source() for name, source in self._sources.items()}
        for figure in FIGURES:
            value = read[figure.source][figure.key]
            assert isinstance(value, int)
            yield _family(figure, value * figure.scale)
        yield _dropped(_counts(read["core"]["drops"]))
        yield _by_level(_counts(read["core"]["connected"]))
        reactor, store = read["reactor"], read["store"]
        yield _durations(HELD, HELD_TEXT, self._hold_bounds_ns, reactor["holds"], reactor["held_ns"])
        yield _durations(COMMITTED, COMMITTED_TEXT, COMMIT_BOUNDS_NS, store["commit_counts"], store["synced_ns"])
        yield _state(store["state"])
        yield _by_label(
            GaugeMetricFamily(PREFIX + CERTIFICATE_END, CERTIFICATE_END_TEXT, labels=["listener"]),
            read["certificates"]["not_after"],
        )
        yield _by_label(
            CounterMetricFamily(PREFIX + CERTIFICATE_RELOADS, CERTIFICATE_RELOADS_TEXT, labels=["outcome"]),
            read["certificates"]["reloads"],
        )
        yield InfoMetricFamily(PREFIX + BUILD, BUILD_TEXT, {"version": self._version})


def _durations(name: str, text: str, bounds_ns: Sequence[int], counts: object, sum_ns: object) -> HistogramMetricFamily:
    assert isinstance(sum_ns, int)
    bounds = [*(str(bound * NS) for bound in bounds_ns), "+Inf"]
    buckets = list(zip(bounds, map(float, accumulate(_counts(counts))), strict=True))
    return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=sum_ns * NS)


def _state(now: object) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + STATE, STATE_TEXT, labels=["state"])
    for state in get_args(StoreState):
        family.add_metric([state], float(state == now))
    return family


def _family(figure: Figure, value: float) -> Family:
    kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    return kind(PREFIX + figure.name, figure.text, value=value)


def _dropped(counts: Sequence[int]) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + DROPPED, DROPPED_TEXT, labels=["reason"])
    for reason in DropReason:
        family.add_metric([reason.name.lower()], counts[reason])
    return family


def _by_level(counts: Sequence[int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + LEVELS, LEVELS_TEXT, labels=["durability"])
    for level in Durability:
        family.add_metric([level.value], counts[level.level])
    return family


def _by_label(family: CounterMetricFamily | GaugeMetricFamily, values: object) -> Family:
    assert isinstance(values, dict)
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _counts(value: object) -> list[int]:
    assert isinstance(value, list)
    return value
