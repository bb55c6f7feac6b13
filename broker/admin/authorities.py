"""An account's authorities: taking them in, proving that they are its own, seeing and revoking them.

Here belong the verbs behind their routes. Not here: the CONNECT of a device (``broker.accounts``), and HTTP (``api``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.accounts.authorities import AuthorityWish
from broker.accounts.authority_certificates import describe
from broker.accounts.directory import Directory
from broker.accounts.records import Authority
from broker.admin.claims import RefusalView, refusal_view
from broker.admin.clock import Clock


@dataclass(frozen=True, slots=True)
class AuthorityView:
    """An authority and what it has done; times are seconds of UTC, None for never.

    ``status`` is ``unproven``, ``active``, ``expired`` or ``revoked``. The code is what its proof has to name.
    """

    authority_id: str
    name: str
    status: str
    fingerprint: str
    verification_code: str
    names: str
    device_type: str
    device_id_pattern: str
    uses: int
    created_at: int
    verified_at: int | None
    expires_at: int
    revoked_at: int | None
    last_used_at: int | None
    last_refusal: RefusalView | None


class AuthorityVerbs:
    """Verbs about an account's authorities; ``require_serving`` raises where nothing may be changed."""

    def __init__(self, directory: Directory, clock: Clock, require_serving: Callable[[], None]) -> None:
        self._directory = directory
        self._clock = clock
        self._require_serving = require_serving

    async def create(self, account_id: int, wish: AuthorityWish) -> AuthorityView:
        """Take one in; durable when it returns, and of no effect until it is proven.

        Raises ``BadRequest``, ``Conflict``, ``QuotaExceeded``, ``Unavailable``.
        """
        self._require_serving()
        return self._view(await self._directory.authorities.create(account_id, wish, self._clock.wall_s()))

    async def verify(self, account_id: int, authority_id: str, proof_pem: str) -> AuthorityView:
        """Take the proof that the account owns one.

        Raises ``NotFound``, ``BadRequest``, ``Conflict``, ``Unavailable``.
        """
        self._require_serving()
        now_s = self._clock.wall_s()
        return self._view(await self._directory.authorities.verify(account_id, authority_id, proof_pem, now_s))

    async def list(self, account_id: int) -> list[AuthorityView]:
        """Show all of an account, the newest first."""
        return [self._view(authority) for authority in self._directory.authorities.of(account_id)]

    async def get(self, account_id: int, authority_id: str) -> AuthorityView:
        """Show one. Raises ``NotFound``."""
        return self._view(self._directory.authorities.get(account_id, authority_id))

    async def revoke(self, account_id: int, authority_id: str) -> None:
        """Let one vouch for nobody any more, and cut who came in by it; an unproven one is forgotten.

        Raises ``NotFound``, ``Unavailable``.
        """
        self._require_serving()
        await self._directory.revoke_authority(account_id, authority_id, self._clock.wall_s())

    def _status(self, authority: Authority, not_after: int) -> str:
        if authority.revoked_at:
            return "revoked"
        if not authority.verified_at:
            return "unproven"
        return "expired" if not_after < self._clock.wall_s() else "active"

    def _view(self, authority: Authority) -> AuthorityView:
        owner, authority_id = authority.account_id, authority.authority_id
        done, read = self._directory.enrolled.of(owner, authority_id), describe(authority.certificate)
        return AuthorityView(
            authority_id=authority_id,
            name=authority.name,
            status=self._status(authority, read.not_after),
            fingerprint=read.fingerprint,
            verification_code=authority.code,
            names=authority.names,
            device_type=authority.device_type,
            device_id_pattern=authority.device_id_pattern,
            uses=done.count,
            created_at=authority.created_at,
            verified_at=authority.verified_at or None,
            expires_at=read.not_after,
            revoked_at=authority.revoked_at or None,
            last_used_at=done.last_at or None,
            last_refusal=refusal_view(self._directory.enrolled.last_refusal(owner, authority_id)),
        )
