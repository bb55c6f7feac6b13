"""Answers that are kept for who asks again with the same Idempotency-Key, in the store and counted in memory.

Here belong their records and bounds. Not here: what an answer says, and its sealing (``broker.admin.answers``): what
comes here can be opened by nobody but who asked.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial

from broker.accounts.ledger import Ledger
from broker.accounts.records import Record
from broker.ports import Change
from broker.storage.tables import ANSWERS, key_number, number_key

KEPT_S = 24 * 3600
ACCOUNT_ANSWERS_MAXIMUM = 10_000
ACCOUNT_BYTES_MAXIMUM = 16 * 1024 * 1024
PRUNED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KeptAnswer(Record):
    """A sealed answer and when it was made."""

    made_at: int
    sealed: bytes


@dataclass(slots=True)
class _OfAccount:
    """An account's answers by name, the oldest first: when each was made, and its bytes."""

    kept: OrderedDict[bytes, tuple[int, int]] = field(default_factory=OrderedDict)
    byte_count: int = 0

    def add(self, name: bytes, made_at: int, size: int) -> None:
        self.remove(name)
        self.kept[name] = made_at, size
        self.byte_count += size

    def remove(self, name: bytes) -> None:
        _, size = self.kept.pop(name, (0, 0))
        self.byte_count -= size

    def to_go(self, now_s: int, more: int = 0, more_bytes: int = 0) -> list[bytes]:
        """Name the oldest ones that have ended, or that leave no room for so many more."""
        names: list[bytes] = []
        left, count = self.byte_count + more_bytes, len(self.kept) + more
        for name, (made_at, of_this) in self.kept.items():
            full = left > ACCOUNT_BYTES_MAXIMUM or count > ACCOUNT_ANSWERS_MAXIMUM
            if not (full or made_at + KEPT_S <= now_s) or len(names) == PRUNED_AT_ONCE:
                break
            names.append(name)
            left, count = left - of_this, count - 1
        return names


class KeptAnswers:
    """All kept answers: for a day, of each account the newest that fit into its bounds."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._accounts: dict[int, _OfAccount] = {}

    def load(self) -> None:
        """Read which answers there are, without keeping them."""
        found = sorted(
            (answer.made_at, key, len(value))
            for key, value in self._ledger.scan(ANSWERS)
            for answer in (KeptAnswer.decode(value),)
        )
        for made_at, key, size in found:
            self._of(key_number(key[:4])).add(key[4:], made_at, size)

    def count(self, account_id: int) -> int:
        """How many answers of an account are kept."""
        of_account = self._accounts.get(account_id)
        return 0 if of_account is None else len(of_account.kept)

    def is_kept(self, account_id: int, name: bytes, now_s: int) -> bool:
        """Tell whether there is an answer of this name that has not ended."""
        of_account = self._accounts.get(account_id)
        found = None if of_account is None else of_account.kept.get(name)
        return found is not None and found[0] + KEPT_S > now_s

    async def read(self, account_id: int, name: bytes) -> bytes | None:
        """Give a sealed answer as it is on disk; None: there is none. Raises ``Unavailable``."""
        (value,) = await self._ledger.read(ANSWERS, [_key(account_id, name)])
        return None if value is None else KeptAnswer.decode(value).sealed

    def keep(self, account_id: int, name: bytes, sealed: bytes, now_s: int) -> list[Change]:
        """Give the changes that keep an answer, and let others go that have ended or have no room beside it."""
        value = KeptAnswer(now_s, sealed).encode()
        going = self._of(account_id).to_go(now_s, 1, len(value))
        return [_put(account_id, one, None) for one in going if one != name] + [_put(account_id, name, value)]

    def kept(self, account_id: int, changes: list[Change], now_s: int) -> None:
        """Take what ``keep`` gave as done: it is on disk."""
        of_account = self._of(account_id)
        for _, key, value in changes:
            if value is None:
                of_account.remove(key[4:])
            else:
                of_account.add(key[4:], now_s, len(value))

    async def prune(self, now_s: int) -> None:
        """Let go what has ended; in pieces, so that many hold nobody up."""
        for account_id, of_account in list(self._accounts.items()):
            while changes := [_put(account_id, name, None) for name in of_account.to_go(now_s)]:
                await self._ledger.commit(changes, partial(self.kept, account_id, changes, now_s))
            if not of_account.kept:
                del self._accounts[account_id]

    def _of(self, account_id: int) -> _OfAccount:
        return self._accounts.setdefault(account_id, _OfAccount())


def _key(account_id: int, name: bytes) -> bytes:
    return number_key(account_id) + name


def _put(account_id: int, name: bytes, value: bytes | None) -> Change:
    return Change(ANSWERS, _key(account_id, name), value)
