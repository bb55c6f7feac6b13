"""A CONNECT with a certificate of an account's authority: which device it is, registered if it was not.

Here belong whom such a certificate names, and who has come in by which authority. Not here: authorities themselves
(``authorities``), registering (``enrolment``), and other certificates (``authenticator``). TLS has judged the
certificate by then: its dates, its chain and the listener's revocation list.
"""

from __future__ import annotations

from broker.accounts.accounts import Accounts
from broker.accounts.authorities import Authorities
from broker.accounts.certificates import ClientCertificate
from broker.accounts.claim_logins import NotRegistered, not_registered
from broker.accounts.device_description import DeviceDescription
from broker.accounts.devices import Devices
from broker.accounts.enrolled import EnrolledCounts, LastRefusal
from broker.accounts.enrolment import Enrolment, Voucher
from broker.accounts.id_patterns import is_chosen_id, matches
from broker.accounts.records import Authority, Device
from broker.errors import BrokerError

BOUND = "refused_authority_bound"
GONE_MAXIMUM = 1000


class AuthorityDesk:
    """Finds or registers who comes with a certificate of an authority; its only time is what it is told."""

    def __init__(
        self,
        accounts: Accounts,
        authorities: Authorities,
        counts: EnrolledCounts,
        devices: Devices,
        enrolment: Enrolment,
    ) -> None:
        self._accounts = accounts
        self._authorities = authorities
        self._counts = counts
        self._devices = devices
        self._enrolment = enrolment
        self._came: dict[str, set[int]] = {}  # devices that came in by an authority since the start

    def issuer(self, der: bytes) -> Authority | None:
        """Find the authority of an account that has issued a certificate, also one that was revoked."""
        return self._authorities.issuer(der)

    def device_id(self, authority: Authority, certificate: ClientCertificate) -> str:
        """Give the one id that a certificate names; empty where it names none, or several."""
        names = set(certificate.alternative_names if authority.names == "san" else certificate.common_names)
        return names.pop() if len(names) == 1 else ""

    async def device(
        self, authority: Authority, certificate: ClientCertificate, address: str, now_s: int, monotonic_s: float
    ) -> tuple[Device, bool]:
        """Give the device of a certificate, and whether it was registered just now.

        It is of the authority's account: one that is bound to this certificate, else the one that it names, if that is
        bound to no other. Raises ``NotRegistered``, which the authority remembers.
        """
        device_id = self.device_id(authority, certificate)
        try:
            found = await self._device(authority, certificate, device_id, address, now_s, monotonic_s)
            self._check(self._authorities.get(authority.account_id, authority.authority_id))  # it took a while
        except NotRegistered as refused:
            said = device_id if is_chosen_id(device_id) else ""
            refusal = LastRefusal(now_s, refused.code, said, address)
            self._counts.note_refusal(authority.account_id, authority.authority_id, refusal)
            raise
        self._note_came(authority, found[0].device_number)
        return found

    def _note_came(self, authority: Authority, device_number: int) -> None:
        """Remember who has come in; those that were deleted since are forgotten when there are too many of them."""
        came = self._came.setdefault(authority.authority_id, set())
        came.add(device_number)
        if len(came) > 2 * self._devices.count(authority.account_id) + GONE_MAXIMUM:
            self._came[authority.authority_id] = {one for one in came if self._devices.knows(one)}

    def take_all(self, authority_id: str) -> None:
        """Cut who came in by an authority, which vouches for nobody any more."""
        for number in self._came.pop(authority_id, ()):
            self._devices.cut_by_certificate(number)

    async def _device(
        self,
        authority: Authority,
        certificate: ClientCertificate,
        device_id: str,
        address: str,
        now_s: int,
        monotonic_s: float,
    ) -> tuple[Device, bool]:
        self._check(authority)
        bound = self._devices.with_fingerprint(certificate.fingerprint)
        if bound is not None and bound.account_id == authority.account_id:
            return bound, False
        await self._enrolment.settled(authority.account_id, device_id)
        there = self._devices.find(authority.account_id, device_id)
        if there is None:
            return await self._registered(authority, device_id, address, now_s, monotonic_s), True
        if there.certificate_fingerprint:
            raise NotRegistered(BOUND)
        return there, False

    async def _registered(
        self, authority: Authority, device_id: str, address: str, now_s: int, monotonic_s: float
    ) -> Device:
        if not is_chosen_id(device_id):
            raise NotRegistered("refused_authority_id")
        if not matches(authority.device_id_pattern, device_id):
            raise NotRegistered("refused_authority_pattern")
        description = DeviceDescription(name=device_id, device_type=authority.device_type, device_id=device_id)
        voucher = Voucher("authority", authority.account_id, authority.authority_id, authority.name)
        try:
            return await self._enrolment.register(
                voucher,
                description,
                address=address,
                now_s=now_s,
                monotonic_s=monotonic_s,
                check=lambda: self._check(self._authorities.get(authority.account_id, authority.authority_id)),
            )
        except BrokerError as error:
            raise not_registered(error) from error

    def _check(self, authority: Authority) -> None:
        if self._accounts.get(authority.account_id).suspended:
            raise NotRegistered("refused_suspended")
        if not self._authorities.is_active(authority):
            raise NotRegistered("refused_authority_revoked")
