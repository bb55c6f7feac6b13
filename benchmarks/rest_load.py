"""``python -m benchmarks.rest_load``: requests to the REST API at a fixed rate, from many keys, as backends make them.

Belongs here: the mix of requests, and the process that makes them. Not here: what is measured beside it. Bytes and
sockets without a library, because a client that is dearer than the server would measure itself.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

COMMAND = json.dumps({"payload": {"set_interval_s": 60}}).encode()
RETURNED = 20  # devices of a page
MIX = ("device", "command", "device", "page", "device", "quota", "command", "device", "page", "usage")


def request(key: str, kind: str, device_id: str) -> bytes:
    """One request, whole."""
    path = {
        "device": f"/devices/{device_id}",
        "page": f"/devices?limit={RETURNED}",
        "quota": "/quota",
        "usage": "/usage",
        "command": f"/devices/{device_id}/commands",
    }[kind]
    body = COMMAND if kind == "command" else b""
    lines = [
        f"{'POST' if body else 'GET'} /v1/iot{path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        *([f"Content-Type: application/json\r\nContent-Length: {len(body)}"] if body else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answer_of(reader: asyncio.StreamReader) -> int:
    """Read one answer to its end; gives its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head[9:12])


class Load:
    """A fixed rate over connections that stay open, one for each key; what is late is sent at once, and counted."""

    def __init__(self, port: int, keys: Sequence[str], devices: Sequence[str], per_s: float, seconds: float) -> None:
        self._port = port
        self._keys = keys
        self._devices = devices
        self._pause_s = len(keys) / per_s
        self._seconds = seconds
        self.statuses: Counter[int] = Counter()
        self.times_s: list[float] = []

    async def run(self) -> None:
        """Make all requests; each key begins at a moment of its own."""
        begin = time.monotonic()
        await asyncio.gather(
            *(self._one(key, begin + place * self._pause_s / len(self._keys)) for place, key in enumerate(self._keys))
        )

    async def _one(self, key: str, due: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        end = due + self._seconds
        for words in self._requests(key):
            if due >= end:
                break
            await asyncio.sleep(due - time.monotonic())
            writer.write(words)
            self.statuses[await answer_of(reader)] += 1
            self.times_s.append(time.monotonic() - due)
            due += self._pause_s
        writer.close()

    def _requests(self, key: str) -> Iterator[bytes]:
        place = self._keys.index(key)
        for number in itertools.count(place):
            yield request(key, MIX[number % len(MIX)], self._devices[number % len(self._devices)])


def report(load: Load, took_s: float) -> dict[str, float]:
    """Requests a second as they were answered, the share that was refused, and how long an answer took."""
    times = sorted(load.times_s)
    refused = sum(count for status, count in load.statuses.items() if status >= 400)
    return {
        "rest_per_s": len(times) / took_s,
        "rest_refused": refused,
        **{f"rest_status_{status}": count for status, count in load.statuses.items()},
        "rest_p50_us": times[len(times) // 2] * 1e6,
        "rest_p99_us": times[len(times) * 99 // 100] * 1e6,
    }


def main() -> None:
    """Read what to do from a file that keys may stand in, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rest_load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--callers", type=Path, required=True, help='JSON: {"keys": [...], "devices": [...]}')
    parser.add_argument("--rate-per-s", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    callers = json.loads(options.callers.read_text())
    load = Load(options.port, callers["keys"], callers["devices"], options.rate_per_s, options.seconds)
    started = time.monotonic()
    asyncio.run(load.run())
    print(json.dumps(report(load, time.monotonic() - started)))


if __name__ == "__main__":
    main()
