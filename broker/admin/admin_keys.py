"""Admin keys as the command line makes them, and as they see themselves.

Here belong the verbs. Not here: their rules (``broker.accounts.admin_keys``), and the proof of one (``access``).
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.accounts.admin_keys import AdminKey
from broker.accounts.directory import Directory
from broker.admin.clock import Clock
from broker.errors import PermissionDenied


@dataclass(frozen=True, slots=True)
class AdminKeyView:
    """An admin key, without its text; moments are None for never."""

    key_id: int
    name: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    revoked_at: int | None
    is_valid: bool


class AdminKeyVerbs:
    """Raises ``NotFound``, ``BadRequest``, ``QuotaExceeded`` and ``Unavailable``."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    async def create(self, name: str, expires_at: int | None = None) -> tuple[AdminKeyView, str]:
        """Make an admin key; returns it with its text, which nobody can see again."""
        key, text = await self._directory.admin_keys.create(name, self._clock.wall_s(), expires_at or 0)
        return self._view(key), text

    async def all(self) -> list[AdminKeyView]:
        """List all admin keys, ended ones too, oldest first."""
        return [self._view(key) for key in self._directory.admin_keys.all()]

    async def revoke(self, key_id: int, asked_by: int | None = None) -> AdminKeyView:
        """Make an admin key invalid; again is no error.

        ``asked_by`` is the number of the admin key that asks: it may end itself alone, so that whoever has stolen one
        cannot lock out the others. Raises ``PermissionDenied`` then.
        """
        self._directory.admin_keys.get(key_id)
        if asked_by not in (None, key_id):
            raise PermissionDenied("an admin key may revoke itself alone; the command line revokes others")
        return self._view(await self._directory.admin_keys.revoke(key_id, self._clock.wall_s()))

    def _view(self, key: AdminKey) -> AdminKeyView:
        return AdminKeyView(
            key_id=key.key_id,
            name=key.name,
            created_at=key.created_at,
            last_used_at=self._directory.last_uses.at(key.key_id) or None,
            expires_at=key.expires_at or None,
            revoked_at=key.revoked_at or None,
            is_valid=self._directory.admin_keys.is_valid(key),
        )
