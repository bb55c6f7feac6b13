"""What is on record of months: the totals of accounts, and what was counted since each of them was written.

Here belongs how both make one figure. Not here: the current month in memory (``usage``), and the journal (``counted``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from broker.accounts.counted import Counts
from broker.accounts.records import UsedInMonth


def newest_month(
    rows: Mapping[int, UsedInMonth], journal: Iterable[tuple[int, Counts]]
) -> tuple[int | None, dict[int, UsedInMonth], set[int]]:
    """Give the last month on record (None: there is none), its totals by account, and whose are more than their rows.

    A total names the last record of counts that is in it: later ones of its month are added. The month that was
    written last is the last one, whatever the clock said.
    """
    last = max(((row.counted, row.month) for row in rows.values()), default=None)
    later: defaultdict[int, defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for number, counts in journal:
        last = (number, counts.month) if last is None else max(last, (number, counts.month))
        for account_id, used in counts.by_account().items():
            row = rows.get(account_id)
            if row is None or row.counted < number:
                found = later[counts.month][account_id]
                found[0] += used[0]
                found[1] += used[1]
    if last is None:
        return None, {}, set()
    month = last[1]
    totals = {account_id: row for account_id, row in rows.items() if row.month == month}
    for account_id, (messages, size) in later[month].items():
        before = totals.get(account_id, UsedInMonth(month, 0, 0))
        totals[account_id] = replace(before, messages=before.messages + messages, bytes=before.bytes + size)
    return month, totals, set(later[month])
