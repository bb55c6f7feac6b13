"""The row about an account's audit log.

Here belongs the row. Not here: what a row is (``routes``) and what it does (``audit``).
"""

from __future__ import annotations

from api import audit, audit_models
from api.routes import BASE_PATH, ApiRoute
from broker.errors import Unavailable

ROUTES = (
    ApiRoute(
        "GET",
        BASE_PATH + "/audit",
        audit.list_audit,
        "List what was changed in the account, and by whom",
        query=audit_models.AuditQuery,
        body=None,
        answer=audit_models.AuditAnswer,
        status=200,
        errors=(Unavailable,),
        scope="devices:read",
    ),
)
