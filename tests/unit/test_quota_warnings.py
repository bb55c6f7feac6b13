"""Warnings at 80 and 100 % of a plan: once in a month for each, whatever restarts, fails, or is set back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from broker.accounts.device_description import DeviceDescription
from broker.accounts.warnings import QuotaWarning
from broker.errors import Unavailable
from tests.upper import NOW_S, Upper

DECEMBER = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp())
JANUARY = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
FREE_MESSAGES, FREE_BYTES, FREE_DEVICES = 1_000_000, 10 * 10**9, 100
SENSOR = DeviceDescription("Sensor", "sensor")


class Told:
    """Upper floors on plan `free`, and what those who watch have heard."""

    def __init__(self, upper: Upper) -> None:
        self.upper = upper
        self.heard: list[QuotaWarning] = []
        upper.directory.usage.warnings.watch(self.heard.append)

    async def use(self, messages: int = 0, size: int = 0, wall_s: int = NOW_S) -> list[str]:
        """Count and write; gives what was told, briefly."""
        if messages or size:
            self.upper.directory.usage.add([self.upper.core.count(1, messages, size)], wall_s)
        self.upper.directory.usage.add([], wall_s)
        await self.upper.directory.usage.write()
        return self.take()

    def take(self) -> list[str]:
        heard, self.heard = self.heard, []
        self.upper.directory.usage.warnings._watchers = [lambda one: self.heard.append(one)]
        return [f"{one.kind} {one.percent} {one.month}" for one in heard]

    def restart(self) -> Told:
        return Told(self.upper.restart())


def run(body: Callable[[Told], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await upper.admin.operator.set_plan("default", "free")
        await body(Told(upper))

    asyncio.run(whole())


def test_each_threshold_is_told_once_in_a_month() -> None:
    async def body(told: Told) -> None:
        assert await told.use(FREE_MESSAGES * 8 // 10 - 1) == []
        assert await told.use(1) == ["messages 80 2025-11"]
        assert await told.use(1, FREE_BYTES - 1) == ["bandwidth 80 2025-11"]
        assert await told.use(0, 1) == ["bandwidth 100 2025-11"]
        assert await told.use(FREE_MESSAGES) == ["messages 100 2025-11"]
        assert await told.use(FREE_MESSAGES, FREE_BYTES) == []
        assert await told.use(1, 1, wall_s=DECEMBER) == []  # of November still
        assert await told.use(FREE_MESSAGES, 1, wall_s=DECEMBER) == ["messages 80 2025-12", "messages 100 2025-12"]

    run(body)


def test_a_warning_says_whose_it_is_and_how_much_is_used() -> None:
    async def body(told: Told) -> None:
        told.upper.directory.usage.add([told.upper.core.count(1, 3, FREE_BYTES)], NOW_S)
        await told.upper.directory.usage.write()
        first, second = told.heard
        assert first == QuotaWarning(1, "default", "bandwidth", 80, FREE_BYTES, FREE_BYTES, "2025-11", first.bit)
        assert (second.percent, first.bit & second.bit) == (100, 0)

    run(body)


def test_devices_are_warned_of_when_they_are_registered_and_again_in_the_next_month() -> None:
    async def body(told: Told) -> None:
        await told.use()
        create = told.upper.directory.devices.create
        for _ in range(79):
            await create(1, SENSOR, NOW_S)
        assert await told.use() == []
        await create(1, SENSOR, NOW_S)
        assert await told.use() == ["devices 80 2025-11"]
        for _ in range(20):
            await create(1, SENSOR, NOW_S)
        assert await told.use() == ["devices 100 2025-11"]
        assert await told.use(1, 1) == []
        told = told.restart()
        assert await told.use(1, 1) == []
        assert await told.use(wall_s=DECEMBER) == ["devices 80 2025-12", "devices 100 2025-12"]
        told = told.restart()
        assert await told.use(wall_s=DECEMBER) == []
        assert await told.use(wall_s=JANUARY) == ["devices 80 2026-01", "devices 100 2026-01"]

    run(body)


def test_a_smaller_plan_is_warned_of_and_a_larger_one_begins_nothing_anew() -> None:
    async def body(told: Told) -> None:
        operator = told.upper.admin.operator
        await operator.set_plan("default", "professional")
        assert await told.use(FREE_MESSAGES) == []
        await operator.set_plan("default", "free")
        assert await told.use() == ["messages 80 2025-11", "messages 100 2025-11"]
        await operator.set_plan("default", "professional")
        await operator.set_plan("default", "free")
        assert await told.use(1) == []
        await operator.set_plan("default", "unlimited")
        assert await told.use(10**9, 10**12) == []

    run(body)


def test_what_was_told_is_not_told_again_after_a_restart_and_what_was_not_is() -> None:
    async def body(told: Told) -> None:
        assert await told.use(FREE_MESSAGES * 8 // 10) == ["messages 80 2025-11"]
        told = told.restart()
        assert await told.use(1) == []
        told.upper.directory.usage.add([told.upper.core.count(1, FREE_MESSAGES, 1)], NOW_S)
        told = told.restart()  # it was counted in memory alone
        assert await told.use(FREE_MESSAGES) == ["messages 100 2025-11"]

    run(body)


def test_a_failing_disk_delays_a_warning_and_tells_it_once() -> None:
    async def body(told: Told) -> None:
        told.upper.store.fail(OSError("no space left"))
        for _ in range(3):
            with pytest.raises(Unavailable):
                await told.use(FREE_MESSAGES)
        assert told.take() == []
        told.upper.store.fail(None)
        assert await told.use(1) == ["messages 80 2025-11", "messages 100 2025-11"]
        assert await told.use(1) == []

    run(body)


def test_a_clock_that_is_set_back_warns_nobody_again() -> None:
    async def body(told: Told) -> None:
        assert await told.use(FREE_MESSAGES, wall_s=DECEMBER) == ["messages 80 2025-12", "messages 100 2025-12"]
        assert await told.use(1, wall_s=NOW_S) == []
        assert await told.use(1, wall_s=DECEMBER) == []

    run(body)


def test_one_who_fails_keeps_nobody_else_from_hearing_it(caplog: pytest.LogCaptureFixture) -> None:
    async def body(told: Told) -> None:
        warnings = told.upper.directory.usage.warnings
        heard: list[int] = []

        def broken(_warning: QuotaWarning) -> None:
            raise RuntimeError("watcher")

        warnings.watch(broken)
        warnings.watch(lambda one: heard.append(one.percent))
        told.upper.directory.usage.add([told.upper.core.count(1, FREE_MESSAGES, 1)], NOW_S)
        await told.upper.directory.usage.write()
        assert heard == [80, 100]
        assert len(told.heard) == 2

    run(body)
    assert "one who watches quotas failed" in caplog.text


def test_who_is_no_account_of_the_directory_is_warned_of_nothing() -> None:
    async def body(told: Told) -> None:
        told.upper.directory.usage.add([(77, None, 10**12, 10**15, 0, 0)], NOW_S)
        assert await told.use() == []

    run(body)
