"""A CONNECT with a claim token: user name ``TOKEN_ID.DEVICE_ID``, password ``SECRET.OWN_PASSWORD``.

Here belong taking the two apart, and what is answered. Not here: tokens (``claims``), and registering (``enrolment``).

The device has drawn its own password, and goes on with the same user name and that password. So no secret has to find
its way back to it: who does not hear the answer sends the same CONNECT again, and is let in as who it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from broker.accounts.accounts import Accounts
from broker.accounts.claims import Claims
from broker.accounts.device_description import DeviceDescription, OwnLogin
from broker.accounts.devices import Devices
from broker.accounts.enrolled import EnrolledCounts, LastRefusal
from broker.accounts.enrolment import Enrolment, Voucher
from broker.accounts.id_patterns import is_chosen_id, matches
from broker.accounts.records import ClaimToken, Device
from broker.errors import BrokerError, Conflict, QuotaExceeded, RateLimited, Unavailable
from broker.policy.credentials import CLAIM_ID_PREFIX, credential
from broker.ports import ConnectRequest
from broker.reasons import ReasonCode

SEPARATOR = "."  # in no id, no secret and no password of a device
OWN_PASSWORD = re.compile(r"[A-Za-z0-9_-]{43,128}")  # 256 random bits in Base64, or more in hexadecimal digits
DIFFERENT_CHARACTERS = 10  # of hexadecimal digits so few are a sign of no chance at all

TAKEN = "refused_claim_taken"
CODES: dict[type[BrokerError], tuple[str, ReasonCode]] = {
    Conflict: (TAKEN, ReasonCode.NOT_AUTHORIZED),
    QuotaExceeded: ("refused_claim_plan", ReasonCode.QUOTA_EXCEEDED),
    RateLimited: ("refused_claim_rate", ReasonCode.CONNECTION_RATE_EXCEEDED),
    Unavailable: ("refused_disk", ReasonCode.SERVER_UNAVAILABLE),
}


class NotRegistered(Exception):
    """A device is not registered: ``code`` of the timeline says why, ``reason_code`` is what it is told."""

    def __init__(self, code: str, reason_code: ReasonCode = ReasonCode.NOT_AUTHORIZED) -> None:
        super().__init__(code)
        self.code = code
        self.reason_code = reason_code


@dataclass(frozen=True, slots=True)
class ClaimLogin:
    """A CONNECT that may be a claim; ``secret`` is empty where it comes with the device's own password alone."""

    claim_id: str
    device_id: str
    secret: str
    own_password: str


def claim_login(request: ConnectRequest) -> ClaimLogin | None:
    """Take the login of a CONNECT apart; None where its user name is not that of a claim."""
    if request.user_name is None or not request.user_name.startswith(CLAIM_ID_PREFIX):
        return None
    claim_id, separator, device_id = request.user_name.partition(SEPARATOR)
    if not separator:
        return None
    secret, _, own = (request.password or b"").decode("utf-8", "replace").rpartition(SEPARATOR)
    return ClaimLogin(claim_id, device_id, secret, own)


def is_drawn(password: str) -> bool:
    """Tell whether a password looks as one that a program has drawn: it is stored by a hash that is fast."""
    return OWN_PASSWORD.fullmatch(password) is not None and len(set(password)) >= DIFFERENT_CHARACTERS


class ClaimDesk:
    """Registers who comes with a claim; its only time is what it is told."""

    def __init__(
        self,
        secret: bytes,
        accounts: Accounts,
        claims: Claims,
        counts: EnrolledCounts,
        devices: Devices,
        enrolment: Enrolment,
    ) -> None:
        self._secret = secret
        self._accounts = accounts
        self._claims = claims
        self._counts = counts
        self._devices = devices
        self._enrolment = enrolment

    def proven(self, login: ClaimLogin) -> ClaimToken | None:
        """Find the token whose secret a claim has; None for none."""
        return self._claims.proven(login.claim_id, login.secret)

    async def settled(self, login: ClaimLogin, claim: ClaimToken) -> None:
        """Return when the device is not on its way to disk because of a CONNECT before this one."""
        await self._enrolment.settled(claim.account_id, login.device_id)

    def note_refusal(self, login: ClaimLogin, claim: ClaimToken, code: str, address: str, now_s: int) -> LastRefusal:
        """Let a token remember whom it did not register, and why; an id that none can be is left out."""
        device_id = login.device_id if is_chosen_id(login.device_id) else ""
        refusal = LastRefusal(now_s, code, device_id, address)
        self._counts.note_refusal(claim.account_id, claim.claim_id, refusal)
        return refusal

    async def register(
        self, login: ClaimLogin, claim: ClaimToken, request: ConnectRequest, now_s: int, monotonic_s: float
    ) -> Device:
        """Register a device whose claim is proven. Raises ``NotRegistered``."""
        self._check(login, claim, now_s)
        assert request.user_name is not None  # it is a claim's
        digest = credential(self._secret, request.user_name, login.own_password.encode())
        description = DeviceDescription(
            name=login.device_id,
            device_type=claim.device_type,
            device_id=login.device_id,
            login=OwnLogin(request.user_name, digest),
        )
        try:
            return await self._enrolment.register(
                Voucher("claim_token", claim.account_id, claim.claim_id, claim.name),
                description,
                address=request.address,
                now_s=now_s,
                monotonic_s=monotonic_s,
                check=self._checked(login, claim.claim_id, claim.account_id, now_s),
            )
        except BrokerError as error:
            raise not_registered(error) from error

    def _checked(self, login: ClaimLogin, claim_id: str, account_id: int, now_s: int) -> Callable[[], None]:
        return lambda: self._check(login, self._claims.get(account_id, claim_id), now_s)

    def _check(self, login: ClaimLogin, claim: ClaimToken, now_s: int) -> None:
        """Raise ``NotRegistered`` for a token that registers nobody now, or not this device."""
        if self._accounts.get(claim.account_id).suspended:
            raise NotRegistered("refused_suspended")
        state = self._claims.state(claim, now_s)
        if state != "valid":
            raise NotRegistered(f"refused_claim_{state}")
        if not is_chosen_id(login.device_id):
            raise NotRegistered("refused_claim_id", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        if not matches(claim.device_id_pattern, login.device_id):
            raise NotRegistered("refused_claim_pattern")
        if not is_drawn(login.own_password):
            raise NotRegistered("refused_claim_password", ReasonCode.BAD_USER_NAME_OR_PASSWORD)


def not_registered(error: BrokerError) -> NotRegistered:
    """Say in MQTT's words why a device is not registered."""
    for kind, (code, reason_code) in CODES.items():
        if isinstance(error, kind):
            return NotRegistered(code, reason_code)
    raise error
