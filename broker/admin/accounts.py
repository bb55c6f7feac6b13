"""Accounts as the operator sees and changes them.

Here belong the verbs about accounts, by number. Not here: the same by name (``operator``), keys (``keys``), and the
rules of an account (``broker.accounts``).
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.accounts.accounts import DEFAULT_POLICY, AccountChange
from broker.accounts.directory import Directory
from broker.accounts.plans import DEFAULT_PLAN, PLANS, Plan
from broker.accounts.records import Account
from broker.admin.clock import Clock
from broker.admin.views import AccountView
from broker.ports import Durability

DEFAULT_DURABILITY = Durability.SYNCED.value


class AccountVerbs:
    """Raises ``NotFound``, ``Conflict``, ``BadRequest``, ``QuotaExceeded`` and ``Unavailable``."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    async def create(
        self,
        name: str,
        plan: str = DEFAULT_PLAN,
        durability: str = DEFAULT_DURABILITY,
        queue_full_policy: str = DEFAULT_POLICY,
    ) -> AccountView:
        """Make an account; it has no key yet."""
        now_s = self._clock.wall_s()
        return self._view(await self._directory.accounts.create(name, now_s, plan, durability, queue_full_policy))

    async def show(self, account_id: int) -> AccountView:
        """Show one account."""
        return self._view(self._directory.accounts.get(account_id))

    async def all(self) -> list[AccountView]:
        """Show all accounts, oldest first."""
        return [self._view(account) for account in self._directory.accounts.all()]

    async def page(self, limit: int, offset: int) -> tuple[Sequence[AccountView], int]:
        """Show a page of the accounts, oldest first, and how many there are."""
        accounts = self._directory.accounts.all()
        return [self._view(account) for account in accounts[offset : offset + limit]], len(accounts)

    async def change(self, account_id: int, change: AccountChange) -> AccountView:
        """Change an account; a suspended one is cut and refused, with its devices, applications and requests."""
        return self._view(await self._directory.change_account(account_id, change))

    def number_of(self, name: str) -> int:
        """Find an account by its name."""
        return self._directory.accounts.named(name).account_id

    @staticmethod
    def plans() -> list[Plan]:
        """All plans that an account can be on."""
        return list(PLANS.values())

    def _view(self, account: Account) -> AccountView:
        used = self._directory.usage.of(account.account_id)
        return AccountView(
            account_id=account.account_id,
            name=account.name,
            plan=account.plan,
            durability=account.durability,
            queue_full_policy=account.queue_full_policy or DEFAULT_POLICY,
            suspended=account.suspended,
            devices=self._directory.devices.count(account.account_id),
            messages_this_month=used.messages,
            bytes_this_month=used.bytes,
            created_at=account.created_at,
        )
