"""The directory: accounts, keys and devices as one durable whole, and the grants that follow from them.

Here belong start-up, the first start, and what touches all three. Not here: the rules of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker.accounts.accounts import AccountChange, Accounts
from broker.accounts.admin_keys import AdminKeys
from broker.accounts.answers import KeptAnswers
from broker.accounts.audit import AuditBook
from broker.accounts.authorities import Authorities
from broker.accounts.authority_logins import AuthorityDesk
from broker.accounts.chosen_passwords import ChosenPasswords
from broker.accounts.claim_logins import ClaimDesk
from broker.accounts.claims import Claims
from broker.accounts.device_batch import DeviceBatch
from broker.accounts.devices import Devices
from broker.accounts.enrolled import EnrolledCounts
from broker.accounts.enrolment import Enrolment
from broker.accounts.history import History
from broker.accounts.keys import Keys
from broker.accounts.last_uses import LastUses
from broker.accounts.ledger import Ledger
from broker.accounts.plans import account_limits
from broker.accounts.records import Account, Authority, Device
from broker.accounts.usage import UsageBook
from broker.accounts.warnings import DEVICES_KIND, QuotaWarning
from broker.accounts.webhooks import Webhooks
from broker.config import AccountBudgets, AuditLimits, RegistrationConfig, WebhooksConfig
from broker.policy.credentials import APPLICATION_USER_NAME, credential
from broker.ports import Grant, GrantTable, Store

DEFAULT_NAME = "default"
DEFAULT_BUDGETS = AccountBudgets.model_validate({})
DEFAULT_AUDIT_LIMITS = AuditLimits.model_validate({})
DEFAULT_WEBHOOKS = WebhooksConfig.model_validate({})
DEFAULT_REGISTRATION = RegistrationConfig.model_validate({})


class Directory:
    """Who exists in this installation; every change is durable before it is granted and before it is answered.

    ``secret`` is the installation's hash key; ``grants`` is told of every credential that becomes valid or invalid,
    and takes the removal of one that it does not hold. ``budgets`` are those of each account beside its plan's limits,
    ``audit_limits`` bound the log of changes.
    ``wall_ms`` is milliseconds of UTC, for what is noted in timelines.
    """

    def __init__(
        self,
        store: Store,
        secret: bytes,
        grants: GrantTable,
        *,
        budgets: AccountBudgets = DEFAULT_BUDGETS,
        audit_limits: AuditLimits = DEFAULT_AUDIT_LIMITS,
        wall_ms: Callable[[], int] = lambda: 0,
        webhooks: WebhooksConfig = DEFAULT_WEBHOOKS,
        registration: RegistrationConfig = DEFAULT_REGISTRATION,
    ) -> None:
        self._secret = secret
        self._grants = grants
        self._ledger = Ledger(store)
        self.audit = AuditBook(self._ledger, audit_limits)
        self.accounts = Accounts(self._ledger, self._limit_account)
        self.last_uses = LastUses(self._ledger)
        self.keys = Keys(self._ledger, secret, grants, self.accounts, self.last_uses)
        queue_maximum_bytes = budgets.device_queue_maximum_bytes
        self.admin_keys = AdminKeys(self._ledger, secret, self.last_uses)
        self.devices = Devices(
            self._ledger,
            secret,
            grants,
            self.accounts,
            queue_maximum_bytes,
            lambda one: self.usage.look_at(one),
            wall_ms,
        )
        self.batch = DeviceBatch(self.devices, self._ledger)
        self.usage = UsageBook(self._ledger, self.accounts, grants, self.keys.is_principal, self.devices.count)
        self.usage.warnings.watch(self._note_warning)
        self.history = History(self.usage.days)
        self.answers = KeptAnswers(self._ledger)
        self.messages = self.devices.messages
        self.webhooks = Webhooks(self._ledger, secret, self.accounts, webhooks.per_account_maximum)
        self.chosen_passwords = ChosenPasswords()
        self.enrolled = EnrolledCounts(self._ledger)
        self.enrolment = Enrolment(
            self.devices, self.enrolled, registration.per_s_maximum, registration.at_once_maximum
        )
        maximum = registration.claim_tokens_per_account_maximum
        self.claims = Claims(self._ledger, secret, self.accounts, self.enrolled, maximum)
        self.claim_desk = ClaimDesk(secret, self.accounts, self.claims, self.enrolled, self.devices, self.enrolment)
        maximum = registration.authorities_per_account_maximum
        self.authorities = Authorities(self._ledger, self.accounts, self.enrolled, maximum)
        self.authority_desk = AuthorityDesk(
            self.accounts, self.authorities, self.enrolled, self.devices, self.enrolment
        )
        self._budgets = budgets

    def load(self, now_s: int) -> None:
        """Read everything from the store and put all grants of this time; once, before the first listener opens.

        Raises ``StoreError`` for a damaged record.
        """
        self._ledger.load()
        self.audit.load()
        self.usage.load()  # what accounts have left follows from it
        self.accounts.load()
        self.keys.load(now_s)
        self.admin_keys.load(now_s)
        self.last_uses.load(lambda number: number in self.keys or number in self.admin_keys)
        self.devices.load(now_s)
        self.answers.load()
        self.messages.load()
        self.webhooks.load()
        self.enrolled.load()
        self.claims.load()
        self.authorities.load()

    def known(self) -> Callable[[int], bool]:
        """Give a test for numbers of principals that exist here now, whether they are let in or not."""
        principals = self.keys.principals()
        return lambda number: self.devices.knows(number) or number in principals

    async def ensure_account(self, now_s: int) -> None:
        """Make account ``default`` when there is no account at all."""
        if len(self.accounts) == 0:
            await self.accounts.create(DEFAULT_NAME, now_s)

    async def bootstrap(self, now_s: int) -> str | None:
        """On the first start make account ``default`` with a key of that name; returns the key, once.

        A crash between the two leaves an account without keys, which the next start finishes.
        """
        await self.ensure_account(now_s)
        accounts = [account for account in self.accounts.all() if account.name == DEFAULT_NAME]
        if self.keys.all() or not accounts:
            return None
        return (await self.keys.create(accounts[0].account_id, DEFAULT_NAME, now_s))[1]

    def grant_for(self, user_name: str, password: bytes) -> Grant | None:
        """Give what a credential grants; None when it is wrong or revoked, or its device or account is inactive.

        Only one on its way into the grant table is asked for with success (its account is being resumed): it is put
        there first, so that whoever comes in with it is cut when it ends.
        """
        digest = credential(self._secret, user_name, password)
        if user_name == APPLICATION_USER_NAME:
            grant = self.keys.grant_for(digest)
        else:
            grant = self.devices.grant_for(user_name, digest)
        if grant is None or self.accounts.get(grant.account_id).suspended:
            return None
        self._grants.put_grant(digest, grant)
        return grant

    def grant_by_certificate(self, device: Device, user_name: str | None, password: bytes | None) -> Grant | None:
        """Give what a device's certificate grants, which whoever asks has shown; None where it may not come in.

        What the CONNECT says besides has to be right: the device's own user name, and its password.
        """
        if user_name is not None and user_name != device.user_name:
            return None
        if password is not None and not self._is_password_of(device, password):
            return None
        if self.accounts.get(device.account_id).suspended:
            return None
        return self.devices.grant_by_certificate(device)

    def _note_warning(self, warning: QuotaWarning) -> None:
        """Put a warning into the timeline of the device that has brought its account there."""
        number = warning.device_number
        if warning.kind == DEVICES_KIND:
            number = max((one.device_number for one in self.devices.page(warning.account_id, 1, 0)), default=0)
        self.devices.timeline.note_now(number, f"warned_{warning.kind}_{warning.percent}")

    async def revoke_authority(self, account_id: int, authority_id: str, now_s: int) -> Authority:
        """Let an authority vouch for nobody any more, and cut who came in by it. Raises ``NotFound``."""
        revoked = await self.authorities.revoke(account_id, authority_id, now_s)
        self.authority_desk.take_all(authority_id)
        return revoked

    def grant_of(self, device: Device, digest: bytes) -> Grant | None:
        """Give what one of a device's passwords grants, by its digest; None where it lets in no more.

        It names the grant with which whoever comes in by it is cut.
        """
        grant = self.devices.grant_for(device.user_name, digest)
        if grant is None or self.accounts.get(device.account_id).suspended:
            return None
        self._grants.put_grant(digest, grant)  # as for any other: its account may be on its way back
        return replace(grant, credential=digest)

    def digest_of(self, user_name: str, password: bytes) -> bytes:
        """Give the credential that a user name and password make."""
        return credential(self._secret, user_name, password)

    def _is_password_of(self, device: Device, password: bytes) -> bool:
        return credential(self._secret, device.user_name, password) in self.devices.passwords.digests(device)

    def _limit_account(self, account: Account) -> None:
        """Tell the core what an account may have: it is new, or on another plan."""
        plan = self.accounts.plan(account.account_id)
        self._grants.put_account(account.account_id, account_limits(plan, self._budgets, account.queue_full_policy))
        self.usage.set_quota(account.account_id)

    async def change_account(self, account_id: int, change: AccountChange) -> Account:
        """Change an account, and let all its grants follow; durable when it returns.

        What it has above the limits of another plan stays. Suspended, its devices and applications are cut and refused;
        otherwise nobody is cut. Another durability is promised from the next CONNECT on. Raises ``NotFound`` and
        ``BadRequest``.
        """
        account = await self.accounts.change(account_id, change)
        if change.reaches_grants:
            await self._regrant(account_id)
        return account

    async def set_plan(self, account_id: int, plan: str) -> Account:
        """Put an account on a plan."""
        return await self.change_account(account_id, AccountChange(plan=plan))

    async def set_suspended(self, account_id: int, suspended: bool) -> Account:
        """Suspend an account, or let it back in."""
        return await self.change_account(account_id, AccountChange(suspended=suspended))

    async def _regrant(self, account_id: int) -> None:
        """Let all grants of an account follow it, in slices."""
        for digest, grant in list(self.keys.of_account(account_id)):
            self._follow(digest, grant)
        async for part in self.devices.slices(account_id):
            for device in part:
                if device.active:
                    self.devices.follow(device)

    def _follow(self, digest: bytes, grant: Grant) -> None:
        """Let a grant follow its account as it is now: another change may have come meanwhile."""
        if self.accounts.get(grant.account_id).suspended:
            self._grants.remove_grant(digest)
        else:
            self._grants.put_grant(digest, grant)

    def figures(self) -> dict[str, int]:
        """Tell how many there are, in all accounts."""
        return {"accounts": len(self.accounts), "devices": len(self.devices), "keys": len(self.keys)}

    async def forget_old(self, now_s: int) -> None:
        """Remove what has been kept for as long as it is to be."""
        await self.answers.prune(now_s)
        await self.audit.prune(now_s)
        self.messages.prune(now_s)

    async def flush(self) -> None:
        """Store what is recorded lazily: when keys were used."""
        await self.last_uses.flush()

    def end_overdue(self, now_s: int) -> None:
        """Cut who came in with a password whose overlap is over, or a key that has expired; asked twice a second."""
        self.devices.end_overlaps(now_s)
        self.keys.end_expired(now_s)
