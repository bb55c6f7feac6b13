"""The accounts: names, plans, durability, full queues, suspension.

Here belong the rules about one account as such. Not here: its keys and devices.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from broker.accounts.deeds import about
from broker.accounts.ledger import ACCOUNT_NUMBERS, Ledger
from broker.accounts.plans import DEFAULT_PLAN, PLANS, Plan
from broker.accounts.records import Account
from broker.config import QUEUE_FULL_POLICIES
from broker.errors import BadRequest, Conflict, NotFound, QuotaExceeded
from broker.ports import Change, Durability
from broker.storage.tables import ACCOUNTS, number_key

ACCOUNTS_MAXIMUM = 100_000
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
        raise BadRequest(
            f"queue_full_policy: expected {expected}", field="queue_full_policy", provided=policy, expected=expected
        )
    return "" if policy == DEFAULT_POLICY else policy


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What is to become of an account; None leaves it. ``queue_full_policy`` may be ``default``: the broker's."""

    plan: str | None = None
    durability: str | None = None
    queue_full_policy: str | None = None
    suspended: bool | None = None

    @property
    def reaches_grants(self) -> bool:
        """Whether what clients are granted follows from it."""
        return (self.plan, self.durability, self.suspended) != (None, None, None)

    def check(self) -> None:
        """Raise ``BadRequest`` for a value that there is not."""
        if self.plan is not None:
            check_plan(self.plan)
        if self.durability is not None:
            check_durability(self.durability)
        if self.queue_full_policy is not None:
            check_policy(self.queue_full_policy)

    def of(self, account: Account) -> Account:
        """Give the account as it will be; what is to change has been checked."""
        policy = self.queue_full_policy
        return replace(
            account,
            plan=account.plan if self.plan is None else self.plan,
            durability=account.durability if self.durability is None else self.durability,
            queue_full_policy=account.queue_full_policy if policy is None else check_policy(policy),
            suspended=account.suspended if self.suspended is None else self.suspended,
        )


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
        self,
        name: str,
        now_s: int,
        plan: str = DEFAULT_PLAN,
        durability: str = Durability.SYNCED.value,
        queue_full_policy: str = DEFAULT_POLICY,
    ) -> Account:
        """Make an account.

        Raises ``Conflict`` when the name is taken, ``BadRequest`` for what cannot be used, ``QuotaExceeded`` for one
        too many.
        """
        check_name(name)
        check_plan(plan)
        check_durability(durability)
        policy = check_policy(queue_full_policy)
        if len(self) >= ACCOUNTS_MAXIMUM:
            raise QuotaExceeded(f"an installation has at most {ACCOUNTS_MAXIMUM} accounts")
        async with self._changing:
            if any(account.name == name for account in self._by_id.values()):
                raise Conflict(f"there is an account {name!r} already")
            account_id, given = self._ledger.give_number(ACCOUNT_NUMBERS)
            about(str(account_id), account_id)
            account = Account(account_id, name, plan, False, now_s, durability, policy)
            await self._ledger.commit([given, self.put(account)], lambda: self._apply(account))
        return account

    async def change(self, account_id: int, change: AccountChange) -> Account:
        """Change what an account is; the directory tells the grants. Raises ``NotFound`` and ``BadRequest``."""
        change.check()
        async with self._changing:
            account = change.of(self.get(account_id))
            about(str(account_id), account_id)
            await self._ledger.commit([self.put(account)], lambda: self._apply(account))
            return account

    async def set_plan(self, account_id: int, plan: str) -> Account:
        """Put an account on a plan; what it has above the new limits stays."""
        return await self.change(account_id, AccountChange(plan=plan))

    @staticmethod
    def put(account: Account) -> Change:
        """Make the change that stores an account."""
        return Change(ACCOUNTS, number_key(account.account_id), account.encode())

    def _apply(self, account: Account) -> None:
        self._by_id[account.account_id] = account
        self._limit(account)
