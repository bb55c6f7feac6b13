"""Rules of admin keys: durable, bounded, and of no account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.accounts import admin_keys as admin_keys_module
from broker.errors import AuthFailed, BadRequest, QuotaExceeded, Unavailable
from broker.policy.credentials import admin_key_digest, api_key_digest, certificate_credential, credential
from broker.storage.numbers import HighestNumbers
from broker.storage.tables import ADMIN_KEYS
from tests.upper import NOW_S, SECRET, Upper


def run(body: Callable[[Upper], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(upper)

    asyncio.run(whole())


def test_an_admin_key_outlives_the_process_and_only_its_digest_is_stored() -> None:
    async def body(upper: Upper) -> None:
        view, text = await upper.admin.admin_keys.create("ops")
        assert text.encode() not in b"".join(value for _, value in upper.store.load(ADMIN_KEYS))
        context = upper.restart().admin.access.admin_key(text)
        assert (context.key_id, context.key_name, context.account_id, context.is_admin) == (view.key_id, "ops", 0, True)
        assert context.scopes == ()

    run(body)


def test_what_could_not_be_stored_is_no_admin_key() -> None:
    async def body(upper: Upper) -> None:
        upper.store.fail(OSError("disk"))
        with pytest.raises(Unavailable):
            await upper.admin.admin_keys.create("ops")
        assert await upper.admin.admin_keys.all() == []
        upper.store.fail(None)
        view, text = await upper.admin.admin_keys.create("ops")
        upper.store.fail(OSError("disk"))
        with pytest.raises(Unavailable):
            await upper.admin.admin_keys.revoke(view.key_id)
        assert upper.admin.access.admin_key(text)

    run(body)


def test_a_clock_that_is_set_back_revives_nothing() -> None:
    async def body(upper: Upper) -> None:
        _, text = await upper.admin.admin_keys.create("ops", NOW_S + 5)
        for seconds in (5, -3):
            upper.clock.pass_s(seconds)
            with pytest.raises(AuthFailed):
                upper.admin.access.admin_key(text)

    run(body)


@pytest.mark.parametrize(("name", "expires_at"), [("", 0), ("a/b", 0), ("a", NOW_S), ("a", NOW_S + 10**11)])
def test_a_wrong_admin_key_is_refused(name: str, expires_at: int) -> None:
    async def body(upper: Upper) -> None:
        with pytest.raises(BadRequest):
            await upper.admin.admin_keys.create(name, expires_at)
        assert upper.store.load(ADMIN_KEYS) == []

    run(body)


def test_as_many_as_allowed_and_the_oldest_ended_one_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_keys_module, "VALID_MAXIMUM", 2)
    monkeypatch.setattr(admin_keys_module, "RECORDS_MAXIMUM", 3)

    async def body(upper: Upper) -> None:
        verbs = upper.admin.admin_keys
        first, _ = await verbs.create("a")
        await verbs.create("b")
        with pytest.raises(QuotaExceeded):
            await verbs.create("c")
        for name in ("c", "d"):
            await verbs.revoke(first.key_id)
            first, _ = await verbs.create(name)
        for floors in (upper, upper.reloaded()):
            assert [key.name for key in await floors.admin.admin_keys.all()] == ["b", "c", "d"]

    run(body)


def test_its_number_is_nobody_elses_also_after_a_rescue() -> None:
    async def body(upper: Upper) -> None:
        view, _ = await upper.admin.admin_keys.create("ops")
        key, _ = await upper.admin.keys.create(1, "app")
        assert key.key_id > view.key_id
        highest = HighestNumbers()
        highest.look([(ADMIN_KEYS, *row) for row in upper.store.load(ADMIN_KEYS)])
        assert highest._principal == view.key_id

    run(body)


def test_its_digest_is_that_of_no_credential() -> None:
    words = ("", "x", "apikey", "admin key")
    digest = admin_key_digest(SECRET, "x")
    assert digest not in {credential(SECRET, one, other.encode()) for one in words for other in words}
    assert digest not in {api_key_digest(SECRET, "x"), certificate_credential(SECRET, 1, "x")}
