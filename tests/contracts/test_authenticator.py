"""The contract of ``ports.Authenticator``, and how the directory's one slows those who guess."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from broker.accounts.authenticator import DirectoryAuthenticator, FailureTable
from broker.accounts.device_description import DeviceDescription
from broker.ports import Authenticator, ConnectRequest, Grant, Presence, Refusal
from broker.reasons import ReasonCode
from tests.upper import NOW_S, Upper


class Door:
    """An authenticator over a directory with one device and one key, and the pauses it asked for."""

    def __init__(self, upper: Upper, user_name: str, password: str, api_key: str) -> None:
        self.upper = upper
        self.user_name = user_name
        self.password = password
        self.api_key = api_key
        self.pauses: list[float] = []
        self.now = 0.0
        self.port: Authenticator = DirectoryAuthenticator(upper.directory, monotonic=lambda: self.now, sleep=self.pause)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def ask(self, user_name: str | None, password: str | None, address: str = "192.0.2.1") -> Grant | Refusal:
        secret = None if password is None else password.encode()
        return await self.port.authenticate(ConnectRequest(0, address, 5, "client", user_name, secret))


def run(body: Callable[[Door], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        api_key = await upper.bootstrap()
        device, password = await upper.directory.devices.create(1, DeviceDescription("Sensor", "sensor"), NOW_S)
        await body(Door(upper, device.user_name, password, api_key))

    asyncio.run(whole())


def test_a_right_credential_is_granted() -> None:
    async def body(door: Door) -> None:
        device = await door.ask(door.user_name, door.password)
        application = await door.ask("apikey", door.api_key)
        assert isinstance(device, Grant)
        assert isinstance(application, Grant)
        assert device.device_id == door.user_name
        assert application.principal == "default"

    run(body)


@pytest.mark.parametrize(
    ("user_name", "password"),
    [
        (None, None),
        (None, "{password}"),
        ("{user}", None),
        ("{user}", ""),
        ("{user}", "wrong"),
        ("{user}", "{key}"),
        ("apikey", "{password}"),
        ("apikey", "wayscloud_iot_prod_YOUR_API_KEY"),
        ("nobody", "{password}"),
        ("", "{password}"),
        ("{user}\x00", "{password}"),
    ],
)
def test_every_wrong_credential_gets_the_same_refusal(user_name: str | None, password: str | None) -> None:
    async def body(door: Door) -> None:
        def filled(text: str | None) -> str | None:
            words = {"{user}": door.user_name, "{password}": door.password, "{key}": door.api_key}
            for word, value in words.items():
                text = text and text.replace(word, value)
            return text

        assert await door.ask(filled(user_name), filled(password)) == Refusal(ReasonCode.NOT_AUTHORIZED)

    run(body)


def test_a_deleted_device_and_a_suspended_account_are_refused() -> None:
    async def body(door: Door) -> None:
        await door.upper.directory.set_suspended(1, True)
        assert isinstance(await door.ask(door.user_name, door.password), Refusal)
        assert isinstance(await door.ask("apikey", door.api_key), Refusal)
        await door.upper.directory.set_suspended(1, False)
        assert isinstance(await door.ask(door.user_name, door.password), Grant)
        await door.upper.directory.devices.delete(1, door.user_name)
        assert isinstance(await door.ask(door.user_name, door.password), Refusal)

    run(body)


def test_the_fourth_failure_waits_and_no_wait_exceeds_a_second() -> None:
    async def body(door: Door) -> None:
        for _ in range(12):
            await door.ask(door.user_name, "wrong")
        assert door.pauses == [0.125, 0.25, 0.5, 1, 1, 1, 1, 1, 1]

    run(body)


def test_a_user_name_is_never_locked_and_other_addresses_never_wait() -> None:
    async def body(door: Door) -> None:
        for _ in range(100):
            await door.ask(door.user_name, "wrong")
        door.pauses.clear()
        assert isinstance(await door.ask(door.user_name, door.password), Grant)
        assert isinstance(await door.ask(door.user_name, "wrong", address="192.0.2.2"), Refusal)
        assert door.pauses == []

    run(body)


def test_failures_are_forgotten_after_a_success_and_after_a_minute() -> None:
    async def body(door: Door) -> None:
        for _ in range(3):
            await door.ask(door.user_name, "wrong")
        await door.ask(door.user_name, door.password)
        for _ in range(3):
            await door.ask(door.user_name, "wrong")
        door.now += 61
        await door.ask(door.user_name, "wrong")
        assert door.pauses == []

    run(body)


def test_the_table_of_failures_is_bounded() -> None:
    table = FailureTable(maximum=10)
    for number in range(1000):
        table.delay_s("192.0.2.1", f"name {number}", 0.0)
        assert len(table) <= 10


def test_what_is_remembered_of_a_failure_is_small_whatever_the_user_name() -> None:
    tracemalloc.start()
    try:
        table = FailureTable(maximum=100)
        for number in range(100):
            table.delay_s("192.0.2.1", f"{number}" * 10_000, 0.0)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == 100
    assert held_bytes < 100 * 1024


def test_a_refused_login_shows_as_error_until_the_device_connects_or_a_day_has_passed() -> None:
    async def body(door: Door) -> None:
        upper, device_id = door.upper, door.user_name

        async def status() -> str:
            return (await upper.admin.get_device(1, device_id)).status

        assert await status() == "active"
        door.now = upper.clock.monotonic_ns() / 1e9
        await door.ask(device_id, "wrong")
        assert await status() == "error"
        device = upper.directory.devices.get(1, device_id)
        upper.core.present[device.device_number] = Presence(0, upper.clock.monotonic_ns() + 1)
        assert await status() == "active"
        upper.core.present.clear()
        assert await status() == "error"
        upper.clock.pass_s(24 * 3600 + 1)
        assert await status() == "active"

    run(body)
