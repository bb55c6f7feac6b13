"""Authorities of accounts: who may say so, whose devices they register, and how that ends; over a memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from broker.accounts.authenticator import DirectoryAuthenticator
from broker.accounts.authorities import AuthorityWish
from broker.accounts.device_description import DeviceChange, DeviceDescription
from broker.accounts.records import Authority, Device
from broker.doors import CertificateRule
from broker.errors import BadRequest, Conflict, NotFound, QuotaExceeded
from broker.ports import ConnectRequest, Grant, Refusal
from broker.reasons import ReasonCode
from broker.storage.tables import AUTHORITIES, DEVICES
from tests.support import pki
from tests.upper import Upper

ANY, OF_OTHER = 0, 1
NOW_S = int(datetime.now(UTC).timestamp())  # certificates of tests are of now
REFUSED = ReasonCode.NOT_AUTHORIZED


@cache
def ca() -> pki.Issued:
    return pki.authority("Pumps CA")


class Door:
    """An installation with two accounts, and devices that come with certificates."""

    def __init__(self, upper: Upper) -> None:
        self.pauses: list[float] = []
        self.enter(upper)

    def enter(self, upper: Upper) -> None:
        self.upper = upper
        self.book = upper.directory.authorities
        self.port = DirectoryAuthenticator(
            upper.directory,
            monotonic=lambda: upper.clock.monotonic / 10**9,
            sleep=self._pause,
            certificate_rules={ANY: CertificateRule(), OF_OTHER: CertificateRule("subject", "other")},
            wall_s=upper.clock.wall_s,
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def unproven(self, issued: pki.Issued | None = None, account_id: int = 1, **wish: str) -> Authority:
        pem = (issued or ca()).pem.decode()
        return await self.book.create(account_id, AuthorityWish("own", pem, **wish), NOW_S)

    async def proven(self, issued: pki.Issued | None = None, account_id: int = 1, **wish: str) -> Authority:
        issued = issued or ca()
        made = await self.unproven(issued, account_id, **wish)
        return await self.book.verify(account_id, made.authority_id, proof(made, issued), NOW_S)

    async def come(
        self, shown: pki.Issued, user_name: str | None = None, password: str | None = None, listener: int = ANY
    ) -> Grant | Refusal:
        secret = None if password is None else password.encode()
        request = ConnectRequest(listener, "192.0.2.1", 4, "c", user_name, secret, certificate=shown.der)
        return await self.port.authenticate(request)

    def device(self, device_id: str, account_id: int = 1) -> Device | None:
        return self.upper.directory.devices.find(account_id, device_id)

    def refusal(self, authority: Authority) -> str:
        found = self.upper.directory.enrolled.last_refusal(authority.account_id, authority.authority_id)
        return "" if found is None else found.code


def proof(authority: Authority, issued: pki.Issued, code: str = "") -> str:
    return pki.client(code or authority.code, issued).pem.decode()


def run(body: Callable[[Door], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper(now_s=NOW_S)
        await upper.bootstrap()
        await upper.directory.accounts.create("other", NOW_S)
        await body(Door(upper))

    asyncio.run(whole())


def code(outcome: Grant | Refusal) -> ReasonCode | None:
    return outcome.reason_code if isinstance(outcome, Refusal) else None


# ---------------------------------------------------------------- whose it is


def test_a_proven_authority_registers_whom_its_certificates_name() -> None:
    async def body(door: Door) -> None:
        authority = await door.proven(device_type="sensor", device_id_pattern="pump-*")
        for _ in range(2):
            granted = await door.come(pki.client("pump-7", ca()))  # another certificate each time: it was renewed
            assert isinstance(granted, Grant)
            assert (granted.account_id, granted.device_id) == (1, "pump-7")
        device = door.device("pump-7")
        assert device is not None
        assert (device.name, device.device_type, device.certificate_fingerprint) == ("pump-7", "sensor", "")
        assert door.upper.directory.enrolled.of(1, authority.authority_id).count == 1
        entries, _ = await door.upper.directory.audit.page(1, 1, 0)
        assert (entries[0].verb, entries[0].actor_kind, entries[0].actor_name) == (
            "register_device",
            "authority",
            "own",
        )
        door.enter(door.upper.restart())
        assert isinstance(await door.come(pki.client("pump-7", ca())), Grant)
        assert isinstance(await door.come(pki.client("pump-8", ca())), Grant)

    run(body)


def test_an_authority_that_is_not_proven_means_nothing_to_anybody() -> None:
    async def body(door: Door) -> None:
        await door.unproven(account_id=2)
        assert code(await door.come(pki.client("pump-7", ca()))) == REFUSED
        await door.proven()  # nobody keeps a place for it
        granted = await door.come(pki.client("pump-7", ca()))
        assert isinstance(granted, Grant)
        assert granted.account_id == 1

    run(body)


def test_a_proof_is_of_this_authority_for_this_code_and_of_now() -> None:
    async def body(door: Door) -> None:
        made, other = await door.unproven(), await door.unproven(account_id=2)
        stranger, day = pki.authority("Pumps CA"), timedelta(days=1)
        old = pki.issue(made.code, by=ca(), purposes=(), ends=datetime.now(UTC) - day / 2)
        for wrong in (
            proof(made, stranger),
            proof(made, ca(), other.code),
            proof(made, ca(), made.code.upper()),
            pki.issue(made.code).pem.decode(),
            old.pem.decode(),
            ca().pem.decode(),
            proof(made, ca()) + proof(made, ca()),
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "ü" * 20_000,
        ):
            with pytest.raises(BadRequest):
                await door.book.verify(1, made.authority_id, wrong, NOW_S)
        with pytest.raises(NotFound):
            await door.book.verify(2, made.authority_id, proof(made, ca()), NOW_S)
        assert not door.book.is_active(door.book.get(1, made.authority_id))

    run(body)


def test_a_proven_authority_is_of_one_account_alone_until_it_is_revoked() -> None:
    async def body(door: Door) -> None:
        first, second = await door.unproven(), await door.unproven(account_id=2)
        both = await asyncio.gather(
            door.book.verify(1, first.authority_id, proof(first, ca()), NOW_S),
            door.book.verify(2, second.authority_id, proof(second, ca()), NOW_S),
            return_exceptions=True,
        )
        assert [type(one) for one in both] == [Authority, Conflict]
        renewed = pki.issue("Pumps CA", key=ca().key, ca=True, purposes=())  # the same key, another certificate
        third = await door.unproven(renewed, account_id=2)
        with pytest.raises(Conflict):
            await door.book.verify(2, third.authority_id, proof(third, renewed), NOW_S)
        await door.upper.directory.revoke_authority(1, first.authority_id, NOW_S)
        await door.book.verify(2, second.authority_id, proof(second, ca()), NOW_S)
        granted = await door.come(pki.client("pump-7", ca()))
        assert isinstance(granted, Grant)
        assert granted.account_id == 2

    run(body)


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "none",
        pki.issue("leaf").pem.decode(),
        pki.issue("old", ca=True, ends=datetime.now(UTC) - timedelta(hours=1)).pem.decode(),
        pki.issue("soon", ca=True, begins=datetime.now(UTC) + timedelta(hours=1)).pem.decode(),
        pki.issue("weak", key=rsa.generate_private_key(65537, 1024), ca=True).pem.decode(),
        pki.authority().pem.decode() * 2,
        pki.authority().key_pem.decode(),
    ],
    ids=["empty", "none", "leaf", "old", "early", "weak", "two", "key"],
)
def test_what_is_no_authority_is_refused_and_nothing_is_stored(pem: str) -> None:
    async def body(door: Door) -> None:
        with pytest.raises(BadRequest) as refused:
            await door.book.create(1, AuthorityWish("own", pem), NOW_S)
        assert refused.value.field == "certificate"
        assert door.upper.store.load(AUTHORITIES) == []

    run(body)


def test_an_account_has_so_many_and_each_once() -> None:
    async def body(door: Door) -> None:
        door.book._maximum = 2
        first = await door.unproven()
        with pytest.raises(Conflict):
            await door.unproven()
        await door.unproven(pki.authority())
        with pytest.raises(QuotaExceeded):
            await door.unproven(pki.authority())
        await door.upper.directory.revoke_authority(1, first.authority_id, NOW_S)
        assert [one.authority_id for one in door.book.of(1)] != []
        with pytest.raises(NotFound):
            door.book.get(1, first.authority_id)  # it never meant anything
        assert await door.unproven()
        assert door.upper.reloaded().directory.authorities.of(1) == door.book.of(1)

    run(body)


# ---------------------------------------------------------------- who comes in


def test_what_an_authority_has_issued_is_for_its_own_account_alone() -> None:
    async def body(door: Door) -> None:
        devices = door.upper.directory.devices
        victim, _ = await devices.create(2, DeviceDescription("Victim", "sensor"), NOW_S)
        await door.proven()
        granted = await door.come(pki.client(victim.device_id, ca()))  # its id is unique, and no secret
        assert isinstance(granted, Grant)
        assert granted.account_id == 1
        assert granted.principal_id != victim.device_number
        bound = pki.client("pump-9", ca())
        await devices.change(2, victim.device_id, DeviceChange(certificate_fingerprint=bound.fingerprint), NOW_S)
        granted = await door.come(bound)
        assert isinstance(granted, Grant)
        assert granted.account_id == 1
        assert code(await door.come(pki.client("pump-10", ca()), listener=OF_OTHER)) == REFUSED
        assert door.device("pump-10") is None
        assert door.device("pump-10", 2) is None

    run(body)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("valve-7", "refused_authority_pattern"),
        ("pump 7", "refused_authority_id"),
        ("pump-#", "refused_authority_id"),
        ("p", "refused_authority_id"),
        ("bulk", "refused_authority_id"),
    ],
)
def test_a_name_that_no_device_of_it_can_have_registers_nobody(name: str, told: str) -> None:
    async def body(door: Door) -> None:
        authority = await door.proven(device_id_pattern="pump-*")
        assert code(await door.come(pki.client(name, ca()))) == REFUSED
        assert door.refusal(authority) == told
        assert door.upper.store.load(DEVICES) == []

    run(body)


def test_the_alternative_name_may_be_the_device_if_there_is_one_alone() -> None:
    async def body(door: Door) -> None:
        authority = await door.proven(names="san")
        granted = await door.come(pki.client("subject", ca(), "pump-7"))
        assert isinstance(granted, Grant)
        assert granted.device_id == "pump-7"
        assert code(await door.come(pki.client("subject", ca(), "pump-8", "pump-9"))) == REFUSED
        assert door.refusal(authority) == "refused_authority_id"

    run(body)


def test_a_device_that_is_bound_comes_by_its_own_certificate_alone() -> None:
    async def body(door: Door) -> None:
        authority, own = await door.proven(), pki.client("whatever", ca())
        described = DeviceDescription("Pump", "sensor", device_id="pump-7", certificate_fingerprint=own.fingerprint)
        await door.upper.directory.devices.create(1, described, NOW_S)
        assert code(await door.come(pki.client("pump-7", ca()))) == REFUSED
        assert door.refusal(authority) == "refused_authority_bound"
        granted = await door.come(own)
        assert isinstance(granted, Grant)
        assert granted.device_id == "pump-7"
        assert code(await door.come(own, "somebody")) == REFUSED
        assert code(await door.come(own, password="wrong")) == REFUSED

    run(body)


def test_a_revoked_authority_lets_nobody_in_cuts_who_came_by_it_and_leaves_its_devices() -> None:
    async def body(door: Door) -> None:
        authority = await door.proven()
        granted = await door.come(pki.client("pump-7", ca()))
        assert isinstance(granted, Grant)
        await door.upper.directory.revoke_authority(1, authority.authority_id, NOW_S)
        assert granted.credential in door.upper.core.removed
        await door.upper.directory.revoke_authority(1, authority.authority_id, NOW_S)  # again is no error
        for enter in (lambda: None, lambda: door.enter(door.upper.restart())):
            enter()
            for device_id in ("pump-7", "pump-8"):
                assert code(await door.come(pki.client(device_id, ca()))) == REFUSED
            assert door.device("pump-7") is not None
            assert door.device("pump-8") is None
        again = await door.proven()  # proven anew, by who still has the key
        assert again.authority_id != authority.authority_id
        assert isinstance(await door.come(pki.client("pump-8", ca())), Grant)

    run(body)


def test_an_authority_of_the_same_name_with_another_key_is_in_nobodys_way() -> None:
    async def body(door: Door) -> None:
        twin = pki.authority("Pumps CA")
        await door.proven(twin, account_id=2)
        await door.proven()
        for issued, account_id in ((ca(), 1), (twin, 2)):
            granted = await door.come(pki.client("pump-7", issued))
            assert isinstance(granted, Grant)
            assert granted.account_id == account_id

    run(body)


def test_two_connects_at_once_register_one_device_and_a_suspended_account_none() -> None:
    async def body(door: Door) -> None:
        authority, shown = await door.proven(), pki.client("pump-7", ca())
        both = await asyncio.gather(*(door.come(shown) for _ in range(3)))
        assert all(isinstance(one, Grant) for one in both)
        assert door.upper.directory.enrolled.of(1, authority.authority_id).count == 1
        await door.upper.directory.set_suspended(1, True)
        for device_id in ("pump-7", "pump-8"):
            assert code(await door.come(pki.client(device_id, ca()))) == REFUSED
        assert door.device("pump-8") is None

    run(body)
