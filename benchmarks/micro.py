"""What the core's steps cost by themselves, without sockets: for whoever works on one of them.

Belongs here: one benchmark a step, on a shard that has just what the step needs. Not here: any claim about the broker
(that is ``python -m benchmarks``), and any check that may fail on a slow machine.

    .venv/bin/python -P -m pytest benchmarks/micro.py --benchmark-enable
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from broker._core.packets import encode
from broker._core.shard import Shard
from broker.config import Capabilities
from broker.net.gateway import core_limits
from broker.wire import Connect, Publish

PER_FEED = 100
TOPIC = "devices/iot_dev_benchmark/telemetry"


@pytest.fixture
def shard() -> Shard:
    made = Shard(core_limits(Capabilities()), secret=bytes(32), hash_seed=1, now_ns=0)
    made.open_listener(0, 0, 0, "open")
    return made


def connected(shard: Shard, client_id: str, version: int) -> int:
    handle = shard.open_connection(0, 0)
    shard.feed(handle, encode(Connect(client_id, keep_alive_s=0), version), 0)
    shard.take_output(handle)
    return handle


def feeding(shard: Shard, handle: int, packets: bytes, *readers: int) -> Callable[[], None]:
    def step() -> None:
        shard.feed(handle, packets, 0)
        for reader in readers:
            shard.take_output(reader)
        shard.collect()

    return step


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("receivers", [0, 1, 100])
def test_a_hundred_publishes_of_qos_0(benchmark: BenchmarkFixture, shard: Shard, version: int, receivers: int) -> None:
    publisher = connected(shard, "publisher", version)
    readers = [connected(shard, f"reader {number}", version) for number in range(receivers)]
    for reader in readers:
        shard.subscribe(reader, TOPIC.encode(), 0)
    packets = encode(Publish(TOPIC, bytes(100)), version) * PER_FEED
    benchmark(feeding(shard, publisher, packets, *readers))


def test_a_hundred_publishes_among_ten_thousand_wildcard_filters(benchmark: BenchmarkFixture, shard: Shard) -> None:
    publisher = connected(shard, "publisher", 5)
    reader = connected(shard, "reader", 5)
    for number in range(10_000):
        shard.subscribe(reader, f"devices/+/telemetry/{number}/#".encode(), 0)
    packets = b"".join(encode(Publish(f"devices/a/telemetry/{n * 97}/x", bytes(100)), 5) for n in range(PER_FEED))
    benchmark(feeding(shard, publisher, packets, reader))


@pytest.mark.parametrize("version", [4, 5])
def test_a_known_client_comes_and_goes(benchmark: BenchmarkFixture, shard: Shard, version: int) -> None:
    packet = encode(Connect("client", keep_alive_s=60), version)

    def step() -> None:
        handle = shard.open_connection(0, 0)
        shard.feed(handle, packet, 0)
        shard.close_connection(handle)
        shard.collect()

    benchmark(step)
