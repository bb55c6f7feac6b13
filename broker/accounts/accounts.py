"""The accounts: names, plans, durability, full queues, suspension.

Here belong the rules about one account as such. Not here: its keys and devices.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace

from broker.accounts.deeds import about
from broker.accounts.ledger import ACCOUNT_NUMBERS, Ledger
from broker.accounts.plans import DEFAULT_PLAN, PLANS, Plan
from broker.accounts.records import Account
from broker.config import QUEUE_FULL_POLICIES
from broker.errors import BadRequest, Conflict, NotFound
from broker.ports import Change, Durability
from broker.storage.tables import ACCOUNTS, number_key

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}")
DEFAULT_POLICY = "default"
POLICIES = (DEFAULT_POLICY, *QUEUE_FULL_POLICIES)
DURABILITIES = tuple(level.value for level in Durability)
NAME_EXPECTED = "1 to 64 letters, digits, spaces, dots, dashes and underscores, beginning with a letter or digit"


def check_name(name: str) -> str:
    """Return a name of an account or key. Raises ``BadRequest`` for one that could not be shown or typed."""
    if NAME_PATTERN.fullmatch(name) is None:
        raise BadRequest(f"name: expected {NAME_EXPECTED}", field="name", provided=name, expected=NAME_EXPECTED)
    return name


def check_plan(plan: str) -> str:
    """Return the name of a plan. Raises ``BadRequest`` for an unknown one."""
    if plan not in PLANS:
        expected = f"one of {', '.join(PLANS)}"
        raise BadRequest(f"plan: expected {expected}", field="plan", provided=plan, expected=expected)
    return plan


def check_durability(level: str) -> str:
    """Return the name of a level of durability. Raises ``BadRequest`` for an unknown one."""
    if level not in DURABILITIES:
        expected = f"one of {', '.join(DURABILITIES)}"
        raise BadRequest(f"durability: expected {expected}", field="durability", provided=level, expected=expected)
    return level


def check_policy(policy: str) -> str:
    """Return a policy of full queues, empty for ``default``: the broker's. Raises ``BadRequest`` for an unknown one."""
    if policy not in POLICIES:
        expected = f"one of {', '.join(POLICIES)}"
        raise BadRequest(f"policy: expected {expected}", field="policy", provided=policy, expected=expected)
    return "" if policy == DEFAULT_POLICY else policy


class Accounts:
    """All accounts of the installation, in memory and in the store."""

    def __init__(self, ledger: Ledger, limit: Callable[[Account], None]) -> None:
        """``limit`` is called with each account that is loaded, made or changed."""
        self._ledger = ledger
        self._limit = limit
        self._by_id: dict[int, Account] = {}
        self._changing = asyncio.Lock()  # changes of accounts are rare: one at a time keeps them simple

    def load(self) -> None:
        """Read all accounts; before anything else is asked."""
        for _, value in self._ledger.rows(ACCOUNTS):
            self._apply(Account.decode(value))

    def __contains__(self, account_id: int) -> bool:
        return account_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def all(self) -> list[Account]:
        """All accounts, oldest first."""
        return list(self._by_id.values())

    def get(self, account_id: int) -> Account:
        """One account. Raises ``NotFound``."""
        account = self._by_id.get(account_id)
        if account is None:
            raise NotFound("there is no such account")
        return account

    def named(self, name: str) -> Account:
        """Find an account by its name. Raises ``NotFound``."""
        for account in self._by_id.values():
            if account.name == name:
                return account
        raise NotFound(f"there is no account {name!r}")

    def plan(self, account_id: int) -> Plan:
        """The plan that an account is on now."""
        return PLANS[self.get(account_id).plan]

    def durability(self, account_id: int) -> Durability:
        """What an account's clients are promised, where their listener promises no less."""
        return Durability(self.get(account_id).durability)

    async def create(
        self, name: str, now_s: int, plan: str = DEFAULT_PLAN, durability: str = Durability.SYNCED.value
    ) -> Account:
        """Make an account. Raises ``Conflict`` when the name is taken, ``BadRequest`` for what cannot be used."""
        check_name(name)
        check_plan(plan)
        check_durability(durability)
        async with self._changing:
            if any(account.name == name for account in self._by_id.values()):
                raise Conflict(f"there is an account {name!r} already")
            account_id, given = self._ledger.give_number(ACCOUNT_NUMBERS)
            about(str(account_id), account_id)
            account = Account(account_id, name, plan, suspended=False, created_at=now_s, durability=durability)
            await self._ledger.commit([given, self.put(account)], lambda: self._apply(account))
        return account

    async def set_plan(self, account_id: int, plan: str) -> Account:
        """Put an account on a plan; what it has above the new limits stays."""
        check_plan(plan)
        async with self._changing:
            return await self._store(replace(self.get(account_id), plan=plan))

    async def set_durability(self, account_id: int, level: str) -> Account:
        """Mark an account; the directory tells the grants."""
        check_durability(level)
        async with self._changing:
            return await self._store(replace(self.get(account_id), durability=level))

    async def set_queue_full_policy(self, account_id: int, policy: str) -> Account:
        """Choose what happens to messages for a session of this account that has no room, from now on."""
        checked = check_policy(policy)
        async with self._changing:
            return await self._store(replace(self.get(account_id), queue_full_policy=checked))

    async def set_suspended(self, account_id: int, suspended: bool) -> Account:
        """Mark an account; the directory takes or gives the grants."""
        async with self._changing:
            return await self._store(replace(self.get(account_id), suspended=suspended))

    @staticmethod
    def put(account: Account) -> Change:
        """Make the change that stores an account."""
        return Change(ACCOUNTS, number_key(account.account_id), account.encode())

    async def _store(self, account: Account) -> Account:
        about(str(account.account_id), account.account_id)
        await self._ledger.commit([self.put(account)], lambda: self._apply(account))
        return account

    def _apply(self, account: Account) -> None:
        self._by_id[account.account_id] = account
        self._limit(account)
