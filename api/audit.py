"""The audit log over HTTP: which request is a change, and how an account reads its own.

Here belong the deed of a request, and the handlers. Not here: the log itself (``broker.admin``).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from starlette.types import Scope

from api.audit_models import ActorAnswer, AuditAnswer, AuditEntryAnswer, AuditQuery
from api.callers import address_of
from api.request_ids import request_id_of
from api.routes import ApiRequest, ApiRoute
from broker.admin import Actor, AuditView, moment_text


def deed_of(row: ApiRoute, request: ApiRequest, scope: Scope) -> AbstractAsyncContextManager[None]:
    """Give the block in which a request is handled: one whose changes are noted, where it makes any."""
    fields = _fields(row, request)
    if not row.is_change or (row.method == "PATCH" and not fields):
        return nullcontext()
    key = request.key
    actor = Actor(
        "admin_key" if key.is_admin else "key", key.key_id, key.key_name, address_of(scope), request_id_of(scope)
    )
    target = "/".join(request.path.values())
    return request.admin.audit.deed(actor, row.handler.__name__, key.account_id, target, fields)


def _fields(row: ApiRoute, request: ApiRequest) -> Collection[str]:
    if row.many is not None:
        return (row.many.name,)
    return () if request.body is None else request.body.model_fields_set


OF_THE_ACCOUNT = ("key", "claim_token", "authority")


async def list_audit(request: ApiRequest) -> AuditAnswer:
    """Tell what was changed in the account; of the operator only that it was the operator."""
    query: AuditQuery = request.query
    entries, total = await request.admin.audit.page(request.account_id, query.limit, query.offset)
    shown = [AuditEntryAnswer(**entry_fields(view, whole=view.actor.kind in OF_THE_ACCOUNT)) for view in entries]
    return AuditAnswer(entries=shown, total=total, limit=query.limit, offset=query.offset)


def entry_fields(view: AuditView, *, whole: bool = True) -> dict[str, Any]:
    """Give the fields of an entry; ``whole`` says whether the reader may know more of the actor than its kind."""
    actor = view.actor if whole else Actor(view.actor.kind)
    return {
        "at": moment_text(view.at),
        "action": view.verb,
        "target": view.target,
        "fields": list(view.fields),
        "actor": ActorAnswer(
            type=actor.kind, key_id=actor.number or None, name=actor.name or None, address=actor.address or None
        ),
        "request_id": view.actor.request_id,
    }
