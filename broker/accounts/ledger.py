"""Durable changes, awaited: the one place where the accounts floor meets the store's tickets.

Here belong commits and the numbers given with them. Not here: any record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from broker.accounts.records import decode_number, encode_number
from broker.errors import Unavailable
from broker.ports import OWN_PRINCIPALS, Change, Entries, Store
from broker.storage.tables import COUNTERS

ACCOUNT_NUMBERS = "account"
PRINCIPAL_NUMBERS = "principal"  # devices, applications and keys: one row of numbers, so that none is ambiguous

MAXIMUM_NUMBER = OWN_PRINCIPALS - 1

FoundT = TypeVar("FoundT")


def nothing() -> None:
    """Do nothing: what is undone after most failures."""


@dataclass(frozen=True, slots=True)
class Companion:
    """What is committed in one transaction with somebody else's change: one of the two is told what became of it."""

    changes: Sequence[Change] = ()
    committed: Callable[[], None] = nothing
    failed: Callable[[], None] = nothing


ALONE = Companion()


def _alone() -> Companion:
    return ALONE


class Ledger:
    """Commits changes to a store and applies them to memory in the store's order."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._note: Callable[[], Companion] = _alone
        self._ticket = 0
        self._next = {ACCOUNT_NUMBERS: 1, PRINCIPAL_NUMBERS: 1}

    def load(self) -> None:
        """Read how far the numbers have been given."""
        for key, value in self._store.load(COUNTERS):
            self._next[key.decode()] = decode_number(value)

    def rows(self, table: str) -> Sequence[tuple[bytes, bytes]]:
        """All committed entries of a table, for start-up."""
        return self._store.load(table)

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """All committed entries of a table one after the other, for start-up."""
        return self._store.scan(table)

    def watch(self, note: Callable[[], Companion]) -> None:
        """Let every commit be asked what is to be noted with it, in the task that commits."""
        self._note = note

    def give_number(self, counter: str) -> tuple[int, Change]:
        """Take the next number, and the change that must be committed with its first use: none is given twice."""
        number = self._next[counter]
        if number > MAXIMUM_NUMBER:
            raise Unavailable(f"all {counter} numbers of this installation have been given")
        self._next[counter] = number + 1
        return number, Change(COUNTERS, counter.encode(), encode_number(number + 1))

    def require_disk(self) -> None:
        """Raise ``Unavailable`` while the disk takes nothing: what would have to wait for it is not begun."""
        if self._store.health.state not in ("ok", "full"):
            raise Unavailable("the change could not be stored; nothing was changed")

    async def read(self, table: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Values of some keys as they are on disk. Raises ``Unavailable``."""
        answer: asyncio.Future[Sequence[bytes | None]] = asyncio.get_running_loop().create_future()
        self._store.read(table, keys, partial(_give, answer))
        return await answer

    async def read_range(self, table: str, first: bytes, end: bytes, at_most: int) -> Entries:
        """Entries with ``first`` <= key < ``end`` as they are on disk, at most so many. Raises ``Unavailable``."""
        answer: asyncio.Future[Entries] = asyncio.get_running_loop().create_future()
        self._store.read_range(table, first, end, at_most, partial(_give, answer))
        return await answer

    async def commit(
        self,
        changes: Sequence[Change],
        apply: Callable[[], None],
        undo: Callable[[], None] = nothing,
        beside: Companion = ALONE,
    ) -> None:
        """Return when the changes are durable and applied to memory, with those ``beside``; a success is a promise.

        ``apply`` runs with the commit even when the waiting task was cancelled meanwhile, so that memory and disk
        agree; ``undo`` runs instead when the commit failed. Raises ``Unavailable`` then.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        noted = self._note()

        def on_committed(_ticket: int, error: BaseException | None) -> None:
            if error is None:
                apply()
                beside.committed()
                noted.committed()
            else:
                undo()
                beside.failed()
                noted.failed()
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                failure = Unavailable("the change could not be stored; nothing was changed")
                failure.__cause__ = error
                future.set_exception(failure)

        self._ticket += 1
        self._store.submit(self._ticket, [*changes, *beside.changes, *noted.changes], on_committed)
        await future


def _give(answer: asyncio.Future[FoundT], found: FoundT, error: BaseException | None) -> None:
    if answer.done():  # whoever asked has gone
        return
    if error is None:
        answer.set_result(found)
    else:
        failure = Unavailable("what is stored cannot be read now")
        failure.__cause__ = error
        answer.set_exception(failure)
