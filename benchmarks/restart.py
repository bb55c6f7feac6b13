"""``python -m benchmarks.restart``: how long a start takes with sessions on disk and messages that wait for them.

Belongs here: filling a store through the broker itself, killing it, and timing the start that follows. Not here: loads
that are compared with other brokers, none of which keeps anything at a kill (``scenarios``).
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import generator
from benchmarks.brokers import Ports, own_command, start_process, wait_for

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p"
CONFIGURATION = """
store_map_size_bytes = 4294967296
[capabilities]
connections_maximum = 300000
[[listeners]]
port = 0
open = true
"""


AT_ONCE = 2000
RESTORED = re.compile(r"restored.* sessions=(\d+).* deliveries=(\d+)")


class Lives:
    """A broker that is started again and again on one data directory."""

    def __init__(self, folder: Path, words: list[str]) -> None:
        self._folder = folder
        self._data = folder / "data"
        config = folder / "config.toml"
        config.write_text(CONFIGURATION)
        self._command = [*words, "serve", "--data-dir", str(self._data), "--config", str(config), "--http-port", "0"]

    def start(self) -> tuple[subprocess.Popen[bytes], Ports, float]:
        """Start; gives the process, its ports, and how long it took until a client was let in, in seconds."""
        (self._data / "endpoints.json").unlink(missing_ok=True)
        started = time.monotonic()
        with (self._folder / "log").open("ab") as log:
            process = start_process(self._command, log)
        ports: Ports = wait_for(process, self._ports)
        with socket.create_connection(("127.0.0.1", ports["mqtt"])) as client:
            client.sendall(CONNECT)
            assert client.recv(4) == b"\x20\x02\x00\x00"
        return process, ports, time.monotonic() - started

    def _ports(self) -> Ports | None:
        try:
            rows: list[dict[str, Any]] = json.loads((self._data / "endpoints.json").read_text())
        except (OSError, ValueError):
            return None
        return {row["protocol"]: row["port"] for row in rows}

    def restored(self) -> tuple[int, int]:
        """Sessions and messages that wait for them, as the last start's log says."""
        found = RESTORED.findall((self._folder / "log").read_text())
        return int(found[-1][0]), int(found[-1][1])

    def store_bytes(self) -> int:
        """Bytes of the store's file that are on disk."""
        return sum(one.stat().st_blocks * 512 for one in self._data.rglob("*.mdb"))


def figures_of(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """What a process has taken until now: CPU seconds, resident MB, and those of them that are not the store's file."""
    stat = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(stat[11]) + int(stat[12])
    (own_kib,) = re.findall(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    rss_mb = int(stat[21]) * resource.getpagesize() / 1e6
    return {"cpu_s": ticks / 100, "rss_mb": rss_mb, "own_mb": int(own_kib) * 1024 / 1e6}


def fill(port: int, sessions: int) -> None:
    """Make the sessions, some thousands at a time: each has a descriptor until all of its run are there."""
    for first in range(0, sessions, AT_ONCE):
        load(port, min(AT_ONCE, sessions - first), "setup", 1, f"{first}-")


def load(port: int, sessions: int, phase: str, each: int, prefix: str = "") -> None:
    """Make sessions, or publish so many messages to all that there are."""
    words = ["--json", "--quiet", "--mode", "offline", "--phase", phase, "--shape", "fanout", "--port", str(port)]
    words += ["--publishers", "1", "--subscribers", str(sessions), "--qos", "1", "--payload-bytes", "100"]
    words += ["--client-id-prefix", f"{prefix}client-"]
    words += ["--inflight", "10", "--persistent", "--topic-name", "t", "--topic-filter", "t", "--count", str(each)]
    generator.run(words, core=None, timeout_s=900)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End it as a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def main() -> None:
    """Fill, kill and start, with nothing waiting and with more and more of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=10, help="messages that wait for each session in the end")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--broker-command", default=None, help="words that start our broker, instead of iot-broker")
    options = parser.parse_args()
    generator.build()
    print("| sessions | queue entries | start, seconds | CPU of it, seconds | resident MB | its own MB | store MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="iot-broker-bench-") as folder:
        lives = Lives(Path(folder), own_command(options.broker_command))
        for waiting in (0, options.each):
            process, ports, _ = lives.start()
            print(f"{options.sessions:,} sessions, {waiting} messages for each", file=sys.stderr, flush=True)
            if waiting:
                load(ports["mqtt"], 1, "publish", options.each)
            else:
                fill(ports["mqtt"], options.sessions)
            time.sleep(1)
            kill(process)
            for _ in range(options.starts):
                process, _, took_s = lives.start()
                seen = figures_of(process)
                kill(process)
                cells = [*(f"{count:,}" for count in lives.restored()), f"{took_s:.2f}"]
                cells += [f"{seen['cpu_s']:.2f}", f"{seen['rss_mb']:.0f}"]
                cells += [f"{seen['own_mb']:.1f}", f"{lives.store_bytes() / 1e6:.0f}"]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
