"""API keys as the operator sees and changes them.

Here belong the verbs about keys, by account and key number. Not here: proving one (``access``), its rules
(``broker.accounts.keys``), and the same verbs by the names of accounts (``operator``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.accounts.directory import Directory
from broker.accounts.records import ApiKey
from broker.admin.clock import Clock
from broker.admin.key_views import KeyView
from broker.admin.standing import latest
from broker.policy.key_rights import checked_rights
from broker.ports import PresenceSource


class KeyVerbs:
    """Raises ``NotFound``, ``Conflict``, ``BadRequest``, ``QuotaExceeded`` and ``Unavailable``."""

    def __init__(self, directory: Directory, presence: PresenceSource, clock: Clock) -> None:
        self._directory = directory
        self._presence = presence
        self._clock = clock

    async def create(
        self,
        account_id: int,
        name: str,
        scopes: Iterable[str] | None = None,
        patterns: Iterable[str] = (),
        expires_at: int | None = None,
    ) -> tuple[KeyView, str]:
        """Make a key; returns it with its text, which nobody can see again. ``scopes`` None is all of the account."""
        rights = checked_rights(scopes, patterns)
        keys, now_s = self._directory.keys, self._clock.wall_s()
        key, api_key = await keys.create(account_id, name, now_s, rights, expires_at or 0)
        return self._view(key), api_key

    async def show(self, key_id: int) -> KeyView:
        """Show one key."""
        return self._view(self._directory.keys.get(key_id))

    async def all(self, account_id: int | None = None) -> list[KeyView]:
        """List the keys of one account, or of all, ended ones too, oldest first."""
        return [self._view(key) for key in self._keys(account_id)]

    async def page(self, account_id: int | None, limit: int, offset: int) -> tuple[Sequence[KeyView], int]:
        """Show a page of the keys of one account, or of all, newest first, and how many there are."""
        keys = self._keys(account_id)
        keys.reverse()
        return [self._view(key) for key in keys[offset : offset + limit]], len(keys)

    async def revoke(self, key_id: int) -> KeyView:
        """Make a key invalid and cut the connections that came in with it; again is no error."""
        self.note_connects()  # the core forgets a key with its grant
        return self._view(await self._directory.keys.revoke(key_id, self._clock.wall_s()))

    def note_connects(self) -> None:
        """Note when keys last came in over MQTT, as far as the core knows; ``persist_seen`` stores it."""
        keys = self._directory.keys
        for key in keys.all():
            if keys.is_valid(key):
                used_at = self._last_used(key)
                if used_at is not None:
                    keys.note_use(key.key_id, used_at)

    def _keys(self, account_id: int | None) -> list[ApiKey]:
        if account_id is not None:
            self._directory.accounts.get(account_id)
        return self._directory.keys.all(account_id)

    def _last_used(self, key: ApiKey) -> int | None:
        seen_ns = self._presence.credential_used_ns(key.digest)
        noted = self._directory.keys.last_used_at(key.key_id)
        at = latest(self._clock, seen_ns, noted)
        return max(at, noted) if at is not None else None

    def _view(self, key: ApiKey) -> KeyView:
        rights = self._directory.keys.rights(key)
        return KeyView(
            key_id=key.key_id,
            account_id=key.account_id,
            account=self._directory.accounts.get(key.account_id).name,
            name=key.name,
            scopes=rights.scopes,
            patterns=rights.patterns,
            created_at=key.created_at,
            last_used_at=self._last_used(key),
            expires_at=key.expires_at or None,
            revoked_at=key.revoked_at or None,
            is_valid=self._directory.keys.is_valid(key),
        )
