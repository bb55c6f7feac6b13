"""Devices with real credentials: registered over REST once, then copied with their data directory for every run.

Belongs here: what the platform's HTTP interface and first start are asked. Not here: starting brokers.
"""

from __future__ import annotations

import concurrent.futures
import json
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PARALLEL = 4
API_KEY = re.compile(r"wayscloud_iot_prod_[0-9A-Za-z]{32,}")


class RegistrationFailed(Exception):
    """The broker's HTTP interface refused a device, or showed no key on its first start."""


def first_key(log: str) -> str:
    """The API key that the first start shows once."""
    found = API_KEY.search(log)
    if found is None:
        raise RegistrationFailed("the first start showed no API key")
    return found[0]


class Template:
    """A data directory with an unlimited account, its devices and one key; gone with the object."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="iot-broker-bench-devices-")
        self.folder = Path(self._temporary.name)
        self.data = self.folder / "data"
        self.key = ""
        self.keys: list[str] = []
        self.credentials: list[dict[str, str]] = []

    def register(self, base_url: str, key: str, count: int) -> None:
        """Register ``count`` devices, a few at a time, and keep their credentials."""
        self.key = key
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            self.credentials = list(pool.map(lambda i: register_device(base_url, key, i), range(count)))

    def copy_to(self, data: Path) -> None:
        """Copy the directory as it is after a stop: the store's file is sparse and stays so."""
        subprocess.run(["cp", "-a", "--sparse=always", str(self.data), str(data)], check=True)
        for name in ("lock", "control.sock", "endpoints.json"):
            (data / name).unlink(missing_ok=True)

    def write_callers(self, path: Path) -> None:
        """Write down who may ask the REST API, and about which devices."""
        path.write_text(json.dumps({"keys": self.keys, "devices": [one["client_id"] for one in self.credentials]}))

    def client_arguments(self, folder: Path) -> list[str]:
        """Devices publish with their own passwords, applications subscribe with the key."""
        arguments = ["--subscriber-username", "apikey", "--subscriber-password", self.key]
        if not self.credentials:  # a storm: everyone is an application
            return ["--username", "apikey", "--password", self.key]
        path = folder / "credentials"
        rows = (f"{c['client_id']} {c['username']} {c['password']}\n" for c in self.credentials)
        path.write_text("# client_id username password\n" + "".join(rows))
        return ["--credentials", str(path), *arguments]


def register_device(base_url: str, key: str, number: int) -> dict[str, str]:
    """Register one device; return its ``mqtt_credentials``. Waits where the rate of requests is limited."""
    body = json.dumps({"name": f"Benchmark device {number}", "type": "sensor"}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base_url}/v1/iot/devices", body, headers)
    for _ in range(5):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                created: dict[str, Any] = json.load(answer)
                return {name: str(value) for name, value in created["mqtt_credentials"].items()}
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 429:
                    raise RegistrationFailed(f"device {number}: {error.code} {error.read().decode()}") from error
                time.sleep(float(error.headers.get("Retry-After", 1)))
    raise RegistrationFailed(f"device {number}: refused five times for its rate")
