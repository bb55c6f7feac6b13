"""What is measured: the load of each scenario, as arguments of the generator.

Belongs here: shapes, counts, windows. Not here: who is measured, how often, or what is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Topic names as long as those of real devices, the same for every broker.
TOPICS = ("--topic-name", "devices/{id}/telemetry", "--topic-filter", "devices/{p}/telemetry")
EVERY_DEVICE = "devices/+/telemetry"
CLIENT_IDS = ("--client-id-prefix", "iot_dev_benchmark-")

Kind = Literal[
    "messages", "connections", "subscriptions", "hold", "stall", "queue", "levels", "handshakes", "newcomers", "rest"
]
"""What the table is about: deliveries per CPU second; memory of an idle connection; memory of a subscription; the time
one turn holds the loop; latency beside readers that do not read; what is queued for sessions that are away; latency of
our own levels of durability, in syncs of the disk; handshakes of TLS; latency while others shake hands; latency beside
requests to the REST API."""

REST_KEYS = 40
REST_PER_S = 500
"""Of them all together: each key may make 1,000 a minute."""

QUEUED_MESSAGES = 10_000
"""So many for each session that is away: as many as a queue of ours holds by default."""


Transport = Literal["tcp", "tls", "ws", "wss"]
FLAGS = {"--tls": ("tls", "wss"), "--ws": ("ws", "wss")}


@dataclass(frozen=True)
class Scenario:
    """One load. ``devices`` publish, ``applications`` subscribe; of connections the applications are all there is."""

    name: str
    title: str
    devices: int
    applications: int
    arguments: tuple[str, ...]
    window: str
    """What bounds the messages under way: where it is not a rate, latency is mostly this window's depth."""
    kind: Kind = "messages"
    publishing_applications: int = 0
    """Who publishes where there are no devices: their topics are not a device's own."""
    transport: Transport = "tcp"

    def generator_arguments(self, seconds: float) -> list[str]:
        """Arguments for a measured time of ``seconds``; a quarter of it, at least half a second, warms up."""
        common = ["--json", "--payload-bytes", "100", *CLIENT_IDS, *TOPICS, *self.arguments]
        if self.kind not in {"newcomers", "rest"}:  # where others have the core from the measuring generator
            common.append("--spin")
        common += [flag for flag, transports in FLAGS.items() if self.transport in transports]
        if self.kind in {"connections", "handshakes"}:
            return [*common, "--mode", "connect", "--clients", str(self.applications), "--keep-alive-s", "600"]
        publishers = self.devices or self.publishing_applications
        counts = ["--publishers", str(publishers), "--subscribers", str(self.applications)]
        if self.kind == "queue":
            return [*common, *counts, "--mode", "offline", "--count", str(QUEUED_MESSAGES)]
        return [*common, *counts, "--duration-s", str(seconds), "--warmup-s", str(max(0.5, seconds / 4))]


SCENARIOS = (
    Scenario(
        "p2p-qos0",
        "10 → 10, QoS 0, as fast as possible",
        10,
        10,
        ("--qos", "0", "--inflight", "256"),
        "256 undelivered",
    ),
    Scenario(
        "p2p-qos1", "10 → 10, QoS 1, window 100", 10, 10, ("--qos", "1", "--inflight", "100"), "100 unacknowledged"
    ),
    Scenario(
        "p2p-persistent",
        "10 → 10 sessions that are kept, QoS 1, window 100 (ours: on disk when acknowledged)",
        10,
        10,
        ("--qos", "1", "--inflight", "100", "--persistent"),
        "100 unacknowledged",
    ),
    Scenario("p2p-qos2", "10 → 10, QoS 2, window 100", 10, 10, ("--qos", "2", "--inflight", "100"), "100 uncompleted"),
    Scenario(
        "fan-in",
        "fan-in 100 → 1, QoS 1",
        100,
        1,
        ("--shape", "fanin", "--topic-filter", EVERY_DEVICE, "--qos", "1", "--inflight", "10", "--transit", "10"),
        "10 undelivered of each",
    ),
    Scenario(
        "fan-out", "fan-out 1 → 1,000, QoS 0", 1, 1000, ("--shape", "fanout", "--inflight", "20"), "20 undelivered"
    ),
    Scenario(
        "many-filters",
        "100,000 filters over 1,000 clients (exact, `+`, `#`), random topics, QoS 0",
        0,
        1000,
        ("--shape", "many", "--inflight", "100"),
        "100 undelivered",
        publishing_applications=10,
    ),
    Scenario(
        "hot-topics",
        "100,000 filters over 1,000 clients (exact, `+`, `#`), ten topics, QoS 0",
        0,
        1000,
        ("--shape", "many", "--topics", "10", "--inflight", "100"),
        "100 undelivered",
        publishing_applications=10,
    ),
    Scenario(
        "sparse",
        "1,000 → 1,000, one in flight each, QoS 0",
        1000,
        1000,
        ("--qos", "0", "--inflight", "1"),
        "1 undelivered",
    ),
    Scenario(
        "rated",
        "10 → 10, QoS 1, 1,000 messages/s in all",
        10,
        10,
        ("--qos", "1", "--rate-per-s", "1000"),
        "none: open loop",
    ),
    Scenario(
        "rated-persistent",
        "the same to sessions that are kept (ours: on disk when acknowledged)",
        10,
        10,
        ("--qos", "1", "--rate-per-s", "1000", "--persistent"),
        "none: open loop",
    ),
    Scenario(
        "offline",
        "10 → 100 sessions that are away, QoS 1, 1,000,000 queue entries (ours: on disk when acknowledged)",
        10,
        100,
        ("--shape", "fanout", "--topic-filter", EVERY_DEVICE, "--qos", "1", "--inflight", "20"),
        "20 unacknowledged",
        kind="queue",
    ),
    Scenario(
        "latency",
        "10 → 10 sessions that are kept, QoS 1, 1,000 messages/s in all: `synced` against `memory`",
        10,
        10,
        ("--qos", "1", "--rate-per-s", "1000", "--persistent", "--ack-latency"),
        "none: open loop",
        kind="levels",
    ),
    Scenario(
        "stalled-readers",
        "10 → 10, QoS 1, 5,000 messages/s of 2,000 bytes, beside two readers of everything that do not read",
        10,
        10,
        (
            *("--qos", "1", "--rate-per-s", "5000", "--payload-bytes", "2000"),
            *("--stalled-readers", "2", "--stalled-filter", EVERY_DEVICE),
        ),
        "none: open loop",
        kind="stall",
    ),
    Scenario(
        "wide-fan-out",
        "fan-out 1 → 10,000, QoS 0, 3 messages/s: how long the loop is held",
        1,
        10_000,
        ("--shape", "fanout", "--rate-per-s", "3"),
        "none: open loop",
        kind="hold",
    ),
    Scenario(
        "million-subscriptions",
        "1,000,000 subscriptions over 1,000 clients (exact, `+`, `#`), random topics, QoS 0",
        0,
        1000,
        ("--shape", "many", "--filters-per-client", "1000", "--inflight", "100"),
        "100 undelivered",
        kind="subscriptions",
        publishing_applications=10,
    ),
    Scenario(
        "idle-memory",
        "10,000 idle connections",
        0,
        10_000,
        ("--settle-s", "2", "--hold-s", "1"),
        "64 handshakes under way",
        kind="connections",
    ),
    Scenario(
        "tls-p2p-qos1",
        "over TLS: 10 → 10, QoS 1, window 100",
        10,
        10,
        ("--qos", "1", "--inflight", "100"),
        "100 unacknowledged",
        transport="tls",
    ),
    Scenario(
        "tls-sparse",
        "over TLS: 200 → 200, one in flight each, QoS 0",
        200,
        200,
        ("--qos", "0", "--inflight", "1"),
        "1 undelivered",
        transport="tls",
    ),
    Scenario(
        "ws-p2p-qos1",
        "over WebSocket: 10 → 10, QoS 1, window 100",
        10,
        10,
        ("--qos", "1", "--inflight", "100"),
        "100 unacknowledged",
        transport="ws",
    ),
    Scenario(
        "tls-connect",
        "full handshakes of TLS: 2,000 clients",
        0,
        2000,
        ("--settle-s", "2", "--hold-s", "1"),
        "64 handshakes under way",
        kind="handshakes",
        transport="tls",
    ),
    Scenario(
        "tls-resume",
        "resumed handshakes of TLS: 2,000 clients with tickets",
        0,
        2000,
        ("--resume", "--settle-s", "0.5", "--hold-s", "0.5"),
        "64 handshakes under way",
        kind="handshakes",
        transport="tls",
    ),
    Scenario(
        "tls12-connect",
        "TLS 1.2, which most microcontrollers speak: 2,000 clients connect",
        0,
        2000,
        ("--tls12", "--settle-s", "2", "--hold-s", "1"),
        "64 handshakes under way",
        kind="handshakes",
        transport="tls",
    ),
    Scenario(
        "tls12-resume",
        "resumed handshakes of TLS 1.2: 2,000 clients with tickets",
        0,
        2000,
        ("--tls12", "--resume", "--settle-s", "0.5", "--hold-s", "0.5"),
        "64 handshakes under way",
        kind="handshakes",
        transport="tls",
    ),
    Scenario(
        "tls-return",
        "10,000 clients of TLS that come at once",
        0,
        10_000,
        ("--burst", "10000", "--source-addresses", "20", "--settle-s", "0.5", "--hold-s", "0.5"),
        "10,000 handshakes under way",
        kind="handshakes",
        transport="tls",
    ),
    Scenario(
        "tls-newcomers",
        "over TLS: 10 → 10, QoS 1, 1,000 messages/s in all, undisturbed and while 2,000 clients come",
        10,
        10,
        ("--qos", "1", "--rate-per-s", "1000"),
        "none: open loop",
        kind="newcomers",
        transport="tls",
    ),
    Scenario(
        "rest-beside",
        f"10 → 10, QoS 1, 1,000 messages/s in all, undisturbed and beside {REST_PER_S} REST requests a second",
        10,
        10,
        ("--qos", "1", "--rate-per-s", "1000"),
        "none: open loop",
        kind="rest",
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
