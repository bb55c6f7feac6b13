"""A broker as its users run it: the installed command in a process of its own, reached over sockets alone.

Here belong starting, looking at and ending that process, and the few REST calls that every test needs. Not here: MQTT
clients (``wire``), and anything that only one test needs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

PROGRAM = Path(sys.executable).parent / "iot-broker"
KEY_FORM = re.compile(r"wayscloud_iot_prod_[A-Za-z0-9]{32,}")
START_S = 20.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PORTS = ("--host", "127.0.0.1", "--mqtt-port", "0", "--http-port", "0")


def plain_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without anybody's configuration of a broker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IOT_BROKER_")}
    return {**kept, **(more or {})}


def run_cli(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command of ``iot-broker`` to its end."""
    return subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=plain_environment(environment),
        cwd=cwd,
    )


@dataclass(frozen=True)
class Login:
    """What a device was given when it was registered."""

    device_id: str
    username: str
    password: str

    def topic(self, end: str) -> str:
        return f"devices/{self.device_id}/{end}"


class Served:
    """A running broker. ``api_key`` is its first start's; give another to begin with on an older data directory."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        api_key: str = "",
        descriptors: int | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.output_file = data_dir.with_name(data_dir.name + ".out")
        self.log_file = data_dir.with_name(data_dir.name + ".log")
        command = [str(PROGRAM), "serve", "--data-dir", str(data_dir), *map(str, arguments)]
        if descriptors is not None:
            command = ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$0" "$@"', *command]
        with self.output_file.open("w") as out, self.log_file.open("w") as log:
            self.process = subprocess.Popen(command, stdout=out, stderr=log, env=plain_environment(environment))
        self._wait_until_ready()
        self.endpoints: list[dict[str, Any]] = json.loads((data_dir / "endpoints.json").read_text())
        shown = KEY_FORM.search(self.output)
        self.shown_key = shown.group() if shown else None
        self.api_key = self.shown_key or api_key
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port('http')}", timeout=30, trust_env=False)

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + START_S
        while " is ready" not in self.output:
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise AssertionError(f"the broker did not start ({self.process.returncode}): {self.log}")
            time.sleep(0.02)

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def port(self, name: str = "mqtt") -> int:
        """The real port of a listener, by its name."""
        number: int = next(one["port"] for one in self.endpoints if one["name"] == name)
        return number

    # ------------------------------------------------------------ REST

    def call(self, method: str, path: str, body: Any = None, api_key: str | None = None) -> httpx.Response:
        """One request to the API, with the first key unless another is given."""
        headers = {"Authorization": f"Bearer {self.api_key if api_key is None else api_key}"}
        return self.http.request(method, "/v1/iot" + path, json=body, headers=headers)

    def register(self, name: str = "Temperature Sensor 01", api_key: str | None = None, **fields: Any) -> Login:
        """Register a device."""
        answer = self.call("POST", "/devices", {"name": name, "type": "sensor", **fields}, api_key)
        assert answer.status_code == 201, answer.text
        created = answer.json()
        login = created["mqtt_credentials"]
        return Login(created["device_id"], login["username"], login["password"])

    # ------------------------------------------------------------ the command line, beside the running broker

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command on this broker's data directory."""
        return run_cli(*arguments, "--data-dir", self.data_dir)

    def new_key(self, name: str, account: str = "default") -> str:
        """Make an API key with the command line."""
        made = self.cli("keys", "create", name, "--account", account)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    # ------------------------------------------------------------ the process

    def rss_bytes(self) -> int:
        """Memory that the process holds now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE_BYTES

    def cpu_s(self) -> float:
        """Processor time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """How many descriptors the process has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 10) -> int:
        """Wait for the end; gives the exit code."""
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """End it as an operator does; gives the exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.send_signal(signal.SIGTERM)
        try:
            return self.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def end_all(brokers: Sequence[Served]) -> None:
    """End brokers, and demand of each that was still running that it leaves in peace and without a traceback."""
    codes = [(one.process.poll() is None, one.stop()) for one in brokers]
    for one, (was_running, code) in zip(brokers, codes, strict=True):
        assert not was_running or code == 0, f"exit code {code}: {one.log}"
        assert "Traceback" not in one.log, one.log
