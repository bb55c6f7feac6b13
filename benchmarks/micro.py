"""What the core's steps cost by themselves, without sockets: for whoever works on one of them.

Belongs here: one benchmark a step, on a shard that has just what the step needs. Not here: any claim about the broker
(that is ``python -m benchmarks``), and any check that may fail on a slow machine.

    .venv/bin/python -P -m pytest benchmarks/micro.py --benchmark-enable
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from broker._core.core_probe import match_topics, topic_tables
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


def filters_of(reader: int) -> Iterator[str]:
    """A thousand filters of each of a thousand readers: 900 readers' are exact, 90 readers' have `+`, ten have `#`."""
    for k in range(1000):
        if reader < 900:
            number = reader * 1000 + k
            yield f"s/{number // 100}/d/{number % 100}/t"
        elif reader < 990:
            number = (reader - 900) * 1000 + k
            yield f"s/{number // 9}/+/{number % 9}/t"
        else:
            yield f"s/{(reader - 990) * 1000 + k}/#"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_hundred_publishes_at_random_among_a_million_filters(benchmark: BenchmarkFixture, shard: Shard) -> None:
    """Each finds two subscriptions and is sent to both; a tenth of a microsecond a message is reading its packet."""
    publisher = connected(shard, "publisher", 4)
    readers = [connected(shard, f"reader {number}", 4) for number in range(1000)]
    before = resident_bytes()
    for number, reader in enumerate(readers):
        for topic_filter in filters_of(number):
            shard.subscribe(reader, topic_filter.encode(), 0)
    benchmark.extra_info["bytes_each"] = (resident_bytes() - before) / 1_000_000
    chance = random.Random(1)
    topics = [f"s/{chance.randrange(10_000)}/d/{chance.randrange(100)}/t" for _ in range(100 * PER_FEED)]
    feeds = [
        b"".join(encode(Publish(topic, bytes(100)), 4) for topic in topics[at : at + PER_FEED])
        for at in range(0, len(topics), PER_FEED)
    ]
    turns = itertools.cycle(feeds)

    def publish() -> None:
        shard.feed(publisher, next(turns), 0)

    def empty() -> None:  # what was sent is taken where nobody measures it
        for reader in readers:
            shard.take_output(reader)
        shard.collect()

    assert shard.counters()["subscriptions"] == 1_000_000
    benchmark.pedantic(publish, setup=empty, rounds=300)  # type: ignore[no-untyped-call]


# What filters look like, of a random number; and a topic name that each matches.
SHAPES = {
    "exact": ("devices/iot_dev_{}/telemetry", "devices/iot_dev_{}/telemetry"),
    "plus": ("devices/iot_dev_{}/+/state", "devices/iot_dev_{}/lamp/state"),
    "plus first": ("+/iot_dev_{}/telemetry/temperature", "devices/iot_dev_{}/telemetry/temperature"),
    "hash": ("devices/iot_dev_{}/#", "devices/iot_dev_{}/lamp/state"),
    "deep": ("site/{}/floor/+/room/+/sensor/#", "site/{}/floor/3/room/12/sensor/temperature"),
}
MILLION = 1_000_000
MATCHES = 10_000
NUMBERS = 1 << 40


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("sessions", [1000, 10_000])
@pytest.mark.parametrize("shapes", [*((one,) for one in SHAPES), tuple(SHAPES)], ids=[*SHAPES, "mixed"])
def test_ten_thousand_matches_among_a_million_subscriptions(
    benchmark: BenchmarkFixture, sessions: int, shapes: tuple[str, ...]
) -> None:
    shard = Shard(
        {**core_limits(Capabilities()), "subscriptions_per_application_session_maximum": MILLION},
        secret=bytes(32), hash_seed=1, now_ns=0,
    )  # fmt: skip
    shard.open_listener(0, 0, 0, "open")
    handles = [connected(shard, f"reader {number}", 5) for number in range(sessions)]
    chance = random.Random(7)
    wanted = [(SHAPES[shapes[number % len(shapes)]], chance.randrange(NUMBERS)) for number in range(MILLION)]
    names = [shape[1].format(number).encode() for shape, number in chance.choices(wanted, k=MATCHES)]
    base = resident_bytes()
    for at, (shape, number) in enumerate(wanted):
        shard.subscribe(handles[at % sessions], shape[0].format(number).encode(), 0)
    tables = topic_tables(shard, 0)
    assert tables is not None
    benchmark.extra_info["resident_bytes_each"] = round((resident_bytes() - base) / MILLION, 1)
    benchmark.extra_info["counted_bytes_each"] = round(tables["filter_bytes"] / MILLION, 1)
    assert benchmark(match_topics, shard, 0, names) >= MATCHES
    started = time.perf_counter()
    for at, (shape, number) in enumerate(wanted):
        shard.unsubscribe(handles[at % sessions], shape[0].format(number).encode())
    benchmark.extra_info["unsubscribe_us"] = round((time.perf_counter() - started) * 1e6 / MILLION, 2)
    benchmark.extra_info["bytes_each_afterwards"] = round((resident_bytes() - base) / MILLION, 1)


@pytest.mark.parametrize("version", [4, 5])
def test_a_known_client_comes_and_goes(benchmark: BenchmarkFixture, shard: Shard, version: int) -> None:
    packet = encode(Connect("client", keep_alive_s=60), version)

    def step() -> None:
        handle = shard.open_connection(0, 0)
        shard.feed(handle, packet, 0)
        shard.close_connection(handle)
        shard.collect()

    benchmark(step)
