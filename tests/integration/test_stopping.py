"""The end: of a broker that is told to stop, and of connections whose rights have ended."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from broker.testing import BrokerUnderTest
from tests.integration import wire
from tests.integration.served import Login, Served
from tests.integration.wire import CONNACK, PINGRESP, V5, V311, Client

Serve = Callable[..., Served]
STOP_S = 5.0
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])


def assert_stops(broker: Served, number: int = signal.SIGTERM) -> None:
    started = time.monotonic()
    broker.send_signal(number)
    assert broker.wait(STOP_S) == 0, broker.log
    assert wire.seconds_since(started) < STOP_S
    assert "Traceback" not in broker.log, broker.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_clients_of_5_are_told_that_the_server_shuts_down_and_those_of_311_are_closed(
    serve: Serve, number: int
) -> None:
    broker = serve()
    device = broker.register()
    with Client(broker.port(), V311) as old, Client(broker.port(), V5) as modern:
        old.login(device.username, device.password, "old")
        modern.login(device.username, device.password, "modern")
        assert_stops(broker, number)
        modern.expect_closed(0x8B)
        old.expect_closed()
    with pytest.raises(ConnectionRefusedError):
        Client(broker.port())


def test_it_stops_in_time_whatever_its_clients_do(serve: Serve) -> None:
    broker = serve()
    device = broker.register()
    port, http = broker.port(), broker.port("http")
    with ExitStack() as stack:
        silent = [stack.enter_context(Client(port)) for _ in range(50)]
        for client in silent[:25]:
            client.send(b"\x10")  # the beginning of something
        idle = [stack.enter_context(Client(port)).login(device.username, device.password, f"{n}") for n in range(3)]
        slow = stack.enter_context(Client(port, V311, receive_buffer_bytes=4096))
        slow.login("apikey", broker.api_key, "slow")
        assert slow.subscribe("flood", options=0) == [0]
        writer = stack.enter_context(Client(port)).login("apikey", broker.api_key, "writer")
        for _ in range(20):
            writer.send(wire.publish(V5, "flood", bytes(1_000_000)))
        writer.ping()
        stack.enter_context(Client(port)).send(wire.publish(V5, "a", bytes(100))[:50])
        half_request = stack.enter_context(socket.create_connection(("127.0.0.1", http)))
        half_request.sendall(b"POST /v1/iot/devices HTTP/1.1\r\nContent-Length: 100\r\nHost: x\r\n\r\n{")
        stack.enter_context(socket.create_connection(("127.0.0.1", http)))
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(broker.data_dir / "control.sock"))
        assert_stops(broker)
        for client in idle:
            client.expect_closed(0x8B)


def test_it_stops_in_time_while_messages_fly(serve: Serve) -> None:
    broker = serve()
    device = broker.register()
    with Client(broker.port(), V5) as publisher, Client(broker.port(), V5) as application:
        application.login("apikey", broker.api_key, "application")
        application.subscribe(device.topic("telemetry"))
        publisher.login(device.username, device.password)
        publisher.socket.setblocking(False)
        message = wire.publish(V5, device.topic("telemetry"), b"x" * 100) * 100
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            try:
                publisher.socket.send(message)
            except BlockingIOError:
                time.sleep(0.001)
        assert_stops(broker)


def test_a_second_signal_during_the_stop_does_no_harm(serve: Serve) -> None:
    broker = serve()
    with Client(broker.port()):
        broker.send_signal(signal.SIGTERM)
        broker.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # a client that does not close is waited for: the stop is under way
        broker.send_signal(signal.SIGINT)
        assert broker.wait(STOP_S) == 0
    assert "Traceback" not in broker.log


# ---------------------------------------------------------------- rights that end


@pytest.fixture
def victim(served: Served, device: Login) -> Iterator[tuple[Client, Client]]:
    """A device that is connected with both versions."""
    with Client(served.port(), V311) as old, Client(served.port(), V5) as modern:
        old.login(device.username, device.password, "old")
        modern.login(device.username, device.password, "modern")
        yield old, modern


def assert_cut(clients: tuple[Client, Client]) -> None:
    old, modern = clients
    modern.expect_closed(0x98)
    old.expect_closed()


def refusal(served: Served, version: int, username: str, password: str) -> int:
    with Client(served.port(), version) as client:
        client.send(wire.connect(version, "later", username, password))
        code = client.expect(CONNACK).body[1]
        client.expect_closed()
        return code


@pytest.mark.alone
def test_deleting_a_device_cuts_it_and_refuses_it_from_then_on(
    served: Served, device: Login, victim: tuple[Client, Client]
) -> None:
    assert served.call("DELETE", f"/devices/{device.device_id}").status_code == 204
    assert_cut(victim)
    assert refusal(served, V311, device.username, device.password) == 5
    assert refusal(served, V5, device.username, device.password) == 0x87


def test_deleting_one_device_leaves_the_others_alone(served: Served, victim: tuple[Client, Client]) -> None:
    other = served.register()
    assert served.call("DELETE", f"/devices/{other.device_id}").status_code == 204
    for client in victim:
        client.ping()


@pytest.mark.alone
def test_revoking_a_key_cuts_applications_and_leaves_devices(serve: Serve) -> None:
    broker = serve()
    key = broker.new_key("backend")
    device = broker.register(api_key=key)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(broker.port(), version)) for version in (V311, V5)]
        for number, client in enumerate(clients):
            client.login("apikey", key, f"application-{number}")
        sensor = stack.enter_context(Client(broker.port())).login(device.username, device.password)
        other = stack.enter_context(Client(broker.port())).login("apikey", broker.api_key, "other")
        (row,) = [line for line in broker.cli("keys", "list").stdout.splitlines() if "backend" in line]
        assert broker.cli("keys", "revoke", row.split()[0]).returncode == 0
        assert_cut((clients[0], clients[1]))
        sensor.ping()
        other.ping()
    assert refusal(broker, V311, "apikey", key) == 5
    assert refusal(broker, V5, "apikey", key) == 0x87
    assert broker.call("GET", "/devices", api_key=key).status_code == 401


@pytest.mark.alone
def test_suspending_an_account_cuts_and_refuses_all_that_is_its_own_until_it_is_resumed(serve: Serve) -> None:
    broker = serve()
    assert broker.cli("accounts", "create", "acme").returncode == 0
    key = broker.new_key("backend", "acme")
    device, bystander = broker.register(api_key=key), broker.register()
    with ExitStack() as stack:
        old, modern, other = (stack.enter_context(Client(broker.port(), version)) for version in (V311, V5, V5))
        old.login(device.username, device.password)
        modern.login("apikey", key)
        other.login(bystander.username, bystander.password)
        assert broker.cli("accounts", "suspend", "acme").returncode == 0
        assert_cut((old, modern))
        other.ping()
    assert refusal(broker, V311, device.username, device.password) == 5
    assert broker.call("GET", "/devices", api_key=key).status_code == 403
    assert broker.cli("accounts", "resume", "acme").returncode == 0
    with Client(broker.port()) as client:
        client.login(device.username, device.password)


def test_the_plan_limits_devices_and_names_the_quota(iot_broker: BrokerUnderTest) -> None:
    operator = iot_broker.broker.admin.operator
    iot_broker.call(operator.set_plan("default", "free"))
    for number in range(100):
        iot_broker.register_device(f"Device {number}")
    headers = {"Authorization": f"Bearer {iot_broker.api_key}"}
    with httpx.Client(base_url=iot_broker.http_url, headers=headers, trust_env=False) as http:
        refused = http.post("/v1/iot/devices", json={"name": "One more", "type": "sensor"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "QUOTA_EXCEEDED")
    iot_broker.call(operator.set_plan("default", "professional"))
    iot_broker.register_device("One more")


def test_another_accounts_device_looks_like_none_over_http_and_mqtt(served: Served, device: Login) -> None:
    name = f"other-{device.device_id[-8:]}"
    assert served.cli("accounts", "create", name).returncode == 0
    key = served.new_key("k", name)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/commands")):
        body = {"payload": 1} if method == "POST" else None
        theirs = served.call(method, f"/devices/{device.device_id}{path}", body, key)
        none = served.call(method, f"/devices/iot_dev_aaaaaaaaaaaaaaaa{path}", body, key)
        assert theirs.status_code == none.status_code == 404
        assert theirs.json()["error"]["code"] == none.json()["error"]["code"] == "NOT_FOUND"
    assert served.call("GET", f"/devices/{device.device_id}").status_code == 200


# ---------------------------------------------------------------- ends without a word


def test_a_reset_ends_the_session_and_the_device_is_offline(served: Served, device: Login) -> None:
    client = Client(served.port()).login(device.username, device.password)
    assert served.call("GET", f"/devices/{device.device_id}").json()["online"] is True
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    until = time.monotonic() + 5
    while served.call("GET", f"/devices/{device.device_id}").json()["online"] and time.monotonic() < until:
        time.sleep(0.02)
    shown = served.call("GET", f"/devices/{device.device_id}").json()
    assert shown["online"] is False
    assert shown["last_seen"] is not None


def test_a_stopped_process_that_goes_on_has_lost_no_client_that_kept_talking(serve: Serve) -> None:
    # The broker is not run for longer than the keep alive: what its clients said meanwhile lies in their sockets.
    broker = serve()
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(broker.port())) for _ in range(300)]
        for number, client in enumerate(clients):
            client.login("apikey", broker.api_key, f"client-{number}", keep_alive_s=2)
        broker.send_signal(signal.SIGSTOP)
        subprocess.run(["sleep", "1"], check=True)
        for client in clients:
            client.send(b"\xc0\x00")
        subprocess.run(["sleep", "2.5"], check=True)
        broker.send_signal(signal.SIGCONT)
        for client in clients:
            client.expect(PINGRESP)
