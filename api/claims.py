"""One function for each route about claim tokens: one call of ``admin``, and its answer.

Here belongs the translation between models and snapshots. Not here: any rule.
"""

from __future__ import annotations

from typing import Any

from api.claim_models import ClaimAnswer, ClaimBody, ClaimsAnswer, NewClaimAnswer, RefusalAnswer
from api.routes import ApiRequest
from broker.admin import ClaimView, ClaimWish, RefusalView, maybe_moment_text, moment_text


async def create_claim_token(request: ApiRequest) -> NewClaimAnswer:
    """Make a claim token; the answer is the only one that ever carries its secret."""
    body: ClaimBody = request.body
    wish = ClaimWish(body.name, body.type, body.device_id_pattern, body.uses_maximum or 0, body.expires_at or 0)
    view, secret = await request.admin.claims.create(request.account_id, wish)
    return NewClaimAnswer(**_fields(view), secret=secret)


async def list_claim_tokens(request: ApiRequest) -> ClaimsAnswer:
    """List claim tokens, the newest first."""
    views = await request.admin.claims.list(request.account_id)
    return ClaimsAnswer(claim_tokens=[ClaimAnswer(**_fields(view)) for view in views])


async def get_claim_token(request: ApiRequest) -> ClaimAnswer:
    """Show one claim token."""
    return ClaimAnswer(**_fields(await request.admin.claims.get(request.account_id, request.path["claim_id"])))


async def revoke_claim_token(request: ApiRequest) -> None:
    """Let one claim token register nobody any more; its devices stay."""
    await request.admin.claims.revoke(request.account_id, request.path["claim_id"])


def refusal_answer(view: RefusalView | None) -> RefusalAnswer | None:
    """Show who was not registered last, if anybody was not."""
    if view is None:
        return None
    return RefusalAnswer(
        at=moment_text(view.at),
        code=view.code,
        message=view.message,
        remedy=view.remedy or None,
        device_id=view.device_id or None,
        address=view.address or None,
    )


def _fields(view: ClaimView) -> dict[str, Any]:
    return {
        "claim_id": view.claim_id,
        "name": view.name,
        "status": view.status,
        "type": view.device_type,
        "device_id_pattern": view.device_id_pattern,
        "uses": view.uses,
        "uses_maximum": view.uses_maximum,
        "created_at": moment_text(view.created_at),
        "expires_at": maybe_moment_text(view.expires_at),
        "revoked_at": maybe_moment_text(view.revoked_at),
        "last_used_at": maybe_moment_text(view.last_used_at),
        "last_refusal": refusal_answer(view.last_refusal),
    }
