"""API keys: how applications and people prove which account they act for.

Here belong making, finding and ending keys. Not here: the HTTP header or the CONNECT that carries one, and the rules of
scopes and patterns (``policy.key_rights``). A key is shown once, when it is made; afterwards only its digest exists.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator
from dataclasses import replace

from broker.accounts.accounts import Accounts, check_name
from broker.accounts.deeds import about
from broker.accounts.last_uses import LastUses
from broker.accounts.ledger import PRINCIPAL_NUMBERS, Ledger
from broker.accounts.moments import MOMENT_MAXIMUM, moment_text
from broker.accounts.plans import application_limits
from broker.accounts.records import ApiKey
from broker.errors import BadRequest, Conflict, NotFound, QuotaExceeded
from broker.policy.credentials import api_key_digest, new_api_key
from broker.policy.key_rights import EVERYTHING, KeyRights
from broker.ports import Change, Grant, GrantTable
from broker.storage.tables import KEYS, number_key

VALID_MAXIMUM = 1000  # of one account
RECORDS_MAXIMUM = 2 * VALID_MAXIMUM  # of one account, with those that have ended: the oldest of them are forgotten
EXPIRY_MAXIMUM_S = 100 * 366 * 24 * 3600


def check_expiry(expires_at: int, now_s: int) -> int:
    """Return when a key is to expire; 0 is never. Raises ``BadRequest`` for a moment that has passed, or too late."""
    if expires_at and not now_s < expires_at <= now_s + EXPIRY_MAXIMUM_S:
        expected = "a moment to come, within 100 years"
        provided = moment_text(expires_at) if 0 < expires_at < MOMENT_MAXIMUM else expires_at
        raise BadRequest(f"expires_at: expected {expected}", field="expires_at", provided=provided, expected=expected)
    return expires_at


class Keys:
    """All API keys of the installation; ended ones stay on record, so that a name keeps its principal.

    What a principal may do is what its keys may do: all valid keys of one name have the same rights.
    """

    def __init__(
        self, ledger: Ledger, secret: bytes, grants: GrantTable, accounts: Accounts, uses: LastUses | None = None
    ) -> None:
        self._ledger = ledger
        self._secret = secret
        self._grants = grants
        self._accounts = accounts
        self._uses = uses or LastUses(ledger)
        self._by_id: dict[int, ApiKey] = {}
        self._by_digest: dict[bytes, int] = {}
        self._of_account: dict[int, dict[int, None]] = {}  # numbers of keys on record, oldest first
        self._principals: dict[tuple[int, str], int] = {}
        self._principal_ids: set[int] = set()
        self._now_s = 0  # the latest that was told: a clock that is set back revives nothing
        self._ends: list[tuple[int, int]] = []  # a heap: when a key expires, and its number
        self._creating = asyncio.Lock()  # keys are made rarely: one at a time keeps their rules simple

    def load(self, now_s: int) -> None:
        """Read all keys and grant those that are valid at this time."""
        self._now_s = max(self._now_s, now_s)
        for _, value in self._ledger.rows(KEYS):
            self._apply(ApiKey.decode(value))

    def __len__(self) -> int:
        """How many keys are valid."""
        return len(self._by_digest)

    def __contains__(self, key_id: int) -> bool:
        return key_id in self._by_id

    def get(self, key_id: int) -> ApiKey:
        """One key, whether it is valid or not. Raises ``NotFound``."""
        key = self._by_id.get(key_id)
        if key is None:
            raise NotFound("there is no such key")
        return key

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
        """All keys, ended ones too, oldest first; of one account, or of all."""
        numbers = self._by_id if account_id is None else self._of_account.get(account_id, {})
        return [self._by_id[number] for number in numbers]

    def is_valid(self, key: ApiKey) -> bool:
        """Tell whether a key lets in, as far as it goes itself."""
        return not key.revoked_at and not 0 < key.expires_at <= self._now_s

    def find(self, api_key: str, now_s: int = 0) -> ApiKey | None:
        """Find the valid key of this text; None when it is unknown or has ended. The account may be suspended."""
        self._now_s = max(self._now_s, now_s)
        key_id = self._by_digest.get(api_key_digest(self._secret, api_key))
        key = None if key_id is None else self._by_id[key_id]
        return key if key is not None and self.is_valid(key) else None

    # ------------------------------------------------------------ their use

    def last_used_at(self, key_id: int) -> int:
        """When a key was last used, as far as it is noted; 0 for never."""
        return self._uses.at(key_id)

    def note_use(self, key_id: int, now_s: int) -> None:
        """Remember that a key was used; ``LastUses`` stores it later."""
        self._uses.note(key_id, now_s)

    # ------------------------------------------------------------ changes

    async def create(
        self, account_id: int, name: str, now_s: int, rights: KeyRights = EVERYTHING, expires_at: int = 0
    ) -> tuple[ApiKey, str]:
        """Make a key; returns its record and its text, which nobody can see again. ``expires_at`` is 0 for never.

        Raises ``NotFound`` for an unknown account, ``BadRequest`` for a bad name or a moment that has passed,
        ``Conflict`` where a valid key of this name has other rights, ``QuotaExceeded`` for one key too many.
        """
        self._accounts.get(account_id)
        check_name(name)
        check_expiry(expires_at, now_s)
        async with self._creating:
            self._check_fellows(account_id, name, rights)
            api_key = new_api_key()
            key_id, given = self._ledger.give_number(PRINCIPAL_NUMBERS)
            digest = api_key_digest(self._secret, api_key)
            about(str(key_id), account_id)
            principal_id = self._principals.setdefault((account_id, name), key_id)  # the number of its first key
            scopes, patterns = rights.stored()
            key = ApiKey(key_id, account_id, name, principal_id, digest, now_s, 0, expires_at, scopes, patterns)
            forgotten = self._too_many(account_id)
            changes = [given, self._put(key), *(Change(KEYS, number_key(one), None) for one in forgotten)]
            changes += [self._uses.forget(one) for one in forgotten]
            await self._ledger.commit(changes, lambda: self._exchange(key, forgotten))
        return key, api_key

    async def revoke(self, key_id: int, now_s: int) -> ApiKey:
        """Make a key invalid and cut the connections that came in with it; again is no error. Raises ``NotFound``."""
        key = self.get(key_id)
        if key.revoked_at:
            return key
        about(str(key_id), key.account_id)
        revoked = replace(key, revoked_at=now_s)
        await self._ledger.commit([self._put(revoked)], lambda: self._apply(revoked))
        return self.get(key_id) if key_id in self else revoked

    def end_expired(self, now_s: int) -> None:
        """Cut who came in with a key that has expired; asked twice a second."""
        self._now_s = max(self._now_s, now_s)
        while self._ends and self._ends[0][0] <= self._now_s:
            key = self._by_id.get(heapq.heappop(self._ends)[1])
            if key is not None:
                self._end(key)

    # ------------------------------------------------------------ grants

    def grant_for(self, digest: bytes) -> Grant | None:
        """Give what a valid key's digest grants; None for others, and for a key that may do nothing over MQTT."""
        key_id = self._by_digest.get(digest)
        return None if key_id is None else self._maybe_grant(self._by_id[key_id])

    def of_account(self, account_id: int) -> Iterator[tuple[bytes, Grant]]:
        """Give each valid key of an account that may come in over MQTT, with its grant."""
        for key in self.all(account_id):
            grant = self._maybe_grant(key)
            if grant is not None:
                yield key.digest, grant

    @staticmethod
    def rights(key: ApiKey) -> KeyRights:
        """Tell what a key may do."""
        return KeyRights.of_record(key.scopes, key.patterns)

    def _maybe_grant(self, key: ApiKey) -> Grant | None:
        rights = self.rights(key)
        if not rights.may_connect or not self.is_valid(key):
            return None
        limits = application_limits(self._accounts.plan(key.account_id))
        durability = self._accounts.durability(key.account_id)
        return Grant(key.account_id, key.principal_id, key.name, "", rights.policy(), durability, limits)

    # ------------------------------------------------------------ what is in force

    @staticmethod
    def _put(key: ApiKey) -> Change:
        return Change(KEYS, number_key(key.key_id), key.encode())

    def _check_fellows(self, account_id: int, name: str, rights: KeyRights) -> None:
        """Judge a new key by the valid ones beside it."""
        valid = [key for key in self.all(account_id) if self.is_valid(key)]
        if len(valid) >= VALID_MAXIMUM:
            raise QuotaExceeded(f"an account has at most {VALID_MAXIMUM} valid keys")
        if any(key.name == name and self.rights(key) != rights for key in valid):
            raise Conflict(f"a valid key {name!r} has other rights: revoke it first, or choose another name")

    def _too_many(self, account_id: int) -> list[int]:
        """Choose which ended keys are forgotten for a new one: one whose name lives on in another, if there is one."""
        records = self.all(account_id)
        if len(records) < RECORDS_MAXIMUM:
            return []
        ended = [key for key in records if not self.is_valid(key)]
        kept = {key.key_id for key in {key.principal_id: key for key in records}.values()}  # the last one of each name
        return [min(ended, key=lambda key: (key.key_id in kept, key.key_id)).key_id]

    def _exchange(self, key: ApiKey, forgotten: list[int]) -> None:
        for number in forgotten:
            self._forget(number)
        self._apply(key)

    def _forget(self, number: int) -> None:
        """Drop the record of an ended key; its principal lives until the end of the process."""
        gone = self._by_id.pop(number)
        del self._of_account[gone.account_id][number]
        if all(key.principal_id != gone.principal_id for key in self.all(gone.account_id)):
            self._principals.pop((gone.account_id, gone.name), None)

    def _apply(self, key: ApiKey) -> None:
        self._by_id[key.key_id] = key
        self._of_account.setdefault(key.account_id, {})[key.key_id] = None
        self._principals[key.account_id, key.name] = key.principal_id
        self._principal_ids.add(key.principal_id)
        if not self.is_valid(key):
            self._end(key)
            return
        self._by_digest[key.digest] = key.key_id
        if key.expires_at:
            heapq.heappush(self._ends, (key.expires_at, key.key_id))
        grant = self._maybe_grant(key)
        if grant is not None and not self._accounts.get(key.account_id).suspended:
            self._grants.put_grant(key.digest, grant)

    def _end(self, key: ApiKey) -> None:
        if self._by_digest.pop(key.digest, None) is not None:
            self._grants.remove_grant(key.digest)
