"""API keys: how applications and people prove which account they act for.

Here belong making, finding and revoking keys. Not here: the HTTP header or the CONNECT that carries one. A key is shown
once, when it is made; afterwards only its digest exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from broker.accounts.accounts import Accounts, check_name
from broker.accounts.ledger import PRINCIPAL_NUMBERS, Ledger
from broker.accounts.plans import application_limits
from broker.accounts.records import ApiKey, decode_number, encode_number
from broker.errors import NotFound
from broker.policy.credentials import api_key_digest, new_api_key
from broker.policy.policies import APPLICATION
from broker.ports import Change, Grant, GrantTable
from broker.storage.tables import KEYS, SEEN, key_number, number_key


class Keys:
    """All API keys of the installation; revoked ones stay on record, so that a name keeps its principal."""

    def __init__(self, ledger: Ledger, secret: bytes, grants: GrantTable, accounts: Accounts) -> None:
        self._ledger = ledger
        self._secret = secret
        self._grants = grants
        self._accounts = accounts
        self._by_id: dict[int, ApiKey] = {}
        self._by_digest: dict[bytes, int] = {}
        self._principals: dict[tuple[int, str], int] = {}
        self._principal_ids: set[int] = set()
        self._last_used: dict[int, int] = {}
        self._used_since_flush: dict[int, int] = {}

    def load(self) -> None:
        """Read all keys and grant those that are valid."""
        for _, value in self._ledger.rows(KEYS):
            self._apply(ApiKey.decode(value))
        for number, value in self._ledger.rows(SEEN):
            if key_number(number) in self._by_id:
                self._last_used[key_number(number)] = decode_number(value)

    def __len__(self) -> int:
        """How many keys are valid."""
        return len(self._by_digest)

    def principals(self) -> set[int]:
        """The numbers of all principals that have or had a key."""
        return set(self._principal_ids)

    def principals_of(self, account_id: int) -> list[int]:
        """The numbers of an account's principals that have or had a key."""
        return [number for (owner, _), number in self._principals.items() if owner == account_id]

    def is_principal(self, number: int) -> bool:
        """Tell whether this is the number of a principal that has or had a key."""
        return number in self._principal_ids

    def all(self, account_id: int | None = None) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first; of one account, or of all."""
        return [key for key in self._by_id.values() if account_id in (None, key.account_id)]

    def last_used_at(self, key_id: int) -> int:
        """When a key last came with an HTTP request; 0 for never."""
        return self._last_used.get(key_id, 0)

    def find(self, api_key: str) -> ApiKey | None:
        """Find the valid key of this text; None when it is unknown or revoked. The account may be suspended."""
        key_id = self._by_digest.get(api_key_digest(self._secret, api_key))
        return None if key_id is None else self._by_id[key_id]

    def note_use(self, key_id: int, now_s: int) -> None:
        """Remember that a key was used; ``flush`` stores it later."""
        if self._last_used.get(key_id) != now_s:
            self._last_used[key_id] = self._used_since_flush[key_id] = now_s

    async def flush(self) -> None:
        """Store when keys were last used."""
        used, self._used_since_flush = self._used_since_flush, {}
        if used:
            await self._ledger.commit(seen_changes(used), lambda: None, lambda: self._used_since_flush.update(used))

    async def create(self, account_id: int, name: str, now_s: int) -> tuple[ApiKey, str]:
        """Make a key; returns its record and its text, which nobody can see again.

        Raises ``NotFound`` for an unknown account and ``BadRequest`` for a bad name.
        """
        self._accounts.get(account_id)
        check_name(name)
        api_key = new_api_key()
        key_id, given = self._ledger.give_number(PRINCIPAL_NUMBERS)
        digest = api_key_digest(self._secret, api_key)
        principal_id = self._principals.setdefault((account_id, name), key_id)  # the number of its first key
        key = ApiKey(key_id, account_id, name, principal_id, digest, now_s)
        await self._ledger.commit([given, self._put(key)], lambda: self._apply(key))
        return key, api_key

    async def revoke(self, key_id: int, now_s: int) -> ApiKey:
        """Make a key invalid and cut the connections that came in with it; again is no error. Raises ``NotFound``."""
        key = self._by_id.get(key_id)
        if key is None:
            raise NotFound("there is no such key")
        if key.revoked_at:
            return key
        revoked = replace(key, revoked_at=now_s)
        await self._ledger.commit([self._put(revoked)], lambda: self._apply(revoked))
        return revoked

    def grant_for(self, digest: bytes) -> Grant | None:
        """Give what a valid key's digest grants; None for others."""
        key_id = self._by_digest.get(digest)
        return None if key_id is None else self._grant(self._by_id[key_id])

    def of_account(self, account_id: int) -> Iterator[tuple[bytes, Grant]]:
        """Give each valid key of an account with its grant."""
        return ((key.digest, self._grant(key)) for key in self.all(account_id) if not key.revoked_at)

    @staticmethod
    def _put(key: ApiKey) -> Change:
        return Change(KEYS, number_key(key.key_id), key.encode())

    def _grant(self, key: ApiKey) -> Grant:
        limits = application_limits(self._accounts.plan(key.account_id))
        durability = self._accounts.durability(key.account_id)
        return Grant(key.account_id, key.principal_id, key.name, "", APPLICATION, durability, limits)

    def _apply(self, key: ApiKey) -> None:
        self._by_id[key.key_id] = key
        self._principals[key.account_id, key.name] = key.principal_id
        self._principal_ids.add(key.principal_id)
        if key.revoked_at:
            if self._by_digest.pop(key.digest, None) is not None:
                self._grants.remove_grant(key.digest)
            return
        self._by_digest[key.digest] = key.key_id
        if not self._accounts.get(key.account_id).suspended:
            self._grants.put_grant(key.digest, self._grant(key))


def seen_changes(seen: Mapping[int, int]) -> list[Change]:
    """Make the changes that store when numbers were last seen (seconds)."""
    return [Change(SEEN, number_key(number), encode_number(at)) for number, at in seen.items()]
