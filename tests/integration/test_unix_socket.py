"""Listeners on Unix sockets, with other people's clients: local, with rights, and gone after the stop."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from tests.integration.lively import await_that
from tests.integration.served import Served, run_cli
from tests.support.paho import leave

Serve = Callable[..., Served]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A short path: a Unix socket's has 107 bytes at most."""
    return tmp_path / "mqtt.sock"


def with_socket(serve: Serve, place: Path) -> Served:
    listeners = [{"name": "local", "unix_path": str(place), "unix_mode": "0600"}, {"name": "mqtt", "port": 0}]
    return serve(environment={"IOT_BROKER_LISTENERS": json.dumps(listeners)})


def test_paho_publishes_and_receives_through_it_also_as_an_application(serve: Serve, place: Path) -> None:
    broker = with_socket(serve, place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert broker.endpoints[0] == {"name": "local", "protocol": "mqtt", "host": "", "port": 0, "unix_path": str(place)}
    assert f"local    mqtt   {place}" in broker.output
    got: list[bytes] = []
    device = broker.register()
    backend = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "backend", protocol=mqtt.MQTTv5, transport="unix")
    backend.username_pw_set("apikey", broker.api_key)
    backend.on_message = lambda _client, _user, message: got.append(message.payload)
    backend.on_connect = lambda client, *_: client.subscribe("devices/+/telemetry", qos=1)
    subscribed: list[bool] = []
    backend.on_subscribe = lambda *_: subscribed.append(True)
    backend.connect(str(place))
    backend.loop_start()
    await_that(lambda: subscribed, "no SUBACK")
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device.device_id, transport="unix")
    client.username_pw_set(device.username, device.password)
    client.connect(str(place))
    client.loop_start()
    await_that(client.is_connected, "no CONNACK")
    client.publish(device.topic("telemetry"), b"21.5", qos=1)
    await_that(lambda: got == [b"21.5"], "nothing came")
    for one in (client, backend):
        leave(one)


def test_the_file_goes_with_the_broker_and_a_killed_ones_is_replaced(serve: Serve, place: Path) -> None:
    broker = with_socket(serve, place)
    broker.kill()
    assert place.exists()
    broker = with_socket(serve, place)
    listeners = json.dumps([{"unix_path": str(place)}])
    refused = run_cli(
        "serve",
        "--data-dir",
        place.parent / "other",
        "--http-port",
        "0",
        environment={"IOT_BROKER_LISTENERS": listeners},
    )
    assert refused.returncode == 2
    assert refused.stderr == f"iot-broker: cannot listen on {place}: somebody answers there\n"
    assert broker.stop() == 0
    assert not place.exists()


def test_clients_are_told_no_port_of_it(serve: Serve, place: Path) -> None:
    broker = with_socket(serve, place)
    told = broker.call("GET", "/credentials").json()
    assert told["ports"] == {"mqtt": broker.port("mqtt")}


@pytest.mark.needs("mosquitto_pub")
def test_mosquitto_pub_speaks_to_it(serve: Serve, place: Path) -> None:
    broker = with_socket(serve, place)
    device = broker.register()
    command = ["mosquitto_pub", "--unix", str(place), "-i", device.device_id, "-u", device.username]
    login = ["-P", device.password, "-t", device.topic("telemetry"), "-m", "1", "-q", "1"]
    done = subprocess.run([*command, *login], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    until = time.monotonic() + 5
    while broker.call("GET", f"/devices/{device.device_id}").json()["last_seen"] is None:
        assert time.monotonic() < until
