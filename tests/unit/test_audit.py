"""Rules of the audit log: with the change or not at all, bounded for each account, and without a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.accounts.deeds import INSTALLATION, Actor, about, current
from broker.admin import AuditView, DeviceDescription
from broker.config import AuditLimits
from broker.errors import NotFound, Unavailable
from tests.upper import NOW_S, Upper

SENSOR = DeviceDescription("Sensor", "sensor")
SOMEBODY = Actor("key", 7, "app", "192.0.2.1", "request-1")


def run(body: Callable[[Upper], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(upper)

    asyncio.run(whole())


async def create(upper: Upper, account_id: int = 1) -> str:
    async with upper.admin.audit.deed(SOMEBODY, "create_device", account_id, fields=("name", "device_id")):
        view, _ = await upper.admin.create_device(account_id, SENSOR)
    return view.device_id


async def entries(upper: Upper, account_id: int | None = 1) -> list[AuditView]:
    found, total = await upper.admin.audit.page(account_id, 100, 0)
    assert total == len(found)
    return list(found)


def test_a_change_and_its_entry_are_one_transaction() -> None:
    async def body(upper: Upper) -> None:
        upper.store.delay()
        creating = asyncio.create_task(create(upper))
        await asyncio.sleep(0)
        lost = upper.reloaded()
        assert (lost.directory.devices.count(1), await entries(lost)) == (0, [])
        upper.store.commit(1)  # one ticket holds both
        kept = upper.reloaded()
        upper.store.release()
        device_id = await creating
        assert kept.directory.devices.get(1, device_id)
        (entry,) = await entries(kept)
        assert (entry.verb, entry.target, entry.fields) == ("create_device", device_id, ["device_id", "name"])
        assert (entry.at, entry.account_id, entry.actor) == (NOW_S, 1, SOMEBODY)

    run(body)


def test_what_fails_or_is_refused_is_not_noted() -> None:
    async def body(upper: Upper) -> None:
        upper.store.fail(OSError("disk"))
        with pytest.raises(Unavailable):
            await create(upper)
        upper.store.fail(None)
        with pytest.raises(NotFound):
            async with upper.admin.audit.deed(SOMEBODY, "delete_device", 1, "nobody"):
                await upper.admin.delete_device(1, "nobody")
        assert await entries(upper) == []
        assert await entries(upper.reloaded()) == []

    run(body)


def test_what_goes_by_no_ledger_is_noted_before_it_is_answered() -> None:
    async def body(upper: Upper) -> None:
        device_id = await create(upper)
        async with upper.admin.audit.deed(SOMEBODY, "delete_device", 1, device_id):
            await upper.admin.delete_device(1, device_id)
        assert [one.verb for one in await entries(upper.reloaded())] == ["delete_device", "create_device"]

    run(body)


def test_a_deed_that_is_done_but_cannot_be_stored_stays_done_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def body(upper: Upper) -> None:
        async with upper.admin.audit.deed(SOMEBODY, "disconnect", 1, "c"):
            upper.store.fail(OSError("disk"))
        upper.store.fail(None)
        assert await entries(upper) == []

    run(body)
    (line,) = [one for one in caplog.records if "could not be stored" in one.message]
    assert line.fields["verb"] == "disconnect"  # type: ignore[attr-defined]


def test_what_goes_on_by_itself_after_a_failure_is_nobodys_deed() -> None:
    async def body(upper: Upper) -> None:
        go_on = asyncio.Event()

        async def work() -> None:
            await go_on.wait()
            await upper.admin.create_device(1, SENSOR)

        async def failing() -> asyncio.Task[None]:
            async with upper.admin.audit.deed(SOMEBODY, "create_device", 1):
                started.append(asyncio.create_task(work()))
                raise RuntimeError

        started: list[asyncio.Task[None]] = []
        with pytest.raises(RuntimeError):
            await failing()
        go_on.set()
        await started[0]
        assert await entries(upper) == []
        about("nothing")  # harmless where nobody acts
        assert current() is None

    run(body)


def test_several_commits_are_one_deed() -> None:
    async def body(upper: Upper) -> None:
        async with upper.admin.audit.deed(SOMEBODY, "create_devices", 1):
            await upper.admin.create_device(1, SENSOR)
            await upper.admin.create_device(1, SENSOR)
        assert len(await entries(upper)) == 1

    run(body)


def test_each_account_has_its_own_entries_and_the_installation_all() -> None:
    async def body(upper: Upper) -> None:
        other = await upper.directory.accounts.create("other", NOW_S)
        ours = [await create(upper) for _ in range(3)]
        theirs = await create(upper, other.account_id)
        upper.clock.pass_s(1)
        async with upper.admin.audit.deed(SOMEBODY, "revoke_admin_key", target="9"):
            pass
        assert [one.target for one in await entries(upper)] == ours[::-1]
        assert [one.target for one in await entries(upper, other.account_id)] == [theirs]
        assert [one.target for one in await entries(upper, INSTALLATION)] == ["9"]
        for floors in (upper, upper.reloaded()):
            assert [one.target for one in await entries(floors, None)] == ["9", theirs, *ours[::-1]]
            page, total = await floors.admin.audit.page(None, 2, 1)
            assert ([one.target for one in page], total) == ([theirs, ours[2]], 5)
        page, total = await upper.admin.audit.page(1, 2, 2)
        assert ([one.target for one in page], total) == ([ours[0]], 3)
        assert await upper.admin.audit.page(1, 2, 3) == ([], 3)
        with pytest.raises(NotFound):
            await upper.admin.audit.page(99, 1, 0)

    run(body)


def test_others_have_their_turns_while_the_end_of_a_long_log_is_looked_for() -> None:
    async def body(upper: Upper) -> None:
        book = upper.directory.audit
        numbers = [(number, 1 + number * 7 % 50) for number in range(5, 100_005)]
        for number, owner in numbers:
            book._of(owner).append(number)
        book._last = numbers[-1][0]
        for offset, limit in ((0, 3), (1, 1), (777, 20), (99_990, 100), (100_000, 5), (10**18, 5)):
            assert await book._places(limit, offset) == numbers[::-1][offset : offset + limit], offset
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        _, total = await upper.admin.audit.page(None, 10, 99_990)
        counting.cancel()
        assert total == 100_000
        assert turns >= 10

    run(body)


def test_of_too_many_entries_the_oldest_of_the_same_account_go() -> None:
    async def body(upper: Upper) -> None:
        upper.directory.audit._limits = AuditLimits(entries_per_account_maximum=10)
        other = await upper.directory.accounts.create("other", NOW_S)
        theirs = await create(upper, other.account_id)
        ours = [await create(upper) for _ in range(13)]
        for floors in (upper, upper.reloaded()):
            assert [one.target for one in await entries(floors)] == ours[:2:-1]
            assert [one.target for one in await entries(floors, other.account_id)] == [theirs]
        assert len(upper.store.load("audit")) == 11

    run(body)


def test_entries_end_with_their_days_also_when_the_clock_was_set_back_between() -> None:
    async def body(upper: Upper) -> None:
        upper.directory.audit._limits = AuditLimits(days=1)
        await create(upper)
        upper.clock.wall -= 1000
        await create(upper)
        upper.clock.wall = NOW_S + 100
        kept = await create(upper)
        upper.clock.wall = NOW_S + 24 * 3600 + 1
        await upper.admin.forget_old()
        for floors in (upper, upper.reloaded()):
            assert [one.target for one in await entries(floors)] == [kept]
        assert len(upper.store.load("audit")) == 1

    run(body)
