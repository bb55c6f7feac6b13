"""Whether the key of a request may take the route that it asks for.

Here belongs the judgement by scope and topic, before anything of the request is read. Not here: the proof of the key
(``admission``), and whether what the path names exists.
"""

from __future__ import annotations

from collections.abc import Mapping

from api.routes import ApiRoute
from broker.admin import Admin, KeyContext
from broker.errors import PermissionDenied


def require(admin: Admin, row: ApiRoute, key: KeyContext, path: Mapping[str, str]) -> None:
    """Raise ``PermissionDenied`` where a key lacks the scope of a row, or may not publish to its topic.

    The answer is the same whether what the path names exists or not.
    """
    if row.scope is None:
        return
    if row.scope not in key.scopes:
        raise PermissionDenied(f"this needs a key with the scope {row.scope}")
    if row.scope == "publish" and key.patterns and not _covers(admin, row, key, path):
        raise PermissionDenied("the topic patterns of this key do not cover this topic")


def _covers(admin: Admin, row: ApiRoute, key: KeyContext, path: Mapping[str, str]) -> bool:
    return bool(row.topic) and admin.access.may_publish(key, row.topic.format_map(path))
