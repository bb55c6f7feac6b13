"""Claim tokens: what a maker puts into every device of a fleet, so that each is registered at its first connect.

Here belong making, finding and ending them. Not here: the CONNECT that carries one (``claim_logins``), and registering
(``enrolment``). A token's secret is shown once, when it is made; afterwards only its digest exists.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace

from broker.accounts.accounts import Accounts, check_name
from broker.accounts.deeds import about
from broker.accounts.enrolled import EnrolledCounts
from broker.accounts.id_patterns import ANY_ID, check_pattern
from broker.accounts.keys import check_expiry
from broker.accounts.ledger import Ledger
from broker.accounts.records import ClaimToken
from broker.errors import BadRequest, NotFound, QuotaExceeded
from broker.policy.credentials import claim_digest, new_claim_id, new_claim_secret
from broker.ports import Change
from broker.storage.tables import CLAIMS, number_key

USES_MAXIMUM = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ClaimWish:
    """What a caller says about a new token; 0 is no end, and no maximum of devices."""

    name: str
    device_type: str = "other"
    device_id_pattern: str = ANY_ID
    uses_maximum: int = 0
    expires_at: int = 0


class Claims:
    """All claim tokens of the installation; those that have ended stay on record, so that people see what they did."""

    def __init__(self, ledger: Ledger, secret: bytes, accounts: Accounts, counts: EnrolledCounts, maximum: int) -> None:
        """``maximum`` is how many valid ones an account may have; as many again may have ended and be on record."""
        self._ledger = ledger
        self._secret = secret
        self._accounts = accounts
        self._counts = counts
        self._maximum = maximum
        self._by_account: dict[int, dict[str, ClaimToken]] = {}
        self._owners: dict[str, int] = {}
        self._coming: dict[int, int] = {}  # how many of an account are on their way to disk
        self._ending: set[str] = set()  # their revocation is on its way to disk

    def load(self) -> None:
        """Read all of them; those of accounts that are not there are left alone."""
        for _, value in self._ledger.rows(CLAIMS):
            claim = ClaimToken.decode(value)
            if claim.account_id in self._accounts:
                self._apply(claim)

    def of(self, account_id: int) -> list[ClaimToken]:
        """Give an account's tokens, the newest first."""
        found = self._by_account.get(account_id, {}).values()
        return sorted(found, key=lambda one: (one.created_at, one.claim_id), reverse=True)

    def get(self, account_id: int, claim_id: str) -> ClaimToken:
        """Find one. Raises ``NotFound``, also for another account's."""
        claim = self._by_account.get(account_id, {}).get(claim_id)
        if claim is None:
            raise NotFound("there is no such claim token")
        return claim

    def proven(self, claim_id: str, secret: str) -> ClaimToken | None:
        """Find the token of this id whose secret this is, whether it is valid or not; None for no other reason."""
        owner = self._owners.get(claim_id)
        if owner is None:
            return None
        claim = self._by_account[owner][claim_id]
        return claim if hmac.compare_digest(claim.digest, claim_digest(self._secret, claim_id, secret)) else None

    def state(self, claim: ClaimToken, now_s: int) -> str:
        """Tell whether a token registers devices: ``valid``, or why not: ``revoked``, ``expired``, ``used_up``."""
        if claim.revoked_at or claim.claim_id in self._ending:
            return "revoked"
        if 0 < claim.expires_at <= now_s:
            return "expired"
        used = self._counts.of(claim.account_id, claim.claim_id).count
        return "used_up" if 0 < claim.uses_maximum <= used else "valid"

    async def create(self, account_id: int, wish: ClaimWish, now_s: int) -> tuple[ClaimToken, str]:
        """Make one; durable when it returns, with its secret, which nobody can see again.

        Raises ``BadRequest``, and ``QuotaExceeded`` where an account has as many valid ones as it may.
        """
        self._check(wish, now_s)
        valid = sum(self.state(one, now_s) == "valid" for one in self.of(account_id))
        if valid + self._coming.get(account_id, 0) >= self._maximum:
            raise QuotaExceeded(f"an account has at most {self._maximum} valid claim tokens")
        claim_id, secret = new_claim_id(), new_claim_secret()
        digest = claim_digest(self._secret, claim_id, secret)
        rules = (wish.device_type, wish.device_id_pattern, wish.uses_maximum, now_s, wish.expires_at)
        claim = ClaimToken(account_id, claim_id, wish.name, digest, *rules)
        about(claim_id, account_id)
        await self._store(claim, self._too_many(account_id, now_s))
        return claim, secret

    async def revoke(self, account_id: int, claim_id: str, now_s: int) -> ClaimToken:
        """Let a token register nobody from now on; its devices stay. Again is no error. Raises ``NotFound``."""
        claim = self.get(account_id, claim_id)
        if claim.revoked_at:
            return claim
        revoked = replace(claim, revoked_at=now_s)
        self._ending.add(claim_id)
        await self._ledger.commit([_put(revoked)], lambda: self._end(revoked), lambda: self._ending.discard(claim_id))
        return revoked

    async def _store(self, claim: ClaimToken, forgotten: list[ClaimToken]) -> None:
        account_id = claim.account_id
        self._coming[account_id] = self._coming.get(account_id, 0) + 1

        def arrived() -> None:
            self._coming[account_id] -= 1

        def apply() -> None:
            arrived()
            for one in forgotten:
                self._forget(one)
            self._apply(claim)

        changes = [_put(claim), *(Change(CLAIMS, _key(one), None) for one in forgotten)]
        changes += [self._counts.removal(account_id, one.claim_id) for one in forgotten]
        await self._ledger.commit(changes, apply, arrived)

    @staticmethod
    def _check(wish: ClaimWish, now_s: int) -> None:
        check_name(wish.name)
        check_pattern(wish.device_id_pattern)
        check_expiry(wish.expires_at, now_s)
        if not 0 <= wish.uses_maximum <= USES_MAXIMUM:
            expected = f"1 to {USES_MAXIMUM}, or nothing"
            raise BadRequest(
                f"uses_maximum: expected {expected}",
                field="uses_maximum",
                provided=wish.uses_maximum,
                expected=expected,
            )

    def _too_many(self, account_id: int, now_s: int) -> list[ClaimToken]:
        """Choose which of those that have ended are forgotten for a new one: the oldest."""
        ended = [one for one in self.of(account_id) if self.state(one, now_s) != "valid"]
        return ended[max(self._maximum - 1, 0) :]

    def _end(self, claim: ClaimToken) -> None:
        self._ending.discard(claim.claim_id)
        if claim.claim_id in self._by_account.get(claim.account_id, {}):  # else it was forgotten meanwhile
            self._apply(claim)

    def _forget(self, claim: ClaimToken) -> None:
        self._by_account[claim.account_id].pop(claim.claim_id, None)
        self._owners.pop(claim.claim_id, None)
        self._counts.forget(claim.account_id, claim.claim_id)

    def _apply(self, claim: ClaimToken) -> None:
        self._by_account.setdefault(claim.account_id, {})[claim.claim_id] = claim
        self._owners[claim.claim_id] = claim.account_id


def _key(claim: ClaimToken) -> bytes:
    return number_key(claim.account_id) + claim.claim_id.encode()


def _put(claim: ClaimToken) -> Change:
    return Change(CLAIMS, _key(claim), claim.encode())
