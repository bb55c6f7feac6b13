"""What the installation's operator may do by the command line or the control socket, where accounts have names.

Here belongs the step from names to the verbs of ``accounts``, ``keys`` and ``admin_keys``. Not here: what these do, and
what an account may do with its own devices (``service``).
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.accounts.accounts import AccountChange
from broker.accounts.directory import Directory
from broker.admin.accounts import DEFAULT_DURABILITY, AccountVerbs
from broker.admin.admin_keys import AdminKeyVerbs, AdminKeyView
from broker.admin.audit import AuditTrail
from broker.admin.clock import Clock
from broker.admin.key_views import KeyView
from broker.admin.keys import KeyVerbs
from broker.admin.transfer import Transfer
from broker.admin.views import AccountView
from broker.errors import BadRequest
from broker.ports import PresenceSource


class Operator:
    """Raises ``NotFound``, ``Conflict``, ``BadRequest``, ``QuotaExceeded`` and ``Unavailable``.

    ``audit`` is where whoever calls these verbs notes whose deed they are; ``transfer`` has verbs about many devices.
    """

    def __init__(
        self, accounts: AccountVerbs, keys: KeyVerbs, admin_keys: AdminKeyVerbs, audit: AuditTrail, transfer: Transfer
    ) -> None:
        self._accounts = accounts
        self._keys = keys
        self._admin_keys = admin_keys
        self.audit = audit
        self.transfer = transfer

    @classmethod
    def of(cls, directory: Directory, presence: PresenceSource, clock: Clock) -> Operator:
        """Make one for a directory that nobody else serves."""
        keys = KeyVerbs(directory, presence, clock)
        return cls(
            AccountVerbs(directory, clock),
            keys,
            AdminKeyVerbs(directory, clock),
            AuditTrail(directory, clock),
            Transfer(directory, clock),
        )

    # ------------------------------------------------------------ accounts

    async def create_account(self, name: str, plan: str, durability: str = DEFAULT_DURABILITY) -> AccountView:
        """Make an account on a plan, whose clients are promised so much."""
        return await self._accounts.create(name, plan, durability)

    async def list_accounts(self) -> list[AccountView]:
        """List all accounts, oldest first."""
        return await self._accounts.all()

    async def show_account(self, name: str) -> AccountView:
        """Show one account."""
        return await self._accounts.show(self._accounts.number_of(name))

    async def set_plan(self, name: str, plan: str) -> AccountView:
        """Put an account on another plan."""
        return await self._change(name, AccountChange(plan=plan))

    async def set_durability(self, name: str, durability: str) -> AccountView:
        """Choose what an account's clients are promised from their next CONNECT on: a value of ``Durability``."""
        return await self._change(name, AccountChange(durability=durability))

    async def set_queue_full_policy(self, name: str, policy: str) -> AccountView:
        """Choose what happens when a queue of an account is full: a word of the configuration, or ``default``."""
        return await self._change(name, AccountChange(queue_full_policy=policy))

    async def set_suspended(self, name: str, suspended: bool) -> AccountView:
        """Cut and refuse an account's devices and applications, or let them back in."""
        return await self._change(name, AccountChange(suspended=suspended))

    async def _change(self, name: str, change: AccountChange) -> AccountView:
        return await self._accounts.change(self._accounts.number_of(name), change)

    # ------------------------------------------------------------ keys

    async def create_key(
        self,
        account: str,
        name: str,
        scopes: Sequence[str] | None = None,
        patterns: Sequence[str] = (),
        expires_at: int | None = None,
    ) -> tuple[KeyView, str]:
        """Make an API key; returns it with its text, which nobody can see again."""
        return await self._keys.create(self._accounts.number_of(account), name, scopes, patterns, expires_at)

    async def list_keys(self, account: str | None = None) -> list[KeyView]:
        """List the keys of one account, or of all, ended ones too, oldest first."""
        return await self._keys.all(None if account is None else self._accounts.number_of(account))

    async def revoke_key(self, key_id: int) -> KeyView:
        """Make a key invalid and cut the connections that came in with it."""
        return await self._keys.revoke(_listed(key_id, "keys list"))

    async def create_admin_key(self, name: str, expires_at: int | None = None) -> tuple[AdminKeyView, str]:
        """Make an admin key; returns it with its text, which nobody can see again."""
        return await self._admin_keys.create(name, expires_at)

    async def list_admin_keys(self) -> list[AdminKeyView]:
        """List all admin keys, ended ones too, oldest first."""
        return await self._admin_keys.all()

    async def revoke_admin_key(self, key_id: int) -> AdminKeyView:
        """Make an admin key invalid."""
        return await self._admin_keys.revoke(_listed(key_id, "admin-keys list"))


def _listed(key_id: int, where: str) -> int:
    if key_id < 1:
        raise BadRequest(f"key_id: expected a number from `{where}`", field="key_id", provided=key_id)
    return key_id
