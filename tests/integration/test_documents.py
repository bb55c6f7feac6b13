"""The platform's documents, taken at their word: their programs run with host, port, key and ids exchanged, no more.

The one difference: the paho program's ``tls_set`` line is left out, as its own document does for port 1883.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.served import Login, Served, plain_environment
from tests.integration.wire import PUBLISH, V5, Client, puback

EXCHANGED_ID = "iot_dev_abc123xyz"


@pytest.fixture
def snippets(platform_documents: Path) -> str:
    return (platform_documents / "snippets.md").read_text(encoding="utf-8")


def blocks(snippets: str, heading: str) -> list[str]:
    """The programs under a heading."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", snippets, re.DOTALL | re.MULTILINE)
    return re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)


def exchange(text: str, pairs: dict[str, str]) -> str:
    """Substitute; every text that is to be exchanged must be there."""
    for old, new in pairs.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def curl(program: Callable[[str], str], served: Served, command: str, device_id: str = EXCHANGED_ID) -> Any:
    """Run a printed curl line against the broker; the answer must be a success."""
    program("curl")
    ours = exchange(
        command,
        {
            "https://api.wayscloud.services": f"http://127.0.0.1:{served.port('http')}",
            "wayscloud_iot_prod_YOUR_API_KEY": served.api_key,
        },
    )
    line = ours.replace(EXCHANGED_ID, device_id).replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=20, check=False, env=plain_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_printed_curl_lines_register_list_show_and_tell_credentials(
    snippets: str, served: Served, program: Callable[[str], str]
) -> None:
    (register,) = blocks(snippets, "overview: register (curl)")
    created = curl(program, served, register)
    assert created["name"] == "Temperature Sensor 01"
    assert created["metadata"] == {"location": "living_room", "model": "DHT22"}
    (others,) = blocks(snippets, "overview: list, get, usage, quota; credentials (curl)")
    commands = re.split(r"\n(?=curl )", others.strip())
    listed = curl(program, served, next(one for one in commands if "limit=50" in one))
    assert created["device_id"] in [device["device_id"] for device in listed["devices"]]
    shown = curl(program, served, next(one for one in commands if EXCHANGED_ID in one), created["device_id"])
    assert (shown["device_id"], shown["description"]) == (created["device_id"], "Living room temperature sensor")
    credentials = curl(
        program, served, next(one for one in commands if one.splitlines()[0].endswith("/credentials \\"))
    )
    assert created["device_id"] in [device["username"] for device in credentials["devices"]]
    # What was told is enough to log in.
    login = created["mqtt_credentials"]
    with Client(served.port()) as client:
        client.login(login["username"], login["password"], login["client_id"])


@contextmanager
def printed_program(snippets: str, served: Served, device: Login, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the printed paho program, which goes on for ever, for as long as the block lasts."""
    (text,) = blocks(snippets, "overview: Python (paho-mqtt)")
    ours = exchange(
        text,
        {
            "mqtt.wayscloud.services": "127.0.0.1",
            "8883": str(served.port()),
            EXCHANGED_ID: device.device_id,
            "mqtt_secure_password_xyz": device.password,
            "client.tls_set()  # Enable TLS\n": "",
        },
    )
    (folder / "program.py").write_text(ours)
    process = subprocess.Popen(
        [sys.executable, "-u", str(folder / "program.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the 1.x style of its callbacks is deprecated in paho 2, and said so there
        text=True,
        env=plain_environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_the_printed_paho_program_sends_telemetry_and_receives_commands_of_rest_and_of_an_application(
    snippets: str, served: Served, device: Login, tmp_path: Path
) -> None:
    commands = device.topic("commands")
    with Client(served.port(), V5) as application:
        application.login("apikey", served.api_key, "documents")
        assert application.subscribe("devices/+/telemetry") == [1]
        with printed_program(snippets, served, device, tmp_path) as process:
            telemetry = application.expect(PUBLISH)
            application.send(puback(telemetry.packet_id))
            assert telemetry.topic_name == device.topic("telemetry")
            assert json.loads(telemetry.payload(V5)) == {
                "temperature": 22.5,
                "humidity": 65,
                "timestamp": "2025-11-05T10:35:00Z",
            }
            assert next_line(process) == "Connected with result code 0"
            wait_for_subscriber(served, device)
            assert next_line(process) == f'Received: {commands} {{"action":"on"}}'
            assert application.publish_qos1(commands, b"from an application") == 0
            assert next_line(process) == f"Received: {commands} from an application"
            assert served.call("GET", f"/devices/{device.device_id}").json()["online"] is True


def wait_for_subscriber(served: Served, device: Login) -> None:
    """Send the command over REST until it finds the program's subscription, which it makes in its own time."""
    for _ in range(500):
        body = {"payload": {"action": "on"}}
        answer = served.call("POST", f"/devices/{device.device_id}/commands", body)
        assert answer.status_code == 202, answer.text
        if answer.json()["state"] == "sent":
            return
        time.sleep(0.02)
    raise AssertionError("the program did not subscribe")
