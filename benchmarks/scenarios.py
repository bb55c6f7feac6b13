"""What is measured: the load of each scenario, as arguments of the generator.

Belongs here: shapes, counts, windows. Not here: who is measured, how often, or what is printed.
"""

from __future__ import annotations

from dataclasses import dataclass

# Topic names as long as those of real devices, the same for every broker.
TOPICS = ("--topic-name", "devices/{id}/telemetry", "--topic-filter", "devices/{p}/telemetry")
CLIENT_IDS = ("--client-id-prefix", "iot_dev_benchmark-")


@dataclass(frozen=True)
class Scenario:
    """One load. ``devices`` publish, ``applications`` subscribe; in a storm the applications only connect."""

    name: str
    title: str
    devices: int
    applications: int
    arguments: tuple[str, ...]
    window: str
    """What bounds the messages under way: where it is not a rate, latency is mostly this window's depth."""
    storm: bool = False
    """Connections that do nothing: memory is measured, not messages."""

    def generator_arguments(self, seconds: float) -> list[str]:
        """Arguments for a measured time of ``seconds``; a quarter of it, at least half a second, warms up."""
        common = ["--json", "--spin", "--payload-bytes", "100", *CLIENT_IDS, *self.arguments]
        if self.storm:
            return [*common, "--mode", "connect", "--clients", str(self.applications), "--keep-alive-s", "600"]
        counts = ["--publishers", str(self.devices), "--subscribers", str(self.applications)]
        return [*common, *TOPICS, *counts, "--duration-s", str(seconds), "--warmup-s", str(max(0.5, seconds / 4))]


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
        "fan-out", "fan-out 1 → 1,000, QoS 0", 1, 1000, ("--shape", "fanout", "--inflight", "20"), "20 undelivered"
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
        "idle-memory",
        "10,000 idle connections",
        0,
        10_000,
        ("--settle-s", "2", "--hold-s", "1"),
        "64 handshakes under way",
        storm=True,
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
