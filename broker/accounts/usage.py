"""What accounts have used this month, and what that leaves them.

Here belong the months' totals, on disk too, the quotas that follow, and the turn of days and months. Not here:
counting, which the core does per message, and enforcing, which it does too; the journal of what was counted
(``counted``), and the rows of days (``days``). What is on disk is never more than was counted; a crash loses what was
counted since the last ``keep``. A month's total names the last record of the journal that is in it, and is committed
with it: what is counted later is added to it by the next start, and the total need not be written every second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

from broker._core.tally import sum_by_account
from broker.accounts.accounts import Accounts
from broker.accounts.counted import Counted
from broker.accounts.days import OWN, DayBook, day_of
from broker.accounts.ledger import Ledger, nothing
from broker.accounts.months import newest_month
from broker.accounts.records import UsedInMonth
from broker.accounts.warnings import DEVICES_KIND, QuotaWarning, QuotaWarnings
from broker.ports import OWN_PRINCIPALS, Change, GrantTable, UsageRow
from broker.storage.tables import USAGE, key_number, number_key

WRITTEN_AT_ONCE = 500  # rows of days, or of months, in one commit
SWEEP_AFTER_S = 600  # of a new day: a clock that is wrong for a moment removes nothing


@dataclass(slots=True)
class Used:
    """PUBLISH packets and their bytes, both directions together."""

    messages: int = 0
    bytes: int = 0
    warned: int = 0  # bits of ``QuotaWarning``
    next_messages: int = 0  # at which there is something to warn of, 0: nobody has looked yet
    next_bytes: int = 0


def month_of(wall_s: int) -> int:
    """Months (UTC) that had passed at a moment, as ``UsedInMonth`` counts them."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.year * 12 + moment.month - 1


class UsageBook:
    """The current month of all accounts."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        table: GrantTable,
        is_application: Callable[[int], bool],
        count_devices: Callable[[int], int],
    ) -> None:
        """``is_application`` tells principals that are no devices."""
        self.warnings = QuotaWarnings(accounts, count_devices)
        self._ledger = ledger
        self._accounts = accounts
        self._table = table
        self._is_application = is_application
        self._counted = Counted(ledger, is_application)
        self.days = DayBook(ledger, self._counted)
        self._day: int | None = None  # what is counted now is of this one
        self._day_since_s = 0
        self._swept = False  # since the day began
        self._writing = asyncio.Lock()
        self._month: int | None = None  # that ``_used`` is of
        self._seen: int | None = None  # what the clock said last
        self._used: dict[int, Used] = {}
        self._told: dict[int, Used] = {}  # the whole month's quota as the core was told it
        self._brought: dict[tuple[int, int], int] = {}  # by whose device, by account and bit, until that is told
        self._urgent: dict[int, None] = {}  # accounts whose totals are written with the next second's counts
        self._due: dict[int, None] = {}  # those that have to be before the rows of days that are under way
        self._unwritten: dict[int, None] = {}  # those that have changed since these rows are

    def load(self) -> None:
        """Read what was used in the last month on record; before the accounts, and before anything is counted."""
        rows = {key_number(key): UsedInMonth.decode(value) for key, value in self._ledger.rows(USAGE)}
        self._month, totals, changed = newest_month(rows, self._counted.load())
        self._counted.skip_to(max((row.counted for row in rows.values()), default=0))
        self._used = {number: Used(row.messages, row.bytes, row.warned) for number, row in totals.items()}
        self._unwritten = dict.fromkeys(changed)

    @property
    def day(self) -> int | None:
        """The day that is counted for at the moment; None before anybody has told the time."""
        return self._day

    def note_peak(self, account_id: int, connections: int) -> None:
        """Take how many connections an account has had at once since the day began."""
        if account_id in self._accounts and self._day is not None and self._month is not None:
            self._counted.note_peak(account_id, self._month, self._day, connections)

    def ends_at(self, wall_s: int) -> int:
        """When everybody's quota is whole again: seconds of UTC, the first of a month."""
        month = month_of(wall_s) + 1
        if month == self._month:  # the clock was set back: a month that has begun does not begin again
            month += 1
        return int(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp())

    def of(self, account_id: int) -> Used:
        """What an account has used since the month began."""
        return self._used.get(account_id, Used())

    def add(self, rows: Sequence[UsageRow], wall_s: int) -> None:
        """Take what was counted until now; in a new month everybody's quota is whole again.

        It is of the day and the month that the clock said last: whoever tells the time at midnight is exact.
        """
        if self._day is None:
            self.see(wall_s)
        self.take(rows)
        self.see(wall_s)

    def take(self, rows: Sequence[UsageRow]) -> Mapping[int, tuple[int, int, int, int]]:
        """Take what was counted until the clock was seen last; gives its sums by account, as rows have them."""
        assert self._day is not None  # somebody has told the time
        assert self._month is not None
        sums = sum_by_account(rows)
        known = {account_id for account_id in sums if account_id in self._accounts}
        for account_id, counted in sums.items():
            used = self._used.get(account_id)
            if used is None:
                used = self._used[account_id] = Used()
            if account_id in known:  # else it is an open listener's, or an embedder's own
                self._unwritten[account_id] = None
                if self._comes_to_a_step(used, counted):
                    self._urgent[account_id] = None
                    self._note_who(account_id, used, rows)
            used.messages += counted[0] + counted[2]
            used.bytes += counted[1] + counted[3]
        self._counted.add(rows, sums, self._month, self._day, known)
        return sums

    def see(self, wall_s: int) -> None:
        """Look at the clock: what is taken from now on is of the day and the month that it says."""
        self._see_day(wall_s)
        month = month_of(wall_s)
        if self._turned(month):
            self._begin(month)

    # ------------------------------------------------------------ writing

    async def keep(self) -> None:
        """Store what was counted since the last time, and tell of quotas; the rows of days follow by ``fold``.

        Raises ``Unavailable``; what could not be stored is kept.
        """
        async with self._writing:
            await self._keep()
            await self._sweep()

    async def write(self) -> None:
        """Store all that was counted, up to the rows of days. Raises ``Unavailable`` as ``keep`` does."""
        async with self._writing:
            await self._keep()
            await self._bring_all()
            await self._keep()
            while self._counted.has_ends:
                await self._commit_counts()
            if self._close():
                await self._bring_all()
            await self._keep()
            await self._sweep()

    async def fold(self) -> int:
        """Bring some of what was counted into its rows; gives how much that was. Raises ``Unavailable``."""
        async with self._writing:
            return await self._bring()

    def begin_fold(self) -> bool:
        """Let ``fold`` bring what was counted until now, unless it has not done yet with what was before.

        False: ask again when more is kept, records of what was before are on disk yet.
        """
        if self._writing.locked() or self._counted.has_ends:
            return False
        self._close()
        return True

    @property
    def to_fold(self) -> int:
        """How many rows ``fold`` has to write before it has done."""
        return len(self._due) + self.days.waiting

    def _close(self) -> bool:
        if self.to_fold or not self._counted.close():
            return False
        self._due, self._unwritten = self._unwritten, {}
        return True

    async def _bring_all(self) -> None:
        while await self._bring():
            pass

    async def _bring(self) -> int:
        if self._due:
            return await self._write_months(self._due)
        rows = await self.days.part(WRITTEN_AT_ONCE)
        if rows:
            await self._ledger.commit(rows, nothing)
        self.days.settled()
        return len(rows)

    async def _keep(self) -> None:
        if self._counted.waits:  # as it was, before anything new
            await self._commit_counts()
        more = self._counted.pack()
        while more:
            await asyncio.sleep(0)
            more = self._counted.pack()
        await self._commit_counts()
        while self._urgent:
            await self._write_months(self._urgent)

    async def _sweep(self) -> None:
        """Remove a few rows of days that are too old."""
        gone = await self.days.too_old()
        if gone:
            await self._ledger.commit(gone, nothing)
        self.days.swept()

    async def _commit_counts(self) -> None:
        changes = self._counted.changes()
        if changes:
            await self._ledger.commit(changes, nothing)
            self._counted.settled(changes)

    async def _write_months(self, accounts: dict[int, None]) -> int:
        """Store the totals of some of these accounts, with all the counts that are in them."""
        part = list(islice(accounts, WRITTEN_AT_ONCE))
        for account_id in part:
            del accounts[account_id]
            self._unwritten.pop(account_id, None)
        self._counted.pack_all()
        counts = self._counted.changes()
        reached = [warning for account_id in part for warning in self._reached(account_id)]
        try:
            await self._ledger.commit([*counts, *map(self._put, part)], nothing)
        except BaseException:
            accounts.update(dict.fromkeys(part))
            for one in reached:
                self.of(one.account_id).warned &= ~one.bit
            raise
        self._counted.settled(counts)
        for one in reached:
            self._brought.pop((one.account_id, one.bit), None)
        self.warnings.tell(reached)
        return len(part)

    def _reached(self, account_id: int) -> list[QuotaWarning]:
        """Mark what an account has to be warned of: the commit that comes keeps the mark, and then it is told."""
        assert self._month is not None  # somebody has told the time
        used = self.of(account_id)
        reached = self.warnings.reached(account_id, used.messages, used.bytes, used.warned, self._month)
        found = [replace(one, device_number=self._brought.get((account_id, one.bit), 0)) for one in reached]
        for one in found:
            used.warned |= one.bit
        if found:
            self._used[account_id] = used
        return found

    def given(self, account_id: int) -> list[QuotaWarning]:
        """Give the last warning of each kind that an account was given in this month, with figures of now."""
        if self._month is None:
            return []
        used = self.of(account_id)
        reached = self.warnings.reached(account_id, used.messages, used.bytes, 0, self._month)
        last = {one.kind: one for one in reached if one.bit & used.warned}
        return list(last.values())

    def _comes_to_a_step(self, used: Used, counted: tuple[int, int, int, int]) -> bool:
        messages, size = used.messages + counted[0] + counted[2], used.bytes + counted[1] + counted[3]
        return messages >= used.next_messages or size >= used.next_bytes

    def _note_who(self, account_id: int, used: Used, rows: Sequence[UsageRow]) -> None:
        """Remember whose messages bring an account to what it will be warned of."""
        messages, size = used.messages, used.bytes
        for row in rows:
            if row[0] == account_id:
                messages, size = messages + row[2] + row[4], size + row[3] + row[5]
                if messages >= used.next_messages or size >= used.next_bytes:
                    self._note_steps(account_id, used, (messages, size), row[1])

    def _note_steps(self, account_id: int, used: Used, until: tuple[int, int], principal_id: int | None) -> None:
        for one in self.warnings.reached(account_id, *until, used.warned, self._month or 0):
            if one.kind != DEVICES_KIND:
                self._brought.setdefault((account_id, one.bit), self._device(principal_id))
        used.next_messages, used.next_bytes = self.warnings.next_steps(account_id, *until)

    def set_quota(self, account_id: int) -> None:
        """Tell the core what an account's plan leaves it: it is new, or its plan has changed.

        What the core has counted and not told yet stays counted: of a plan that changes it is told the difference.
        """
        plan = self._accounts.plan(account_id)
        whole = Used(plan.messages_per_month, plan.bytes_per_month)
        told = self._told.get(account_id)
        self._told[account_id] = whole
        if account_id in self._used:
            self._used[account_id].next_messages = 0  # its thresholds are others now
        if told is None:
            used = self.of(account_id)
            self._table.set_quota(account_id, whole.messages - used.messages, whole.bytes - used.bytes)
        elif told != whole:
            self.look_at(account_id)
            self._table.add_quota(account_id, whole.messages - told.messages, whole.bytes - told.bytes)

    def look_at(self, account_id: int) -> None:
        """Warn an account, with the next write, of what it has reached: it has more devices, or another plan."""
        if self._month is not None:
            self._changed(account_id)

    def _device(self, principal_id: int | None) -> int:
        """Tell whose row of a day a principal's counts belong to: a device's own, or the account's."""
        if principal_id is None or principal_id >= OWN_PRINCIPALS or self._is_application(principal_id):
            return OWN
        return principal_id

    def _see_day(self, wall_s: int) -> None:
        """Count for the day that it is from now on, whichever way the clock has gone."""
        day = day_of(wall_s)
        if day != self._day:
            self._day, self._day_since_s, self._swept = day, wall_s, False
        elif not self._swept and wall_s - self._day_since_s >= SWEEP_AFTER_S:
            self._swept = True
            self.days.sweep([account.account_id for account in self._accounts.all()], day)

    def _turned(self, month: int) -> bool:
        """Whether a new month has begun.

        A clock that was set back begins none, neither then nor when it comes round to the month on record again; one
        that had been ahead begins the next month that it is seen to enter.
        """
        seen, self._seen = self._seen, month
        if self._month is None:
            self._month = month
        return month > self._month or (seen is not None and seen < month < self._month)

    def _begin(self, month: int) -> None:
        """Give back what was used; what the core counts at this moment is the new month's."""
        self._counted.begin_month(month)
        self._month = month
        ended, self._used = self._used, {}
        self._brought = {}
        for account_id, used in ended.items():
            self._changed(account_id)
            if account_id in self._told:
                self._table.add_quota(account_id, used.messages, used.bytes)
        for account in self._accounts.all():  # of devices everybody is warned again
            self._changed(account.account_id)

    def _changed(self, account_id: int) -> None:
        if account_id in self._accounts:  # else it is an open listener's, or an embedder's own
            self._urgent[account_id] = None

    def _put(self, account_id: int) -> Change:
        assert self._month is not None  # something was counted
        used = self._used.get(account_id)
        if used is None:
            return Change(USAGE, number_key(account_id), None)
        row = UsedInMonth(self._month, used.messages, used.bytes, used.warned, self._counted.number)
        return Change(USAGE, number_key(account_id), row.encode())
