"""An account's claim tokens: making, seeing and revoking them.

Here belong the verbs behind their routes. Not here: the CONNECT that carries one, and HTTP (``api``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.accounts.claims import ClaimWish
from broker.accounts.directory import Directory
from broker.accounts.enrolled import LastRefusal
from broker.accounts.records import ClaimToken
from broker.accounts.timeline_words import remedy_of, sentence_of
from broker.admin.clock import Clock


@dataclass(frozen=True, slots=True)
class RefusalView:
    """The last device that was not registered, since the start of the process; ``at`` is seconds of UTC.

    ``device_id`` is empty where what was said is no id.
    """

    at: int
    code: str
    message: str
    remedy: str
    device_id: str
    address: str


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A claim token and what it has done; times are seconds of UTC, None for never.

    ``status`` is ``valid``, ``revoked``, ``expired`` or ``used_up``; ``uses_maximum`` None for no maximum.
    """

    claim_id: str
    name: str
    status: str
    device_type: str
    device_id_pattern: str
    uses: int
    uses_maximum: int | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    last_refusal: RefusalView | None


class ClaimVerbs:
    """Verbs about an account's claim tokens; ``require_serving`` raises where nothing may be changed."""

    def __init__(self, directory: Directory, clock: Clock, require_serving: Callable[[], None]) -> None:
        self._directory = directory
        self._clock = clock
        self._require_serving = require_serving

    async def create(self, account_id: int, wish: ClaimWish) -> tuple[ClaimView, str]:
        """Make one; durable when it returns, with its secret, which nobody can see again.

        Raises ``BadRequest``, ``QuotaExceeded``, ``Unavailable``.
        """
        self._require_serving()
        claim, secret = await self._directory.claims.create(account_id, wish, self._clock.wall_s())
        return self._view(claim), secret

    async def list(self, account_id: int) -> list[ClaimView]:
        """Show all of an account, the newest first, with those that have ended and are still on record."""
        return [self._view(claim) for claim in self._directory.claims.of(account_id)]

    async def get(self, account_id: int, claim_id: str) -> ClaimView:
        """Show one. Raises ``NotFound``."""
        return self._view(self._directory.claims.get(account_id, claim_id))

    async def revoke(self, account_id: int, claim_id: str) -> ClaimView:
        """Let one register nobody any more; its devices stay, and so does its record. Again is no error.

        Raises ``NotFound``, ``Unavailable``.
        """
        self._require_serving()
        return self._view(await self._directory.claims.revoke(account_id, claim_id, self._clock.wall_s()))

    def _view(self, claim: ClaimToken) -> ClaimView:
        done = self._directory.enrolled.of(claim.account_id, claim.claim_id)
        return ClaimView(
            claim_id=claim.claim_id,
            name=claim.name,
            status=self._directory.claims.state(claim, self._clock.wall_s()),
            device_type=claim.device_type,
            device_id_pattern=claim.device_id_pattern,
            uses=done.count,
            uses_maximum=claim.uses_maximum or None,
            created_at=claim.created_at,
            expires_at=claim.expires_at or None,
            revoked_at=claim.revoked_at or None,
            last_used_at=done.last_at or None,
            last_refusal=refusal_view(self._directory.enrolled.last_refusal(claim.account_id, claim.claim_id)),
        )


def refusal_view(refusal: LastRefusal | None) -> RefusalView | None:
    """Show a refusal in words."""
    if refusal is None:
        return None
    code = refusal.code
    said = sentence_of(code, "", "", ""), remedy_of(code)
    return RefusalView(refusal.at, code, *said, refusal.device_id, refusal.address)
