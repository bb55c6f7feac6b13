"""Admin keys: how the operator proves itself over HTTP. No account has one, and none can make one.

Here belong making, finding and ending them. Not here: who may ask for that (the command line alone), and the keys of
accounts (``keys``). An admin key is shown once; afterwards only its digest exists. It opens nothing over MQTT.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.accounts.accounts import check_name
from broker.accounts.deeds import INSTALLATION, about
from broker.accounts.keys import check_expiry
from broker.accounts.last_uses import LastUses
from broker.accounts.ledger import PRINCIPAL_NUMBERS, Ledger
from broker.accounts.records import Record
from broker.errors import NotFound, QuotaExceeded
from broker.policy.credentials import admin_key_digest, new_admin_key
from broker.ports import Change
from broker.storage.tables import ADMIN_KEYS, number_key

VALID_MAXIMUM = 100
RECORDS_MAXIMUM = 1000  # with those that have ended: the oldest of them are forgotten


@dataclass(frozen=True, slots=True)
class AdminKey(Record):
    """An admin key; its number is of the same row as those of keys and devices, so that none is ambiguous."""

    key_id: int
    name: str
    digest: bytes
    created_at: int
    expires_at: int = 0
    revoked_at: int = 0


class AdminKeys:
    """All admin keys of the installation, ended ones too; few, and looked at with each request to ``/v1/admin``."""

    def __init__(self, ledger: Ledger, secret: bytes, uses: LastUses) -> None:
        self._ledger = ledger
        self._secret = secret
        self._uses = uses
        self._by_id: dict[int, AdminKey] = {}
        self._by_digest: dict[bytes, int] = {}
        self._now_s = 0  # the latest that was told: a clock that is set back revives nothing

    def load(self, now_s: int) -> None:
        """Read all admin keys."""
        self._now_s = max(self._now_s, now_s)
        for _, value in self._ledger.rows(ADMIN_KEYS):
            self._apply(AdminKey.decode(value))

    def __contains__(self, key_id: int) -> bool:
        return key_id in self._by_id

    def get(self, key_id: int) -> AdminKey:
        """One admin key, whether it is valid or not. Raises ``NotFound``."""
        key = self._by_id.get(key_id)
        if key is None:
            raise NotFound("there is no such admin key")
        return key

    def all(self) -> list[AdminKey]:
        """All admin keys, oldest first."""
        return list(self._by_id.values())

    def is_valid(self, key: AdminKey) -> bool:
        """Tell whether a key is one at this time."""
        return not key.revoked_at and not 0 < key.expires_at <= self._now_s

    def find(self, admin_key: str, now_s: int) -> AdminKey | None:
        """Find the valid admin key of this text; None when it is unknown or has ended. Notes its use."""
        self._now_s = max(self._now_s, now_s)
        key_id = self._by_digest.get(admin_key_digest(self._secret, admin_key))
        key = None if key_id is None else self._by_id[key_id]
        if key is None or not self.is_valid(key):
            return None
        self._uses.note(key.key_id, now_s)
        return key

    async def create(self, name: str, now_s: int, expires_at: int = 0) -> tuple[AdminKey, str]:
        """Make an admin key; returns its record and its text, which nobody can see again.

        Raises ``BadRequest`` for a bad name or a moment that has passed, ``QuotaExceeded`` for one too many.
        """
        check_name(name)
        check_expiry(expires_at, now_s)
        self._now_s = max(self._now_s, now_s)
        if sum(self.is_valid(key) for key in self._by_id.values()) >= VALID_MAXIMUM:
            raise QuotaExceeded(f"an installation has at most {VALID_MAXIMUM} valid admin keys")
        text = new_admin_key()
        key_id, given = self._ledger.give_number(PRINCIPAL_NUMBERS)
        key = AdminKey(key_id, name, admin_key_digest(self._secret, text), now_s, expires_at)
        forgotten = self._too_many()
        changes = [given, _put(key), *(Change(ADMIN_KEYS, number_key(one), None) for one in forgotten)]
        changes += [self._uses.forget(one) for one in forgotten]
        about(str(key_id), INSTALLATION)
        await self._ledger.commit(changes, lambda: self._exchange(key, forgotten))
        return key, text

    async def revoke(self, key_id: int, now_s: int) -> AdminKey:
        """Make an admin key invalid; again is no error. Raises ``NotFound``."""
        key = self.get(key_id)
        if key.revoked_at:
            return key
        revoked = replace(key, revoked_at=now_s)
        about(str(key_id), INSTALLATION)
        await self._ledger.commit([_put(revoked)], lambda: self._apply(revoked))
        return revoked

    def _too_many(self) -> list[int]:
        if len(self._by_id) < RECORDS_MAXIMUM:
            return []
        return [next(key.key_id for key in self._by_id.values() if not self.is_valid(key))]

    def _exchange(self, key: AdminKey, forgotten: list[int]) -> None:
        for number in forgotten:
            gone = self._by_id.pop(number, None)
            if gone is not None:
                self._by_digest.pop(gone.digest, None)
        self._apply(key)

    def _apply(self, key: AdminKey) -> None:
        self._by_id[key.key_id] = key
        if key.revoked_at:
            self._by_digest.pop(key.digest, None)
        else:
            self._by_digest[key.digest] = key.key_id


def _put(key: AdminKey) -> Change:
    return Change(ADMIN_KEYS, number_key(key.key_id), key.encode())
