"""What accounts have used this month, and what that leaves them.

Here belong the months' totals and the quotas that follow. Not here: counting, which the core does per message, and
enforcing, which it does too. Kept in memory: a restart begins the month anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.accounts.accounts import Accounts
from broker.ports import GrantTable, UsageRow


@dataclass(slots=True)
class Used:
    """PUBLISH packets and their bytes, both directions together."""

    messages: int = 0
    bytes: int = 0


def month_of(wall_s: int) -> tuple[int, int]:
    """Year and month (UTC) of a moment."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.year, moment.month


class UsageBook:
    """The current month of all accounts."""

    def __init__(self, accounts: Accounts, table: GrantTable) -> None:
        self._accounts = accounts
        self._table = table
        self._month: tuple[int, int] | None = None
        self._used: dict[int, Used] = {}

    def of(self, account_id: int) -> Used:
        """What an account has used since the month began."""
        return self._used.get(account_id, Used())

    def add(self, rows: Iterable[UsageRow], wall_s: int) -> None:
        """Take what was counted until now; in a new month everybody's quota is whole again."""
        for account_id, _, messages_in, bytes_in, messages_out, bytes_out in rows:
            used = self._used.setdefault(account_id, Used())
            used.messages += messages_in + messages_out
            used.bytes += bytes_in + bytes_out
        month = month_of(wall_s)
        if self._month not in {None, month}:
            self._used.clear()
            for account in self._accounts.all():
                self.set_quota(account.account_id)
        self._month = month

    def set_quota(self, account_id: int) -> None:
        """Tell the core what an account's plan leaves it; when the plan, or the month, has changed."""
        plan = self._accounts.plan(account_id)
        used = self.of(account_id)
        self._table.set_quota(account_id, plan.messages_per_month - used.messages, plan.bytes_per_month - used.bytes)
