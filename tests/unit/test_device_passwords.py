"""A device's passwords: exchanged at once or with an overlap that ends in any case, and seen to be used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.accounts.records import Device
from broker.admin import DeviceChange, DeviceDescription, DeviceFilter
from broker.errors import NotFound, Unavailable
from broker.policy.credentials import credential
from broker.ports import Presence
from broker.storage.tables import DEVICES, PASSWORDS_USED, SEEN
from tests.upper import NOW_S, SECRET, Upper

SENSOR = DeviceDescription("Sensor", "sensor")
DAY_S = 86_400


class House:
    """One device, and which of its passwords let it in."""

    def __init__(self, upper: Upper, device: Device, password: str) -> None:
        self.upper, self.device, self.first = upper, device, password

    async def rotate(self, overlap_s: int = 0) -> str:
        """Rotate as a caller of the API does; gives the new password."""
        credentials, _ = await self.upper.admin.rotate_password(1, self.device.device_id, overlap_s)
        return credentials.password

    def digest(self, password: str) -> bytes:
        return credential(SECRET, self.device.user_name, password.encode())

    def come_in(self, *passwords: str) -> None:
        """Let the device have come in by each of these, and be gone again: as the core notes it."""
        now_ns = self.upper.clock.monotonic_ns()
        self.upper.core.present[self.device.device_number] = Presence(0, now_ns)
        self.upper.core.used.update((self.digest(one), now_ns) for one in passwords)

    def lets_in(self, *passwords: str, upper: Upper | None = None) -> list[bool]:
        """By the core's table and by the directory, which must agree."""
        upper = upper or self.upper
        by_table = [self.digest(one) in upper.core.grants for one in passwords]
        judged = [upper.directory.grant_for(self.device.user_name, one.encode()) is not None for one in passwords]
        assert by_table == judged
        return judged

    async def pass_s(self, seconds: int) -> None:
        self.upper.clock.pass_s(seconds)
        self.upper.directory.devices.end_overlaps(self.upper.clock.wall_s())
        for _ in range(5):
            await asyncio.sleep(0)


def run(body: Callable[[House], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(House(upper, *await upper.directory.devices.create(1, SENSOR, NOW_S)))

    asyncio.run(whole())


def test_without_an_overlap_the_old_password_ends_at_once() -> None:
    async def body(house: House) -> None:
        credentials, until = await house.upper.admin.rotate_password(1, house.device.device_id, 0)
        assert credentials.username == house.device.user_name
        assert until == NOW_S
        assert house.lets_in(house.first, credentials.password) == [False, True]
        assert house.digest(house.first) in house.upper.core.removed  # which cuts who came in with it

    run(body)


def test_with_an_overlap_both_let_in_until_its_last_second() -> None:
    async def body(house: House) -> None:
        second = await house.rotate(3600)
        await house.pass_s(3599)
        assert house.lets_in(house.first, second) == [True, True]
        await house.pass_s(1)
        assert house.lets_in(house.first, second) == [False, True]
        assert house.digest(house.first) in house.upper.core.removed
        assert house.upper.directory.devices.get(1, house.device.device_id).previous_digest == b""  # on disk as well
        assert house.upper.reloaded().directory.devices.get(1, house.device.device_id).previous_digest == b""

    run(body)


def test_an_overlap_outlives_a_restart_and_ends_during_one() -> None:
    async def body(house: House) -> None:
        second = await house.rotate(DAY_S)
        restarted = house.upper.restart()
        assert house.lets_in(house.first, second, upper=restarted) == [True, True]
        restarted.clock.pass_s(DAY_S)
        restarted.directory.devices.end_overlaps(restarted.clock.wall_s())
        assert house.lets_in(house.first, second, upper=restarted) == [False, True]
        late = Upper(restarted.store, now_s=NOW_S + DAY_S)
        assert house.lets_in(house.first, second, upper=late) == [False, True]

    run(body)


def test_a_clock_that_is_set_back_revives_no_password() -> None:
    async def body(house: House) -> None:
        second = await house.rotate(60)
        house.upper.store.fail(OSError("no disk"))  # so that the end of the overlap is not on record
        await house.pass_s(60)
        await house.pass_s(-120)
        devices = house.upper.directory.devices
        assert devices.get(1, house.device.device_id).previous_digest
        devices.follow(devices.get(1, house.device.device_id))
        assert house.lets_in(house.first, second) == [False, True]

    run(body)


def test_two_passwords_at_most_are_valid() -> None:
    async def body(house: House) -> None:
        second = await house.rotate(DAY_S)
        third = await house.rotate(DAY_S)
        assert house.lets_in(house.first, second, third) == [False, True, True]
        fourth = await house.rotate()
        assert house.lets_in(house.first, second, third, fourth) == [False, False, False, True]
        await house.pass_s(2 * DAY_S)
        assert house.lets_in(fourth) == [True]

    run(body)


def test_an_inactive_device_and_a_suspended_account_let_neither_in() -> None:
    async def body(house: House) -> None:
        second = await house.rotate(DAY_S)
        both = (house.first, second)
        for active in (False, True):
            await house.upper.admin.change_device(1, house.device.device_id, DeviceChange(active=active))
            assert house.lets_in(*both) == [active, active]
        for suspended in (True, False):
            await house.upper.directory.set_suspended(1, suspended)
            assert house.lets_in(*both) == [not suspended, not suspended]
        await house.upper.admin.change_device(1, house.device.device_id, DeviceChange(active=False))
        await house.pass_s(DAY_S)
        await house.upper.admin.change_device(1, house.device.device_id, DeviceChange(active=True))
        assert house.lets_in(*both) == [False, True]

    run(body)


def test_rotations_of_one_device_at_once_come_one_after_the_other() -> None:
    async def body(house: House) -> None:
        passwords = await asyncio.gather(*(house.rotate(DAY_S) for _ in range(5)))
        assert house.lets_in(house.first, *passwords) == [False, False, False, False, True, True]

    run(body)


def test_what_could_not_be_stored_changes_nothing() -> None:
    async def body(house: House) -> None:
        house.upper.store.fail(OSError("no disk"), 1)
        with pytest.raises(Unavailable):
            await house.rotate()
        assert house.lets_in(house.first) == [True]

    run(body)


def test_another_accounts_device_and_an_unknown_one_are_not_found() -> None:
    async def body(house: House) -> None:
        other = await house.upper.directory.accounts.create("other", NOW_S)
        for account_id, device_id in ((other.account_id, house.device.device_id), (1, "nobody")):
            with pytest.raises(NotFound):
                await house.upper.admin.rotate_password(account_id, device_id, 0)
        assert house.lets_in(house.first) == [True]

    run(body)


def test_a_deleted_device_leaves_no_password_behind() -> None:
    async def body(house: House) -> None:
        second = await house.rotate(DAY_S)
        house.come_in(house.first, second)
        await house.upper.admin.persist_seen()
        assert len(house.upper.store.load(PASSWORDS_USED)) == 2
        await house.upper.admin.delete_device(1, house.device.device_id)
        assert house.lets_in(house.first, second) == [False, False]
        assert house.upper.store.load(PASSWORDS_USED) == house.upper.store.load(DEVICES) == []
        await house.pass_s(DAY_S)  # nothing is left to end

    run(body)


def test_a_use_that_is_on_its_way_to_disk_goes_with_its_device() -> None:
    async def body(house: House) -> None:
        house.come_in()
        await house.upper.admin.persist_seen()  # so that only the password's use is new
        house.come_in(house.first)
        house.upper.store.delay()
        noting = asyncio.ensure_future(house.upper.admin.persist_seen())
        await asyncio.sleep(0)
        deleting = asyncio.ensure_future(house.upper.admin.delete_device(1, house.device.device_id))
        await asyncio.sleep(0)
        house.upper.store.release()
        await asyncio.gather(noting, deleting)
        assert house.upper.store.load(PASSWORDS_USED) == house.upper.store.load(SEEN) == []

    run(body)


def test_a_device_is_shown_with_its_passwords_and_their_last_use() -> None:
    async def body(house: House) -> None:
        house.upper.clock.pass_s(100)
        second = await house.rotate(3600)
        house.come_in(house.first)
        view = await house.upper.admin.get_device(1, house.device.device_id)
        newest, oldest = view.passwords
        assert (newest.created_at, newest.last_used, newest.valid_until) == (NOW_S + 100, None, None)
        assert (oldest.created_at, oldest.last_used, oldest.valid_until) == (NOW_S, NOW_S + 100, NOW_S + 3700)
        await house.upper.admin.persist_seen()
        restarted = house.upper.restart()
        view = await restarted.admin.get_device(1, house.device.device_id)
        assert [one.last_used for one in view.passwords] == [None, NOW_S + 100]
        assert second
        page = await house.upper.admin.list_devices(1, 10, 0, DeviceFilter())
        assert page.devices[0].passwords == ()

    run(body)


def test_the_use_of_a_password_that_has_ended_leaves_the_disk() -> None:
    async def body(house: House) -> None:
        house.come_in(house.first)
        await house.upper.admin.persist_seen()
        await house.rotate()
        assert house.upper.store.load(PASSWORDS_USED) == []

    run(body)
