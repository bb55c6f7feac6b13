"""Rules of accounts, keys and devices: durable first, granted afterwards, never given twice."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.accounts.accounts import Accounts
from broker.accounts.device_batch import TURN_DEVICES
from broker.accounts.device_description import DeviceDescription
from broker.accounts.device_index import Records
from broker.accounts.device_search import Sought
from broker.accounts.plans import PLANS
from broker.accounts.records import Account, Device
from broker.errors import BadRequest, Conflict, NotFound, QuotaExceeded, StoreError, Unavailable
from broker.policy.policies import APPLICATION, DEVICE
from broker.ports import Durability
from broker.storage.tables import DEVICES, SEEN, number_key
from tests.upper import NOW_S, Upper

Body = Callable[[Upper], Awaitable[None]]
SENSOR = DeviceDescription("Sensor", "sensor")


def run(body: Body) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(upper)

    asyncio.run(whole())


def test_the_first_start_makes_one_account_and_one_key_and_no_later_start_does() -> None:
    async def body() -> None:
        upper = Upper()
        key = await upper.bootstrap()
        (account,) = upper.directory.accounts.all()
        assert (account.name, account.plan, account.suspended) == ("default", "professional", False)
        assert await upper.directory.bootstrap(NOW_S) is None
        restarted = upper.restart()
        assert await restarted.directory.bootstrap(NOW_S) is None
        assert restarted.admin.access.account_key(key).account_id == account.account_id

    asyncio.run(body())


def test_a_crash_between_account_and_key_is_finished_by_the_next_start() -> None:
    async def body() -> None:
        upper = Upper()
        await upper.directory.accounts.create("default", NOW_S)
        assert await upper.restart().directory.bootstrap(NOW_S) is not None

    asyncio.run(body())


def test_everything_survives_a_restart_and_is_granted_again() -> None:
    async def body(upper: Upper) -> None:
        device, password = await upper.directory.devices.create(1, SENSOR, NOW_S)
        key, text = await upper.directory.keys.create(1, "app", NOW_S)
        upper.directory.keys.note_use(key.key_id, NOW_S + 5)
        await upper.directory.flush()
        await upper.directory.devices.sightings.record({device.device_number: NOW_S + 9})
        restarted = upper.restart()
        assert restarted.core.grants == upper.core.grants
        assert restarted.directory.devices.get(1, device.device_id) == device
        assert restarted.directory.devices.sightings.last_seen_at(device.device_number) == NOW_S + 9
        assert restarted.directory.keys.last_used_at(key.key_id) == NOW_S + 5
        assert restarted.directory.grant_for("apikey", text.encode()) is not None
        assert restarted.directory.grant_for(device.user_name, password.encode()) is not None

    run(body)


def test_no_secret_reaches_the_store_in_clear() -> None:
    async def body(upper: Upper) -> None:
        _, password = await upper.directory.devices.create(1, SENSOR, NOW_S)
        _, text = await upper.directory.keys.create(1, "app", NOW_S)
        stored = b"".join(value for table in upper.store._tables.values() for value in table.values())
        assert password.encode() not in stored
        assert text.encode() not in stored
        assert text.removeprefix("wayscloud_iot_prod_").encode() not in stored

    run(body)


def test_a_grant_names_account_principal_and_rights() -> None:
    async def body(upper: Upper) -> None:
        device, password = await upper.directory.devices.create(1, SENSOR, NOW_S)
        grant = upper.directory.grant_for(device.user_name, password.encode())
        assert grant is not None
        assert (grant.account_id, grant.principal_id, grant.policy) == (1, device.device_number, DEVICE)
        assert grant.principal == grant.device_id == device.device_id
        key, text = await upper.directory.keys.create(1, "app", NOW_S)
        grant = upper.directory.grant_for("apikey", text.encode())
        assert grant is not None
        assert (grant.principal, grant.device_id, grant.policy) == ("app", "", APPLICATION)
        assert grant.principal_id == key.principal_id

    run(body)


def test_a_wrong_password_or_another_devices_password_grants_nothing() -> None:
    async def body(upper: Upper) -> None:
        one, password = await upper.directory.devices.create(1, SENSOR, NOW_S)
        other, _ = await upper.directory.devices.create(1, SENSOR, NOW_S)
        assert upper.directory.grant_for(one.user_name, b"") is None
        assert upper.directory.grant_for(one.user_name, password.encode() + b"x") is None
        assert upper.directory.grant_for(other.user_name, password.encode()) is None
        assert upper.directory.grant_for("nobody", password.encode()) is None
        assert upper.directory.grant_for("apikey", password.encode()) is None

    run(body)


def test_keys_of_one_name_share_the_principal_even_after_revocation_and_restart() -> None:
    async def body(upper: Upper) -> None:
        keys = upper.directory.keys
        (one, _), (other, _) = await asyncio.gather(keys.create(1, "app", NOW_S), keys.create(1, "app", NOW_S))
        different, _ = await keys.create(1, "else", NOW_S)
        await upper.directory.accounts.create("second", NOW_S)
        foreign, _ = await keys.create(2, "app", NOW_S)
        assert one.principal_id == other.principal_id
        assert len({one.principal_id, different.principal_id, foreign.principal_id}) == 3
        await keys.revoke(one.key_id, NOW_S)
        await keys.revoke(other.key_id, NOW_S)
        later, _ = await upper.restart().directory.keys.create(1, "app", NOW_S)
        assert later.principal_id == one.principal_id

    run(body)


def test_a_revoked_key_is_cut_once_and_stays_revoked() -> None:
    async def body(upper: Upper) -> None:
        key, text = await upper.directory.keys.create(1, "app", NOW_S)
        revoked = await upper.directory.keys.revoke(key.key_id, NOW_S + 1)
        assert await upper.directory.keys.revoke(key.key_id, NOW_S + 2) == revoked
        assert upper.core.removed == [key.digest]
        assert upper.directory.keys.find(text) is None
        assert upper.reloaded().directory.keys.find(text) is None
        assert key.digest not in upper.reloaded().core.grants
        with pytest.raises(NotFound):
            await upper.directory.keys.revoke(4711, NOW_S)

    run(body)


def test_a_failed_commit_changes_nothing_in_memory() -> None:
    async def body(upper: Upper) -> None:
        device, _ = await upper.directory.devices.create(1, SENSOR, NOW_S)
        grants = dict(upper.core.grants)
        upper.store.fail(OSError("disk"))
        upper.store.set_health("failed")
        for change in (
            upper.directory.devices.create(1, replace(SENSOR, device_id="chosen"), NOW_S),
            upper.directory.devices.delete(1, device.device_id),
            upper.directory.keys.create(1, "app", NOW_S),
            upper.directory.keys.revoke(1, NOW_S),
            upper.directory.accounts.create("second", NOW_S),
            upper.directory.accounts.set_plan(1, "free"),
            upper.directory.set_suspended(1, True),
            upper.directory.devices.sightings.record({device.device_number: NOW_S}),
        ):
            with pytest.raises(Unavailable):
                await change
        upper.store.fail(None)
        upper.store.set_health("ok")
        assert upper.core.grants == grants
        assert upper.directory.devices.page(1, 10, 0) == [device]
        assert upper.directory.devices.sightings.last_seen_at(device.device_number) == 0
        assert [(one.name, one.plan) for one in upper.directory.accounts.all()] == [("default", "professional")]
        assert not upper.directory.accounts.get(1).suspended
        await upper.directory.devices.create(1, replace(SENSOR, device_id="chosen"), NOW_S)

    run(body)


def test_a_caller_that_gives_up_does_not_part_memory_from_disk() -> None:
    async def body(upper: Upper) -> None:
        upper.store.delay()
        waiting = asyncio.create_task(upper.directory.devices.create(1, SENSOR, NOW_S))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert upper.directory.devices.count(1) == 0
        upper.store.release()
        assert upper.directory.devices.count(1) == 1
        assert upper.restart().directory.devices.count(1) == 1

    run(body)


def test_what_is_not_committed_is_lost_whole_by_a_crash() -> None:
    async def body(upper: Upper) -> None:
        upper.store.delay()
        waiting = asyncio.create_task(upper.directory.devices.create(1, SENSOR, NOW_S))
        await asyncio.sleep(0)
        restarted = upper.restart()
        assert restarted.directory.devices.count(1) == 0
        assert restarted.core.grants == upper.core.grants
        waiting.cancel()

    run(body)


def test_numbers_are_never_given_twice_not_even_after_removal_and_restart() -> None:
    async def body(upper: Upper) -> None:
        given = set()
        for _ in range(3):
            for _ in range(3):
                device, _ = await upper.directory.devices.create(1, SENSOR, NOW_S)
                assert device.device_number not in given
                given.add(device.device_number)
                await upper.directory.devices.delete(1, device.device_id)
            key, _ = await upper.directory.keys.create(1, "app", NOW_S)
            assert key.key_id not in given
            given.add(key.key_id)
            upper = upper.restart()

    run(body)


def test_a_chosen_id_is_taken_from_the_moment_it_is_asked_for_and_only_in_its_account() -> None:
    async def body(upper: Upper) -> None:
        chosen = replace(SENSOR, device_id="pump-1")
        first, second = await asyncio.gather(
            upper.directory.devices.create(1, chosen, NOW_S),
            upper.directory.devices.create(1, chosen, NOW_S),
            return_exceptions=True,
        )
        assert isinstance(second, Conflict)
        assert not isinstance(first, BaseException)
        await upper.directory.accounts.create("second", NOW_S)
        elsewhere, _ = await upper.directory.devices.create(2, chosen, NOW_S)
        assert elsewhere.user_name != first[0].user_name

    run(body)


@pytest.mark.parametrize("device_id", ["+", "#", "a/b", "pump+", "\0", "x" * 65])
def test_a_device_id_is_one_level_of_a_topic(device_id: str) -> None:
    # Its removal clears what is retained under devices/{device_id}/: with `+` that would be every device's.
    async def body(upper: Upper) -> None:
        with pytest.raises(BadRequest):
            await upper.directory.devices.create(1, replace(SENSOR, device_id=device_id), NOW_S)

    run(body)


def test_the_plan_counts_devices_that_are_not_durable_yet() -> None:
    async def body(upper: Upper) -> None:
        await upper.directory.accounts.set_plan(1, "free")
        room = PLANS["free"].devices_maximum
        upper.store.delay()
        tasks = [asyncio.create_task(upper.directory.devices.create(1, SENSOR, NOW_S)) for _ in range(room + 1)]
        await asyncio.sleep(0)
        upper.store.release()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in results].count(QuotaExceeded) == 1
        assert upper.directory.devices.count(1) == room
        await upper.directory.devices.delete(1, upper.directory.devices.page(1, 1, 0)[0].device_id)
        await upper.directory.devices.create(1, SENSOR, NOW_S)

    run(body)


def test_two_removals_that_meet_both_succeed_and_a_third_finds_nothing() -> None:
    async def body(upper: Upper) -> None:
        device, _ = await upper.directory.devices.create(1, SENSOR, NOW_S)
        devices = upper.directory.devices
        await asyncio.gather(devices.delete(1, device.device_id), devices.delete(1, device.device_id))
        assert upper.core.removed == [device.digest]
        with pytest.raises(NotFound):
            await devices.delete(1, device.device_id)

    run(body)


def test_a_device_that_is_leaving_is_known_until_it_is_gone_from_the_disk_and_let_in_no_more() -> None:
    async def body(upper: Upper) -> None:
        devices = upper.directory.devices
        device, password = await devices.create(1, replace(SENSOR, device_id="pump-1"), NOW_S)
        upper.store.delay()
        activating = asyncio.create_task(devices.set_active(1, "pump-1", True, NOW_S))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(devices.delete(1, "pump-1"))
        await asyncio.sleep(0.001)
        leaving.cancel()  # who gives up waiting does not keep it
        upper.store.answer(1)
        await activating
        await upper.directory._regrant(1)
        assert upper.core.grants.get(device.digest) is None
        assert upper.directory.grant_for(device.user_name, password.encode()) is None
        with pytest.raises(NotFound):
            await devices.set_active(1, "pump-1", True, NOW_S)
        with pytest.raises(Conflict):
            await devices.create(1, replace(SENSOR, device_id="pump-1"), NOW_S)
        assert devices.get(1, "pump-1") == replace(device, updated_at=NOW_S)
        upper.store.release()
        await asyncio.sleep(0.001)
        assert devices.count(1) == 0
        await devices.create(1, replace(SENSOR, device_id="pump-1"), NOW_S)

    run(body)


def test_no_device_is_removed_while_the_disk_takes_nothing_and_a_full_one_takes_that() -> None:
    async def body(upper: Upper) -> None:
        one, _ = await upper.directory.devices.create(1, SENSOR, NOW_S)
        for state in ("failed", "read_only"):
            upper.store.set_health(state, "as the test has it")
            with pytest.raises(Unavailable):
                await upper.directory.devices.delete(1, one.device_id)
        assert upper.core.removed == upper.core.ended == []
        upper.store.set_health("full")
        await upper.directory.devices.delete(1, one.device_id)
        assert upper.core.ended == [one.device_number]

    run(body)


def test_a_device_that_is_leaving_is_not_brought_back_by_its_last_sight() -> None:
    async def body(upper: Upper) -> None:
        device, _ = await upper.directory.devices.create(1, SENSOR, NOW_S)
        upper.store.delay()
        leaving = asyncio.create_task(upper.directory.devices.delete(1, device.device_id))
        await asyncio.sleep(0.001)
        await upper.directory.devices.sightings.record({device.device_number: NOW_S, 4711: NOW_S})
        upper.store.release()
        await leaving
        assert upper.store.load(SEEN) == []
        assert upper.store.load(DEVICES) == []

    run(body)


def test_suspending_takes_every_grant_and_resuming_gives_them_back() -> None:
    async def body(upper: Upper) -> None:
        device, password = await upper.directory.devices.create(1, SENSOR, NOW_S)
        await upper.directory.accounts.create("second", NOW_S)
        bystander, _ = await upper.directory.devices.create(2, SENSOR, NOW_S)
        before = dict(upper.core.grants)
        await upper.directory.set_suspended(1, True)
        assert list(upper.core.grants) == [bystander.digest]
        assert upper.directory.grant_for(device.user_name, password.encode()) is None
        assert list(upper.reloaded().core.grants) == [bystander.digest]
        await upper.directory.devices.create(1, SENSOR, NOW_S)
        assert list(upper.core.grants) == [bystander.digest]
        await upper.directory.set_suspended(1, False)
        assert before.items() < upper.core.grants.items()
        assert len(upper.core.grants) == len(before) + 1

    run(body)


@pytest.mark.parametrize("name", ["", "x" * 65, "-x", "tab\t", "a/b", "ä", "line\n"])
def test_a_name_that_cannot_be_typed_or_shown_is_refused(name: str) -> None:
    async def body(upper: Upper) -> None:
        with pytest.raises(BadRequest):
            await upper.directory.accounts.create(name, NOW_S)
        with pytest.raises(BadRequest):
            await upper.directory.keys.create(1, name, NOW_S)

    run(body)


def test_unknown_plans_accounts_and_taken_names_are_refused() -> None:
    async def body(upper: Upper) -> None:
        with pytest.raises(BadRequest):
            await upper.directory.accounts.set_plan(1, "golden")
        with pytest.raises(NotFound):
            await upper.directory.accounts.set_plan(9, "free")
        with pytest.raises(NotFound):
            await upper.directory.keys.create(9, "app", NOW_S)
        with pytest.raises(NotFound):
            upper.directory.accounts.named("absent")
        one, other = await asyncio.gather(
            upper.directory.accounts.create("twin", NOW_S),
            upper.directory.accounts.create("twin", NOW_S),
            return_exceptions=True,
        )
        assert isinstance(one, Account)
        assert isinstance(other, Conflict)

    run(body)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30), st.integers(1, 8), st.integers(0, 12))
@settings(max_examples=50)
def test_pages_and_searches_agree_with_a_plain_list(steps: list[tuple[bool, int]], limit: int, offset: int) -> None:
    async def body(upper: Upper) -> None:
        devices, model = upper.directory.devices, list[Device]()
        for create, pick in steps:
            if create or not model:
                model.insert(0, (await devices.create(1, replace(SENSOR, name=f"n{pick}"), NOW_S))[0])
            else:
                gone = model.pop(pick % len(model))
                await devices.delete(1, gone.device_id)
        for same in (devices, upper.reloaded().directory.devices):
            assert same.count(1) == len(model)
            assert same.page(1, limit, offset) == model[offset : offset + limit]
            chosen = [device for device in model if device.name == "n1"]
            found = await same.search(1, Sought(text="N1"), lambda _: False, limit, offset)
            assert found == (chosen[offset : offset + limit], len(chosen))

    run(body)


def test_a_walk_neither_repeats_nor_hides_devices_while_others_come_and_go() -> None:
    async def body(upper: Upper) -> None:
        await upper.directory.accounts.set_plan(1, "unlimited")
        devices = upper.directory.devices
        all_ids = [(await devices.create(1, SENSOR, NOW_S))[0].device_id for _ in range(1200)]
        seen: list[str] = []
        slices = 0
        async for part in devices.slices(1, 500):
            slices += 1
            seen += [device.device_id for device in part]
            if slices == 1:
                await devices.delete(1, all_ids[-1])  # seen already
                await devices.delete(1, all_ids[100])  # not seen yet
                await devices.create(1, SENSOR, NOW_S)
        assert slices == 3
        assert seen == [device_id for device_id in all_ids[::-1] if device_id != all_ids[100]]

    run(body)


class Watched(Records):
    """Counts what is taken out."""

    taken = 0

    def get(self, number: int) -> bytes | None:
        self.taken += 1
        return super().get(number)


def test_a_page_of_very_many_devices_costs_what_the_page_costs() -> None:
    async def body(upper: Upper) -> None:
        await upper.directory.accounts.set_plan(1, "unlimited")
        devices = upper.directory.devices
        records = devices._index._records = Watched()
        for number in range(10_000):
            devices._add(one := numbered(number), one.encode())
        for offset in range(0, 10_000, 100):
            records.taken = 0
            found = devices.page(1, 100, offset)
            assert [one.device_number for one in found] == list(range(9999 - offset, 9899 - offset, -1))
            assert devices.count(1) == 10_000
            assert records.taken == 100

    run(body)


def test_the_records_of_devices_are_nothing_that_the_garbage_collector_looks_at() -> None:
    """It would look at each of 50,000, which holds the loop for some milliseconds."""
    records = Records()
    for number in range(1000):
        records.put(number, bytes(100))
    records.put(5, bytes(200))
    records.pop(70)
    gc.collect()
    assert sum(map(gc.is_tracked, records._shelves.values())) == 1  # the newest


@pytest.mark.parametrize("turns", range(10))
def test_who_gives_up_a_batch_in_any_moment_leaves_nothing_reserved(turns: int) -> None:
    async def body(upper: Upper) -> None:
        described = [replace(SENSOR, device_id=f"device-{number}") for number in range(2 * TURN_DEVICES)]

        async def register() -> None:
            async for _ in upper.directory.batch.create(1, described, NOW_S):
                pass

        registering = asyncio.create_task(register())
        for _ in range(turns):
            await asyncio.sleep(0)
        registering.cancel()
        await asyncio.gather(registering, return_exceptions=True)
        for _ in range(10):
            await asyncio.sleep(0)
        assert upper.directory.devices._index.of(1).reserved == set()

    run(body)


def numbered(number: int) -> Device:
    return SENSOR.of(number, 1, f"d{number}", f"d{number}", bytes(32), NOW_S)


def test_a_damaged_or_newer_record_is_refused_at_the_start() -> None:
    async def body(upper: Upper) -> None:
        for value, words in ((b"\xc1", "damaged"), (b"\x92\x01\x02", "damaged"), (b"\x91\x63", "version 99")):
            upper.store._tables[DEVICES][number_key(77)] = value
            with pytest.raises(StoreError, match=words):
                upper.restart()

    run(body)


def test_all_numbers_given_is_said_and_not_wrapped_around() -> None:
    async def body(upper: Upper) -> None:
        accounts: Accounts = upper.directory.accounts
        accounts._ledger._next["account"] = 2**32
        with pytest.raises(Unavailable):
            await accounts.create("one-too-many", NOW_S)

    run(body)


def test_an_accounts_level_is_in_all_its_grants_and_survives_a_restart() -> None:
    async def body(upper: Upper) -> None:
        await upper.directory.devices.create(1, SENSOR, NOW_S)
        assert {grant.durability for grant in upper.core.grants.values()} == {Durability.SYNCED}
        view = await upper.admin.operator.set_durability("default", "relaxed")
        assert view.durability == "relaxed"
        assert {grant.durability for grant in upper.core.grants.values()} == {Durability.RELAXED}
        assert upper.core.removed == []  # nobody was cut
        await upper.directory.devices.create(1, SENSOR, NOW_S)
        restarted = upper.restart()
        assert [grant.durability for grant in restarted.core.grants.values()] == [Durability.RELAXED] * 3
        with pytest.raises(BadRequest, match="synced, relaxed, memory"):
            await upper.admin.operator.set_durability("default", "eternal")

    run(body)


def test_an_account_of_an_earlier_version_is_synced() -> None:
    row = bytes.fromhex("96 01 01 a7 64656661756c74 ac 70726f66657373696f6e616c c2 ce 690b276c")
    account = Account.decode(row)
    assert (account.name, account.plan, account.durability) == ("default", "professional", "synced")
    assert Account.decode(account.encode()) == account


def test_an_accounts_policy_of_full_queues_reaches_the_core_and_survives_a_restart() -> None:
    async def body(upper: Upper) -> None:
        assert upper.core.accounts[1].queue_full_policy == 0
        for number, word in enumerate(("drop_newest", "drop_oldest", "refuse"), 1):
            view = await upper.admin.operator.set_queue_full_policy("default", word)
            assert (view.queue_full_policy, upper.core.accounts[1].queue_full_policy) == (word, number)
        assert upper.reloaded().core.accounts[1].queue_full_policy == 3
        with pytest.raises(BadRequest, match="default, drop_newest, drop_oldest, refuse"):
            await upper.admin.operator.set_queue_full_policy("default", "panic")
        assert (await upper.admin.operator.set_queue_full_policy("default", "default")).queue_full_policy == "default"
        assert upper.core.accounts[1].queue_full_policy == 0

    run(body)
