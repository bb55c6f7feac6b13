"""What was promised is there after a restart, also after one that nobody asked for."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from broker.testing import BrokerUnderTest
from tests.integration.served import Login, Served
from tests.integration.wire import CONNACK, PUBACK, PUBLISH, V5, V311, Client, binary, connect, packet, publish

Serve = Callable[..., Served]
KILLS = 8


def may_log_in(broker: Served, device: Login) -> bool:
    with Client(broker.port(), V311) as client:
        client.send(connect(V311, device.device_id, device.username, device.password))
        return client.expect(CONNACK).body[1] == 0


def test_devices_keys_and_accounts_survive_a_restart(serve: Serve, tmp_path: Path) -> None:
    first = serve(data_dir=tmp_path / "data")
    device, gone = first.register(metadata={"room": "ü"}), first.register()
    assert first.call("DELETE", f"/devices/{gone.device_id}").status_code == 204
    assert first.cli("accounts", "create", "acme", "--plan", "free").returncode == 0
    key = first.new_key("backend", "acme")
    theirs = first.register(api_key=key)
    assert may_log_in(first, device)
    shown = first.call("GET", f"/devices/{device.device_id}").json()
    assert first.stop() == 0
    second = serve(data_dir=tmp_path / "data", api_key=first.api_key)
    again = second.call("GET", f"/devices/{device.device_id}").json()
    assert again["last_seen"] is not None
    assert {**again, "last_seen": shown["last_seen"], "online": shown["online"]} == shown
    assert second.call("GET", f"/devices/{gone.device_id}").status_code == 404
    assert may_log_in(second, device)
    assert not may_log_in(second, gone)
    assert may_log_in(second, theirs)
    assert second.call("GET", f"/devices/{theirs.device_id}", api_key=key).status_code == 200
    assert second.call("GET", f"/devices/{theirs.device_id}").status_code == 404


def test_what_was_answered_before_a_kill_is_there_after_it(serve: Serve, tmp_path: Path) -> None:
    broker = serve(data_dir=tmp_path / "data")
    api_key = broker.api_key
    kept: list[Login] = []
    deleted: list[Login] = []
    for round_number in range(KILLS):
        kept.append(broker.register(f"Device {round_number}"))
        if round_number % 2:
            broker.kill()  # right after a 201
        else:
            victim = broker.register("Victim")
            assert broker.call("DELETE", f"/devices/{victim.device_id}").status_code == 204
            deleted.append(victim)
            broker.kill()  # right after a 204
        broker = serve(data_dir=tmp_path / "data", api_key=api_key)
        assert broker.shown_key is None
        assert broker.call("GET", "/devices").json()["total"] == len(kept)
        assert all(may_log_in(broker, one) for one in kept)
        assert not any(may_log_in(broker, one) for one in deleted)


def test_a_kill_in_the_middle_of_registrations_loses_none_that_was_answered(serve: Serve, tmp_path: Path) -> None:
    rng = random.Random(1)
    broker = serve(data_dir=tmp_path / "data")
    api_key = broker.api_key
    answered: list[Login] = []

    def register_until_the_end(one: Served) -> None:
        for number in itertools.count():
            try:
                answered.append(one.register(f"Device {number}"))
            except httpx.HTTPError:
                return

    for _ in range(3):
        threads = [threading.Thread(target=register_until_the_end, args=(broker,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.05, 0.25))
        broker.kill()
        for thread in threads:
            thread.join(30)
        broker = serve(data_dir=tmp_path / "data", api_key=api_key)
        missing = [one for one in answered if not may_log_in(broker, one)]
        assert not missing, f"{len(missing)} of {len(answered)} lost"
    total = broker.call("GET", "/devices").json()["total"]
    assert len(answered) <= total <= len(answered) + 3 * 4, "at most those that were under way are there unanswered"


def test_the_command_line_works_beside_what_a_kill_has_left(serve: Serve) -> None:
    broker = serve()
    broker.kill()
    assert (broker.data_dir / "control.sock").exists()
    listed = broker.cli("keys", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "default" in listed.stdout


def test_a_key_made_beside_a_broker_survives_its_kill(serve: Serve, tmp_path: Path) -> None:
    broker = serve(data_dir=tmp_path / "data")
    key = broker.new_key("backend")
    broker.send_signal(signal.SIGKILL)
    broker.wait()
    again = serve(data_dir=tmp_path / "data")
    assert again.call("GET", "/devices", api_key=key).status_code == 200
    with Client(again.port(), V5) as application:
        application.login("apikey", key)


def test_what_an_account_used_of_its_month_is_there_after_a_stop_and_goes_on(iot_broker: BrokerUnderTest) -> None:
    def used() -> tuple[int, int]:
        (account,) = iot_broker.call(iot_broker.broker.admin.operator.list_accounts())
        return account.messages_this_month, account.bytes_this_month

    assert used() == (0, 0)
    for _ in range(5):
        iot_broker.publish("a", b"12345678")
    iot_broker.restart()
    messages, size = used()
    assert messages == 5
    assert size > 5 * len("a12345678")
    iot_broker.publish("a", b"12345678")
    iot_broker.restart()
    assert used() == (6, size // 5 * 6)


def test_retained_messages_and_a_will_survive_a_kill(serve: Serve, tmp_path: Path) -> None:
    environment = {"IOT_BROKER_RESTART_GRACE_S": "1"}
    broker = serve(data_dir=tmp_path / "data", environment=environment)
    key = broker.new_key("backend")
    who = binary("lost") + binary("a/will") + binary("gone") + binary("apikey") + binary(key)
    with Client(broker.port(), V311) as writer, Client(broker.port(), V311) as lost:
        writer.login("apikey", key, "writer")
        lost.send(packet(0x10, binary("MQTT") + b"\x04\xee\x00\x00" + who))  # a retained will of QoS 1
        assert lost.expect(CONNACK).body[1] == 0
        for number, (topic, payload) in enumerate([("a/kept", b"1"), ("a/cleared", b"1"), ("a/cleared", b"")], 1):
            writer.send(publish(V311, topic, payload, number, first_byte=0x33))
            writer.expect(PUBACK)
        broker.kill()
    again = serve(data_dir=tmp_path / "data", environment=environment)
    with Client(again.port(), V311) as reader:
        reader.login("apikey", key, "reader")
        reader.subscribe("a/#")
        for topic, payload in ("a/kept", b"1"), ("a/will", b"gone"):
            found = reader.expect(PUBLISH)
            assert (found.topic_name, found.payload(V311)) == (topic, payload)


def test_a_device_that_was_deleted_leaves_nothing_retained_behind(serve: Serve, tmp_path: Path) -> None:
    broker = serve(data_dir=tmp_path / "data")
    key, device, api_key = broker.new_key("backend"), broker.register(), broker.api_key
    with Client(broker.port(), V311) as application, Client(broker.port(), V311) as own:
        application.login("apikey", key, "backend")
        own.login(device.username, device.password, device.device_id)
        application.send(publish(V311, device.topic("commands"), b"command", 1, first_byte=0x33))
        application.expect(PUBACK)
        own.send(publish(V311, device.topic("telemetry"), b"value", 1, first_byte=0x33))
        own.expect(PUBACK)
        assert broker.call("DELETE", f"/devices/{device.device_id}").status_code == 204
        broker.kill()
    again = serve(data_dir=tmp_path / "data", api_key=api_key)
    with Client(again.port(), V311) as application:
        application.login("apikey", key, "backend")
        application.subscribe("#")
        application.ping()
