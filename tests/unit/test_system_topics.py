"""Figures below `$SYS`: whom they are told, when, and what is told with a warning; over a memory store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from broker.accounts.device_description import DeviceDescription
from broker.admin.system_topics import SystemTopics
from tests.upper import NOW_S, Upper

FREE_MESSAGES, FREE_BYTES = 1_000_000, 10 * 10**9


@dataclass
class Readers:
    """A core in which accounts read, and what they are told."""

    upper: Upper
    reading: list[int] = field(default_factory=list)
    told: list[tuple[int, str, str]] = field(default_factory=list)
    announced: list[tuple[int, str, str]] = field(default_factory=list)
    drops: list[int] = field(default_factory=lambda: [0] * 15)

    def system_readers(self, first: int, count: int) -> tuple[list[int], int]:
        return (self.reading[:1], 7) if first == 0 else (self.reading[1:], 0)

    def account_drops(self, account_id: int) -> list[int]:
        return self.drops

    def tell_figure(self, account_id: int, topic_name: str, payload: bytes) -> None:
        self.told.append((account_id, topic_name, payload.decode()))

    def announce(self, account_id: int, topic_name: str, payload: bytes) -> None:
        self.announced.append((account_id, topic_name, payload.decode()))

    def topics(self) -> SystemTopics:
        topics = SystemTopics(self.upper.directory, self.upper.admin.figures, self, 10)
        self.upper.directory.usage.warnings.watch(topics.warn)
        return topics

    def taken(self) -> dict[str, str]:
        told, self.told = self.told, []
        return {topic.removeprefix("$SYS/account/"): payload for _, topic, payload in told}


def run(body: Callable[[Readers], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await upper.directory.set_plan(1, "free")
        await body(Readers(upper))

    asyncio.run(whole())


def test_readers_alone_are_told_their_own_figures() -> None:
    async def body(core: Readers) -> None:
        other = await core.upper.directory.accounts.create("other", NOW_S)
        third = await core.upper.directory.accounts.create("third", NOW_S)
        await core.upper.directory.devices.create(1, DeviceDescription("Sensor", "sensor"), NOW_S)
        core.upper.core.counted.append(core.upper.core.count(1, 250_000, 5 * 10**9))
        core.drops[1] = 3
        core.reading = [1, other.account_id, 4_000_000_000]  # the last one is an open listener's
        await core.topics().tell_all()
        assert {account for account, _, _ in core.told} == {1, other.account_id}
        of_other = {topic: value for account, topic, value in core.told if account == other.account_id}
        assert of_other["$SYS/account/devices/total"] == "0"
        core.told = [one for one in core.told if one[0] == 1]
        told = core.taken()
        assert third.account_id not in core.reading
        assert (told["devices/total"], told["devices/active"], told["messages/this_month"]) == ("1", "1", "250000")
        assert (told["quota/messages_percent"], told["quota/bandwidth_percent"]) == ("25.0", "50.0")
        assert (told["quota/devices_percent"], told["bandwidth/this_month_bytes"]) == ("1.0", "5000000000")
        assert (told["dropped/total"], told["dropped/queue_full"]) == ("3", "3")
        assert "dropped/outbox_full" not in told

    run(body)


def test_who_subscribes_is_told_at_once_with_what_the_account_was_warned_of() -> None:
    async def body(core: Readers) -> None:
        topics = core.topics()
        core.upper.directory.usage.add([core.upper.core.count(1, FREE_MESSAGES * 8 // 10, 1)], NOW_S)
        topics.greet(1)
        topics.greet(99)  # no account of this installation
        await topics.tell_newcomers()
        assert not [name for name in core.taken() if name.startswith("warnings/")]  # nobody was warned yet
        await core.upper.directory.usage.write()
        ((account, topic, payload),) = core.announced
        assert (account, topic) == (1, "$SYS/account/warnings/messages")
        said = {"kind": "messages", "percent": 80, "used": 800_000, "maximum": 1_000_000, "month": "2025-11"}
        assert json.loads(payload) == said
        topics.greet(1)
        await topics.tell_newcomers()
        assert json.loads(core.taken()["warnings/messages"]) == said
        await topics.tell_newcomers()
        assert core.taken() == {}

    run(body)


def test_an_account_is_told_again_and_again_and_a_failure_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(core: Readers) -> None:
        monkeypatch.setattr("broker.admin.system_topics.LEAST_S", 0.001)
        topics = SystemTopics(core.upper.directory, core.upper.admin.figures, core, 0.001)
        core.reading = [1]
        told_thrice = asyncio.Event()
        failures = [RuntimeError("once")]
        tell = core.tell_figure

        def failing(account_id: int, topic_name: str, payload: bytes) -> None:
            if failures:
                raise failures.pop()
            tell(account_id, topic_name, payload)
            if sum(topic.endswith("devices/total") for _, topic, _ in core.told) == 3:
                told_thrice.set()

        core.tell_figure = failing  # type: ignore[method-assign]
        running = asyncio.create_task(topics.run())
        async with asyncio.timeout(10):
            await told_thrice.wait()
        running.cancel()

    run(body)


# ---------------------------------------------------------------- warnings in timelines


async def codes(core: Readers, device_id: str) -> list[str]:
    devices = core.upper.directory.devices
    entries, _ = await devices.timeline.read(devices.get(1, device_id).device_number, 20)
    return [one.code for one in entries]


def test_a_warning_is_in_the_timeline_of_the_device_whose_messages_brought_it() -> None:
    async def body(core: Readers) -> None:
        upper = core.upper
        numbers = {}
        for name in ("one", "two"):
            device, _ = await upper.directory.devices.create(
                1, DeviceDescription(name * 2, "sensor", device_id=name), 1
            )
            numbers[name] = device.device_number
        usage = upper.directory.usage
        usage.add([(1, numbers["one"], FREE_MESSAGES * 8 // 10 - 1, 0, 0, 0)], NOW_S)
        usage.add([(1, None, 0, 0, 0, 0), (1, numbers["two"], 1, 0, 0, 0), (1, numbers["one"], 5, 0, 0, 0)], NOW_S)
        await usage.write()
        assert (await codes(core, "one"), await codes(core, "two")) == ([], ["warned_messages_80"])
        usage.add([(1, numbers["one"], FREE_MESSAGES, 0, 0, FREE_BYTES)], NOW_S)
        await usage.write()
        assert set(await codes(core, "one")) == {"warned_messages_100", "warned_bandwidth_80", "warned_bandwidth_100"}
        usage.add([(1, numbers["two"], FREE_MESSAGES, 0, 0, FREE_BYTES)], NOW_S)
        await usage.write()
        assert await codes(core, "two") == ["warned_messages_80"]  # none comes twice

    run(body)


def test_a_larger_plan_is_warned_of_anew_and_an_application_has_no_timeline() -> None:
    async def body(core: Readers) -> None:
        upper = core.upper
        device, _ = await upper.directory.devices.create(1, DeviceDescription("one", "sensor", device_id="one"), 1)
        usage = upper.directory.usage
        (application,) = upper.directory.keys.principals()
        usage.add([(1, application, FREE_MESSAGES * 8 // 10, 0, 0, 0)], NOW_S)
        await usage.write()
        assert await codes(core, "one") == []
        await upper.directory.set_plan(1, "professional")
        usage.add([(1, device.device_number, 10 * FREE_MESSAGES, 0, 0, 0)], NOW_S)
        await usage.write()
        assert await codes(core, "one") == ["warned_messages_100"]  # of 80 % the account was warned in this month

    run(body)


def test_the_device_that_fills_the_plan_is_told() -> None:
    async def body(core: Readers) -> None:
        for number in range(100):
            description = DeviceDescription("Sensor", "sensor", device_id=f"sensor-{number}")
            await core.upper.directory.devices.create(1, description, NOW_S)
            core.upper.directory.usage.add([], NOW_S)
            await core.upper.directory.usage.write()
        assert await codes(core, "sensor-78") == []
        assert await codes(core, "sensor-79") == ["warned_devices_80"]
        assert await codes(core, "sensor-99") == ["warned_devices_100"]

    run(body)
