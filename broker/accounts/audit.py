"""The audit log: who has changed what, when and from where; durable, and bounded by number and age.

Here belong its entries and where they stand. Not here: who acts (``deeds``), and who may read it (``broker.admin``).
An entry is committed in the transaction of the change that it tells of, through the ``Ledger``: neither is ever without
the other, whenever the process ends. What is changed by no ledger is noted right after. No entry holds a secret.

Each account has entries of its own, so that none can push out another's.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from broker.accounts.deeds import TARGET_MAXIMUM_CHARACTERS, Deed, current
from broker.accounts.ledger import ALONE, Companion, Ledger
from broker.accounts.records import Record
from broker.config import AuditLimits
from broker.errors import Unavailable
from broker.ports import Change
from broker.storage.tables import AUDIT, audit_key

log = logging.getLogger(__name__)

TICKS_PER_S_BITS = 20  # numbers begin with the second, so that their age is known without reading them
DAY_S = 24 * 3600
PRUNED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class AuditEntry(Record):
    """One change; ``fields`` are names joined by commas."""

    at: int
    account_id: int
    actor_kind: str
    actor_number: int
    actor_name: str
    address: str
    request_id: str
    verb: str
    target: str
    fields: str

    @classmethod
    def of(cls, deed: Deed) -> AuditEntry:
        """Tell a deed."""
        actor = deed.actor
        target = deed.target[:TARGET_MAXIMUM_CHARACTERS]
        who = (actor.kind, actor.number, actor.name, actor.address, actor.request_id)
        return cls(deed.at, deed.account_id, *who, deed.verb, target, ",".join(deed.fields))


class AuditBook:
    """All entries, by account: their numbers in memory, themselves on disk."""

    def __init__(self, ledger: Ledger, limits: AuditLimits) -> None:
        self._ledger = ledger
        self._limits = limits
        self._last = 0
        self._numbers: dict[int, array[int]] = {}  # of each account, ascending
        ledger.watch(self.note)

    def load(self) -> None:
        """Read which entries there are."""
        for key, _ in self._ledger.scan(AUDIT):
            account_id, number = int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big")
            self._of(account_id).append(number)
            self._last = max(self._last, number)

    def note(self) -> Companion:
        """Give the entry of the running task's deed, for the transaction that is about to be submitted."""
        deed = current()
        if deed is None:
            return ALONE
        deed.is_noted = True
        return self._noted(AuditEntry.of(deed))

    async def note_late(self, deed: Deed) -> None:
        """Note what is done already; where the disk does not take it, it is in the process's log alone."""
        if deed.is_noted:
            return
        deed.is_noted = True
        entry = AuditEntry.of(deed)
        noted = self._noted(entry)
        try:
            await self._ledger.commit(noted.changes, noted.committed, noted.failed)
        except Unavailable:
            log.error("an audit entry could not be stored", extra={"fields": asdict(entry)})

    async def page(self, account_id: int | None, limit: int, offset: int) -> tuple[Sequence[AuditEntry], int]:
        """Give entries of one account, or of all, the newest first, and how many there are."""
        if account_id is None:
            places = await self._places(limit, offset)
            total = sum(len(numbers) for numbers in self._numbers.values())
        else:
            numbers = self._of(account_id)
            total, end = len(numbers), max(len(numbers) - offset, 0)
            places = [(number, account_id) for number in reversed(numbers[max(end - limit, 0) : end])]
        found = await self._ledger.read(AUDIT, [audit_key(owner, number) for number, owner in places])
        return [AuditEntry.decode(value) for value in found if value is not None], total  # None: on its way, or gone

    async def prune(self, now_s: int) -> None:
        """Remove what is older than the limit."""
        first_kept = max(now_s - self._limits.days * DAY_S, 0) << TICKS_PER_S_BITS
        for account_id in list(self._numbers):
            while old := self._older(account_id, first_kept):
                changes = [Change(AUDIT, audit_key(account_id, number), None) for number in old]
                await self._ledger.commit(changes, lambda one=account_id, last=old[-1]: self._drop(one, last))  # type: ignore[misc]

    def _older(self, account_id: int, first_kept: int) -> list[int]:
        numbers = self._of(account_id)
        return list(numbers[: min(bisect_left(numbers, first_kept), PRUNED_AT_ONCE)])

    def _drop(self, account_id: int, last: int) -> None:
        numbers = self._of(account_id)
        del numbers[: bisect_right(numbers, last)]

    def _noted(self, entry: AuditEntry) -> Companion:
        numbers = self._of(entry.account_id)
        number = self._last = max(self._last + 1, entry.at << TICKS_PER_S_BITS)
        numbers.append(number)
        too_many = list(numbers[: max(len(numbers) - self._limits.entries_per_account_maximum, 0)])
        del numbers[: len(too_many)]
        changes = [Change(AUDIT, audit_key(entry.account_id, number), entry.encode())]
        changes += [Change(AUDIT, audit_key(entry.account_id, one), None) for one in too_many]

        def stored() -> None:
            log.info("audit", extra={"fields": asdict(entry)})

        def lost() -> None:
            if number in numbers:
                numbers.remove(number)

        return Companion(changes, stored, lost)

    async def _places(self, limit: int, offset: int) -> list[tuple[int, int]]:
        """Give numbers of all accounts behind the newest ``offset`` ones, the newest first, with their owners.

        The bound between both is found by halves, so that an offset costs nothing; in turns, since each looks at every
        account.
        """
        bound, last = (0, self._last + 1) if offset else (self._last + 1, self._last + 1)
        while bound < last:
            middle = (bound + last) // 2
            if sum(len(numbers) - bisect_left(numbers, middle) for numbers in self._numbers.values()) <= offset:
                last = middle
            else:
                bound = middle + 1
            await asyncio.sleep(0)
        found = (
            (number, owner)
            for owner, numbers in self._numbers.items()
            for end in (bisect_left(numbers, bound),)
            for number in numbers[max(end - limit, 0) : end]
        )
        return heapq.nlargest(limit, found)

    def _of(self, account_id: int) -> array[int]:
        return self._numbers.setdefault(account_id, array("Q"))
