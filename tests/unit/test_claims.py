"""Claim tokens: who is registered by one, once, and who is not; over a memory store, with invented time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.accounts.authenticator import DirectoryAuthenticator
from broker.accounts.claim_logins import is_drawn
from broker.accounts.claims import ClaimWish
from broker.accounts.device_description import DeviceDescription
from broker.accounts.id_patterns import check_pattern, matches
from broker.accounts.records import Device
from broker.config import RegistrationConfig
from broker.errors import BadRequest, Conflict, NotFound, QuotaExceeded, Unavailable
from broker.policy.credentials import credential
from broker.ports import ConnectRequest, Grant, Refusal
from broker.reasons import ReasonCode
from broker.storage.tables import AUDIT, DEVICES, ENROLLED
from tests.upper import NOW_S, SECRET, Upper

TLS, PLAIN = 0, 1
SOMEWHERE = "192.0.2.1"
REFUSED = ReasonCode.NOT_AUTHORIZED


class Door:
    """An installation, the claim tokens of its first account, and devices that come."""

    def __init__(self, upper: Upper) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.pauses: list[float] = []
        self.enter(upper)

    def enter(self, upper: Upper) -> None:
        self.upper = upper
        self.claims = upper.directory.claims
        self.port = DirectoryAuthenticator(
            upper.directory,
            monotonic=lambda: upper.clock.monotonic / 10**9,
            sleep=self._pause,
            wall_s=upper.clock.wall_s,
            claim_doors={TLS},
            tell=lambda name, **fields: self.events.append((name, fields)),
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def token(self, account_id: int = 1, **wish: Any) -> tuple[str, str]:
        claim, secret = await self.claims.create(account_id, ClaimWish("fleet", **wish), self.upper.clock.wall_s())
        return claim.claim_id, secret

    async def come(
        self, user_name: str, password: str, listener: int = TLS, address: str = SOMEWHERE
    ) -> Grant | Refusal:
        return await self.port.authenticate(
            ConnectRequest(listener, address, 4, "anything", user_name, password.encode())
        )

    async def claim(self, token: tuple[str, str], device_id: str, own: str, **where: Any) -> Grant | Refusal:
        return await self.come(f"{token[0]}.{device_id}", f"{token[1]}.{own}", **where)

    def device(self, device_id: str) -> Device | None:
        return self.upper.directory.devices.find(1, device_id)

    def uses(self, token: tuple[str, str]) -> int:
        return self.upper.directory.enrolled.of(1, token[0]).count

    def refusal(self, token: tuple[str, str]) -> str:
        found = self.upper.directory.enrolled.last_refusal(1, token[0])
        return "" if found is None else found.code


def own() -> str:
    return secrets.token_urlsafe(32)


def run(body: Callable[[Door], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(Door(upper))

    asyncio.run(whole())


def code(outcome: Grant | Refusal) -> ReasonCode | None:
    return outcome.reason_code if isinstance(outcome, Refusal) else None


# ---------------------------------------------------------------- who comes in


def test_a_device_is_registered_by_its_first_connect_and_goes_on_with_its_own_password() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(device_type="sensor"), own()
        first = await door.claim(token, "pump-7", password)
        assert isinstance(first, Grant)
        assert (first.account_id, first.device_id, first.principal) == (1, "pump-7", "pump-7")
        device = door.device("pump-7")
        assert device is not None
        assert (device.name, device.device_type, device.user_name) == ("pump-7", "sensor", f"{token[0]}.pump-7")
        digest = credential(SECRET, device.user_name, password.encode())
        assert first.credential == digest
        assert digest in door.upper.core.grants  # from now on the core knows it by itself
        assert isinstance(await door.come(device.user_name, password), Grant)
        assert isinstance(await door.claim(token, "pump-7", password), Grant)  # and so does who sends the same again
        assert door.uses(token) == 1
        assert [name for name, _ in door.events] == ["device_registered"]
        assert not any(token[1] in str(fields) or password in str(fields) for _, fields in door.events)

    run(body)


def test_what_is_registered_outlives_a_crash_right_behind_its_commit() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(uses_maximum=1), own()
        door.upper.store.delay()
        coming = asyncio.create_task(door.claim(token, "pump-7", password))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not coming.done()  # a grant before the disk has it would be a promise that a crash breaks
        assert door.device("pump-7") is None
        door.upper.store.commit(1)
        coming.cancel()  # the process ends before its CONNACK
        door.enter(door.upper.restart())
        assert door.uses(token) == 1
        again = await door.claim(token, "pump-7", password)
        assert isinstance(again, Grant)
        assert door.uses(token) == 1
        assert door.upper.directory.devices.count(1) == 1

    run(body)


def test_a_crash_before_the_commit_leaves_nothing() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(uses_maximum=1), own()
        door.upper.store.delay()
        coming = asyncio.create_task(door.claim(token, "pump-7", password))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        coming.cancel()
        door.enter(door.upper.restart())
        assert (door.device("pump-7"), door.uses(token)) == (None, 0)
        assert isinstance(await door.claim(token, "pump-7", password), Grant)

    run(body)


def test_two_connects_of_a_device_at_once_register_it_once() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(uses_maximum=1), own()
        both = await asyncio.gather(*(door.claim(token, "pump-7", password) for _ in range(3)))
        assert all(isinstance(one, Grant) for one in both)
        assert door.uses(token) == 1

    run(body)


def test_who_gives_up_waiting_is_registered_all_the_same() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(), own()
        coming = asyncio.create_task(door.claim(token, "pump-7", password))
        await asyncio.sleep(0)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        assert isinstance(await door.claim(token, "pump-7", password), Grant)
        assert door.uses(token) == 1

    run(body)


def test_its_entry_in_the_audit_log_names_the_token_and_is_in_the_same_transaction() -> None:
    async def body(door: Door) -> None:
        token = await door.token()
        before = {table: len(door.upper.store.load(table)) for table in (AUDIT, DEVICES, ENROLLED)}
        commits = door.upper.store.figures()["commits"]
        await door.claim(token, "pump-7", own())
        assert door.upper.store.figures()["commits"] == commits + 1
        for table, count in before.items():
            assert len(door.upper.store.load(table)) == count + 1
        entries, _ = await door.upper.directory.audit.page(1, 1, 0)
        (entry,) = entries
        assert (entry.verb, entry.target, entry.actor_kind) == ("register_device", "pump-7", "claim_token")
        assert (entry.actor_name, entry.address) == ("fleet", SOMEWHERE)
        timeline, _ = await door.upper.directory.devices.timeline.read(door.device("pump-7").device_number, 9)  # type: ignore[union-attr]
        assert [one.code for one in timeline] == ["registered_by_claim"]

    run(body)


# ---------------------------------------------------------------- who does not


@pytest.mark.parametrize(
    ("device_id", "password", "told", "reason_code"),
    [
        ("pump-7", "short", "refused_claim_password", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("pump-7", "", "refused_claim_password", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("pump-7", "a" * 43, "refused_claim_password", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("pump-7", "a b" * 20, "refused_claim_password", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("pump-7", "x" + "0123456789" * 13, "refused_claim_password", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("", None, "refused_claim_id", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("p", None, "refused_claim_id", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("bulk", None, "refused_claim_id", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("pump-#", None, "refused_claim_id", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("pump-7/x", None, "refused_claim_id", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("pump-7.x", None, "refused_claim_id", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("pump-" + "7" * 60, None, "refused_claim_id", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("valve-7", None, "refused_claim_pattern", REFUSED),
    ],
)
def test_what_no_device_can_be_is_not_registered(
    device_id: str, password: str | None, told: str, reason_code: ReasonCode
) -> None:
    async def body(door: Door) -> None:
        token = await door.token(device_id_pattern="pump-*")
        before = door.upper.store.load(DEVICES)
        outcome = await door.claim(token, device_id, own() if password is None else password)
        assert (code(outcome), door.refusal(token), door.uses(token)) == (reason_code, told, 0)
        assert door.upper.store.load(DEVICES) == before

    run(body)


def test_a_token_that_has_ended_registers_nobody_and_its_devices_stay() -> None:
    async def body(door: Door) -> None:
        for end, told in (
            ("revoke", "refused_claim_revoked"),
            ("expire", "refused_claim_expired"),
            ("use up", "refused_claim_used_up"),
        ):
            password, first = own(), end.replace(" ", "-")
            now_s = door.upper.clock.wall_s()
            token = await door.token(
                expires_at=now_s + 10 if end == "expire" else 0, uses_maximum=1 if end == "use up" else 0
            )
            assert isinstance(await door.claim(token, first, password), Grant)
            if end == "revoke":
                await door.claims.revoke(1, token[0], now_s)
                await door.claims.revoke(1, token[0], now_s)  # again is no error
            door.upper.clock.pass_s(10)
            assert code(await door.claim(token, "next-one", own())) == REFUSED
            assert door.refusal(token) == told
            assert isinstance(await door.claim(token, first, password), Grant)
            assert isinstance(await door.come(f"{token[0]}.{first}", password), Grant)
        assert door.device("next-one") is None

    run(body)


def test_a_revocation_on_its_way_to_disk_lets_nobody_in_between() -> None:
    async def body(door: Door) -> None:
        token = await door.token()
        door.upper.store.delay()
        revoking = asyncio.create_task(door.claims.revoke(1, token[0], NOW_S))
        await asyncio.sleep(0)
        assert code(await door.claim(token, "pump-7", own())) == REFUSED
        door.upper.store.fail(OSError("gone"), 1)
        door.upper.store.release()
        with pytest.raises(Unavailable):
            await revoking
        assert isinstance(await door.claim(token, "pump-7", own()), Grant)  # nothing was revoked

    run(body)


def test_guessing_is_slowed_by_address_and_token_whatever_device_is_named() -> None:
    async def body(door: Door) -> None:
        token = await door.token()
        for number in range(5):
            guessed = token[0], "0" * 40
            assert code(await door.claim(guessed, f"pump-{number}", own())) == REFUSED
        assert door.pauses == [0.125, 0.25]
        assert door.refusal(token) == ""  # who has not the secret writes nothing
        assert isinstance(await door.claim(token, "pump-7", own()), Grant)
        assert code(await door.come("claim_nobody.pump-7", f"{token[1]}.{own()}")) == REFUSED
        assert code(await door.come(f"{token[0]}.pump-8", own())) == REFUSED  # without the secret
        assert code(await door.come(token[0], f"{token[1]}.{own()}")) == REFUSED  # without a device
        assert door.device("pump-8") is None

    run(body)


def test_an_id_that_is_taken_is_not_given_away() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(), own()
        await door.upper.directory.devices.create(1, DeviceDescription("There", "sensor", device_id="there"), NOW_S)
        assert code(await door.claim(token, "there", own())) == REFUSED
        assert door.refusal(token) == "refused_claim_taken"
        await door.claim(token, "pump-7", password)
        assert code(await door.claim(token, "pump-7", own())) == REFUSED  # another device, or one that forgot
        other = await door.token()
        assert code(await door.claim(other, "pump-7", password)) == REFUSED
        for device_id, count in (("there", 1), ("pump-7", 2)):
            device = door.device(device_id)
            assert device is not None
            entries, _ = await door.upper.directory.devices.timeline.read(device.device_number, 9)
            assert sum(one.count for one in entries if one.code == "refused_claim_taken") == count
        await door.upper.directory.devices.delete(1, "pump-7")
        assert isinstance(await door.claim(other, "pump-7", own()), Grant)

    run(body)


def test_limits_of_the_plan_and_the_pace_are_told_apart() -> None:
    async def body(door: Door) -> None:
        enrolment = door.upper.directory.enrolment
        enrolment._burst, enrolment._per_s = 2, 1.0
        await door.upper.directory.set_plan(1, "free")
        token = await door.token()
        for number in range(2):
            assert isinstance(await door.claim(token, f"pump-{number}", own()), Grant)
        outcome = await door.claim(token, "pump-2", own())
        assert (code(outcome), door.refusal(token)) == (ReasonCode.CONNECTION_RATE_EXCEEDED, "refused_claim_rate")
        door.upper.clock.pass_s(1)
        assert isinstance(await door.claim(token, "pump-2", own()), Grant)
        devices = door.upper.directory.devices
        for number in range(97):
            await devices.create(1, DeviceDescription("Filling", "sensor", device_id=f"filling-{number}"), NOW_S)
        door.upper.clock.pass_s(1)
        outcome = await door.claim(token, "pump-3", own())
        assert (code(outcome), door.refusal(token)) == (ReasonCode.QUOTA_EXCEEDED, "refused_claim_plan")
        assert door.uses(token) == 3

    run(body)


def test_a_disk_that_takes_nothing_registers_nobody_and_counts_nobody() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(uses_maximum=1), own()
        door.upper.store.fail(OSError("gone"), 1)
        outcome = await door.claim(token, "pump-7", password)
        assert (code(outcome), door.uses(token)) == (ReasonCode.SERVER_UNAVAILABLE, 0)
        assert isinstance(await door.claim(token, "pump-7", password), Grant)

    run(body)


def test_a_secret_of_a_whole_fleet_is_taken_by_tls_or_from_this_machine_alone() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(), own()
        assert code(await door.claim(token, "pump-7", password, listener=PLAIN)) == REFUSED
        assert door.refusal(token) == "refused_claim_elsewhere"
        assert isinstance(await door.claim(token, "pump-7", password, listener=PLAIN, address="127.0.0.1"), Grant)
        assert isinstance(await door.come(f"{token[0]}.pump-7", password, listener=PLAIN), Grant)

    run(body)


def test_a_suspended_account_registers_nobody() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(), own()
        await door.claim(token, "pump-7", password)
        await door.upper.directory.set_suspended(1, True)
        for device_id in ("pump-7", "pump-8"):
            assert code(await door.claim(token, device_id, password)) == REFUSED
        assert door.device("pump-8") is None

    run(body)


def test_a_rotated_password_ends_the_one_that_the_device_has_drawn() -> None:
    async def body(door: Door) -> None:
        token, password = await door.token(), own()
        granted = await door.claim(token, "pump-7", password)
        assert isinstance(granted, Grant)
        _, new = await door.upper.directory.devices.rotate(1, "pump-7", 0, NOW_S)
        assert granted.credential in door.upper.core.removed
        assert code(await door.claim(token, "pump-7", password)) == REFUSED
        assert isinstance(await door.come(f"{token[0]}.pump-7", new), Grant)

    run(body)


# ---------------------------------------------------------------- tokens


def test_tokens_are_an_accounts_own_and_bounded_and_the_oldest_that_ended_are_forgotten() -> None:
    async def body(door: Door) -> None:
        claims = door.claims
        claims._maximum = 2
        other = await door.upper.directory.accounts.create("other", NOW_S)
        first, second = await door.token(), await door.token()
        with pytest.raises(QuotaExceeded):
            await door.token()
        foreign = await door.token(other.account_id)
        for one in (foreign[0], "claim_nobody"):
            with pytest.raises(NotFound):
                claims.get(1, one)
        for token in (first, second):
            await claims.revoke(1, token[0], NOW_S)
        door.upper.clock.pass_s(1)
        third = await door.token()
        assert claims.of(1)[0].claim_id == third[0]
        assert len(claims.of(1)) == 2  # one of the two that had ended is on record no more
        reloaded = door.upper.reloaded().directory.claims
        assert reloaded.of(1) == claims.of(1)
        assert first[1] not in str(door.upper.store._tables)

    run(body)


@pytest.mark.parametrize(
    "wish",
    [
        ClaimWish(""),
        ClaimWish("x" * 65),
        ClaimWish("n", device_id_pattern=""),
        ClaimWish("n", device_id_pattern="pump-?"),
        ClaimWish("n", device_id_pattern="*" * 65),
        ClaimWish("n", uses_maximum=-1),
        ClaimWish("n", uses_maximum=10**9 + 1),
        ClaimWish("n", expires_at=NOW_S),
        ClaimWish("n", expires_at=NOW_S - 1),
    ],
)
def test_what_no_token_can_be_is_refused_and_nothing_is_stored(wish: ClaimWish) -> None:
    async def body(door: Door) -> None:
        before = dict(door.upper.store._tables)
        with pytest.raises(BadRequest):
            await door.claims.create(1, wish, NOW_S)
        assert door.upper.store._tables == before

    run(body)


def test_a_claim_of_a_device_that_is_being_registered_elsewhere_is_a_conflict_and_told_so() -> None:
    async def body(door: Door) -> None:
        token = await door.token()
        door.upper.store.delay()
        described = DeviceDescription("By REST", "sensor", device_id="pump-7")
        creating = asyncio.create_task(door.upper.directory.devices.create(1, described, NOW_S))
        await asyncio.sleep(0)
        assert code(await door.claim(token, "pump-7", own())) == REFUSED
        door.upper.store.release()
        await creating
        with pytest.raises(Conflict):
            door.upper.directory.devices.begin(1, replace(described, name="Again"), NOW_S)

    run(body)


# ---------------------------------------------------------------- words

ID_TEXT = st.text("ab-_", max_size=8)


@given(pattern=st.text("ab-_*", min_size=1, max_size=8), device_id=ID_TEXT)
def test_a_star_is_any_number_of_characters(pattern: str, device_id: str) -> None:
    assert matches(check_pattern(pattern), device_id) == fnmatchcase(device_id, pattern)


@given(st.binary(min_size=32, max_size=32))
def test_random_bytes_in_hexadecimal_digits_are_a_password(drawn: bytes) -> None:
    text = drawn.hex()
    assert is_drawn(text) == (len(set(text)) >= 10)


def test_the_configuration_bounds_what_an_account_may_have() -> None:
    assert RegistrationConfig().claim_tokens_per_account_maximum == 100
