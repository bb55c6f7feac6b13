"""How many devices each claim token and each authority has registered, and when the last one.

Here belong the counts, on disk with the device that they count. Not here: what may register (``claims``,
``authorities``), and registering (``enrolment``). A count is never less than what was registered: of a commit that
failed, or of a process that ended meanwhile, it may be more.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.accounts.ledger import Companion, Ledger
from broker.accounts.records import Enrolled
from broker.ports import Change
from broker.storage.tables import ENROLLED, number_key

NONE_YET = Enrolled(0, 0)


@dataclass(frozen=True, slots=True)
class LastRefusal:
    """The last device that was not registered: why as a code of the timeline, and when (seconds of UTC)."""

    at: int
    code: str
    device_id: str
    address: str


class EnrolledCounts:
    """By account and id; refusals are known since the start of the process alone."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counts: dict[tuple[int, str], Enrolled] = {}
        self._refusals: dict[tuple[int, str], LastRefusal] = {}

    def load(self) -> None:
        """Read all of them."""
        for key, value in self._ledger.rows(ENROLLED):
            self._counts[int.from_bytes(key[:4], "big"), key[4:].decode()] = Enrolled.decode(value)

    def of(self, account_id: int, what: str) -> Enrolled:
        """Give what a token or authority has registered, with what is on its way to disk."""
        return self._counts.get((account_id, what), NONE_YET)

    def one_more(self, account_id: int, what: str, now_s: int) -> Companion:
        """Count one more device; gives what is committed with it."""
        place = account_id, what
        counted = self._counts[place] = Enrolled(self.of(*place).count + 1, now_s)

        def failed() -> None:
            if place in self._counts:
                self._counts[place] = Enrolled(max(self.of(*place).count - 1, 0), self.of(*place).last_at)

        return Companion([Change(ENROLLED, enrolled_key(*place), counted.encode())], failed=failed)

    def last_refusal(self, account_id: int, what: str) -> LastRefusal | None:
        """Tell who was not registered last; None for nobody since the start."""
        return self._refusals.get((account_id, what))

    def note_refusal(self, account_id: int, what: str, refusal: LastRefusal) -> None:
        """Remember who was not registered by what is on record."""
        self._refusals[account_id, what] = refusal

    @staticmethod
    def removal(account_id: int, what: str) -> Change:
        """Make the change that takes a count off the disk."""
        return Change(ENROLLED, enrolled_key(account_id, what), None)

    def forget(self, account_id: int, what: str) -> None:
        """Forget what is on record no more."""
        self._counts.pop((account_id, what), None)
        self._refusals.pop((account_id, what), None)


def enrolled_key(account_id: int, what: str) -> bytes:
    """Key of a count."""
    return number_key(account_id) + what.encode()
