"""Programs as the platform's documents print them: found, exchanged, and run in a process of their own.

Here belong the programs' texts, what a reader of the documents would exchange in them, and what such a program does for
all of its tests: send telemetry, receive a command. Not here: what one language needs.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.integration.served import Login, Served, plain_environment
from tests.integration.wire import PUBLISH, V5, Client, puback

HOST = "mqtt.wayscloud.services"
LOOPBACK = "127.0.0.1"
PATIENCE_S = 25.0


def blocks(snippets: str, heading: str) -> list[str]:
    """The programs under a heading."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", snippets, re.DOTALL | re.MULTILINE)
    return re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)


def exchange(text: str, pairs: Mapping[str, str]) -> str:
    """Substitute; every text that is to be exchanged must be there."""
    for old, new in pairs.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def authority(served: Served) -> Path:
    """The file that the broker's operator hands to clients."""
    return served.data_dir / "tls" / "ca.pem"


def trusting(trusted: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which Python, Node and curl trust this authority, and of the machine's own none."""
    plain = plain_environment(more)
    names = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
    return {**plain, "SSL_CERT_DIR": "/nonexistent", **dict.fromkeys(names, str(trusted))}


class Running:
    """A program and the lines that it prints; a wait for one ends with an error that shows what it complained of."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the program
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._complaints, env=dict(environment), bufsize=0
        )
        self._printed = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # these programs go on for ever
        self.process.communicate(timeout=10)
        self._complaints.close()

    @property
    def complaints(self) -> str:
        """What it has written to its standard error."""
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace")

    def next_line(self) -> str:
        """The next line, or an error when it does not come or the program has ended."""
        output = self.process.stdout
        assert output is not None
        until = time.monotonic() + PATIENCE_S
        while b"\n" not in self._printed:
            ready = select.select([output], [], [], max(0, until - time.monotonic()))[0]
            more = os.read(output.fileno(), 1 << 16) if ready else b""
            assert more, f"no line, but {bytes(self._printed)!r}; {self.complaints}"
            self._printed += more
        line, _, self._printed = self._printed.partition(b"\n")
        return line.decode()

    def fails(self) -> str:
        """Wait for its end, which must be a failure; gives what it complained of."""
        assert self.process.wait(PATIENCE_S) != 0
        return self.complaints


class Watcher:
    """An application that sees a device's telemetry."""

    def __init__(self, served: Served, device: Login, client: Client) -> None:
        self._served = served
        self._device = device
        self._client = client

    def next_telemetry(self) -> bytes:
        """The payload of the device's next message."""
        message = self._client.expect(PUBLISH)
        if message.flags & 6:
            self._client.send(puback(message.packet_id))
        assert message.topic_name == self._device.topic("telemetry")
        return message.payload(V5)

    def command(self, text: str) -> None:
        """Send a command over REST until it finds the device's subscription, which it makes in its own time."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            answer = self._served.call("POST", f"/devices/{self._device.device_id}/commands", {"payload": text})
            assert answer.status_code == 202, answer.text
            if answer.json()["state"] != "dropped":
                return
            time.sleep(0.05)
        raise AssertionError("the program did not subscribe")


@contextmanager
def watching(served: Served, device: Login) -> Iterator[Watcher]:
    """Watch a device's telemetry through the plain port."""
    with Client(served.port(), V5) as client:
        client.login("apikey", served.api_key, "watch-" + device.device_id)
        assert client.subscribe(device.topic("telemetry")) == [1]
        yield Watcher(served, device, client)
