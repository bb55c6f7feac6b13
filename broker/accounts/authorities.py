"""Authorities of accounts: whose certificates register devices at their first connect.

Here belong registering one, the proof that its account owns it, and its end. Not here: reading certificates
(``authority_certificates``), the CONNECT of a device that has one (``authority_logins``), and whether TLS trusts it:
that is the listener's.

An account may say of any authority that it is its own; until it has proven it, by a certificate that the authority has
issued for a code of the platform's, that means nothing to anybody. A proven one is of one account alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from broker.accounts.accounts import Accounts, check_name
from broker.accounts.authority_certificates import (
    check_proof,
    describe,
    is_issued_by,
    issuer_of,
    read_authority,
)
from broker.accounts.deeds import about
from broker.accounts.enrolled import EnrolledCounts
from broker.accounts.id_patterns import ANY_ID, check_pattern
from broker.accounts.ledger import Ledger
from broker.accounts.records import Authority
from broker.errors import Conflict, NotFound, QuotaExceeded
from broker.policy.credentials import new_authority_id
from broker.ports import Change
from broker.storage.tables import AUTHORITIES, number_key

CODE_BYTES = 24
RECORDS_FOR_EACH = 5  # on record, for each that an account may have: revoked ones stay, lest they be trusted again


@dataclass(frozen=True, slots=True)
class AuthorityWish:
    """What a caller says about a new authority; ``names`` is which name of a certificate is the device."""

    name: str
    certificate_pem: str
    names: str = "subject"
    device_type: str = "other"
    device_id_pattern: str = ANY_ID


class Authorities:
    """All authorities of the installation, in memory and in the store."""

    def __init__(self, ledger: Ledger, accounts: Accounts, counts: EnrolledCounts, maximum: int) -> None:
        """``maximum`` is how many an account may have that are not revoked."""
        self._ledger = ledger
        self._accounts = accounts
        self._counts = counts
        self._maximum = maximum
        self._by_account: dict[int, dict[str, Authority]] = {}
        self._by_subject: dict[bytes, dict[str, Authority]] = {}  # those that are proven, revoked ones too
        self._by_key: dict[str, dict[str, Authority]] = {}  # the same, by the digest of their keys
        self._coming: dict[int, int] = {}
        self._proving: set[str] = set()  # digests of keys whose proof is on its way to disk
        self._ending: set[str] = set()

    def load(self) -> None:
        """Read all of them; those of accounts that are not there are left alone."""
        for _, value in self._ledger.rows(AUTHORITIES):
            authority = Authority.decode(value)
            if authority.account_id in self._accounts:
                self._apply(authority)

    def of(self, account_id: int) -> list[Authority]:
        """Give an account's authorities, the newest first."""
        found = self._by_account.get(account_id, {}).values()
        return sorted(found, key=lambda one: (one.created_at, one.authority_id), reverse=True)

    def get(self, account_id: int, authority_id: str) -> Authority:
        """Find one. Raises ``NotFound``, also for another account's."""
        authority = self._by_account.get(account_id, {}).get(authority_id)
        if authority is None:
            raise NotFound("there is no such authority")
        return authority

    def is_active(self, authority: Authority) -> bool:
        """Tell whether an authority vouches for devices."""
        return bool(authority.verified_at and not authority.revoked_at and authority.authority_id not in self._ending)

    def issuer(self, der: bytes) -> Authority | None:
        """Find the proven authority that has issued a certificate: an active one, else one that was revoked."""
        try:
            candidates = self._by_subject.get(issuer_of(der), {})
        except ValueError:
            return None
        found = [one for one in candidates.values() if is_issued_by(der, one.certificate)]
        return max(found, key=lambda one: (self.is_active(one), one.verified_at), default=None)

    # ------------------------------------------------------------ changes

    async def create(self, account_id: int, wish: AuthorityWish, now_s: int) -> Authority:
        """Take one in, with the code for its proof; durable when it returns.

        Raises ``BadRequest``, ``Conflict`` where the account has it already, and ``QuotaExceeded``.
        """
        check_name(wish.name)
        check_pattern(wish.device_id_pattern)
        read = read_authority(wish.certificate_pem, now_s)
        there = [one for one in self.of(account_id) if not one.revoked_at]
        if any(describe(one.certificate).fingerprint == read.fingerprint for one in there):
            raise Conflict("the account has this authority already")
        coming = self._coming.get(account_id, 0)
        records = len(self._by_account.get(account_id, {})) + coming
        if len(there) + coming >= self._maximum or records >= self._maximum * RECORDS_FOR_EACH:
            raise QuotaExceeded(f"an account has at most {self._maximum} authorities")
        code, authority_id = secrets.token_hex(CODE_BYTES), new_authority_id()
        rules = wish.names, wish.device_type, wish.device_id_pattern
        authority = Authority(account_id, authority_id, wish.name, read.der, code, *rules, now_s)
        about(authority_id, account_id)
        self._coming[account_id] = coming + 1
        await self._ledger.commit([_put(authority)], lambda: self._arrived(authority), lambda: self._gone(account_id))
        return authority

    async def verify(self, account_id: int, authority_id: str, proof_pem: str, now_s: int) -> Authority:
        """Take the proof that the account owns an authority; durable when it returns. Again is no error.

        Raises ``NotFound``, ``BadRequest`` for what is no proof, ``Conflict`` for one that is revoked, or another
        account's.
        """
        authority = self.get(account_id, authority_id)
        if authority.revoked_at or authority_id in self._ending:
            raise Conflict("this authority was revoked")
        if authority.verified_at:
            return authority
        check_proof(proof_pem, authority.certificate, authority.code, now_s)
        key = describe(authority.certificate).key_digest
        holders = self._by_key.get(key, {}).values()
        if key in self._proving or any(self.is_active(one) and one.account_id != account_id for one in holders):
            raise Conflict("this authority is another account's")
        verified = replace(authority, verified_at=now_s)
        self._proving.add(key)

        def end() -> None:
            self._proving.discard(key)

        def apply() -> None:
            end()
            self._replace(verified)

        await self._ledger.commit([_put(verified)], apply, end)
        return verified

    async def revoke(self, account_id: int, authority_id: str, now_s: int) -> Authority:
        """Let one vouch for nobody from now on; its devices stay. One that was never proven is forgotten.

        Again is no error. Raises ``NotFound``.
        """
        authority = self.get(account_id, authority_id)
        if authority.revoked_at:
            return authority
        revoked = replace(authority, revoked_at=now_s)
        self._ending.add(authority_id)

        def undo() -> None:
            self._ending.discard(authority_id)

        def apply() -> None:
            undo()
            if authority.verified_at:
                self._replace(revoked)
            else:
                self._by_account[account_id].pop(authority_id, None)
                self._counts.forget(account_id, authority_id)

        change = _put(revoked) if authority.verified_at else Change(AUTHORITIES, _key(authority), None)
        await self._ledger.commit([change], apply, undo)
        return revoked

    # ------------------------------------------------------------ what is in force

    def _arrived(self, authority: Authority) -> None:
        self._gone(authority.account_id)
        self._apply(authority)

    def _gone(self, account_id: int) -> None:
        self._coming[account_id] -= 1

    def _replace(self, authority: Authority) -> None:
        if authority.authority_id in self._by_account.get(authority.account_id, {}):
            self._apply(authority)

    def _apply(self, authority: Authority) -> None:
        self._by_account.setdefault(authority.account_id, {})[authority.authority_id] = authority
        if authority.verified_at:
            read = describe(authority.certificate)
            self._by_subject.setdefault(read.subject, {})[authority.authority_id] = authority
            self._by_key.setdefault(read.key_digest, {})[authority.authority_id] = authority


def _key(authority: Authority) -> bytes:
    return number_key(authority.account_id) + authority.authority_id.encode()


def _put(authority: Authority) -> Change:
    return Change(AUTHORITIES, _key(authority), authority.encode())
