"""Rules of API keys over time: expiry, rights of one name, bounds, and when each was last used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.accounts import keys as keys_module
from broker.errors import AuthFailed, BadRequest, Conflict, QuotaExceeded
from broker.policy.key_rights import checked_rights
from broker.ports import Grant
from tests.upper import NOW_S, Upper

READER = checked_rights(["subscribe"], ["devices/+/telemetry/#"])


def run(body: Callable[[Upper], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(upper)

    asyncio.run(whole())


def refused(upper: Upper, text: str) -> bool:
    try:
        upper.admin.access.account_key(text)
    except AuthFailed:
        return True
    return False


def test_a_key_ends_at_its_moment_over_http_and_in_the_grant_table() -> None:
    async def body(upper: Upper) -> None:
        key, text = await upper.directory.keys.create(1, "app", NOW_S, expires_at=NOW_S + 10)
        upper.clock.pass_s(9)
        upper.directory.end_overdue(upper.clock.wall_s())
        assert not refused(upper, text)
        assert key.digest in upper.core.grants
        upper.clock.pass_s(1)
        assert refused(upper, text)  # over HTTP at once, before anybody has looked
        upper.directory.end_overdue(upper.clock.wall_s())
        assert upper.core.removed == [key.digest]
        assert upper.directory.grant_for("apikey", text.encode()) is None

    run(body)


def test_an_ended_key_stays_ended_after_a_restart_and_when_the_clock_is_set_back() -> None:
    async def body(upper: Upper) -> None:
        key, text = await upper.directory.keys.create(1, "app", NOW_S, expires_at=NOW_S + 10)
        upper.clock.pass_s(10)
        restarted = upper.restart()
        assert refused(restarted, text)
        assert key.digest not in restarted.core.grants
        restarted.clock.wall -= 5
        assert refused(restarted, text)

    run(body)


def test_an_expired_key_can_be_revoked_and_its_name_given_again() -> None:
    async def body(upper: Upper) -> None:
        keys = upper.directory.keys
        key, _ = await keys.create(1, "app", NOW_S, expires_at=NOW_S + 10)
        upper.clock.pass_s(10)
        upper.directory.end_overdue(upper.clock.wall_s())
        assert (await keys.revoke(key.key_id, NOW_S + 20)).revoked_at == NOW_S + 20
        later, _ = await keys.create(1, "app", NOW_S + 20, READER)
        assert later.principal_id == key.principal_id

    run(body)


@pytest.mark.parametrize("moment", [NOW_S, NOW_S - 1, 1, -1, NOW_S + 10**11])
def test_a_moment_that_has_passed_or_is_too_far_is_refused(moment: int) -> None:
    async def body(upper: Upper) -> None:
        before = upper.store.load("keys")
        with pytest.raises(BadRequest, match="expires_at"):
            await upper.directory.keys.create(1, "app", NOW_S, expires_at=moment)
        assert upper.store.load("keys") == before

    run(body)


def test_rights_become_a_grant_and_outlive_the_process() -> None:
    async def body(upper: Upper) -> None:
        key, _ = await upper.directory.keys.create(1, "app", NOW_S, READER, NOW_S + 99)
        for floors in (upper, upper.restart()):
            grant: Grant = floors.core.grants[key.digest]
            assert grant.policy == READER.policy()
            assert floors.directory.keys.rights(floors.directory.keys.get(key.key_id)) == READER
            assert floors.directory.keys.get(key.key_id).expires_at == NOW_S + 99

    run(body)


def test_a_key_that_may_do_nothing_over_mqtt_is_in_no_grant_table() -> None:
    async def body(upper: Upper) -> None:
        key, text = await upper.directory.keys.create(1, "watcher", NOW_S, checked_rights(["usage:read"]))
        assert upper.directory.grant_for("apikey", text.encode()) is None
        await upper.directory.set_suspended(1, True)
        await upper.directory.set_suspended(1, False)
        assert key.digest not in upper.core.grants
        assert not refused(upper, text)

    run(body)


def test_valid_keys_of_one_name_have_the_same_rights() -> None:
    async def body(upper: Upper) -> None:
        keys = upper.directory.keys
        first, _ = await keys.create(1, "app", NOW_S, READER)
        second, _ = await keys.create(1, "app", NOW_S, READER)
        assert first.principal_id == second.principal_id
        with pytest.raises(Conflict):
            await keys.create(1, "app", NOW_S)
        await keys.create(1, "other", NOW_S)
        await keys.revoke(first.key_id, NOW_S)
        with pytest.raises(Conflict):
            await keys.create(1, "app", NOW_S)
        await keys.revoke(second.key_id, NOW_S)
        third, _ = await keys.create(1, "app", NOW_S)
        assert third.principal_id == first.principal_id

    run(body)


def test_two_at_once_cannot_give_one_name_different_rights() -> None:
    async def body(upper: Upper) -> None:
        keys = upper.directory.keys
        made = await asyncio.gather(
            keys.create(1, "app", NOW_S, READER), keys.create(1, "app", NOW_S), return_exceptions=True
        )
        assert [isinstance(one, Conflict) for one in made] == [False, True]

    run(body)


def test_an_account_has_as_many_valid_keys_as_allowed_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "VALID_MAXIMUM", 3)

    async def body(upper: Upper) -> None:
        keys = upper.directory.keys
        second, _ = await keys.create(1, "b", NOW_S)
        await keys.create(1, "c", NOW_S)
        with pytest.raises(QuotaExceeded):
            await keys.create(1, "d", NOW_S)
        other = await upper.directory.accounts.create("other", NOW_S)
        await keys.create(other.account_id, "d", NOW_S)
        await keys.revoke(second.key_id, NOW_S)
        await keys.create(1, "d", NOW_S)

    run(body)


def test_of_too_many_ended_keys_the_oldest_is_forgotten_and_names_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "RECORDS_MAXIMUM", 4)

    async def body(upper: Upper) -> None:
        keys = upper.directory.keys
        ended = []
        for name in ("alone", "app", "app"):
            key, text = await keys.create(1, name, NOW_S)
            upper.admin.access.account_key(text)
            await keys.revoke(key.key_id, NOW_S)
            ended.append(key)
        await upper.admin.persist_seen()
        newest, _ = await keys.create(1, "new", NOW_S)
        for floors in (upper, upper.reloaded()):
            left = [key.key_id for key in floors.directory.keys.all(1)]
            assert left == [1, ended[0].key_id, ended[2].key_id, newest.key_id]
        again, _ = await keys.create(1, "app", NOW_S)  # now the one whose name nobody else has goes
        assert again.principal_id == ended[1].principal_id
        assert ended[0].key_id not in keys
        seen = {int.from_bytes(number, "big") for number, _ in upper.store.load("seen")}
        assert seen == {ended[2].key_id}

    run(body)


def test_use_over_mqtt_counts_as_use_and_outlives_revocation_and_restart() -> None:
    async def body(upper: Upper) -> None:
        made, text = await upper.admin.keys.create(1, "app")
        digest = upper.directory.keys.get(made.key_id).digest
        assert (await upper.admin.keys.show(made.key_id)).last_used_at is None
        upper.core.used[digest] = upper.clock.monotonic_ns()
        upper.clock.pass_s(50)
        assert (await upper.admin.keys.show(made.key_id)).last_used_at == NOW_S
        upper.admin.access.account_key(text)
        assert (await upper.admin.keys.show(made.key_id)).last_used_at == NOW_S + 50
        upper.clock.pass_s(50)
        upper.core.used[digest] = upper.clock.monotonic_ns()
        await upper.admin.keys.revoke(made.key_id)
        upper.core.used.clear()
        await upper.admin.persist_seen()
        assert (await upper.restart().admin.keys.show(made.key_id)).last_used_at == NOW_S + 100

    run(body)


def test_use_that_could_not_be_stored_is_stored_later_and_newer_use_wins() -> None:
    async def body(upper: Upper) -> None:
        _, text = await upper.admin.keys.create(1, "app")
        upper.admin.access.account_key(text)
        upper.store.delay()
        flushing = asyncio.create_task(upper.directory.flush())
        await asyncio.sleep(0)
        upper.clock.pass_s(7)
        upper.admin.access.account_key(text)
        upper.store.fail(OSError("disk"))
        upper.store.release()
        with pytest.raises(Exception, match="stored"):
            await flushing
        upper.store.fail(None)
        await upper.directory.flush()
        (view,) = [one for one in await upper.reloaded().admin.keys.all() if one.name == "app"]
        assert view.last_used_at == NOW_S + 7

    run(body)
