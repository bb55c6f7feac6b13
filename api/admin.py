"""What an admin key may do: one function for each route below ``/v1/admin``.

Here belongs the translation between models and snapshots. Not here: any rule, and any HTTP.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from api.admin_models import (
    AccountAnswer,
    AccountBody,
    AccountChangeBody,
    AccountsAnswer,
    AdminAuditAnswer,
    AdminAuditEntryAnswer,
    AdminAuditQuery,
    AdminKeyAnswer,
    AdminKeysAnswer,
    KeyAnswer,
    KeyBody,
    KeysAnswer,
    KeysQuery,
    NewKeyAnswer,
    PlanAnswer,
    PlansAnswer,
)
from api.audit import entry_fields
from api.models import PageQuery
from api.routes import ApiRequest
from broker.admin import AccountChange, AccountView, AdminKeyView, KeyView, moment_text
from broker.errors import NotFound

NUMBER = re.compile(r"[1-9][0-9]{0,9}")

# ---------------------------------------------------------------- accounts and plans


async def create_account(request: ApiRequest) -> AccountAnswer:
    """Make an account."""
    body: AccountBody = request.body
    return _account(await request.admin.accounts.create(**body.model_dump()))


async def list_accounts(request: ApiRequest) -> AccountsAnswer:
    """List accounts, oldest first."""
    query: PageQuery = request.query
    views, total = await request.admin.accounts.page(query.limit, query.offset)
    return AccountsAnswer(
        accounts=[_account(view) for view in views], total=total, limit=query.limit, offset=query.offset
    )


async def get_account(request: ApiRequest) -> AccountAnswer:
    """Show one account."""
    return _account(await request.admin.accounts.show(_number(request, "account_id")))


async def change_account(request: ApiRequest) -> AccountAnswer:
    """Change one account."""
    body: AccountChangeBody = request.body
    change = AccountChange(**body.model_dump())
    number = _number(request, "account_id")
    if change == AccountChange():
        return _account(await request.admin.accounts.show(number))
    return _account(await request.admin.accounts.change(number, change))


async def list_plans(request: ApiRequest) -> PlansAnswer:
    """Tell what the plans allow."""
    return PlansAnswer(
        plans=[
            PlanAnswer(
                name=plan.name,
                max_devices=plan.devices_maximum,
                max_messages_per_month=plan.messages_per_month,
                max_bandwidth_bytes_per_month=plan.bytes_per_month,
                max_message_bytes=plan.payload_maximum_bytes,
                messages_per_second_per_device=plan.device_messages_per_s,
                max_connections=plan.connections_maximum,
            )
            for plan in request.admin.accounts.plans()
        ]
    )


# ---------------------------------------------------------------- keys


async def create_key(request: ApiRequest) -> NewKeyAnswer:
    """Make a key of an account; the answer is the only one that ever carries it."""
    body: KeyBody = request.body
    view, api_key = await request.admin.keys.create(
        body.account_id, body.name, body.scopes, body.patterns, body.expires_at
    )
    return NewKeyAnswer(**_key_fields(view), api_key=api_key)


async def list_keys(request: ApiRequest) -> KeysAnswer:
    """List keys, newest first, ended ones too."""
    query: KeysQuery = request.query
    views, total = await request.admin.keys.page(query.account_id, query.limit, query.offset)
    keys = [KeyAnswer(**_key_fields(view)) for view in views]
    return KeysAnswer(keys=keys, total=total, limit=query.limit, offset=query.offset)


async def get_key(request: ApiRequest) -> KeyAnswer:
    """Show one key."""
    return KeyAnswer(**_key_fields(await request.admin.keys.show(_number(request, "key_id"))))


async def revoke_key(request: ApiRequest) -> None:
    """Make one key invalid."""
    await request.admin.keys.revoke(_number(request, "key_id"))


async def list_admin_keys(request: ApiRequest) -> AdminKeysAnswer:
    """List admin keys."""
    return AdminKeysAnswer(admin_keys=[AdminKeyAnswer(**_ended(view)) for view in await request.admin.admin_keys.all()])


async def revoke_admin_key(request: ApiRequest) -> None:
    """Make the admin key invalid that asks for it."""
    await request.admin.admin_keys.revoke(_number(request, "key_id"), asked_by=request.key.key_id)


# ---------------------------------------------------------------- the audit log


async def list_all_audit(request: ApiRequest) -> AdminAuditAnswer:
    """Tell what was changed, by whom and from where."""
    query: AdminAuditQuery = request.query
    views, total = await request.admin.audit.page(query.account_id, query.limit, query.offset)
    entries = [AdminAuditEntryAnswer(**entry_fields(view), account_id=view.account_id or None) for view in views]
    return AdminAuditAnswer(entries=entries, total=total, limit=query.limit, offset=query.offset)


# ---------------------------------------------------------------- words


def _number(request: ApiRequest, name: str) -> int:
    """Give a number of the path. Raises ``NotFound`` for what can be none."""
    text = request.path[name]
    if NUMBER.fullmatch(text) is None:
        raise NotFound(f"there is no such {name.removesuffix('_id')}")
    return int(text)


def _account(view: AccountView) -> AccountAnswer:
    return AccountAnswer(**{**asdict(view), "created_at": moment_text(view.created_at)})


def _key_fields(view: KeyView) -> dict[str, Any]:
    return {**_ended(view), "scopes": list(view.scopes), "patterns": list(view.patterns)}


def _ended(view: KeyView | AdminKeyView) -> dict[str, Any]:
    """Give the fields of a key of either kind; why it ended in place of whether."""
    fields = asdict(view)
    valid = fields.pop("is_valid")
    moments = {name: value and moment_text(value) for name, value in fields.items() if name.endswith("_at")}
    status = "valid" if valid else "revoked" if view.revoked_at else "expired"
    return {**fields, **moments, "status": status}
