"""Who is killed: our broker as it is installed, or Debian's mosquitto, each on a data directory and ports of its own.

Here belong commands, starting, readiness and the ways to die. Not here: when anybody dies (``campaign``).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
from pathlib import Path

from tests.crash.packets import Login
from tests.integration.served import KEY_FORM, plain_environment

PROGRAM = Path(sys.executable).parent / "iot-broker"
START_S = 30.0
LOOK_S = 0.003
PORTS = range(20_000, 32_000)
MOSQUITTO_PATH = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
MOSQUITTO_MODES = {
    "debian": ("autosave_interval 1800",),
    "every-second": ("autosave_interval 1",),
    "on-changes": ("autosave_on_changes true", "autosave_interval 1"),
}

OTHER_DOORS = ("mqtts", "ws", "wss", "https")


class DidNotStart(Exception):
    """A broker ended, or said nothing, instead of getting ready; the text is its log's end."""


def free_port(rng: random.Random) -> int:
    """A port below those that the system hands out, so that a restart finds it free again."""
    while True:
        port = rng.choice(PORTS)
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Target:
    """One broker on one folder; start, kill and start again."""

    is_ours = False

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.log_file = folder / "log"
        self.port = free_port(rng)
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0

    # ------------------------------------------------------------ for those who inherit

    def command(self) -> list[str]:
        """What is started."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Its environment."""
        return plain_environment()

    async def is_ready(self) -> bool:
        """Tell whether it serves."""
        raise NotImplementedError

    # ------------------------------------------------------------ life

    @property
    def is_running(self) -> bool:
        """Tell whether its process lives."""
        return self.process is not None and self.process.returncode is None

    async def spawn(self) -> None:
        """Start it, without waiting for anything."""
        self.starts += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            log.write(b"---- start %d\n" % self.starts)
            log.flush()
            self.process = await asyncio.create_subprocess_exec(
                *self.command(), stdout=log, stderr=log, env=self.environment()
            )

    async def wait_until_ready(self) -> None:
        """Wait until it serves. Raises ``DidNotStart``."""
        assert self.process is not None
        try:
            async with asyncio.timeout(START_S):
                while not await self.is_ready():
                    if self.process.returncode is not None:
                        raise DidNotStart(f"exit code {self.process.returncode}: {self.log_end()}")
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise DidNotStart(f"not ready within {START_S} s: {self.log_end()}") from None

    async def kill(self) -> None:
        """SIGKILL."""
        await self.end(signal.SIGKILL)

    async def end(self, number: int) -> None:
        """Send a signal and wait for the end."""
        if self.process is not None:
            if self.process.returncode is None:
                self.process.send_signal(number)
            await self.process.wait()

    def log_end(self, size: int = 1500) -> str:
        """The end of its log."""
        return self.log_file.read_text(errors="replace")[-size:]


class IotBroker(Target):
    """Ours; ``words`` start it in place of the installed command, and take the same arguments behind ``serve``."""

    is_ours = True

    def __init__(self, folder: Path, rng: random.Random, words: list[str], settings: dict[str, str]) -> None:
        super().__init__(folder, rng)
        self.http_port = free_port(rng)
        self._words = words
        self._settings = settings

    def command(self) -> list[str]:
        where = ["--host", "127.0.0.1", "--mqtt-port", str(self.port), "--http-port", str(self.http_port)]
        where += [word for door in OTHER_DOORS for word in (f"--{door}-port", "0")]  # nobody else's
        return [*self._words, "serve", "--data-dir", str(self.data_dir), *where]

    def environment(self) -> dict[str, str]:
        return plain_environment({f"IOT_BROKER_{name.upper()}": text for name, text in self._settings.items()})

    async def is_ready(self) -> bool:
        said = self.log_file.read_bytes().rsplit(b"---- start", 1)[-1]
        return b" is ready; its data" in said

    def shown_key(self) -> str:
        """The API key that the first start has shown."""
        found = KEY_FORM.search(self.log_file.read_text())
        assert found is not None, self.log_end()
        return found.group()

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run another command of the broker's to its end; gives the exit code and what it said."""
        process = await self.begin(*arguments)
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace")

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start another command of the broker's."""
        return await asyncio.create_subprocess_exec(
            str(PROGRAM), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=self.environment(),
        )  # fmt: skip

    def login(self, key: str) -> Login:
        """The application that all clients are."""
        return Login("apikey", key)


class Mosquitto(Target):
    """Debian's mosquitto with persistence, saving as ``mode`` says; its queues have no limit."""

    def __init__(self, folder: Path, rng: random.Random, mode: str) -> None:
        super().__init__(folder, rng)
        self._mode = mode

    def command(self) -> list[str]:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {self.data_dir}/",
            "max_queued_messages 0",
            "max_inflight_messages 100",
            *MOSQUITTO_MODES[self._mode],
            *(["user root"] if os.geteuid() == 0 else []),
        ]
        file = self.folder / "mosquitto.conf"
        file.write_text("\n".join(lines) + "\n")
        program = shutil.which("mosquitto", path=MOSQUITTO_PATH)
        if program is None:
            raise DidNotStart("mosquitto is missing: sudo apt-get install mosquitto")
        return [program, "-c", str(file)]

    async def is_ready(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True
