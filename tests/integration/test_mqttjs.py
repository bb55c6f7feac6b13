"""mqtt.js from Node against the broker, through every door."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.printed import LOOPBACK, authority, trusting
from tests.integration.served import Login, Served
from tests.integration.wire import PUBLISH, V5, Client, puback

PROGRAM = Path(__file__).with_name("mqttjs.js")
VERSIONS = pytest.mark.parametrize("version", ["4", "5"])
PATHS = {"mqtt": "", "mqtts": "", "ws": "/mqtt", "wss": "/mqtt"}


@contextmanager
def start(
    program: Callable[[str], str], node_modules: Path, served: Served, version: str, device: Login, scheme: str = "mqtt"
) -> Iterator[subprocess.Popen[str]]:
    url = f"{scheme}://{LOOPBACK}:{served.port(scheme)}{PATHS[scheme]}"
    arguments = [url, version, device.device_id, device.username, device.password]
    with subprocess.Popen(
        [program("node"), str(PROGRAM), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=trusting(authority(served), {"NODE_PATH": str(node_modules)}),
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # a test that has failed does not wait for it


def next_event(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("{"), line + process.stdout.read()
    event: dict[str, Any] = json.loads(line)
    return event


@VERSIONS
@pytest.mark.parametrize("scheme", PATHS)
def test_telemetry_goes_up_in_order_and_a_command_comes_down(
    served: Served, device: Login, program: Callable[[str], str], node_modules: Path, version: str, scheme: str
) -> None:
    with Client(served.port(), V5) as application:
        application.login("apikey", served.api_key, "watch-" + device.device_id)
        assert application.subscribe(device.topic("telemetry")) == [1]
        with start(program, node_modules, served, version, device, scheme) as process:
            assert next_event(process) == {"event": "connect"}
            assert next_event(process) == {"event": "subscribe", "error": None, "granted": [1]}
            for number in range(100):
                arrived = application.expect(PUBLISH)
                application.send(puback(arrived.packet_id))
                assert arrived.payload(V5) == b"%d" % number
                assert (b"text/plain" in arrived.body) == (version == "5")
            answer = served.call("POST", f"/devices/{device.device_id}/commands", {"payload": "enough"})
            # Its session ends with the program, which may go without a PUBACK.
            assert answer.json()["state"] in ("sent", "acknowledged", "dropped")
            expected = {"event": "message", "topic": device.topic("commands"), "text": '"enough"', "qos": 1}
            assert next_event(process) == expected
            assert next_event(process) == {"event": "end"}
            assert process.wait(20) == 0


@VERSIONS
def test_a_wrong_password_is_told_with_its_code(
    served: Served, device: Login, program: Callable[[str], str], node_modules: Path, version: str
) -> None:
    wrong = Login(device.device_id, device.username, "wrong")
    with start(program, node_modules, served, version, wrong) as process:
        event = next_event(process)
        assert (event["event"], event["code"]) == ("error", 5 if version == "4" else 0x87)
        assert process.wait(20) == 0
