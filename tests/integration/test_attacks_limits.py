"""Attacks on what has a limit: rates, numbers, rights that have ended. Memory stays flat, and others notice nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Login, Served
from tests.integration.wire import DISCONNECT, V5, V311, Client, publish

Serve = Callable[..., Served]
MIB = 1024 * 1024
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
TOO_MANY_MESSAGES = bytes([0x96, 20, 0x1F, 0, 17]) + b"Too many messages"


def logged_in(served: Served, device: Login, version: int, client_id: str = "c") -> Client:
    return Client(served.port(), version).login(device.username, device.password, client_id)


def pour(client: Client, data: bytes, within_s: float) -> float:
    """Send as fast as the broker reads, until it closes; gives how long that took."""
    started = time.monotonic()
    client.socket.settimeout(within_s)
    try:
        while time.monotonic() - started < within_s:
            client.socket.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return time.monotonic() - started
    raise AssertionError("still open")


@VERSIONS
@pytest.mark.parametrize("kind", ["publish", "ping"])
def test_who_is_faster_than_its_rate_is_paused_and_after_five_seconds_closed(
    served: Served, device: Login, version: int, kind: str
) -> None:
    data = publish(version, device.topic("telemetry"), bytes(4000)) * 16 if kind == "publish" else b"\xc0\x00" * 500
    with Neighbour(served), logged_in(served, device, version) as client:
        before = served.rss_bytes()
        assert 4.5 < pour(client, data, within_s=12) < 8
        assert served.rss_bytes() - before < 8 * MIB
        with logged_in(served, device, version) as again:  # it may come back
            again.ping()


def test_who_is_too_fast_is_told_why(served: Served, device: Login) -> None:
    with logged_in(served, device, V5) as client:
        until = time.monotonic() + 12
        client.send(b"\xc0\x00" * 1000)
        while (found := client.read()) is not None and found.kind != DISCONNECT:
            assert time.monotonic() < until
            client.send(b"\xc0\x00")
        assert found is not None
        assert found.body == TOO_MANY_MESSAGES


@VERSIONS
def test_the_sixth_connection_of_a_device_is_refused_and_a_takeover_is_not(
    served: Served, device: Login, version: int
) -> None:
    clients = [logged_in(served, device, version, f"c{number}") for number in range(5)]
    with Client(served.port(), version) as sixth:
        sixth.send(wire.connect(version, "c5", device.username, device.password))
        sixth.expect_refused(0x97 if version == V5 else 3)
    clients.append(logged_in(served, device, version, "c0"))
    with clients.pop(0) as taken_over:
        taken_over.expect_closed(0x8E if version == V5 else None)
    for client in clients:
        client.ping()
        client.close()


@VERSIONS
def test_sessions_that_are_kept_under_ever_new_identifiers_end_at_five(
    served: Served, device: Login, version: int
) -> None:
    kept = {"raw_properties": b"\x11\xff\xff\xff\xff"} if version == V5 else {}
    codes = []
    for number in range(8):
        with Client(served.port(), version) as client:
            client.send(
                wire.connect(version, f"c{number}", device.username, device.password, flags=0xC0, **kept)  # type: ignore[arg-type]
            )
            codes.append(client.expect(wire.CONNACK).body[1])
    assert codes == [0] * 5 + [0x97 if version == V5 else 3] * 3


@pytest.mark.alone
@VERSIONS
def test_a_deleted_device_is_cut_within_a_second(served: Served, device: Login, version: int) -> None:
    with Neighbour(served), logged_in(served, device, version) as client:
        client.ping()
        started = time.monotonic()
        assert served.call("DELETE", f"/devices/{device.device_id}").status_code == 204
        client.expect_closed(0x98 if version == V5 else None)
        assert time.monotonic() - started < 1
    with Client(served.port(), version) as again:
        again.send(wire.connect(version, "c", device.username, device.password))
        again.expect_refused(0x87 if version == V5 else 5)


@pytest.mark.alone
@VERSIONS
def test_a_suspended_account_is_cut_within_a_second_of_it(serve: Serve, version: int) -> None:
    served = serve()
    device = served.register()
    with logged_in(served, device, version) as client, Client(served.port(), version) as application:
        application.login("apikey", served.api_key, "app")
        assert served.cli("accounts", "suspend", "default").returncode == 0
        started = time.monotonic()
        client.expect_closed(0x98 if version == V5 else None)
        application.expect_closed(0x98 if version == V5 else None)
        assert time.monotonic() - started < 1
