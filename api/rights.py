"""Whether the key of a request may take the route that it asks for.

Here belongs the judgement by scope and topic, before anything of the request is read. Not here: the proof of the key
(``admission``), and whether what the path names exists.
"""

from __future__ import annotations

from collections.abc import Mapping

from api.routes import ApiRoute, key_kind
from broker.admin import Admin, KeyContext
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


def _covers(admin: Admin, row: ApiRoute, key: KeyContext, path: Mapping[str, str]) -> bool:
    return bool(row.topic) and admin.access.may_publish(key, row.topic.format_map(path))
