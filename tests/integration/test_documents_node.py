"""The documents' mqtt.js programs in Node, over ``mqtts``, ``wss`` and ``ws``, with address and credentials exchanged.

Where the documents print a program that only connects, the test says what its reader puts before and behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.printed import HOST, LOOPBACK, Running, authority, blocks, exchange, trusting, watching
from tests.integration.served import Login, Served

WEBSOCKETS = "credentials: WebSocket over TLS, and plain (Node.js)"
REQUIRE = "const mqtt = require('mqtt');\n"
LISTEN = """
client.on('message', (topic, message) => console.log('Received:', message.toString()));
client.on('connect', () => {
  client.subscribe('devices/DEVICE/commands', { qos: 1 });
  client.publish('devices/DEVICE/telemetry', '21.5', { qos: 1 });
});
"""


@pytest.fixture
def run(program: Callable[[str], str], node_modules: Path, tmp_path: Path) -> Callable[[str, Path], Running]:
    """Run a program; mqtt.js is where ``require`` finds it."""

    def start(text: str, trusted: Path) -> Running:
        (tmp_path / "program.js").write_text(text, encoding="utf-8")
        environment = trusting(trusted, {"NODE_PATH": str(node_modules)})
        return Running([program("node"), str(tmp_path / "program.js")], environment)

    return start


Run = Callable[[str, Path], Running]


def overview(snippets: str, served: Served, device: Login) -> str:
    (text,) = blocks(snippets, "overview: Node.js (mqtt)")
    pairs = {
        HOST: LOOPBACK,
        "8883": str(served.port("mqtts")),
        "iot_dev_abc123xyz": device.device_id,
        "mqtt_secure_password_xyz": device.password,
    }
    return exchange(text, pairs)


def test_the_overview_program_sends_telemetry_and_receives_a_command_over_mqtts(
    snippets: str, served: Served, device: Login, run: Run
) -> None:
    with watching(served, device) as watcher, run(overview(snippets, served, device), authority(served)) as program:
        assert program.next_line() == "Connected to MQTT broker"
        telemetry = json.loads(watcher.next_telemetry())
        assert (telemetry["temperature"], telemetry["humidity"]) == (22.5, 65)
        watcher.command("on")
        assert program.next_line() == f'Received: {device.topic("commands")} "on"'


@pytest.mark.parametrize(("number", "scheme", "port"), [(0, "wss", "8084"), (1, "ws", "8083")])
def test_the_programs_that_connect_by_websocket_send_telemetry_and_receive_a_command(
    snippets: str, served: Served, device: Login, run: Run, number: int, scheme: str, port: str
) -> None:
    printed = blocks(snippets, WEBSOCKETS)[number]
    address = f"{scheme}://{LOOPBACK}:{served.port(scheme)}/mqtt"
    pairs = {f"{scheme}://{HOST}:{port}/mqtt": address, "iot_dev_abc123": device.device_id}
    text = exchange(printed, pairs).replace("your_password", device.password)
    before = "" if "require" in printed else REQUIRE
    whole = before + text + LISTEN.replace("DEVICE", device.device_id)
    with watching(served, device) as watcher, run(whole, authority(served)) as program:
        if "console.log" in printed:
            assert program.next_line() == "Connected via WebSocket Secure"
        assert watcher.next_telemetry() == b"21.5"
        watcher.command("on")
        assert program.next_line() == 'Received: "on"'


def test_who_does_not_trust_the_brokers_authority_is_not_connected(
    snippets: str, served: Served, device: Login, run: Run
) -> None:
    text = overview(snippets, served, device) + "client.stream.on('error', (error) => console.log(error.code));\n"
    with run(text, Path("/nonexistent")) as program:
        assert program.next_line() == "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
