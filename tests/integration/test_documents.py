"""The platform's documents, taken at their word: their curl lines run with host, port, key and ids exchanged.

Here belongs what needs nothing but curl. Not here: their programs in Python, for Node and for the browser.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

from tests.integration.printed import LOOPBACK, authority, blocks, exchange, trusting
from tests.integration.served import Served
from tests.integration.wire import Client

EXCHANGED_ID = "iot_dev_abc123xyz"


def curl(program: Callable[[str], str], served: Served, command: str, device_id: str = EXCHANGED_ID) -> Any:
    """Run a printed curl line against the broker; the answer must be a success."""
    program("curl")
    ours = exchange(
        command,
        {
            "https://api.wayscloud.services": f"https://{LOOPBACK}:{served.port('https')}",
            "wayscloud_iot_prod_YOUR_API_KEY": served.api_key,
        },
    )
    line = ours.replace(EXCHANGED_ID, device_id).replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=20, check=False, env=trusting(authority(served))
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
