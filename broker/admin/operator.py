"""What the installation's operator may do: accounts and keys, from the command line or the control socket.

Here belong the operator's verbs. Not here: what an account may do with its own devices (``service``).
"""

from __future__ import annotations

from broker.accounts.accounts import DEFAULT_POLICY
from broker.accounts.directory import Directory
from broker.accounts.records import Account, ApiKey
from broker.admin.clock import Clock
from broker.admin.transfer import Transfer
from broker.admin.views import AccountView, KeyView
from broker.errors import BadRequest
from broker.ports import Durability

DEFAULT_DURABILITY = Durability.SYNCED.value


class Operator:
    """Verbs about accounts and keys, by name; raises ``NotFound``, ``Conflict``, ``BadRequest`` and ``Unavailable``.

    ``transfer`` has those about many devices.
    """

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self.transfer = Transfer(directory, clock)

    async def create_account(self, name: str, plan: str, durability: str = DEFAULT_DURABILITY) -> AccountView:
        """Make an account on a plan, whose clients are promised so much."""
        return self._account_view(await self._directory.accounts.create(name, self._clock.wall_s(), plan, durability))

    async def list_accounts(self) -> list[AccountView]:
        """List all accounts, oldest first."""
        return [self._account_view(account) for account in self._directory.accounts.all()]

    async def set_plan(self, name: str, plan: str) -> AccountView:
        """Put an account on another plan."""
        account = self._directory.accounts.named(name)
        return self._account_view(await self._directory.set_plan(account.account_id, plan))

    async def set_durability(self, name: str, level: str) -> AccountView:
        """Choose what an account's clients are promised from their next CONNECT on: a value of ``Durability``."""
        account = self._directory.accounts.named(name)
        return self._account_view(await self._directory.set_durability(account.account_id, level))

    async def set_queue_full_policy(self, name: str, policy: str) -> AccountView:
        """Choose what happens when a queue of an account is full: a word of the configuration, or ``default``."""
        account = self._directory.accounts.named(name)
        return self._account_view(await self._directory.accounts.set_queue_full_policy(account.account_id, policy))

    async def set_suspended(self, name: str, suspended: bool) -> AccountView:
        """Cut and refuse an account's devices and applications, or let them back in."""
        account = self._directory.accounts.named(name)
        return self._account_view(await self._directory.set_suspended(account.account_id, suspended))

    async def create_key(self, account: str, name: str) -> tuple[KeyView, str]:
        """Make an API key; returns it with its text, which nobody can see again."""
        owner = self._directory.accounts.named(account)
        key, api_key = await self._directory.keys.create(owner.account_id, name, self._clock.wall_s())
        return self._key_view(key), api_key

    async def list_keys(self, account: str | None = None) -> list[KeyView]:
        """List the keys of one account, or of all, revoked ones too, oldest first."""
        account_id = None if account is None else self._directory.accounts.named(account).account_id
        return [self._key_view(key) for key in self._directory.keys.all(account_id)]

    async def revoke_key(self, key_id: int) -> KeyView:
        """Make a key invalid and cut the connections that came in with it."""
        if key_id < 1:
            raise BadRequest("key_id: expected a number from `keys list`", field="key_id", provided=key_id)
        return self._key_view(await self._directory.keys.revoke(key_id, self._clock.wall_s()))

    def _account_view(self, account: Account) -> AccountView:
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

    def _key_view(self, key: ApiKey) -> KeyView:
        return KeyView(
            key_id=key.key_id,
            account=self._directory.accounts.get(key.account_id).name,
            name=key.name,
            created_at=key.created_at,
            last_used_at=self._directory.keys.last_used_at(key.key_id) or None,
            revoked_at=key.revoked_at or None,
        )
