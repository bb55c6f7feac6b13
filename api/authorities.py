"""One function for each route about authorities: one call of ``admin``, and its answer.

Here belongs the translation between models and snapshots. Not here: any rule.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from api.authority_models import AuthoritiesAnswer, AuthorityAnswer, AuthorityBody, ProofBody
from api.claims import refusal_answer
from api.routes import ApiRequest
from broker.admin import AuthorityView, AuthorityWish, maybe_moment_text

TIMES = ("created_at", "verified_at", "expires_at", "revoked_at", "last_used_at")


async def create_authority(request: ApiRequest) -> AuthorityAnswer:
    """Take an authority in; it is of no effect until it is proven."""
    body: AuthorityBody = request.body
    wish = AuthorityWish(body.name, body.certificate, body.names, body.type, body.device_id_pattern)
    return _shown(await request.admin.authorities.create(request.account_id, wish))


async def list_authorities(request: ApiRequest) -> AuthoritiesAnswer:
    """List authorities, the newest first."""
    views = await request.admin.authorities.list(request.account_id)
    return AuthoritiesAnswer(authorities=[_shown(view) for view in views])


async def get_authority(request: ApiRequest) -> AuthorityAnswer:
    """Show one authority."""
    return _shown(await request.admin.authorities.get(request.account_id, request.path["authority_id"]))


async def verify_authority(request: ApiRequest) -> AuthorityAnswer:
    """Take the proof that an authority is the account's own."""
    body: ProofBody = request.body
    authority_id = request.path["authority_id"]
    return _shown(await request.admin.authorities.verify(request.account_id, authority_id, body.certificate))


async def revoke_authority(request: ApiRequest) -> None:
    """Let one authority vouch for nobody any more; who came in by it is cut, and its devices stay."""
    await request.admin.authorities.revoke(request.account_id, request.path["authority_id"])


def _shown(view: AuthorityView) -> AuthorityAnswer:
    fields: dict[str, Any] = asdict(view)
    fields["type"] = fields.pop("device_type")
    fields["last_refusal"] = refusal_answer(view.last_refusal)
    for name in TIMES:
        fields[name] = maybe_moment_text(fields[name])
    return AuthorityAnswer(**fields)
