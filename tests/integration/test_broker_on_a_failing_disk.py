"""A broker whose disk fails or is slow under it: nothing is promised that is not kept, and nobody restarts it.

Not here: what the store alone does then (``test_failing_disk``), and budgets (``test_full_store``).
"""

from __future__ import annotations

import errno
import re
import resource
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.served import PORTS, PROGRAM, Login, Served, plain_environment
from tests.integration.wire import CONNACK, PUBACK, PUBLISH, V5, Client, connect, puback, publish
from tests.support.faulty_disk import Commands, build, environment, opened

FOR_EVER = b"\x11" + struct.pack("!I", 0xFFFFFFFF)
QUOTA_EXCEEDED = 0x97
WAIT_S = 15.0

Faulty = tuple[Served, Commands, Login]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("faulty-disk"))


@pytest.fixture
def faulty(library: Path, tmp_path: Path, serve: Callable[..., Served]) -> Faulty:
    """A broker on a disk that obeys, and a device that is away and for which messages wait."""
    commands = tmp_path / "commands"
    served = serve(environment=environment(library, commands))
    device = served.register(device_id="away")
    with back(served, device, session=0) as client:
        client.subscribe(device.topic("commands"))
    return served, opened(commands), device


def back(served: Served, device: Login, session: int) -> Client:
    client = Client(served.port())
    flags = 0xC0 if session else 0xC2
    login = connect(V5, device.device_id, device.username, device.password, flags=flags, raw_properties=FOR_EVER)
    client.send(login)
    assert client.expect(CONNACK).body[:2] == bytes([session, 0])
    return client


def application(served: Served, client_id: str = "back end") -> Client:
    return Client(served.port()).login("apikey", served.api_key, client_id)


def until_ready(served: Served, *, ready: bool) -> str:
    """Wait until ``/readyz`` says so; returns the reason."""
    end = time.monotonic() + WAIT_S
    while True:
        answer = served.http.get("/readyz")
        if (answer.status_code == 200) is ready:
            return str(answer.json().get("reason", ""))
        assert time.monotonic() < end, answer.text
        time.sleep(0.05)


def restarted(faulty: Faulty, serve: Callable[..., Served]) -> Served:
    """Kill the broker, as a power cut would, and start another on what it left."""
    served = faulty[0]
    served.kill()
    return serve(data_dir=served.data_dir, ports=PORTS, api_key=served.api_key)


def waiting(served: Served, device: Login, count: int) -> list[bytes]:
    """Come back and take what waits."""
    with back(served, device, session=1) as client:
        found = []
        for _ in range(count):
            one = client.expect(PUBLISH)
            found.append(one.payload(V5))
            client.send(puback(one.packet_id))
        client.ping()
    return found


@pytest.mark.parametrize(
    ("call", "number", "reason"),
    [
        ("write_error", errno.ENOSPC, "failed: No space left on device"),
        ("write_error", errno.EROFS, "read_only: Read-only file system"),
        ("sync_error", errno.EIO, "failed: Input/output error"),
        ("meta_error", errno.EIO, "failed: Input/output error"),
    ],
)
def test_a_promise_waits_for_a_disk_that_fails_and_is_kept(
    faulty: Faulty, serve: Callable[..., Served], call: str, number: int, reason: str
) -> None:
    served, disk, device = faulty
    topic = device.topic("commands")
    with application(served) as sender:
        assert sender.publish_qos1(topic, b"before", 1) == 0
        setattr(disk, call, number)
        sender.send(publish(V5, topic, b"under way", 2))  # is routed before anybody knows
        assert until_ready(served, ready=False) == f"store: {reason}"
        with application(served, "newcomer") as newcomer:
            assert newcomer.publish_qos1(topic, b"late", 1) == QUOTA_EXCEEDED
            newcomer.subscribe("telemetry")
            assert newcomer.publish_within("telemetry", b"QoS 1 that needs no disk") != []
        disk.heal()
        until_ready(served, ready=True)
        answer = sender.expect(PUBACK)
        assert (answer.packet_id, answer.body[2:3] or b"\x00") == (2, b"\x00")
        assert sender.publish_qos1(topic, b"after", 4) == 0
    again = restarted(faulty, serve)
    assert waiting(again, device, 3) == [b"before", b"under way", b"after"]


def test_a_disk_that_is_slow_refuses_and_then_takes_everything_again(
    faulty: Faulty, serve: Callable[..., Served]
) -> None:
    served, disk, device = faulty
    topic = device.topic("commands")
    with application(served) as sender:
        disk.sync_delay_ms = 4000
        started = time.monotonic()
        sender.send(publish(V5, topic, b"slow", 1))
        assert "slow" in until_ready(served, ready=False)
        with application(served, "newcomer") as newcomer:
            assert newcomer.publish_qos1(topic, b"refused", 1) == QUOTA_EXCEEDED
        disk.heal()
        assert sender.expect(PUBACK).packet_id == 1
        assert time.monotonic() - started > 4
        until_ready(served, ready=True)
        assert sender.publish_qos1(topic, b"after", 3) == 0
    again = restarted(faulty, serve)
    assert waiting(again, device, 2) == [b"slow", b"after"]


def readiness(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_broker_starts_on_a_disk_without_a_byte_and_is_well_when_there_is_room(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    before = serve(data_dir=tmp_path / "data")
    device = before.register()
    before.stop()
    command = ["/bin/sh", "-c", 'ulimit -S -f 0; exec "$0" "$@"', str(PROGRAM), "serve", "--data-dir", before.data_dir]
    with subprocess.Popen(
        [*command, *PORTS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=plain_environment()
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(7)]
            ports = {line.split()[0]: int(re.findall(r":(\d+)", line)[0]) for line in lines[1:]}
            mqtt, http = ports["mqtt"], ports["http"]
            with Client(mqtt).login(device.username, device.password) as client:
                client.send(publish(V5, device.topic("telemetry"), b"21.5", 0))
                client.ping()
            resource.prlimit(
                process.pid, resource.RLIMIT_FSIZE, resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1:] * 2
            )
            end = time.monotonic() + WAIT_S
            while readiness(http) != 200:
                assert time.monotonic() < end
                time.sleep(0.05)
            with Client(mqtt).login("apikey", before.api_key, "back end") as client:
                assert client.publish_qos1("t", b"", 1) in (0, 0x10)
        finally:
            process.terminate()
            process.wait(timeout=10)
