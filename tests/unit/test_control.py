"""Rules of the control socket: for the owner alone, one request a connection, and errors in words."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker import control
from broker.control import ControlRefused, ControlServer, call
from broker.errors import BadRequest
from tests.upper import NOW_S, Upper

Body = Callable[[Upper, Path], Awaitable[None]]


def run(folder: Path, body: Body) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        server = ControlServer(folder, upper.admin.operator)
        await server.start()
        try:
            await body(upper, folder)
        finally:
            await server.stop()
        assert not (folder / "control.sock").exists()

    asyncio.run(whole())


async def raw(folder: Path, line: bytes) -> dict[str, Any]:
    with control._reachable(folder / "control.sock") as address:
        reader, writer = await asyncio.open_unix_connection(address)
    writer.write(line)
    writer.write_eof()
    answer: dict[str, Any] = json.loads(await reader.read())
    writer.close()
    return answer


def test_keys_and_accounts_are_made_listed_changed_and_revoked(tmp_path: Path) -> None:
    async def body(upper: Upper, folder: Path) -> None:
        account = await call(folder, "accounts.create", {"name": "acme", "plan": "free"})
        assert (account["name"], account["plan"], account["devices"]) == ("acme", "free", 0)
        assert (await call(folder, "accounts.set-plan", {"name": "acme", "plan": "unlimited"}))["plan"] == "unlimited"
        made = await call(folder, "keys.create", {"account": "acme", "name": "backend"})
        assert upper.admin.access.account_key(made["api_key"]).account_id == account["account_id"]
        listed = await call(folder, "keys.list", {"account": "acme"})
        assert [(key["name"], key["revoked_at"]) for key in listed] == [("backend", None)]
        assert listed[0]["last_used_at"] == upper.clock.wall_s()
        assert "api_key" not in listed[0]
        await call(folder, "keys.revoke", {"key_id": made["key_id"]})
        assert (await call(folder, "keys.list", {}))[1]["revoked_at"] == upper.clock.wall_s()
        suspended = await call(folder, "accounts.set-suspended", {"name": "acme", "suspended": True})
        assert suspended["suspended"]
        assert [one["name"] for one in await call(folder, "accounts.list", {})] == ["default", "acme"]

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("command", "arguments", "code"),
    [
        ("keys.create", {"account": "absent", "name": "x"}, "NOT_FOUND"),
        ("keys.create", {"account": "default", "name": ""}, "INVALID_PARAMETER"),
        ("keys.create", {"nobody": "knows"}, "INVALID_PARAMETER"),
        ("keys.revoke", {"key_id": 0}, "INVALID_PARAMETER"),
        ("keys.revoke", {"key_id": 99}, "NOT_FOUND"),
        ("accounts.create", {"name": "default", "plan": "free"}, "CONFLICT"),
        ("accounts.set-plan", {"name": "default", "plan": "golden"}, "INVALID_PARAMETER"),
        ("rm", {}, "INVALID_PARAMETER"),
    ],
)
def test_a_refusal_comes_back_with_its_code(tmp_path: Path, command: str, arguments: dict[str, Any], code: str) -> None:
    async def body(upper: Upper, folder: Path) -> None:
        with pytest.raises(ControlRefused) as caught:
            await call(folder, command, arguments)
        assert caught.value.code == code
        assert str(caught.value)

    run(tmp_path, body)


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"nonsense\n", b"[1]\n", b"\xff\n", b"x" * 100_000 + b"\n", b""])
def test_what_is_no_request_is_answered_and_harms_nobody(tmp_path: Path, line: bytes) -> None:
    async def body(upper: Upper, folder: Path) -> None:
        assert (await raw(folder, line))["error"]["code"] == "INVALID_PARAMETER"
        assert len(await call(folder, "accounts.list", {})) == 1

    run(tmp_path, body)


def test_who_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_TIMEOUT_S", 0.05)

    async def body(upper: Upper, folder: Path) -> None:
        with control._reachable(folder / "control.sock") as address:
            reader, writer = await asyncio.open_unix_connection(address)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    run(tmp_path, body)


def test_the_socket_is_for_the_owner_alone_and_replaces_a_dead_one(tmp_path: Path) -> None:
    (tmp_path / "control.sock").touch()

    async def body(upper: Upper, folder: Path) -> None:
        assert stat.S_IMODE((folder / "control.sock").stat().st_mode) == 0o600
        assert len(await call(folder, "accounts.list", {})) == 1

    run(tmp_path, body)


def test_a_list_of_any_length_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(upper: Upper, folder: Path) -> None:
        account = upper.directory.accounts.named("default")
        key, _ = await upper.directory.keys.create(account.account_id, "a", NOW_S)
        monkeypatch.setattr(upper.directory.keys, "all", lambda _account_id: [key] * 20_000)
        assert len(await call(folder, "keys.list", {})) == 20_000

    run(tmp_path, body)


def test_a_data_directory_deeper_than_a_socket_address_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)

    async def body(upper: Upper, folder: Path) -> None:
        assert len(await call(folder, "accounts.list", {})) == 1

    run(deep, body)


def test_stopping_does_not_wait_for_who_says_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        server = ControlServer(tmp_path, Upper().admin.operator)
        await server.start()
        with control._reachable(tmp_path / "control.sock") as address:
            _, writer = await asyncio.open_unix_connection(address)
        await asyncio.sleep(0.01)
        async with asyncio.timeout(1):
            await server.stop()
        await server.stop()
        writer.close()

    asyncio.run(body())


def test_an_unknown_verb_is_refused_without_a_socket_too() -> None:
    async def body() -> None:
        with pytest.raises(BadRequest):
            await control.execute(Upper().admin.operator, "keys.steal", {})

    asyncio.run(body())


class SlowUpkeep:
    """A store whose copy takes longer than a request may."""

    async def copy(self, folder: str) -> str:
        await asyncio.sleep(0.3)
        return folder

    check = stats = acknowledge = copy


def test_a_copy_takes_as_long_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        server = ControlServer(tmp_path, upper.admin.operator, SlowUpkeep())  # type: ignore[arg-type]
        await server.start()
        try:
            assert await call(tmp_path, "store.copy", {"folder": "/b"}) == "/b"
            with pytest.raises(ControlRefused, match="folder"):
                await call(tmp_path, "store.copy", {})
        finally:
            await server.stop()

    monkeypatch.setattr(control, "REQUEST_TIMEOUT_S", 0.1)
    asyncio.run(whole())


def test_without_a_store_there_are_no_verbs_about_one(tmp_path: Path) -> None:
    async def body(_: Upper, folder: Path) -> None:
        with pytest.raises(ControlRefused, match=r"no command 'store\.check'"):
            await call(folder, "store.check", {})

    run(tmp_path, body)
