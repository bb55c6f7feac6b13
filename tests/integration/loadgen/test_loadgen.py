"""The load generator's report against what a fault-injecting broker really did to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from broker.testing import BrokerUnderTest
from tests.integration.loadgen.faulty_broker import FaultyBroker

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "benchmarks" / "loadgen"
Report = dict[str, Any]


@pytest.fixture(scope="session")
def loadgen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generator, built without a warning."""
    if not shutil.which("make"):
        pytest.skip("needs make (apt-get install make)")
    build = tmp_path_factory.mktemp("loadgen")
    made = subprocess.run(
        ["make", "-C", str(SOURCES), f"BUILD={build}"], capture_output=True, text=True, check=False, timeout=120
    )
    assert made.returncode == 0, made.stderr
    assert "warning" not in made.stderr, made.stderr
    return build / "loadgen"


@pytest.fixture(scope="session")
def server_tls(loadgen: Path, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server context with a certificate of its own."""
    probe = subprocess.run([loadgen, "--tls", "--port", "1"], capture_output=True, text=True, check=False, timeout=20)
    if "built without TLS" in probe.stderr:
        pytest.skip("the generator was built without OpenSSL (apt-get install libssl-dev)")
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command (apt-get install openssl)")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def _output(
    loadgen: Path, broker: FaultyBroker, arguments: str, tls: ssl.SSLContext | None = None
) -> list[bytes]:
    server = await asyncio.start_server(broker.serve_connection, "127.0.0.1", 0, ssl=tls, backlog=1000)
    port = str(server.sockets[0].getsockname()[1])
    fixed = ["--json", "--quiet", "--warmup-s", "0.1", "--duration-s", "0.5", "--port", port]
    process = await asyncio.create_subprocess_exec(loadgen, *fixed, *arguments.split(), stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    server.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.wait_closed(), 2)
    assert process.returncode == 0, out
    return out.splitlines()


def run(loadgen: Path, broker: FaultyBroker, arguments: str, tls: ssl.SSLContext | None = None) -> Report:
    report: Report = json.loads(asyncio.run(_output(loadgen, broker, arguments, tls))[-1])
    return report


def assert_counts_agree(report: Report, broker: FaultyBroker) -> None:
    assert report["sent"] == broker.published > 20
    assert report["lost"] == broker.dropped
    assert report["duplicated"] == broker.duplicated
    assert report["reordered"] == broker.swapped - len(broker.held)
    assert report["corrupted"] == broker.corrupted
    assert report["misrouted"] == report["foreign"] == 0
    if report["qos"]:
        assert abs(broker.acks - report["delivered"]) <= 1


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", [3, 5])
def test_nothing_is_reported_lost_when_the_broker_loses_nothing(loadgen: Path, version: int, qos: int) -> None:
    broker = FaultyBroker()
    report = run(loadgen, broker, f"--version {version} --qos {qos} --publishers 4 --subscribers 4 --inflight 20")
    assert_counts_agree(report, broker)


@pytest.mark.parametrize("fault", ["drop", "duplicate", "corrupt"])
def test_every_injected_fault_is_counted_once(loadgen: Path, fault: str) -> None:
    broker = FaultyBroker(**{fault: 50})  # type: ignore[arg-type]
    report = run(loadgen, broker, "--qos 1 --publishers 2 --subscribers 2 --rate-per-s 1500 --duration-s 1")
    assert broker.dropped + broker.duplicated + broker.corrupted > 10
    assert_counts_agree(report, broker)


def test_a_swapped_pair_is_one_reordered_message(loadgen: Path) -> None:
    broker = FaultyBroker(swap=50)
    report = run(loadgen, broker, "--qos 1 --publishers 2 --subscribers 2 --rate-per-s 1500 --duration-s 1")
    assert report["reordered"] == broker.swapped - len(broker.held) > 10
    assert report["lost"] == len(broker.held)
    assert report["duplicated"] == 0


def test_what_a_subscriber_did_not_ask_for_is_counted_for_each_stream_that_it_sees(loadgen: Path) -> None:
    report = run(loadgen, FaultyBroker(misroute=True), "--publishers 3 --subscribers 3 --rate-per-s 500")
    assert report["misrouted"] == 6
    assert report["corrupted"] == 0


def test_many_filters_expect_the_copies_that_a_correct_broker_makes(loadgen: Path) -> None:
    broker = FaultyBroker()
    report = run(loadgen, broker, "--shape many --filters-per-client 1 --publishers 2 --rate-per-s 100")
    assert report["subscriptions"] == sum(map(len, broker.subscriptions.values())) == 1000
    assert {"s/0/d/0/t", "s/8/d/99/t", "s/9/+/8/t", "s/9/#"} < set(broker.subscriptions)
    assert report["topics"] == 1000
    assert report["delivered"] == report["expected"] == broker.deliveries > broker.published
    assert_counts_agree(report, broker)


def test_many_filters_may_stand_beside_few_topics(loadgen: Path) -> None:
    broker = FaultyBroker()
    report = run(loadgen, broker, "--shape many --filters-per-client 1 --topics 10 --publishers 2 --rate-per-s 100")
    assert report["topics"] == 10
    assert_counts_agree(report, broker)


@pytest.mark.alone
def test_readers_that_stall_are_measured_against_the_time_before_them(loadgen: Path) -> None:
    broker = FaultyBroker()
    stalled = "--stalled-readers 2 --stalled-filter load/#"
    report = run(loadgen, broker, f"--qos 1 --publishers 2 --subscribers 2 --rate-per-s 500 --username u {stalled}")
    assert [qos for _, qos, _ in broker.subscriptions["load/#"]] == [0, 1]
    assert report["stalled_readers"] == 2
    assert report["stalled_cut"] == 0
    assert 0 < report["undisturbed_latency_p50_us"] < 50_000
    assert 0 < report["latency_p50_us"] < 50_000
    assert_counts_agree(report, broker)  # nobody expects anything of those who do not read


def test_a_mark_tells_when_the_measured_time_begins_and_ends(loadgen: Path) -> None:
    done = asyncio.run(_output(loadgen, FaultyBroker(), "--marks --rate-per-s 100"))
    assert done[:2] == [b"measuring", b"measured"]
    assert done[2].startswith(b"{")


def test_a_fan_out_expects_a_copy_for_every_subscriber(loadgen: Path) -> None:
    broker = FaultyBroker()
    report = run(loadgen, broker, "--shape fanout --publishers 1 --subscribers 50 --rate-per-s 50")
    assert report["fan"] == 50
    assert report["delivered"] == report["expected"] == 50 * broker.published
    assert report["lost"] == 0


def test_names_and_filters_expand_for_each_client(loadgen: Path) -> None:
    broker = FaultyBroker()
    names = "--username user{i} --topic-name devices/{id}/telemetry --topic-filter devices/+/telemetry"
    report = run(loadgen, broker, f"--shape fanin --qos 1 --publishers 50 --subscribers 1 --rate-per-s 1000 {names}")
    assert_counts_agree(report, broker)
    assert any(b"user49" in connect for connect in broker.connects)


@pytest.mark.alone
def test_the_rate_is_kept(loadgen: Path) -> None:
    report = run(loadgen, FaultyBroker(), "--publishers 3 --subscribers 3 --rate-per-s 500 --duration-s 1")
    assert abs(report["sent_per_s"] - 500) < 15
    assert report["latency_p50_us"] < 50_000


@pytest.mark.alone
def test_latency_is_measured_from_publisher_to_subscriber(loadgen: Path) -> None:
    report = run(loadgen, FaultyBroker(delay_s=0.02), "--rate-per-s 20 --duration-s 1")
    assert 20_000 < report["latency_p50_us"] < 40_000


def test_a_slow_broker_shows_in_the_latency_of_a_rated_run(loadgen: Path) -> None:
    """No coordinated omission: messages that had to wait for the broker count from when they were due."""
    report = run(
        loadgen, FaultyBroker(delay_s=0.02), "--qos 1 --inflight 1 --rate-per-s 100 --drain-s 10 --duration-s 1"
    )
    assert report["latency_max_us"] > 300_000
    assert report["lost"] == 0


@pytest.mark.alone
def test_the_time_to_the_acknowledgement_is_told_apart_from_the_time_to_the_receiver(loadgen: Path) -> None:
    acknowledged_first = FaultyBroker(delay_s=0.02)
    report = run(loadgen, acknowledged_first, "--qos 1 --rate-per-s 20 --duration-s 1 --ack-latency")
    assert 0 < report["ack_latency_p50_us"] < 20_000 < report["latency_p50_us"]


def test_a_late_acknowledgement_counts_from_when_its_message_was_due(loadgen: Path) -> None:
    slow = "--qos 1 --inflight 1 --rate-per-s 100 --drain-s 10 --duration-s 1 --ack-latency"
    assert run(loadgen, FaultyBroker(delay_s=0.02), slow)["ack_latency_max_us"] > 300_000


@pytest.mark.iot_broker(open=True)
def test_what_waits_for_sessions_that_are_away_is_counted_when_they_are_back(
    loadgen: Path, iot_broker: BrokerUnderTest
) -> None:
    shape = ["--mode", "offline", "--shape", "fanout", "--topic-filter", "load/+", "--topic-name", "load/{i}"]
    counts = ["--publishers", "3", "--subscribers", "5", "--count", "90", "--drain-s", "0.3", "--json"]
    port = str(iot_broker.port)
    done = subprocess.run([loadgen, "--port", port, *shape, *counts], capture_output=True, check=True, timeout=30)
    made, published, collected = map(json.loads, done.stdout.splitlines())
    assert made["sessions"] == collected["session_present"] == 5
    assert published["acked"] == 90
    assert collected["received"] == collected["expected"] == 450
    assert [collected[fault] for fault in ("lost", "duplicated", "reordered", "corrupted", "misrouted")] == [0] * 5


def test_idle_connections_are_kept_alive(loadgen: Path) -> None:
    broker = FaultyBroker()
    arguments = "--publishers 2 --subscribers 2 --rate-per-s 1 --keep-alive-s 1 --duration-s 3.5"
    assert run(loadgen, broker, arguments)["lost"] == 0
    assert broker.pings >= 4


def test_payloads_larger_than_a_read_arrive_whole(loadgen: Path) -> None:
    broker = FaultyBroker()
    report = run(loadgen, broker, "--publishers 2 --subscribers 2 --payload-bytes 300000 --rate-per-s 60")
    assert_counts_agree(report, broker)


def test_a_connect_storm_counts_every_connection(loadgen: Path) -> None:
    broker = FaultyBroker()
    report = run(loadgen, broker, "--mode connect --clients 500 --settle-s 0.1 --hold-s 0")
    assert report["connected"] == 500 == len(broker.connects)


@pytest.mark.parametrize("qos", [0, 1])
def test_websocket_frames_split_anywhere_are_reassembled(loadgen: Path, qos: int) -> None:
    broker = FaultyBroker(websocket=True)
    report = run(loadgen, broker, f"--ws --qos {qos} --publishers 2 --subscribers 2 --inflight 20")
    assert_counts_agree(report, broker)
    assert broker.pongs > 0


def test_websocket_payloads_over_64_kib_arrive_whole(loadgen: Path) -> None:
    report = run(loadgen, FaultyBroker(websocket=True), "--ws --payload-bytes 70000 --rate-per-s 10")
    assert report["sent"] > 3
    assert report["lost"] == 0


def test_tls_counts_like_tcp(loadgen: Path, server_tls: ssl.SSLContext) -> None:
    broker = FaultyBroker()
    report = run(loadgen, broker, "--tls --qos 1 --publishers 2 --subscribers 2 --inflight 20", server_tls)
    assert_counts_agree(report, broker)


def test_tls_payloads_of_many_records_arrive_whole(loadgen: Path, server_tls: ssl.SSLContext) -> None:
    broker = FaultyBroker()
    arguments = "--tls --publishers 2 --subscribers 2 --payload-bytes 100000 --rate-per-s 60"
    assert_counts_agree(run(loadgen, broker, arguments, server_tls), broker)


def test_websocket_inside_tls_counts_like_tcp(loadgen: Path, server_tls: ssl.SSLContext) -> None:
    broker = FaultyBroker(websocket=True)
    arguments = "--tls --ws --qos 2 --publishers 2 --subscribers 2 --inflight 20"
    assert_counts_agree(run(loadgen, broker, arguments, server_tls), broker)


@pytest.mark.parametrize(
    "arguments",
    [
        "--qos 3",
        "--ack-latency",
        "--payload-bytes 8",
        "--mode nothing",
        "--inflight 0",
        "--shape many --topics 100001",
        "stray",
    ],
)
def test_a_wrong_command_line_is_refused(loadgen: Path, arguments: str) -> None:
    result = subprocess.run([loadgen, *arguments.split()], capture_output=True, check=False, timeout=20)
    assert result.returncode == 1
