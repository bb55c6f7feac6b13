"""Devices over REST: what was answered 201 is there after a restart, what was answered 204 is not.

Here belong the few HTTP requests that this takes, on a plain socket: it is quicker than a library. Not here: the API.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from tests.crash.actor import World
from tests.crash.ledger import DEVICE_BACK, DEVICE_LOST
from tests.crash.packets import Login

PAGE = 100
ENOUGH = 60
DELETED_PART = 0.4


class Api:
    """One connection to the REST API."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request; raises ``OSError`` and ``EOFError`` when the broker is gone."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} /v1/iot{path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self._key}"]
        lines += [f"Content-Length: {len(data)}", "Content-Type: application/json", "", ""]
        writer.write("\r\n".join(lines).encode() + data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next((int(one.split(":")[1]) for one in head.split("\r\n") if one.startswith("content-length:")), 0)
        answer = await reader.readexactly(length)
        return int(head.split()[1]), json.loads(answer) if answer else None

    def close(self) -> None:
        """Give the connection up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Devices:
    """The devices of one data directory."""

    def __init__(self, world: World, api: Api) -> None:
        self.world = world
        self.api = api
        self._there: set[str] = set()
        self._perhaps: set[str] = set()
        """Their deletion has no answer."""
        self._gone: set[str] = set()
        self.lasting: set[str] = set()
        """Those that other clients log in as."""

    def expect(self, device_ids: list[str]) -> None:
        """Some were there before this machine came."""
        self._there.update(device_ids)
        self.lasting.update(device_ids)

    async def register(self, name: str) -> tuple[str, Login]:
        """Register one device."""
        status, made = await self.api.call("POST", "/devices", {"name": name, "type": "sensor"})
        if status != 201:
            raise OSError(f"{status}: {made}")
        self._there.add(made["device_id"])
        self.world.ledger.counts["devices registered"] += 1
        login = made["mqtt_credentials"]
        return made["device_id"], Login(login["username"], login["password"])

    async def come_and_go(self, pause_s: float) -> None:
        """Register and delete until cancelled or until the broker is gone."""
        rng = self.world.rng
        with suppress(OSError, EOFError):
            while True:
                visitors = sorted(self._there - self.lasting)
                if visitors and (rng.random() < DELETED_PART or len(visitors) > ENOUGH):
                    await self._delete(rng.choice(visitors))
                else:
                    await self.register("Visitor")
                await asyncio.sleep(rng.uniform(0, pause_s))

    async def _delete(self, device_id: str) -> None:
        self._there.discard(device_id)
        self._perhaps.add(device_id)
        status, answer = await self.api.call("DELETE", f"/devices/{device_id}")
        if status != 204:
            raise OSError(f"{status}: {answer}")
        self._perhaps.discard(device_id)
        self._gone.add(device_id)
        self.world.ledger.counts["devices deleted"] += 1

    async def check(self) -> None:
        """Compare the list with what was answered; tells each difference once."""
        found: set[str] = set()
        total = 1
        while len(found) < total:
            _, page = await self.api.call("GET", f"/devices?limit={PAGE}&offset={len(found)}")
            total = page["total"]
            found |= {one["device_id"] for one in page["devices"]}
            if not page["devices"]:
                break
        ledger = self.world.ledger
        for device_id in self._there - found:
            ledger.find(DEVICE_LOST, device_id)
        for device_id in self._gone & found:
            ledger.find(DEVICE_BACK, device_id)
        self._there = (self._there | self._perhaps) & found
        self._gone -= found
        self._perhaps.clear()
        ledger.counts["devices checked"] += len(self._there)
