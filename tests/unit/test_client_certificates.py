"""What a client's certificate says, which device it stands for, and when that ends; over a memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache

import msgpack
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from broker.accounts.authenticator import DirectoryAuthenticator
from broker.accounts.certificates import comparable_name, read_certificate
from broker.accounts.device_description import DeviceChange, DeviceDescription
from broker.accounts.records import Device
from broker.assembly.judging import _judgement
from broker.doors import CertificateRule
from broker.errors import BadRequest, Conflict, NotFound, Unavailable
from broker.ports import ConnectRequest, Grant, Policy, Refusal
from broker.reasons import ReasonCode
from tests.support import pki
from tests.upper import NOW_S, Upper

BY_SUBJECT, BY_SAN, PLAIN, OF_DEFAULT = 0, 1, 2, 3
REFUSED = Refusal(ReasonCode.NOT_AUTHORIZED)


@cache
def ca() -> pki.Issued:
    return pki.authority("Devices CA")


class Door:
    """An installation with devices, and listeners by which they come."""

    def __init__(self, upper: Upper) -> None:
        self.upper = upper
        self.devices = upper.directory.devices
        self.pauses: list[float] = []
        self.port = DirectoryAuthenticator(
            upper.directory,
            monotonic=lambda: 0.0,
            sleep=self._pause,
            certificate_rules={
                BY_SUBJECT: CertificateRule("subject"),
                BY_SAN: CertificateRule("san"),
                OF_DEFAULT: CertificateRule("subject", "default"),
            },
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def device(
        self, device_id: str = "", bound: pki.Issued | None = None, account: int = 1
    ) -> tuple[Device, str]:
        fingerprint = "" if bound is None else bound.fingerprint
        described = DeviceDescription("Probe", "sensor", device_id=device_id, certificate_fingerprint=fingerprint)
        return await self.devices.create(account, described, NOW_S)

    async def come(
        self,
        shown: pki.Issued | bytes = b"",
        user_name: str | None = None,
        password: str | None = None,
        listener: int = BY_SUBJECT,
    ) -> Grant | Refusal:
        der = shown if isinstance(shown, bytes) else shown.der
        secret = None if password is None else password.encode()
        return await self.port.authenticate(
            ConnectRequest(listener, "192.0.2.1", 5, "c", user_name, secret, certificate=der)
        )

    async def comes_as(self, *arguments: object, listener: int = BY_SUBJECT) -> int | None:
        """The number of the device as which a client is let in."""
        outcome = await self.come(*arguments, listener=listener)  # type: ignore[arg-type]
        return outcome.principal_id if isinstance(outcome, Grant) else None


def run(body: Callable[[Door], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        await body(Door(upper))

    asyncio.run(whole())


# ---------------------------------------------------------------- reading


def test_a_certificate_is_known_by_its_digest_issuer_and_number() -> None:
    one = pki.client("pump", ca())
    read = read_certificate(one.der)
    assert read.fingerprint == one.fingerprint
    assert read.issuer == comparable_name(ca().certificate.subject)
    assert read.serial == one.certificate.serial_number
    assert (read.common_names, read.alternative_names) == (("pump",), ())


def test_alternative_names_are_dns_names_and_uris_and_nothing_else() -> None:
    one = pki.client(
        "subject",
        ca(),
        "pump-1",
        x509.UniformResourceIdentifier("urn:iot:device:pump-2"),
        x509.UniformResourceIdentifier("URN:uuid:pump-3"),
        x509.UniformResourceIdentifier("pump-4"),
        x509.UniformResourceIdentifier("https://example.org/pump-5"),
        x509.RFC822Name("pump-6@example.org"),
    )
    read = read_certificate(one.der)
    assert read.names("san") == ("pump-1", "pump-2", "pump-3", "pump-4", "https://example.org/pump-5")
    assert read.names("subject") == ("subject",)


@cache
def whole() -> bytes:
    return pki.client("pump", ca(), "pump", x509.UniformResourceIdentifier("urn:a:b")).der


@given(st.integers(0, 1000), st.integers(0, 3), st.binary(max_size=4))
def test_whatever_stands_in_a_certificates_place_is_read_or_refused(at: int, removed: int, added: bytes) -> None:
    der = bytearray(whole())
    at %= len(der)
    der[at : at + removed] = added
    try:
        read_certificate(bytes(der))
    except ValueError:
        return


def test_a_certificate_that_cannot_be_read_is_refused_and_counted() -> None:
    async def body(door: Door) -> None:
        _, password = await door.device("pump")
        for shown in (b"\x30\x00", pki.client("pump", ca()).der[:-9], b"x" * 5000, b"\x00"):
            assert await door.come(shown, "pump", password) == REFUSED
        assert door.pauses == [0.125]

    run(body)


# ---------------------------------------------------------------- which device


def test_a_device_that_is_bound_comes_in_by_its_certificate_alone_whatever_that_names() -> None:
    async def body(door: Door) -> None:
        shown = pki.client("somebody else", ca())
        await door.device("somebody else")
        device, _ = await door.device("pump", bound=shown)
        assert await door.comes_as(shown) == device.device_number
        grant = await door.come(shown)
        assert isinstance(grant, Grant)
        assert (grant.device_id, grant.principal) == ("pump", "pump")
        assert door.upper.core.grants[grant.credential] == replace(grant, credential=b"")
        assert grant.credential != device.digest

    run(body)


@pytest.mark.parametrize("chosen", ["", "pump-1"])
def test_an_unbound_device_comes_in_by_what_names_it_where_its_listener_looks(chosen: str) -> None:
    async def body(door: Door) -> None:
        device, _ = await door.device(chosen)
        by_subject = pki.client(device.device_id, ca(), "another")
        by_san = pki.client("another", ca(), "another", device.device_id)
        by_uri = pki.client("another", ca(), x509.UniformResourceIdentifier(f"urn:x:{device.device_id}"))
        assert await door.comes_as(by_subject) == device.device_number
        assert await door.comes_as(by_subject, listener=BY_SAN) is None
        for one in (by_san, by_uri):
            assert await door.comes_as(one, listener=BY_SAN) == device.device_number
            assert await door.comes_as(one) is None

    run(body)


def test_a_user_name_that_a_chosen_id_got_is_no_name_of_the_device() -> None:
    async def body(door: Door) -> None:
        device, _ = await door.device("pump-1")
        assert await door.comes_as(pki.client(device.user_name, ca())) is None

    run(body)


def test_a_name_of_several_devices_means_none_and_a_generated_id_cannot_be_shadowed() -> None:
    async def body(door: Door) -> None:
        await door.upper.directory.accounts.create("other", NOW_S)
        await door.device("pump-1")
        generated, _ = await door.device()
        two, one = await door.device("pump-1", account=2), pki.client("pump-1", ca())
        await door.device(generated.device_id, account=2)
        assert await door.comes_as(one) is None
        assert await door.comes_as(pki.client(generated.device_id, ca())) == generated.device_number
        both = pki.client("x", ca(), "pump-2", generated.device_id)
        await door.device("pump-2")
        assert await door.comes_as(both, listener=BY_SAN) is None
        await door.devices.delete(1, "pump-1")
        assert await door.comes_as(one) == two[0].device_number

    run(body)


def test_another_certificate_does_not_stand_for_a_device_that_is_bound() -> None:
    async def body(door: Door) -> None:
        right, wrong = pki.client("pump", ca()), pki.client("pump", ca())
        device, password = await door.device("pump", bound=right)
        assert await door.comes_as(right) == device.device_number
        assert await door.comes_as(wrong) is None
        assert await door.comes_as(wrong, device.user_name, password) is None

    run(body)


def test_what_a_connect_says_beside_its_certificate_has_to_be_right() -> None:
    async def body(door: Door) -> None:
        shown = pki.client("pump", ca())
        device, password = await door.device("pump")
        other, others_password = await door.device()
        for user_name, secret, is_in in (
            (None, None, True),
            (device.user_name, None, True),
            (device.user_name, password, True),
            (None, password, True),
            (device.user_name, "wrong", False),
            (None, others_password, False),
            ("", None, False),
            ("pump", None, False),
            (other.user_name, others_password, False),
            ("apikey", None, False),
        ):
            expected = device.device_number if is_in else None
            assert await door.comes_as(shown, user_name, secret) == expected, (user_name, secret)

    run(body)


# ---------------------------------------------------------------- passwords beside certificates


def test_behind_a_certificate_that_names_nobody_passwords_are_judged_as_ever() -> None:
    async def body(door: Door) -> None:
        shown = pki.client("nobody", ca())
        device, password = await door.device("pump")
        outcome = await door.come(shown, device.user_name, password)
        assert isinstance(outcome, Grant)
        assert (outcome.principal_id, outcome.credential) == (device.device_number, b"")
        assert await door.come(shown, device.user_name, "wrong") == REFUSED
        assert await door.come(shown) == REFUSED

    run(body)


def test_the_password_of_a_bound_device_is_for_listeners_that_ask_for_no_certificate() -> None:
    async def body(door: Door) -> None:
        device, password = await door.device("pump", bound=pki.client("x", ca()))
        for listener, is_in in ((BY_SUBJECT, False), (BY_SAN, False), (PLAIN, True)):
            expected = device.device_number if is_in else None
            assert await door.comes_as(b"", device.user_name, password, listener=listener) == expected
            stranger = pki.client("nobody", ca())
            assert await door.comes_as(stranger, device.user_name, password, listener=listener) == expected
        await door.devices.change(1, "pump", DeviceChange(certificate_fingerprint=""), NOW_S)
        assert await door.comes_as(b"", device.user_name, password) == device.device_number

    run(body)


def test_failures_behind_certificates_are_slowed_and_a_success_forgets_them() -> None:
    async def body(door: Door) -> None:
        await door.device("pump")
        shown, strange = pki.client("pump", ca()), pki.client("nobody", ca())
        for _ in range(5):
            await door.come(strange)
        assert door.pauses == [0.125, 0.25]
        for _ in range(3):
            await door.come(shown, "pump", "wrong")
        assert isinstance(await door.come(shown), Grant)
        await door.come(shown, "pump", "wrong")
        assert door.pauses == [0.125, 0.25]
        assert (await door.upper.admin.get_device(1, "pump")).status == "error"

    run(body)


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("is_bound", [True, False])
def test_inactive_leaving_and_suspended_are_refused_and_cut(is_bound: bool) -> None:
    async def body(door: Door) -> None:
        shown, core = pki.client("pump", ca()), door.upper.core
        device, password = await door.device("pump", bound=shown if is_bound else None)
        grant = await door.come(shown)
        assert isinstance(grant, Grant)

        await door.devices.set_active(1, "pump", False, NOW_S)
        assert (core.removed, core.grants.get(grant.credential)) == ([device.digest, grant.credential], None)
        assert await door.come(shown) == REFUSED
        assert await door.come(shown, device.user_name, password) == REFUSED
        await door.devices.set_active(1, "pump", True, NOW_S)
        assert await door.come(shown) == grant

        await door.upper.directory.set_suspended(1, True)
        assert grant.credential not in core.grants
        assert await door.come(shown) == REFUSED
        await door.upper.directory.set_suspended(1, False)
        assert await door.come(shown) == grant

        door.upper.store.delay()
        leaving = asyncio.create_task(door.devices.delete(1, "pump"))
        await asyncio.sleep(0.001)
        assert grant.credential not in core.grants
        assert await door.come(shown) == REFUSED
        door.upper.store.release()
        await leaving
        assert await door.come(shown) == REFUSED
        assert device.digest not in core.grants

    run(body)


def test_a_binding_that_changes_takes_the_certificates_grant_and_leaves_the_passwords() -> None:
    async def body(door: Door) -> None:
        first, second, core = pki.client("pump", ca()), pki.client("pump", ca()), door.upper.core
        device, _ = await door.device("pump")
        named = await door.come(first)
        assert isinstance(named, Grant)
        ended = [named.credential]
        for fingerprint, comes in ((first.fingerprint, first), (second.fingerprint, second), ("", first)):
            await door.devices.change(1, "pump", DeviceChange(certificate_fingerprint=fingerprint), NOW_S)
            assert core.removed == ended
            grant = await door.come(comes)
            assert isinstance(grant, Grant)
            ended.append(grant.credential)
        assert ended[0] == ended[-1]
        assert len(set(ended)) == 3
        await door.devices.change(1, "pump", DeviceChange(name="Other", active=True), NOW_S)
        assert core.removed == ended[:-1]
        assert device.digest in core.grants

    run(body)


def test_a_plan_that_changes_reaches_who_came_in_by_a_certificate() -> None:
    async def body(door: Door) -> None:
        await door.device("pump")
        grant = await door.come(pki.client("pump", ca()))
        assert isinstance(grant, Grant)
        await door.upper.directory.set_plan(1, "free")
        assert door.upper.core.grants[grant.credential].limits.messages_per_s == 10
        assert door.upper.core.removed == []

    run(body)


def test_an_embedders_answer_names_no_grant_of_the_directorys_table() -> None:
    given = Grant(1, 2, "x", "x", Policy("all", ("#",), ("#",)), credential=b"c" * 32)
    judged = _judgement(given)
    assert isinstance(judged, Grant)
    assert judged.credential == b""


# ---------------------------------------------------------------- records


def test_a_certificate_belongs_to_one_device_of_all_accounts_also_before_it_is_on_disk() -> None:
    async def body(door: Door) -> None:
        await door.upper.directory.accounts.create("other", NOW_S)
        one = pki.client("x", ca())
        await door.device("pump-1", bound=one)
        await door.device("pump-2", account=2)
        to_one = DeviceChange(certificate_fingerprint=one.fingerprint)
        with pytest.raises(Conflict, match="a device is bound to this certificate already"):
            await door.device("pump-3", bound=one, account=2)
        with pytest.raises(Conflict):
            await door.devices.change(2, "pump-2", to_one, NOW_S)
        await door.devices.change(1, "pump-1", to_one, NOW_S)  # it has it already
        await door.devices.delete(1, "pump-1")
        door.upper.store.delay()
        binding = asyncio.create_task(door.devices.change(2, "pump-2", to_one, NOW_S))
        await asyncio.sleep(0.001)
        with pytest.raises(Conflict):
            await door.device("pump-3", bound=one)
        door.upper.store.release()
        assert (await binding).certificate_fingerprint == one.fingerprint
        assert door.upper.reloaded().directory.devices.with_fingerprint(one.fingerprint) == await binding

    run(body)


def test_a_binding_that_could_not_be_stored_is_free_again() -> None:
    async def body(door: Door) -> None:
        one = pki.client("x", ca())
        await door.device("pump")
        to_one = DeviceChange(certificate_fingerprint=one.fingerprint)
        door.upper.store.fail(OSError("no"), 2)
        with pytest.raises(Unavailable):
            await door.devices.change(1, "pump", to_one, NOW_S)
        with pytest.raises(Unavailable):
            await door.device("pump-2", bound=one)
        assert door.devices.get(1, "pump").certificate_fingerprint == ""
        await door.devices.change(1, "pump", to_one, NOW_S)
        assert door.devices.with_fingerprint(one.fingerprint) == door.devices.get(1, "pump")

    run(body)


def test_changes_that_meet_are_made_one_after_the_other_and_none_is_lost() -> None:
    async def body(door: Door) -> None:
        await door.device("pump")
        door.upper.store.delay()
        changes = (DeviceChange(name="New"), DeviceChange(description="d"), DeviceChange(device_type="gateway"))
        tasks = [asyncio.create_task(door.devices.change(1, "pump", one, NOW_S + 1)) for one in changes]
        await asyncio.sleep(0.001)
        tasks[0].cancel()  # who gives up waiting does not part it from the others
        door.upper.store.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        device = door.upper.reloaded().directory.devices.get(1, "pump")
        assert device == door.devices.get(1, "pump")
        assert (device.name, device.description, device.device_type) == ("New", "d", "gateway")
        assert device.updated_at == NOW_S + 1

    run(body)


def test_a_change_that_meets_a_removal_leaves_nothing_behind() -> None:
    async def body(door: Door) -> None:
        first, second = pki.client("x", ca()), pki.client("y", ca())
        await door.device("pump", bound=first)
        door.upper.store.delay()
        change = DeviceChange(certificate_fingerprint=second.fingerprint)
        changing = asyncio.create_task(door.devices.change(1, "pump", change, NOW_S))
        await asyncio.sleep(0.001)
        leaving = asyncio.create_task(door.devices.delete(1, "pump"))
        await asyncio.sleep(0.001)
        late = asyncio.create_task(door.devices.change(1, "pump", change, NOW_S))
        await asyncio.sleep(0.001)
        door.upper.store.release()
        await changing
        await leaving
        with pytest.raises(NotFound):
            await late
        await door.device("pump", bound=first)
        await door.device("pump-2", bound=second)

    run(body)


@pytest.mark.parametrize("fingerprint", ["ab", "AB" * 32, "g" * 64, "ab:" * 32])
def test_what_is_no_fingerprint_is_refused(fingerprint: str) -> None:
    async def body(door: Door) -> None:
        await door.device("pump")
        with pytest.raises(BadRequest):
            await door.devices.change(1, "pump", DeviceChange(certificate_fingerprint=fingerprint), NOW_S)
        with pytest.raises(BadRequest):
            await door.devices.create(1, DeviceDescription("x", "y", certificate_fingerprint=fingerprint), NOW_S)

    run(body)


def test_a_device_of_an_earlier_version_is_bound_to_nothing() -> None:
    async def body(door: Door) -> None:
        device, _ = await door.device("pump", bound=pki.issue("x", key=ec.generate_private_key(ec.SECP256R1())))
        fields = msgpack.unpackb(device.encode())
        older = msgpack.packb(fields[: fields.index(device.certificate_fingerprint)])
        assert Device.decode(older) == replace(device, certificate_fingerprint="")

    run(body)


# ---------------------------------------------------------------- several accounts


def test_no_account_takes_another_ones_device_by_binding_its_certificate() -> None:
    async def body(door: Door) -> None:
        other = await door.upper.directory.accounts.create("neighbour", NOW_S)
        device, _ = await door.device()  # with a generated id
        shown = pki.client(device.device_id, ca())
        assert await door.comes_as(shown) == device.device_number
        await door.device("mine", bound=shown, account=other.account_id)
        assert await door.comes_as(shown) == device.device_number

    run(body)


def test_a_listener_of_an_account_lets_in_its_devices_alone_whatever_others_do() -> None:
    async def body(door: Door) -> None:
        other = await door.upper.directory.accounts.create("neighbour", NOW_S)
        device, _ = await door.device("pump-7")
        shown = pki.client("pump-7", ca())
        assert await door.comes_as(shown) == device.device_number
        await door.device("pump-7", account=other.account_id)
        assert await door.comes_as(shown) is None  # by a listener for all, it names nobody
        assert await door.comes_as(shown, listener=OF_DEFAULT) == device.device_number
        await door.device("mine", bound=shown, account=other.account_id)
        assert await door.comes_as(shown, listener=OF_DEFAULT) == device.device_number
        stranger = pki.client("mine", ca())
        assert await door.comes_as(stranger, listener=OF_DEFAULT) is None

    run(body)


def test_a_uri_that_is_no_urn_is_its_whole_self() -> None:
    one = pki.client("s", ca(), x509.UniformResourceIdentifier("pump-urn:whatever:7"))
    assert read_certificate(one.der).names("san") == ("pump-urn:whatever:7",)
