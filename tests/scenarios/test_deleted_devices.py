"""A device that is deleted goes with all that it has, or not at all: no crash leaves anything of it over.

Directory, core and store are put together as the runtime does it; the store is stopped before and after each commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from broker.accounts.device_description import DeviceDescription
from broker.accounts.device_passwords import used_key
from broker.accounts.directory import Directory
from broker.admin import DeviceMessage, MessageView
from broker.admin.commands import Commands
from broker.errors import NotFound
from broker.net.gateway import Gateway
from broker.storage.memory import MemoryStore
from broker.storage.tables import (
    DEVICES,
    MESSAGES,
    PASSWORDS_USED,
    RETAINED,
    SEEN,
    SESSIONS,
    SUBSCRIPTIONS,
    TABLES,
    TRACKED,
    WILLS,
)
from broker.wire import Suback, Subscribe, Subscription, Will
from tests.support.core import SECRET, Client, Core

NOW_S = 1_790_000_000
ACCOUNT = 1
OF_A_DEVICE = (DEVICES, SEEN, PASSWORDS_USED, SESSIONS, SUBSCRIPTIONS, WILLS, MESSAGES, RETAINED, TRACKED)
FOR_LONG = {"session_expiry_interval": 3600}


class House:
    """A directory over a core, both over one store that commits and answers when it is told to."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.core = Core()
        self.core.store = store or MemoryStore()
        self.core.store.delay()
        self.core.hold()
        reactor = SimpleNamespace(shard=self.core.shard, now_ns=lambda: self.core.now_ns, soon=lambda: None)
        self.gateway = Gateway(reactor, self.durable)  # type: ignore[arg-type]
        self.directory = Directory(self.core.store, SECRET, self.gateway)
        self.directory.load(NOW_S)
        self.left_out = self.core.shard.restore(
            self.core.store.scan, self.core.now_ns, self.core.wall_ns, known=self.directory.known()
        )
        clock = SimpleNamespace(wall_s=lambda: NOW_S)
        self.commands = Commands(self.directory, self.gateway, clock, 1000, lambda: None)  # type: ignore[arg-type]
        self.core.before_seal = self.gateway.before_seal

    async def durable(self) -> None:
        self.gateway.before_seal()
        ticket = self.core.shard.newest_ticket()
        for _ in range(10_000):
            if self.core.shard.settled_ticket() >= ticket:
                return
            await asyncio.sleep(0)
        raise AssertionError("it is never on disk")

    async def step(self) -> int:
        """Let all do what they can without the disk; tells how many tickets wait for it."""
        for _ in range(5):
            self.core.run()
            await asyncio.sleep(0)
        return self.core.store.waiting

    async def settle(self) -> None:
        """Write and read everything."""
        while await self.step() or self.core.store.reads_waiting:
            self.core.store.answer()
            self.core.store.answer_reads()

    async def do(self, work: Awaitable[object]) -> object:
        task = asyncio.ensure_future(work)
        while not task.done():
            await self.settle()
        return await task

    async def subscribe(self, client: Client, subscription: Subscription) -> None:
        client.send(Subscribe(1, (subscription,)))
        await self.settle()
        assert client.pick(Suback).reason_codes == (1,)

    def committed(self) -> MemoryStore:
        """What a crash would leave at this moment."""
        return MemoryStore({table: dict(self.core.store.load(table)) for table in TABLES})

    def found(self) -> dict[str, int]:
        return {table: len(self.core.store.load(table)) for table in OF_A_DEVICE}


class Cast:
    """A device with everything that one can have, and who talks to it."""

    def __init__(self, house: House, password: str, user_name: str, key: str) -> None:
        self.house = house
        self.login = {"user_name": user_name, "password": password.encode()}
        self.key = {"user_name": "apikey", "password": key.encode()}

    def application(self, name: str) -> Client:
        return self.house.core.connecting(name, **self.key, clean_start=False, properties=FOR_LONG)

    async def play(self) -> None:
        core = self.house.core
        will = Will("devices/pump/events/gone", b"gone", 1, True, {"will_delay_interval": 60})
        client = core.connecting("pump", **self.login, clean_start=False, properties=FOR_LONG, will=will)
        await self.house.settle()
        client.received()
        await self.house.subscribe(client, Subscription("devices/pump/commands/#", 1))
        client.publish("devices/pump/status", b"by itself", 1, retain=True)
        application = self.application("back end")
        await self.house.settle()
        application.received()
        application.publish("devices/pump/settings", b"by another", 1, retain=True)
        application.publish("devices/tank/settings", b"of another", 1, retain=True)
        devices = self.house.directory.devices
        await self.house.do(devices.sightings.record({2: NOW_S}))
        used = used_key(2, devices.get(ACCOUNT, "pump").digest)
        await self.house.do(devices.passwords.record_use({used: NOW_S}))
        client.drop()
        application.publish("devices/pump/commands", b"waits", 1)
        await self.house.settle()
        sent = await self.house.do(self.house.commands.send(ACCOUNT, "pump", DeviceMessage("commands", b"tracked")))
        assert isinstance(sent, MessageView)
        assert sent.state == "queued"


async def house_with_a_device() -> tuple[House, Cast]:
    house = House()
    key = await house.do(house.directory.bootstrap(NOW_S))
    description = DeviceDescription("Pump", "pump", device_id="pump")
    device, password = await house.do(house.directory.devices.create(ACCOUNT, description, NOW_S))  # type: ignore[misc]
    assert device.device_number == 2
    return house, Cast(house, password, device.user_name, str(key))


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20):
            await body()

    asyncio.run(whole())


async def images_of_the_deletion(house: House) -> list[MemoryStore]:
    """What a crash would leave before the deletion, after each of its commits, and when it was answered."""
    images = [house.committed()]
    deleting = asyncio.create_task(house.directory.devices.delete(ACCOUNT, "pump"))
    while not deleting.done():
        await house.step()
        images.append(house.committed())  # asked for, and not begun
        if house.core.store.commit(1):
            images.append(house.committed())  # on disk, and nobody knows
        house.core.store.answer(1)
    await deleting
    await house.settle()
    images.append(house.committed())
    return images


def test_a_crash_at_any_step_leaves_a_device_whole_or_nothing_of_it() -> None:
    async def body() -> None:
        house, cast = await house_with_a_device()
        await cast.play()
        before = house.found()
        assert before == {
            DEVICES: 1, SEEN: 1, PASSWORDS_USED: 1, SESSIONS: 2, SUBSCRIPTIONS: 1, WILLS: 1, MESSAGES: 2, RETAINED: 3,
            TRACKED: 1,
        }  # fmt: skip
        images = await images_of_the_deletion(house)
        outcomes = [await outcome(image, cast) for image in images]
        assert outcomes[0] == "whole"
        assert outcomes[-1] == "gone"
        assert set(outcomes) == {"whole", "gone"}
        assert outcomes == sorted(outcomes, reverse=True)  # and it does not come back

    run(body)


async def outcome(image: MemoryStore, cast: Cast) -> str:
    """Start on what a crash has left, and look for everything that the device had."""
    house = House(image)
    assert house.left_out == {}
    await house.settle()
    found = house.found()
    retained = house.core.shard.retained(ACCOUNT)[0]
    try:
        house.directory.devices.get(ACCOUNT, "pump")
    except NotFound:
        assert found == {
            DEVICES: 0,
            SEEN: 0,
            PASSWORDS_USED: 0,
            SESSIONS: 1,
            SUBSCRIPTIONS: 0,
            WILLS: 0,
            MESSAGES: 0,
            RETAINED: 1,
            TRACKED: 0,
        }
        assert retained == 1
        refused = house.core.connecting("pump", **cast.login)
        assert house.directory.grant_for(cast.login["user_name"], cast.login["password"]) is None  # type: ignore[arg-type]
        refused.drop()
        return "gone"
    assert found == {
        DEVICES: 1,
        SEEN: 1,
        PASSWORDS_USED: 1,
        SESSIONS: 2,
        SUBSCRIPTIONS: 1,
        WILLS: 1,
        MESSAGES: 2,
        RETAINED: 3,
        TRACKED: 1,
    }
    assert retained == 3
    client = house.core.connecting("pump", **cast.login, clean_start=False, properties=FOR_LONG)
    await house.settle()
    assert [getattr(one, "session_present", None) or getattr(one, "payload", None) for one in client.received()] == [
        True,
        b"waits",
        b"tracked",
    ]
    return "whole"


def test_what_a_deleted_device_had_of_a_shared_group_reaches_another_member_after_a_crash() -> None:
    async def body() -> None:
        house, cast = await house_with_a_device()
        core = house.core
        member = core.connecting("pump", **cast.login, clean_start=False, properties=FOR_LONG)
        await house.settle()
        member.received()
        shared = Subscription("$share/g/devices/pump/commands/#", 1)
        await house.subscribe(member, shared)
        other = cast.application("other")
        await house.settle()
        other.received()
        member.drop()
        core.publish("devices/pump/commands", b"for one of them", 1, account_id=ACCOUNT)
        await house.settle()
        await house.subscribe(other, shared)
        other.drop()
        await house.settle()
        deleting = asyncio.create_task(house.directory.devices.delete(ACCOUNT, "pump"))
        await house.step()
        house.core.store.commit(1)  # what the device had is being handed over when the process dies
        after = House(house.committed())
        deleting.cancel()
        await after.settle()
        with pytest.raises(NotFound):
            after.directory.devices.get(ACCOUNT, "pump")
        back = after.core.connecting("other", **cast.key, clean_start=False, properties=FOR_LONG)
        await after.settle()
        assert [one.payload for one in back.received() if hasattr(one, "payload")] == [b"for one of them"]

    run(body)
