"""The answer to every CONNECT that the core does not judge itself.

Here belong the judgement of credentials and certificates, and the slowing of those who guess. Not here: rights, and the
table of known credentials itself; reading a certificate (``certificates``). A user name is never locked, since device
ids are public: only the failing address waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from broker.accounts.certificates import ClientCertificate, read_certificate
from broker.accounts.chosen_passwords import Proof, TooMany
from broker.accounts.claim_logins import TAKEN, ClaimLogin, NotRegistered, claim_login
from broker.accounts.directory import Directory
from broker.accounts.records import Authority, ClaimToken, Device
from broker.doors import CertificateRule, is_loopback, network_of
from broker.errors import NotFound, Unavailable
from broker.ports import ConnectRequest, Grant, Refusal
from broker.reasons import ReasonCode
from broker.stories import VERSIONS

FREE_FAILURES = 3
FORGET_AFTER_S = 60.0
FIRST_DELAY_S = 0.125
MAXIMUM_DELAY_S = 1.0
REMEMBERED_MAXIMUM = 10_000

WRONG_PASSWORD = "refused_wrong_password"  # noqa: S105 - a code of the timeline
UNREADABLE = "a certificate that cannot be read"  # in a user name's place: no blank is in a fingerprint
BUSY = Refusal(ReasonCode.SERVER_BUSY)
REFUSED = Refusal(ReasonCode.NOT_AUTHORIZED)  # contract, section 3: CONNACK 5 in 3.1.1, 0x87 in 5.0


@dataclass(slots=True)
class _Failures:
    """Failed logins of one (address, user name) without a pause of a minute."""

    count: int
    last_at: float


class FailureTable:
    """How often each (address, user name) failed lately; the least recent is forgotten when the table is full.

    What is remembered of a pair is a digest: a stranger chooses how long a user name is.
    """

    def __init__(self, maximum: int = REMEMBERED_MAXIMUM) -> None:
        self._maximum = maximum
        self._failures: OrderedDict[bytes, _Failures] = OrderedDict()
        self._last_at: OrderedDict[str, float] = OrderedDict()  # when a network failed last

    def __len__(self) -> int:
        return len(self._failures)

    def delay_s(self, address: str, user_name: str, now: float) -> float:
        """Count one failure; returns how long its answer waits: 0 for the first three, then up to a second."""
        key = _digest(address, user_name)
        failures = self._failures.get(key)
        if failures is None or now - failures.last_at > FORGET_AFTER_S:
            failures = self._failures[key] = _Failures(0, now)
        failures.count += 1
        failures.last_at = now
        self._failures.move_to_end(key)
        if len(self._failures) > self._maximum:
            self._failures.popitem(last=False)
        self._note_network(network_of(address), now)
        beyond = failures.count - FREE_FAILURES
        return min(FIRST_DELAY_S * 2 ** min(beyond - 1, 10), MAXIMUM_DELAY_S) if beyond > 0 else 0.0

    def has_failed(self, address: str, now: float) -> bool:
        """Tell whether somebody failed from an address's network within a minute, whoever it was."""
        return now - self._last_at.get(network_of(address), -FORGET_AFTER_S) < FORGET_AFTER_S

    def _note_network(self, network: str, now: float) -> None:
        self._last_at[network] = now
        self._last_at.move_to_end(network)
        if len(self._last_at) > self._maximum:
            self._last_at.popitem(last=False)

    def forget(self, address: str, user_name: str) -> None:
        """Forget the failures of one that has proven itself."""
        self._failures.pop(_digest(address, user_name), None)


def _nobody(_name: str, **_fields: object) -> None:
    """Tell nobody."""


def _digest(address: str, user_name: str) -> bytes:
    # No address has a blank.
    return hashlib.blake2b(f"{network_of(address)} {user_name}".encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What was found: ``who`` is whose failure it is, if it is one (None: nobody's), and ``device`` is marked then.

    ``why`` is a code of the timeline.
    """

    grant: Grant | None = None
    who: str | None = None
    device: Device | None = None
    why: str = WRONG_PASSWORD
    refusal: Refusal = REFUSED


class DirectoryAuthenticator:
    """Implements ``ports.Authenticator`` over the directory; ``monotonic`` and ``sleep`` are its only time.

    ``certificate_rules`` has the listeners that ask for certificates, by number: which name of a certificate is the
    device, and of which account. By those nobody comes in with the password of a device that is bound to a certificate.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        certificate_rules: Mapping[int, CertificateRule] | None = None,
        wall_s: Callable[[], int] = lambda: 0,
        claim_doors: Collection[int] = (),
        tell: Callable[..., None] = _nobody,
    ) -> None:
        """``claim_doors`` are the listeners that take claims from anywhere; the others do from loopback alone.

        ``tell`` is an observer's ``event``. ``wall_s`` is seconds of UTC.
        """
        self._directory = directory
        self._wall_s = wall_s
        self._claim_doors = claim_doors
        self._tell = tell
        self._monotonic = monotonic
        self._sleep = sleep
        self._certificate_rules = certificate_rules or {}
        self._failures = FailureTable()

    async def authenticate(self, request: ConnectRequest) -> Grant | Refusal:
        """Judge one CONNECT; a refusal waits up to a second when the same one failed often."""
        found = await self._judge(request)
        if found.who is None:
            return found.refusal
        if found.grant is not None:
            self._failures.forget(request.address, found.who)
            return found.grant
        now = self._monotonic()
        if found.device is not None:
            self._note_refused(found.device, found.why, request, now)
        delay_s = self._failures.delay_s(request.address, found.who, now)
        if delay_s > 0:
            await self._sleep(delay_s)
        return found.refusal

    def _note_refused(self, device: Device, why: str, request: ConnectRequest, now: float) -> None:
        """Remember whose login was refused, and why, as far as it goes: who may not enter is told that first."""
        devices = self._directory.devices
        if not device.active:
            why = "refused_inactive"
        elif self._directory.accounts.get(device.account_id).suspended:
            why = "refused_suspended"
        devices.sightings.note_refused(device.device_number, now)
        protocol = VERSIONS.get(request.protocol_version, "")
        devices.timeline.note_now(device.device_number, why, address=request.address, protocol=protocol)

    async def _judge(self, request: ConnectRequest) -> _Judgement:
        if not request.certificate:
            return await self._by_login(request)
        try:
            certificate = read_certificate(request.certificate)
        except ValueError:
            return _Judgement(who=UNREADABLE)
        authority = self._directory.authority_desk.issuer(request.certificate)
        if authority is not None:  # what it has issued is for its account alone, whatever the listener's rule allows
            return await self._by_authority(authority, certificate, request)
        device = self._holder(certificate, request.listener)
        if device is None:
            found = await self._by_login(request)
            return found if found.who is not None else _Judgement(who=certificate.fingerprint)
        grant = self._directory.grant_by_certificate(device, request.user_name, request.password)
        return _Judgement(grant, certificate.fingerprint, device, "refused_certificate_login")

    def _holder(self, certificate: ClientCertificate, listener: int) -> Device | None:
        """Find the device that a certificate stands for: bound to it, or named by it and bound to none.

        A binding of another account does not take a device that the certificate names by its generated id: a
        fingerprint is no secret, and the id was given to that device alone.
        """
        rule = self._certificate_rules.get(listener, CertificateRule())
        bound = self._directory.devices.with_fingerprint(certificate.fingerprint)
        if bound is not None and not self._is_of(bound, rule.account):
            bound = None
        named = self._named(certificate.names(rule.names), rule.account)
        if bound is not None and (
            named is None or named.account_id == bound.account_id or named.user_name != named.device_id
        ):
            return bound
        return None if named is None or named.certificate_fingerprint else named

    def _named(self, names: Sequence[str], account: str) -> Device | None:
        """Find the one device that names mean; None where it is several, or none."""
        found = {device.device_number: device for name in names if (device := self._with_id(name, account)) is not None}
        return next(iter(found.values())) if len(found) == 1 else None

    def _with_id(self, device_id: str, account: str) -> Device | None:
        if not account:
            return self._directory.devices.named(device_id)
        try:
            return self._directory.devices.get(self._directory.accounts.named(account).account_id, device_id)
        except NotFound:
            return None

    def _is_of(self, device: Device, account: str) -> bool:
        return not account or self._directory.accounts.get(device.account_id).name == account

    async def _by_authority(
        self, authority: Authority, certificate: ClientCertificate, request: ConnectRequest
    ) -> _Judgement:
        desk, address = self._directory.authority_desk, request.address
        told = {"voucher": authority.authority_id, "account_id": authority.account_id}
        try:
            rule = self._certificate_rules.get(request.listener, CertificateRule())
            if rule.account and self._directory.accounts.get(authority.account_id).name != rule.account:
                raise NotRegistered("refused_authority_listener")
            device, is_new = await desk.device(authority, certificate, address, self._wall_s(), self._monotonic())
        except NotRegistered as refused:
            device_id = desk.device_id(authority, certificate)[:64]
            self._tell("device_not_registered", why=refused.code, **told, device_id=device_id, address=address)
            holder = self._directory.devices.find(authority.account_id, device_id)
            refusal = Refusal(refused.reason_code, refused.code)
            return _Judgement(None, certificate.fingerprint, holder, refused.code, refusal)
        if is_new:
            self._tell("device_registered", **told, device_id=device.device_id, address=address)
        grant = self._directory.grant_by_certificate(device, request.user_name, request.password)
        return _Judgement(grant, certificate.fingerprint, device, "refused_certificate_login")

    async def _by_login(self, request: ConnectRequest) -> _Judgement:
        login = claim_login(request)
        return await self._by_password(request) if login is None else await self._by_claim(login, request)

    async def _by_claim(self, login: ClaimLogin, request: ConnectRequest) -> _Judgement:
        """Judge a device that registers itself, or did: it may go on to send its token's secret with its password."""
        desk = self._directory.claim_desk
        claim = desk.proven(login) if login.secret else None
        if claim is not None:
            await desk.settled(login, claim)
        known = self._directory.devices.with_user_name(request.user_name or "")
        if known is None and claim is None:
            return _Judgement(who=login.claim_id)  # whatever device is named: it is the token that is guessed
        if known is None and claim is not None:
            return await self._register(login, claim, request)
        assert known is not None
        found = await self._by_own_password(login, request, known)
        if found.grant is None and claim is not None:
            return self._not_registered(login, claim, request, NotRegistered(TAKEN))
        return found

    async def _register(self, login: ClaimLogin, claim: ClaimToken, request: ConnectRequest) -> _Judgement:
        try:
            if not self._takes_claims(request):
                raise NotRegistered("refused_claim_elsewhere")
            now_s, monotonic_s = self._wall_s(), self._monotonic()
            device = await self._directory.claim_desk.register(login, claim, request, now_s, monotonic_s)
        except NotRegistered as refused:
            return self._not_registered(login, claim, request, refused)
        told = {"device_id": device.device_id, "voucher": claim.claim_id, "account_id": claim.account_id}
        self._tell("device_registered", **told, address=request.address)
        return await self._by_own_password(login, request, device)

    def _not_registered(
        self, login: ClaimLogin, claim: ClaimToken, request: ConnectRequest, refused: NotRegistered
    ) -> _Judgement:
        """Let the token remember who was refused, and the device whose id is taken, if it is one's."""
        desk = self._directory.claim_desk
        refusal = desk.note_refusal(login, claim, refused.code, request.address, self._wall_s())
        told = {"device_id": refusal.device_id, "voucher": claim.claim_id, "account_id": claim.account_id}
        self._tell("device_not_registered", why=refused.code, **told, address=request.address)
        holder = self._directory.devices.find(claim.account_id, refusal.device_id) if refused.code == TAKEN else None
        return _Judgement(None, request.user_name, holder, refused.code, Refusal(refused.reason_code, refused.code))

    async def _by_own_password(self, login: ClaimLogin, request: ConnectRequest, device: Device) -> _Judgement:
        """Let a device in by the password behind the token's secret, as by that password alone."""
        own = login.own_password.encode()
        found = await self._by_password(replace(request, password=own))
        if found.grant is None or not login.secret:
            return found
        digest = self._directory.digest_of(device.user_name, own)  # with which it is cut
        return replace(found, grant=replace(found.grant, credential=digest))

    def _takes_claims(self, request: ConnectRequest) -> bool:
        return request.listener in self._claim_doors or is_loopback(request.address)

    async def _by_password(self, request: ConnectRequest) -> _Judgement:
        if request.user_name is None or request.password is None:
            return _Judgement()
        device = self._directory.devices.with_user_name(request.user_name)
        if device is not None and device.certificate_fingerprint and request.listener in self._certificate_rules:
            return _Judgement(None, request.user_name, device, "refused_certificate_needed")
        grant = self._directory.grant_for(request.user_name, request.password)
        if grant is not None or device is None or not device.chosen_hash:
            return _Judgement(grant, request.user_name, device)
        return await self._by_chosen_password(device, request.user_name, request.password, request.address)

    async def _by_chosen_password(self, device: Device, user_name: str, password: bytes, address: str) -> _Judgement:
        """Compare with the hash of a password that somebody has chosen, unless the device may not come in anyway."""
        directory = self._directory
        if directory.grant_of(device, device.chosen_digest) is None:
            return _Judgement(None, user_name, device)
        proof = Proof(network_of(address), directory.digest_of(user_name, password), device.chosen_hash, password)
        try:
            failed = self._failures.has_failed(address, self._monotonic())
            right = await directory.chosen_passwords.is_right(proof, failed_lately=failed)
        except TooMany:
            return _Judgement(refusal=BUSY)
        except Unavailable:
            return _Judgement(refusal=Refusal(ReasonCode.SERVER_UNAVAILABLE))
        latest = directory.devices.numbered(device.device_number)  # it took a while
        if not right or latest is None:
            return _Judgement(None, user_name, latest)
        return _Judgement(directory.grant_of(latest, device.chosen_digest), user_name, latest)
