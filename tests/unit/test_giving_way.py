"""A request's work is cut into steps, between which those who share the loop have their turn."""

from __future__ import annotations

import asyncio
import json
import logging
import socket

import httpx
import pytest
from starlette.responses import PlainTextResponse

import api
from broker.assembly.core import Core
from broker.net.http import HttpServer
from tests.upper import Upper

DEVICES = 20


def test_a_request_gives_way_between_its_steps_and_a_list_for_each_of_its_devices() -> None:
    turns: list[None] = []

    async def body() -> tuple[int, int]:
        upper = Upper()
        key = {"X-API-Key": await upper.bootstrap()}
        await upper.directory.accounts.set_plan(1, "unlimited")
        app = api.application(upper.admin, upper.clock, give_way=lambda: turns.append(None))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker") as http:
            for number in range(DEVICES):
                made = await http.post("/v1/iot/devices", headers=key, json={"name": f"d-{number}", "type": "sensor"})
                assert made.status_code == 201
            turns.clear()
            assert (await http.get("/v1/iot/quota", headers=key)).status_code == 200
            short = len(turns)
            turns.clear()
            page = await http.get(f"/v1/iot/devices?limit={DEVICES}", headers=key)
            assert len(json.loads(page.content)["devices"]) == DEVICES
            return short, len(turns)

    short, long = asyncio.run(body())
    assert short >= 3
    assert long >= short + DEVICES / 4


def test_what_arrives_on_many_connections_at_once_gives_way_for_each() -> None:
    turns: list[None] = []

    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(PlainTextResponse("x"), listening, give_way=lambda: turns.append(None))
            await server.start()
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*listening.getsockname())
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.readuntil(b"x")
                writer.close()
            await server.stop()

    asyncio.run(body())
    assert len(turns) == 3 * 2  # who comes, and what he says


def test_what_goes_wrong_in_the_core_is_nothing_of_the_request_that_gave_way(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def glance(self) -> None:
            raise ValueError("a failure")

    core = Core.__new__(Core)
    monkeypatch.setattr(core, "reactor", Broken(), raising=False)
    with caplog.at_level(logging.ERROR):
        core.give_way()
    assert "a failure" in caplog.text
