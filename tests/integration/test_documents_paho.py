"""The documents' paho programs, over TLS and plain, with host, port, credentials and the trusted file exchanged.

Where the documents print a part of a program, the test says what stands before and behind it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.integration.printed import HOST, LOOPBACK, Running, authority, blocks, exchange, trusting, watching
from tests.integration.served import Login, Served
from tests.integration.wire import V311, Client

OVERVIEW = "overview: Python (paho-mqtt)"
TLS_AND_PLAIN = "credentials: TLS and plain (paho)"
GOOD_CONDUCT = "credentials: QoS and reconnection (paho)"
TELEMETRY = {"temperature": 22.5, "humidity": 65, "timestamp": "2025-11-05T10:35:00Z"}

# What a reader adds to a program that only connects.
LISTEN = """
client.on_message = lambda client, userdata, message: print("Received:", message.payload.decode())
client.subscribe("devices/DEVICE/commands", qos=1)
client.publish("devices/DEVICE/telemetry", "21.5", qos=1)
client.loop_forever()
"""
# The same for the document's own subscription, which a clean session loses with its connection.
LISTEN_AGAIN = """
def on_connect(client, userdata, flags, rc):
    print("Connected")
    client.subscribe("devices/DEVICE/commands", qos=1)

client.on_connect = on_connect
client.on_message = lambda client, userdata, message: print("Received:", message.payload.decode())
client.loop_forever()
"""


def run(text: str, folder: Path, trusted: Path) -> Running:
    """Run a program with what it prints unbuffered; that paho 2 finds the callbacks' 1.x style old is not printed."""
    (folder / "program.py").write_text(text, encoding="utf-8")
    return Running([sys.executable, "-u", str(folder / "program.py")], trusting(trusted))


def overview(snippets: str, served: Served, device: Login) -> str:
    (text,) = blocks(snippets, OVERVIEW)
    pairs = {
        HOST: LOOPBACK,
        "8883": str(served.port("mqtts")),
        "iot_dev_abc123xyz": device.device_id,
        "mqtt_secure_password_xyz": device.password,
    }
    return exchange(text, pairs)


def credentials(text: str, device: Login, port: str, number: int) -> str:
    """The same for the second document's programs."""
    pairs = {HOST: LOOPBACK, port: str(number), "iot_dev_abc123": device.device_id}
    return exchange(text, pairs).replace("your_password", device.password)


def test_the_overview_program_sends_telemetry_and_receives_commands_over_tls(
    snippets: str, served: Served, device: Login, tmp_path: Path
) -> None:
    text, commands = overview(snippets, served, device), device.topic("commands")
    with watching(served, device) as watcher, run(text, tmp_path, authority(served)) as program:
        assert json.loads(watcher.next_telemetry()) == TELEMETRY
        assert program.next_line() == "Connected with result code 0"
        watcher.command("on")
        assert program.next_line() == f'Received: {commands} "on"'
        with Client(served.port()) as application:
            application.login("apikey", served.api_key, "operator-" + device.device_id)
            assert application.publish_qos1(commands, b"from an application") == 0
        assert program.next_line() == f"Received: {commands} from an application"
        assert served.call("GET", f"/devices/{device.device_id}").json()["online"] is True


def test_who_does_not_trust_the_brokers_authority_is_not_connected(
    snippets: str, served: Served, device: Login, tmp_path: Path
) -> None:
    with run(overview(snippets, served, device), tmp_path, Path("/nonexistent")) as program:
        assert "CERTIFICATE_VERIFY_FAILED" in program.fails()


@pytest.mark.parametrize(("number", "port", "listener"), [(0, "8883", "mqtts"), (1, "1883", "mqtt")])
def test_the_programs_that_connect_send_telemetry_and_receive_a_command(
    snippets: str, served: Served, device: Login, tmp_path: Path, number: int, port: str, listener: str
) -> None:
    printed = blocks(snippets, TLS_AND_PLAIN)[number]
    before = "" if "import" in printed else "import paho.mqtt.client as mqtt\n"
    text = before + credentials(printed, device, port, served.port(listener))
    text += LISTEN.replace("DEVICE", device.device_id)
    with watching(served, device) as watcher, run(text, tmp_path, authority(served)) as program:
        assert watcher.next_telemetry() == b"21.5"
        watcher.command("on")
        assert program.next_line() == 'Received: "on"'


def test_the_recommended_program_comes_back_by_itself_after_its_connection_was_lost(
    snippets: str, served: Served, device: Login, tmp_path: Path
) -> None:
    first, _ = blocks(snippets, TLS_AND_PLAIN)
    recommended, reconnection = blocks(snippets, GOOD_CONDUCT)
    port = served.port("mqtts")
    text = credentials(first, device, "8883", port) + 'payload = "21.5"\n'
    text += credentials(recommended, device, "8883", port) + reconnection
    text += LISTEN_AGAIN.replace("DEVICE", device.device_id)
    with watching(served, device) as watcher, run(text, tmp_path, authority(served)) as program:
        assert watcher.next_telemetry() == b"21.5"
        assert program.next_line() == "Connected"
        watcher.command("on")
        assert program.next_line() == 'Received: "on"'
        with Client(served.port(), V311) as other:  # who comes with its client id ends its connection [MQTT-3.1.4-3]
            other.login(device.username, device.password, device.device_id)
            assert program.next_line() == "Unexpected disconnect. Reconnecting..."
            assert program.next_line() == "Connected"
        watcher.command("off")
        assert program.next_line() == 'Received: "off"'
