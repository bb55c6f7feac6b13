"""What devices did on days, added up until it is written.

In a device's place 0 stands for what belongs to no device, and 2**32 - 1 for the account's total, of which the most
connections at once are kept here and nothing else, in the first of four figures.
"""

from collections.abc import Callable, Container, Sequence
from typing import final

def sum_by_account(
    rows: Sequence[tuple[int, int | None, int, int, int, int]],
) -> dict[int, tuple[int, int, int, int]]:
    """Add up rows of ``Shard.take_usage`` by account: messages and bytes in, the same out."""

def packed_accounts(packed: bytes, count: int) -> dict[int, tuple[int, int]]:
    """Add up ``count`` packed sums by account: messages and bytes, both directions together.

    Raises ``ValueError`` for bytes that are no such sums.
    """

@final
class Tally:
    """Sums by account, day and device: some 170 bytes for each, which go back together, when it goes.

    A sum is *fresh* until it was packed. First all is added; then, in turns, ``order``; then ``take``, which leaves
    nothing. Adding grows the table by one bucket at a time, so that no call takes longer than its own rows do.
    """

    def __len__(self) -> int:
        """How many sums were not taken."""
    @property
    def has_fresh(self) -> bool:
        """Whether something was added that was not packed."""
    def add(
        self,
        rows: Sequence[tuple[int, int | None, int, int, int, int]],
        day: int,
        accounts: Container[int],
        is_application: Callable[[int], bool],
        devices_end: int,
    ) -> None:
        """Add rows of ``Shard.take_usage`` that are of these accounts.

        What is of no principal, of one from ``devices_end`` on or of an application is no device's.
        """
    def note_peak(self, account_id: int, day: int, connections: int) -> None:
        """Take how many connections an account has had at once on a day."""
    def pack(self, at_most: int) -> tuple[int, bytes]:
        """Give up to ``at_most`` fresh sums, packed, and how many they are; they are not fresh any more."""
    def unpack(self, packed: bytes, count: int, day: int, behind: bytes) -> None:
        """Add what ``pack`` gave, but for keys up to ``behind`` (12 bytes), as nothing fresh.

        Raises ``ValueError`` for bytes that are no such sums, and adds nothing then.
        """
    def order(self, at_most: int) -> bool:
        """Put some sums in order; True when that is done. Nothing may be added from the first call on."""
    def take(self, at_most: int) -> list[tuple[bytes, tuple[int, int, int, int]]]:
        """Take those with the smallest keys, in their order, each with its key as ``day_key`` makes it."""
    def get(self, key: bytes) -> tuple[int, int, int, int] | None:
        """Give a sum by its key; None where there is none, or it was taken."""
    def devices_of(self, account_id: int) -> bytes:
        """Give those of an account that were not taken but for the total: day and device of each, as two ``uint32``."""
