"""The rows below ``/v1/admin``: accounts, plans, keys and the audit log. They need an admin key.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``admin``).
"""

from __future__ import annotations

from api import admin, admin_models, models
from api.routes import ADMIN_PATH, ApiRoute
from broker.errors import Conflict, NotFound, PermissionDenied, QuotaExceeded, Unavailable

ACCOUNTS = ADMIN_PATH + "/accounts"
ACCOUNT = ACCOUNTS + "/{account_id}"
KEYS = ADMIN_PATH + "/keys"
KEY = KEYS + "/{key_id}"
ADMIN_KEYS = ADMIN_PATH + "/admin-keys"

ROUTES = (
    ApiRoute(
        "GET",
        ACCOUNTS,
        admin.list_accounts,
        "List accounts",
        query=models.PageQuery,
        body=None,
        answer=admin_models.AccountsAnswer,
        status=200,
    ),
    ApiRoute(
        "POST",
        ACCOUNTS,
        admin.create_account,
        "Make an account",
        query=models.Nothing,
        body=admin_models.AccountBody,
        answer=admin_models.AccountAnswer,
        status=201,
        errors=(Conflict, QuotaExceeded, Unavailable),
    ),
    ApiRoute(
        "GET",
        ACCOUNT,
        admin.get_account,
        "Show an account",
        query=models.Nothing,
        body=None,
        answer=admin_models.AccountAnswer,
        status=200,
        errors=(NotFound,),
    ),
    ApiRoute(
        "PATCH",
        ACCOUNT,
        admin.change_account,
        "Change an account",
        query=models.Nothing,
        body=admin_models.AccountChangeBody,
        answer=admin_models.AccountAnswer,
        status=200,
        errors=(NotFound, Unavailable),
    ),
    ApiRoute(
        "GET",
        ADMIN_PATH + "/plans",
        admin.list_plans,
        "Tell what the plans allow",
        query=models.Nothing,
        body=None,
        answer=admin_models.PlansAnswer,
        status=200,
    ),
    ApiRoute(
        "GET",
        KEYS,
        admin.list_keys,
        "List keys of accounts",
        query=admin_models.KeysQuery,
        body=None,
        answer=admin_models.KeysAnswer,
        status=200,
        errors=(NotFound,),
    ),
    ApiRoute(
        "POST",
        KEYS,
        admin.create_key,
        "Make a key of an account",
        query=models.Nothing,
        body=admin_models.KeyBody,
        answer=admin_models.NewKeyAnswer,
        status=201,
        errors=(NotFound, Conflict, QuotaExceeded, Unavailable),
    ),
    ApiRoute(
        "GET",
        KEY,
        admin.get_key,
        "Show a key",
        query=models.Nothing,
        body=None,
        answer=admin_models.KeyAnswer,
        status=200,
        errors=(NotFound,),
    ),
    ApiRoute(
        "DELETE",
        KEY,
        admin.revoke_key,
        "Revoke a key",
        query=models.Nothing,
        body=None,
        answer=None,
        status=204,
        errors=(NotFound, Unavailable),
    ),
    ApiRoute(
        "GET",
        ADMIN_KEYS,
        admin.list_admin_keys,
        "List admin keys",
        query=models.Nothing,
        body=None,
        answer=admin_models.AdminKeysAnswer,
        status=200,
    ),
    ApiRoute(
        "DELETE",
        ADMIN_KEYS + "/{key_id}",
        admin.revoke_admin_key,
        "Revoke the admin key that asks",
        query=models.Nothing,
        body=None,
        answer=None,
        status=204,
        errors=(NotFound, PermissionDenied, Unavailable),
    ),
    ApiRoute(
        "GET",
        ADMIN_PATH + "/audit",
        admin.list_all_audit,
        "List what was changed, and by whom",
        query=admin_models.AdminAuditQuery,
        body=None,
        answer=admin_models.AdminAuditAnswer,
        status=200,
        errors=(NotFound, Unavailable),
    ),
)
