"""What the outside gets to see of keys, and of who asks with one: frozen snapshots, times in whole seconds of UTC.

Here belong values only. Not here: how they come about (``access``, ``keys``), and their JSON (``api``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.policy.key_rights import SCOPES


@dataclass(frozen=True, slots=True)
class KeyContext:
    """Who asks: the key of a request, the account that it acts for, and what it may do there.

    A key with ``patterns`` may publish to what they cover alone. An admin key acts for the installation: its account is
    number 0, and it has no scope.
    """

    account_id: int
    key_id: int
    key_name: str
    scopes: Sequence[str] = SCOPES
    patterns: Sequence[str] = ()
    is_admin: bool = False


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key, without its text; moments are None for never, ``account`` is a name.

    ``last_used_at`` counts requests over HTTP and connects over MQTT.
    """

    key_id: int
    account_id: int
    account: str
    name: str
    scopes: Sequence[str]
    patterns: Sequence[str]
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    revoked_at: int | None
    is_valid: bool
