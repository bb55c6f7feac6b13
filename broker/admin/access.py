"""Who asks over HTTP, and whether the key that it shows is one.

Here belong the proof of a key, and how long a wrong one waits. Not here: where a request carries its key, and which
scope a route needs (``api``); making keys (``keys``).
"""

from __future__ import annotations

from broker.accounts.authenticator import FailureTable
from broker.accounts.deeds import INSTALLATION
from broker.accounts.directory import Directory
from broker.admin.clock import NS_PER_S, Clock
from broker.admin.key_views import KeyContext
from broker.errors import AuthFailed, PermissionDenied
from broker.ports import RightsSource

KEY_REQUIRED = "a valid API key is required"  # one text for all reasons
KEY_MAXIMUM_CHARACTERS = 128


class Access:
    """Proves keys; ``rights`` are the core's, who judges topics over REST as it does over MQTT."""

    def __init__(self, directory: Directory, rights: RightsSource, clock: Clock) -> None:
        self._directory = directory
        self._rights = rights
        self._clock = clock
        self._failures = FailureTable()

    def account_key(self, api_key: str) -> KeyContext:
        """Tell who asks with an account's key.

        Raises ``AuthFailed`` with one text for all reasons, ``PermissionDenied`` when the account is suspended.
        """
        now_s = self._clock.wall_s()
        keys = self._directory.keys
        key = keys.find(api_key, now_s) if 0 < len(api_key) <= KEY_MAXIMUM_CHARACTERS else None
        if key is None:
            raise AuthFailed(KEY_REQUIRED)
        if self._directory.accounts.get(key.account_id).suspended:
            raise PermissionDenied("this account is suspended")
        keys.note_use(key.key_id, now_s)
        rights = keys.rights(key)
        return KeyContext(key.account_id, key.key_id, key.name, rights.scopes, rights.patterns)

    def admin_key(self, admin_key: str) -> KeyContext:
        """Tell who asks with an admin key. Raises ``AuthFailed``, also for an account's key."""
        keys = self._directory.admin_keys
        key = keys.find(admin_key, self._clock.wall_s()) if 0 < len(admin_key) <= KEY_MAXIMUM_CHARACTERS else None
        if key is None:
            raise AuthFailed(KEY_REQUIRED)
        return KeyContext(INSTALLATION, key.key_id, key.name, scopes=(), is_admin=True)

    def may_publish(self, key: KeyContext, topic_name: str) -> bool:
        """Tell whether a key of an account may send a message to this topic: by its scope, and its patterns."""
        if "publish" not in key.scopes:
            return False
        if not key.patterns:
            return True
        digest = self._directory.keys.get(key.key_id).digest
        return self._rights.may_publish(digest, topic_name)

    def wrong_key_delay_s(self, address: str) -> float:
        """Count a wrong key from an address; returns how long its answer waits: 0 for the first three, then up to 1."""
        return self._failures.delay_s(address, "", self._clock.monotonic_ns() / NS_PER_S)
