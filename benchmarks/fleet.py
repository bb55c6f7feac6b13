"""What an account with very many devices costs: memory of each, pages of the list, and how long the loop is held.

Belongs here: one run with one broker, over HTTP, and its figures as a table. Not here: messages (``python -m
benchmarks``), and any check that may fail on a slow machine.

    .venv/bin/python -P -m benchmarks.fleet [--devices N] [--repetitions N]

The broker is a process of its own and lives on asyncio's own loop, whose every callback is timed. A hold is told twice:
in the thread's CPU time, which others on the machine do not change, and by the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from broker.config import BrokerConfig
from broker.doors import HttpConfig, ListenerConfig
from broker.runtime import Broker

BATCH_DEVICES = 1000
WARM_UP_DEVICES = 20  # what is loaded and made at the first request of its kind is no part of the figures
WORDS = ("temperature", "humidity", "pressure", "vibration", "flow", "level", "power")


def described(number: int) -> dict[str, Any]:
    """A device as people register them; every seventh is about each of ``WORDS``, every thousandth is in `Hall 17`."""
    return {
        "name": f"{WORDS[number % 7].title()} sensor {number:06}",
        "type": ("sensor", "sensor", "actuator", "gateway")[number % 4],
        "description": f"Building {number % 40}, hall {number % 1000}, row {number % 90}",
        "metadata": {"firmware": f"1.{number % 9}.0", "line": number % 25},
    }


# ---------------------------------------------------------------- the broker's side


class Holds:
    """The longest time that one callback of the loop took, since it was last asked for."""

    def __init__(self) -> None:
        self.cpu_s = self.clock_s = 0.0
        self.what = ""
        run = asyncio.events.Handle._run  # noqa: SLF001

        def timed(handle: asyncio.events.Handle) -> None:
            cpu_s, clock_s = time.thread_time(), time.perf_counter()
            run(handle)
            self.note(time.thread_time() - cpu_s, time.perf_counter() - clock_s, handle)

        asyncio.events.Handle._run = timed  # type: ignore[method-assign] # noqa: SLF001

    def note(self, cpu_s: float, clock_s: float, handle: asyncio.events.Handle) -> None:
        """Take in one callback."""
        self.clock_s = max(self.clock_s, clock_s)
        if cpu_s > self.cpu_s:
            self.cpu_s, self.what = cpu_s, repr(handle)

    def taken(self) -> dict[str, object]:
        """Give them, and begin anew."""
        told = {"cpu_ms": self.cpu_s * 1000, "clock_ms": self.clock_s * 1000, "what": self.what}
        self.cpu_s = self.clock_s = 0.0
        return told


async def serve(data_dir: Path) -> None:
    """Run a broker, tell where it is, and answer each line of standard input with the holds since the one before."""
    config = BrokerConfig(data_dir=data_dir, listeners=[ListenerConfig(name="mqtt", port=0)], http=HttpConfig(port=0))
    begun, begun_cpu_s = time.perf_counter(), time.process_time()
    async with Broker(config) as broker:
        started_s, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu_s
        gc.freeze()  # as `iot-broker serve` does
        await broker.admin.operator.set_plan("default", "unlimited")
        told = {"url": broker.http_url, "key": broker.first_key, "started_s": started_s, "cpu_s": cpu_s}
        print(json.dumps(told), flush=True)
        holds = Holds()
        over = asyncio.Event()

        def answer() -> None:
            if not sys.stdin.readline():
                over.set()
                return
            print(json.dumps(holds.taken()), flush=True)

        asyncio.get_running_loop().add_reader(sys.stdin, answer)
        await over.wait()


# ---------------------------------------------------------------- the client's side


class Server:
    """A broker in a process of its own."""

    def __init__(self, data_dir: Path) -> None:
        command = [sys.executable, "-P", "-m", "benchmarks.fleet", "--serve", str(data_dir)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.told = self._line()
        self.http = http.client.HTTPConnection(self.told["url"].removeprefix("http://"), timeout=60)
        self.http.connect()
        self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line

    def holds(self) -> dict[str, Any]:
        """Give the longest holds of the loop since the last call."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()

    def cpu_s(self) -> float:
        """CPU time of all its threads until now, the kernel's work for them included."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> dict[str, int]:
        """Bytes of the resident set: of its own (``anonymous``), and of the store's file in the page cache."""
        rows = (line.split() for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines())
        known = {row[0]: int(row[1]) * 1024 for row in rows if row[0] in ("RssAnon:", "RssFile:", "VmRSS:")}
        return {"anonymous": known["RssAnon:"], "file": known["RssFile:"], "all": known["VmRSS:"]}

    def end(self) -> None:
        """Stop it, and wait until it has."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@dataclass
class Client:
    """Who asks, with a key."""

    server: Server
    key: str

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send one request and read its answer."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        self.server.http.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.server.http.getresponse()
        text = answer.read()
        assert answer.status < 300, (path, answer.status, text)
        return json.loads(text) if text else {}

    def register(self, count: int) -> list[str]:
        """Register devices in batches; gives some of their ids."""
        ids = []
        for start in range(0, count, BATCH_DEVICES):
            devices = [described(number) for number in range(start, min(start + BATCH_DEVICES, count))]
            answer = self.ask("POST", "/v1/iot/devices/bulk", {"devices": devices})
            ids.append(answer["results"][0]["device"]["device_id"])
        return ids

    def page(self, **query: object) -> Callable[[], dict[str, Any]]:
        """Make a request for a page of a hundred."""
        path = "/v1/iot/devices?" + urlencode({"limit": 100, **query})
        return lambda: self.ask("GET", path)


def measured(server: Server, ask: Callable[[], dict[str, Any]], repetitions: int) -> str:
    """Time a request; gives the rest of a row."""
    ask()
    server.holds()
    times, cpu_s = [], server.cpu_s()
    for _ in range(repetitions):
        begun = time.perf_counter()
        found = ask()
        times.append((time.perf_counter() - begun) * 1000)
    cpu_ms = (server.cpu_s() - cpu_s) * 1000 / repetitions
    cells = (found["total"], f"{statistics.median(times):.1f} ms", f"{max(times):.1f} ms", f"{cpu_ms:.1f} ms")
    return " | ".join(map(str, (*cells, hold_text(server.holds()))))


def hold_text(holds: dict[str, Any]) -> str:
    """Write a hold; who held the loop over 2 ms is told on standard error."""
    if holds["cpu_ms"] > 2:
        print(holds["what"], file=sys.stderr)
    return f"{holds['cpu_ms']:.2f} ms ({holds['clock_ms']:.2f})"


def per_device(before: dict[str, int], after: dict[str, int], count: int) -> str:
    """Write what each device has added to the resident set."""
    own, file, whole = ((after[name] - before[name]) // count for name in ("anonymous", "file", "all"))
    return f"{whole} B: {own} B of its own, {file} B of the store's file"


def run(count: int, repetitions: int) -> None:
    """Measure, and print the tables."""
    with tempfile.TemporaryDirectory(prefix="iot-broker-bench-fleet-") as folder:
        server = Server(Path(folder) / "data")
        client = Client(server, server.told["key"])
        client.register(WARM_UP_DEVICES)
        server.holds()
        before, begun, cpu_s = server.memory(), time.perf_counter(), server.cpu_s()
        ids = client.register(count)
        took_s, cpu_s = time.perf_counter() - begun, server.cpu_s() - cpu_s
        print(f"- {count} devices registered in {took_s:.1f} s, {cpu_s:.1f} s of the broker's CPU")
        print(f"- longest hold of the loop meanwhile: {hold_text(server.holds())}")
        print(f"- memory of each, unconnected, as registered: {per_device(before, server.memory(), count)}")
        tell_pages(server, client, count, repetitions)
        tell_changes(server, client, ids)
        server.end()
        tell_start(Path(folder), count)


def tell_start(folder: Path, count: int) -> None:
    """Start with the devices on disk, and without any, for comparison."""
    empty, full = Server(folder / "empty"), Server(folder / "data")
    for one, what in ((full, "with them"), (empty, "without any")):
        print(f"- started {what} in {one.told['started_s']:.2f} s, {one.told['cpu_s']:.2f} s of CPU")
    print(f"- memory of each after a start: {per_device(empty.memory(), full.memory(), count)}")
    for one in (empty, full):
        one.end()


def tell_pages(server: Server, client: Client, count: int, repetitions: int) -> None:
    """Measure pages of the list."""
    pages: dict[str, dict[str, object]] = {
        "the first": {},
        "the last": {"offset": count - 100},
        "search, many": {"search": "HUMIDITY"},
        "search, some": {"search": "hall 17,"},
        "search, none": {"search": "hall 1700"},
        "search, the last of many": {"search": "humidity", "offset": count // 7 - 100},
        "by status": {"status": "active"},
        "by status, the last": {"status": "active", "offset": count - 100},
        "by status, none": {"status": "error"},
        "by type": {"type": "gateway"},
        "search, type and status": {"search": "row 8", "type": "actuator", "status": "active"},
    }
    print("\n| page of 100 | of | median | longest | CPU of the broker | hold of the loop: CPU (clock) |")
    print("|---|---|---|---|---|---|")
    for name, query in pages.items():
        print(f"| {name} | {measured(server, client.page(**query), repetitions)} |")
    print()


def tell_changes(server: Server, client: Client, ids: list[str]) -> None:
    """Measure changes and removals."""
    changes: tuple[tuple[str, str, object], ...] = (
        ("PATCH", "changed", {"name": "Another name", "status": "inactive"}),
        ("DELETE", "removed", None),
    )
    for method, what, body in changes:
        times = []
        for device_id in ids:
            begun = time.perf_counter()
            client.ask(method, f"/v1/iot/devices/{device_id}", body)
            times.append((time.perf_counter() - begun) * 1000)
        print(f"- {what}: median {statistics.median(times):.1f} ms; longest hold: {hold_text(server.holds())}")


def main() -> None:
    """Measure, or be the broker that is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=100_000, metavar="N")
    parser.add_argument("--repetitions", type=int, default=30, metavar="N")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is None:
        run(given.devices, given.repetitions)
    else:
        asyncio.run(serve(given.serve))


if __name__ == "__main__":
    main()
