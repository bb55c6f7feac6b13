"""Whether the key of a request may take the route that it asks for.

Here belongs the judgement by scope and topic, before anything of the request is read; for a webhook, by what it
is told. Not here: the proof of the key (``admission``), and whether what the path names exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.routes import ApiRequest, ApiRoute, key_kind
from broker.admin import Admin, KeyContext, PolicyQuestion
from broker.errors import NotFound, PermissionDenied


def require(admin: Admin, row: ApiRoute, key: KeyContext, path: Mapping[str, str]) -> None:
    """Raise ``PermissionDenied`` where a key lacks the scope of a row, or may not publish to its topic.

    Also ``NotFound`` where an admin key is needed and none is there. The answer is the same whether what the path names
    exists or not.
    """
    if key_kind(row.path) == "admin" and not key.is_admin:
        raise NotFound("there is no such path")  # the admission asks for the key; this is the second lock of that door
    if row.scope is None:
        return
    if row.scope not in key.scopes:
        raise PermissionDenied(f"this needs a key with the scope {row.scope}")
    if row.scope == "publish" and key.patterns and not _covers(admin, row, key, path):
        raise PermissionDenied("the topic patterns of this key do not cover this topic")


async def require_hearing(request: ApiRequest, filters: Sequence[str]) -> None:
    """Raise ``PermissionDenied`` where the key of a request may not subscribe to all of these filters.

    What it may not hear over MQTT it does not let anybody be told in another way.
    """
    key = request.key
    if not filters or ("subscribe" in key.scopes and not key.patterns):
        return
    if "subscribe" not in key.scopes:
        raise PermissionDenied("this needs a key with the scope subscribe")
    for one in filters:
        answer = await request.admin.policies.check(
            request.account_id, PolicyQuestion("subscribe", one, key_name=key.key_name)
        )
        if not answer.allowed:
            raise PermissionDenied("the topic patterns of this key do not cover what the webhook would be told")


def _covers(admin: Admin, row: ApiRoute, key: KeyContext, path: Mapping[str, str]) -> bool:
    return bool(row.topic) and admin.access.may_publish(key, row.topic.format_map(path))
