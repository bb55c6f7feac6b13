"""Accounts whose records a rescue has lost, while their keys and devices are there.

Here belongs finding them and making them anew. Not here: rules about accounts. Nothing of an account can be used
without its record, and a broker must not fail to start for the want of one.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.accounts.directory import DEFAULT_NAME
from broker.accounts.plans import DEFAULT_PLAN
from broker.accounts.records import Account, ApiKey, Device
from broker.storage.tables import ACCOUNTS, DEVICES, KEYS, number_key

FIRST_ACCOUNT_ID = 1


class Owners:
    """Looks at rescued entries, which have to be records of their tables."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._named: set[int] = set()

    def look(self, entries: Iterable[tuple[str, bytes, bytes]]) -> None:
        """Note which accounts there are, and which others name."""
        for table, _, value in entries:
            if table == ACCOUNTS:
                account = Account.decode(value)
                self._names[account.account_id] = account.name
            elif table == KEYS:
                self._named.add(ApiKey.decode(value).account_id)
            elif table == DEVICES:
                self._named.add(Device.decode(value).account_id)

    def missing(self, now_s: int) -> list[Account]:
        """Give a record for each account that was lost: on the default plan, with a name that tells."""
        return [
            Account(account_id, self._name_of(account_id), DEFAULT_PLAN, False, now_s)
            for account_id in sorted(self._named - self._names.keys())
        ]

    def _name_of(self, account_id: int) -> str:
        taken = set(self._names.values())
        if account_id == FIRST_ACCOUNT_ID and DEFAULT_NAME not in taken:
            return DEFAULT_NAME
        return next(
            name
            for name in (f"rescued-{account_id}", *(f"rescued-{account_id}-{one}" for one in range(len(taken) + 1)))
            if name not in taken
        )


def changes_of(accounts: Iterable[Account]) -> list[tuple[str, bytes, bytes]]:
    """Give the entries that store accounts."""
    return [(ACCOUNTS, number_key(account.account_id), account.encode()) for account in accounts]
