"""The REST API behind a real server: the printed curl lines, bodies that are too large, callers that leave."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import api
from broker.cli import banner
from broker.config import BrokerConfig
from broker.doors import Endpoint
from broker.net.http import HttpServer
from tests.upper import Upper


class Served:
    """The upper floors behind the broker's HTTP server on a loopback port."""

    def __init__(self, upper: Upper, key: str, port: int) -> None:
        self.upper = upper
        self.key = key
        self.port = port

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    upper = Upper()
    key = await upper.bootstrap()
    listening = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(api.application(upper.admin, upper.clock), listening)
    await server.start()
    try:
        yield Served(upper, key, listening.getsockname()[1])
    finally:
        await server.stop()
        listening.close()


def run(body: Callable[[Served], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with served() as one:
            await body(one)

    asyncio.run(whole())


def printed_commands(document: str) -> list[str]:
    """The curl commands of the document's shell blocks, one string each."""
    blocks = re.findall(r"```sh\n(.*?)```", document, re.DOTALL)
    return [command for block in blocks for command in re.split(r"\n(?=curl )", block.strip())]


async def shell(command: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    value: dict[str, Any] = json.loads(out)
    return value


@pytest.mark.needs("curl")
def test_the_printed_curl_lines_work_with_only_host_and_key_exchanged(platform_documents: Path) -> None:
    commands = printed_commands((platform_documents / "snippets.md").read_text(encoding="utf-8"))
    device_id = ""

    def printed(place: str) -> str:
        return next(command for command in commands if place in command)

    def ours(one: Served, command: str) -> str:
        exchanged = command.replace("https://api.wayscloud.services", one.base)
        return exchanged.replace("wayscloud_iot_prod_YOUR_API_KEY", one.key).replace("iot_dev_abc123xyz", device_id)

    async def body(one: Served) -> None:
        nonlocal device_id
        created = await shell(ours(one, printed("-X POST")))
        device_id = created["device_id"]
        assert created["metadata"] == {"location": "living_room", "model": "DHT22"}
        listed = await shell(ours(one, printed("/devices?limit=50&offset=0")))
        shown = await shell(ours(one, printed("/devices/iot_dev_abc123xyz")))
        credentials = await shell(ours(one, printed("/v1/iot/credentials")))
        assert [device["device_id"] for device in listed["devices"]] == [device_id]
        assert shown["name"] == "Temperature Sensor 01"
        assert [device["username"] for device in credentials["devices"]] == [device_id]

    run(body)


def test_the_command_of_the_first_start_works_as_it_is_printed(program: Callable[[str], str]) -> None:
    program("curl")

    async def body(one: Served) -> None:
        text = banner(BrokerConfig(), [Endpoint("http", "http", "127.0.0.1", one.port)], one.key)
        (line,) = [line for line in text.splitlines() if "curl" in line]
        assert (await shell(line))["status"] == "active"

    run(body)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_told_so_and_the_server_stays(chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    async def body(one: Served) -> None:
        async with httpx.AsyncClient(base_url=one.base, headers={"X-API-Key": one.key}) as http:
            content = parts() if chunked else b" " * 65_536 * 40
            answer = await http.post("/v1/iot/devices", content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"
            assert (await http.get("/v1/iot/devices")).status_code == 200

    run(body)


def test_a_caller_that_leaves_in_the_middle_of_a_body_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def body(one: Served) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", one.port)
        head = f"POST /v1/iot/devices HTTP/1.1\r\nHost: x\r\nX-API-Key: {one.key}\r\nContent-Length: 100\r\n\r\n{{"
        writer.write(head.encode())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.05)
        assert one.upper.directory.devices.count(1) == 0

    run(body)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_head_answers_as_get_without_a_body() -> None:
    async def body(one: Served) -> None:
        async with httpx.AsyncClient(base_url=one.base, headers={"X-API-Key": one.key}) as http:
            answer = await http.head("/v1/iot/devices")
            assert (answer.status_code, answer.content) == (200, b"")
            assert (await http.get("/v1/iot/credentials")).json()["devices"] == []

    run(body)


def test_a_store_that_is_slow_holds_up_one_request_and_nobody_else() -> None:
    async def body(one: Served) -> None:
        async with httpx.AsyncClient(base_url=one.base, headers={"X-API-Key": one.key}) as http:
            one.upper.store.delay()
            waiting = asyncio.create_task(http.post("/v1/iot/devices", json={"name": "abc", "type": "other"}))
            await asyncio.sleep(0.05)
            assert (await http.get("/v1/iot/devices")).json()["total"] == 0
            one.upper.store.release()
            assert (await waiting).status_code == 201
            assert (await http.get("/v1/iot/devices")).json()["total"] == 1

    run(body)
