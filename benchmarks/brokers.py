"""Who is measured: a fresh process of each broker for every run, and what its clients must show to be let in.

Belongs here: commands, configuration files and readiness of brokers. Not here: registering devices (``devices``).
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shlex
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from benchmarks import devices
from benchmarks.generator import GeneratorFailed, pinned
from benchmarks.scenarios import REST_KEYS, Scenario, Transport
from broker.doors import PROTOCOLS
from broker.net.certificates import OwnCertificates

START_TIMEOUT_S = 20.0
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MOSQUITTO_TUNED = (
    "set_tcp_nodelay true",
    "max_inflight_messages 0",
    "max_queued_messages 0",
    "log_type error",
    "connection_messages false",
    "sys_interval 0",
)


IN_MEMORY = "-memory"
"""What the name of our broker ends in that keeps sessions in memory."""


class BrokerFailed(Exception):
    """A broker is missing, did not start, or did not stop; the text says which and why."""


Ports = dict[str, int]
"""By protocol: ``mqtt``, and ``http`` where there is one."""


@dataclass
class Running:
    """A started broker. ``client_arguments`` tell the generator how its clients log in."""

    process_id: int
    port: int
    client_arguments: list[str] = field(default_factory=list)
    http_port: int = 0
    """Where it tells its own figures; 0 for nowhere."""
    folder: Path = Path()
    """Where it keeps its data."""


class Contestant(ABC):
    """A broker with one configuration; ``name`` stands in the table and in the JSON."""

    name: str
    environment: Mapping[str, str] = MappingProxyType({})
    """What is set for its process, beyond everybody's."""

    @abstractmethod
    def version(self) -> str:
        """One line of text."""

    @abstractmethod
    def command(self, scenario: Scenario, folder: Path, port: int) -> list[str]:
        """What is started, with ``folder`` for its files; ``port`` is free just now, for those that must be told."""

    @abstractmethod
    def wait_until_ready(self, folder: Path, port: int, process: subprocess.Popen[bytes]) -> Ports:
        """Wait for the listener; return where it is."""

    def prepare(self, scenario: Scenario, folder: Path) -> list[str]:  # noqa: ARG002 - for those who need them
        """Fill ``folder`` before the start; return the clients' arguments for the generator."""
        return []

    def variants(self, scenario: Scenario) -> list[Contestant]:
        """Who plays in its place: itself, or nobody where the scenario is about what it does not have."""
        return [] if scenario.kind in {"levels", "rest"} else [self]

    @contextlib.contextmanager
    def start(self, scenario: Scenario, core: int | None, wrapper: tuple[str, ...] = ()) -> Iterator[Running]:
        """Run a fresh process, alone on ``core``; ``wrapper`` words (a tracer) come before its command."""
        with tempfile.TemporaryDirectory(prefix="iot-broker-bench-") as name, (Path(name) / "log").open("wb") as log:
            folder, port = Path(name), free_port()
            folder.chmod(0o755)  # mosquitto reads its file before it leaves root behind, but not always as root
            clients = self.prepare(scenario, folder)
            command = [*pinned(core), *wrapper, *self.command(scenario, folder, port)]
            process = start_process(command, log, self.environment)
            try:
                ports = self.wait_until_ready(folder, port, process)
                yield Running(process.pid, ports[PROTOCOLS[scenario.transport]], clients, ports.get("http", 0), folder)
            except (BrokerFailed, GeneratorFailed) as error:
                raise BrokerFailed(f"{self.name}: {error}\n{(folder / 'log').read_text()[-2000:]}") from None
            finally:
                stop_process(process)


def start_process(
    command: list[str], log: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a broker whose words go to ``log``, with some variables on top of the environment."""
    variables = {**os.environ, **(environment or {})}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=variables)


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Terminate, and kill after ten seconds."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A TCP port of the loopback interface that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(process: subprocess.Popen[bytes], is_ready: Any) -> Any:
    """Poll until ``is_ready`` returns something; fail when the process ends or time is up."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if answer := is_ready():
            return answer
        if process.poll() is not None:
            raise BrokerFailed(f"ended with status {process.returncode} before it was ready")
        time.sleep(0.02)
    raise BrokerFailed(f"not ready after {START_TIMEOUT_S:g} s")


def own_command(given: str | None) -> list[str]:
    """The command of this environment, or what was given."""
    if given:
        return shlex.split(given)
    beside = Path(sysconfig.get_path("scripts")) / "iot-broker"
    found = str(beside) if beside.exists() else shutil.which("iot-broker")
    if found is None:
        raise BrokerFailed("iot-broker is not installed here: make install, or --broker-command")
    return [found]


class Mosquitto(Contestant):
    """Debian's mosquitto, everyone let in without a password: it has less to do than a broker that checks rights."""

    def __init__(self, config: str) -> None:
        self.config = config
        self.name = f"mosquitto-{config}"
        program = shutil.which("mosquitto", path=SEARCH_PATH) or shutil.which("mosquitto")
        if program is None:
            raise BrokerFailed("mosquitto is missing: sudo apt-get install mosquitto")
        self.program = program

    def version(self) -> str:
        """As its help says, which ends with status 3."""
        said = subprocess.run([self.program, "-h"], capture_output=True, text=True, check=False).stdout
        return said.splitlines()[0]

    def settings(self) -> list[str]:
        """Lines of the configuration beyond the listener."""
        return ["allow_anonymous true", *(MOSQUITTO_TUNED if self.config == "tuned" else ())]

    def command(self, scenario: Scenario, folder: Path, port: int) -> list[str]:
        config = folder / "mosquitto.conf"
        listener = [f"listener {port} 127.0.0.1", *self.door(scenario, folder)]
        config.write_text("\n".join([*listener, *self.settings()]) + "\n")
        config.chmod(0o644)
        return [self.program, "-c", str(config)]

    def variants(self, scenario: Scenario) -> list[Contestant]:
        """Not over WebSocket: Debian builds it without."""
        return super().variants(scenario) if scenario.transport in {"tcp", "tls"} else []

    def door(self, scenario: Scenario, folder: Path) -> list[str]:
        """Lines of the listener: a certificate of the same kind as ours."""
        if scenario.transport != "tls":
            return []
        own = OwnCertificates(folder / "tls", ("localhost", "127.0.0.1"))
        own.ensure(datetime.now(UTC))
        (folder / "tls").chmod(0o755)
        own.files.certificate.chmod(0o644)
        return [f"certfile {own.files.certificate}", f"keyfile {own.files.private_key}"]

    def wait_until_ready(self, folder: Path, port: int, process: subprocess.Popen[bytes]) -> Ports:  # noqa: ARG002
        def connects() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(process, connects)
        return dict.fromkeys(PROTOCOLS.values(), port)


class IotBroker(Contestant):
    """The installed broker: with devices and an application that log in, or in open mode."""

    def __init__(self, command_words: list[str], *, open_mode: bool, name: str = "iot-broker") -> None:
        self.words = command_words
        self.open_mode = open_mode
        self.name = f"{name}-open" if open_mode else name
        self._templates: dict[tuple[int, int], devices.Template] = {}

    def variants(self, scenario: Scenario) -> list[Contestant]:
        if scenario.kind == "rest" and self.open_mode:
            return []  # who checks nothing has no keys
        return [self, self.in_memory()] if scenario.kind == "levels" else [self]

    def in_memory(self) -> IotBroker:
        """The same broker and devices, whose listener promises nothing that a crash would break."""
        other = copy.copy(self)
        other.name += IN_MEMORY
        other.environment = {"IOT_BROKER_LISTENERS": json.dumps([{"durability": "memory"}])}
        return other

    def version(self) -> str:
        said = subprocess.run([*self.words, "--version"], capture_output=True, text=True, check=False)
        return said.stdout.strip() or said.stderr.strip()

    def prepare(self, scenario: Scenario, folder: Path) -> list[str]:
        if self.open_mode:
            return []
        template = self._template(scenario.devices, REST_KEYS if scenario.kind == "rest" else 0)
        template.copy_to(folder / "data")
        if scenario.kind == "rest":
            template.write_callers(folder / "callers.json")
        return template.client_arguments(folder)

    def _template(self, count: int, keys: int) -> devices.Template:
        """A data directory with that many devices and keys, made once: registering a thousand takes seconds."""
        if (count, keys) not in self._templates:
            self._templates[count, keys] = self._make_template(count, keys)
        return self._templates[count, keys]

    def _make_template(self, count: int, keys: int) -> devices.Template:
        template = devices.Template()
        with (template.folder / "log").open("wb") as log:
            process = start_process(self._serve(template.data, open_mode=False), log)
            try:
                endpoints = self._endpoints(template.data, process)
                subprocess.run(
                    [*self.words, "accounts", "set-plan", "--data-dir", str(template.data), "default", "unlimited"],
                    check=True,
                    capture_output=True,
                )
                key = devices.first_key((template.folder / "log").read_text())
                template.register(f"http://127.0.0.1:{endpoints['http']}", key, count)
                template.keys = [self._made_key(template.data, number) for number in range(keys)]
            except (BrokerFailed, devices.RegistrationFailed, subprocess.CalledProcessError) as error:
                said = getattr(error, "stderr", None) or b""
                raise BrokerFailed(
                    f"{error} {said.decode()}\n{(template.folder / 'log').read_text()[-2000:]}"
                ) from error
            finally:
                stop_process(process)
        return template

    def _made_key(self, data: Path, number: int) -> str:
        words = ["keys", "create", "--data-dir", str(data), f"backend {number}"]
        return devices.first_key(
            subprocess.run([*self.words, *words], check=True, capture_output=True, text=True).stdout
        )

    def _serve(self, data: Path, *, open_mode: bool, transport: Transport = "tcp") -> list[str]:
        listeners = ["--host", "127.0.0.1", "--mqtt-port", "0", "--http-port", "0"]
        serve = [*self.words, "serve", "--data-dir", str(data), *listeners]
        if not open_mode or transport == "tcp":
            return [*serve, *(["--open"] if open_mode else [])]
        config = data.with_name("config.toml")
        config.write_text(f'[[listeners]]\ntransport = "{transport}"\nport = 0\nopen = true\n')
        return [*self.words, "serve", "--data-dir", str(data), "--config", str(config), "--http-port", "0"]

    def command(self, scenario: Scenario, folder: Path, port: int) -> list[str]:  # noqa: ARG002 - it finds its own
        return self._serve(folder / "data", open_mode=self.open_mode, transport=scenario.transport)

    def wait_until_ready(self, folder: Path, port: int, process: subprocess.Popen[bytes]) -> Ports:  # noqa: ARG002
        return self._endpoints(folder / "data", process)

    def _endpoints(self, data: Path, process: subprocess.Popen[bytes]) -> Ports:
        """Ports by protocol, from the file the broker writes when it is ready."""

        def read() -> Ports | None:
            try:
                rows = json.loads((data / "endpoints.json").read_text())
            except (OSError, ValueError):
                return None
            return {row["protocol"]: row["port"] for row in rows} | {row["name"]: row["port"] for row in rows}

        found: Ports = wait_for(process, read)
        return found
