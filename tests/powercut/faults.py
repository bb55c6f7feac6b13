"""Planted faults: what the machine must find, each injected from outside of the product.

Here belong the faults themselves. Not here: that they are found (``test_faults``).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import lmdb

from broker.ports import CommitCallback, PlainChange, Store

IGNORED_SYNCS = {
    "no-fdatasync": "fdatasync",
    "no-fsync": "fsync",
    "no-dsync": "dsync",
    "no-folder-sync": "folder",
}
"""Faults of the system below: what the recorder lets succeed without doing it."""

ENVIRONMENTS: dict[str, dict[str, bool]] = {"sync-off": {"sync": False}, "metasync-off": {"metasync": False}}
"""Faults of the environment's options."""


class _Wrapped:
    """A store behind which there is another; whatever is not overridden goes there."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class AnswersEarly(_Wrapped):
    """Acknowledges before the commit."""

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        asyncio.get_running_loop().call_soon(on_committed, ticket, None)
        self._inner.submit(ticket, changes, lambda *_: None)


class ForgetsDeletions(_Wrapped):
    """Puts what is put, and removes nothing."""

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        self._inner.submit(ticket, [one for one in changes if one[2] is not None], on_committed)


class SplitsTickets(_Wrapped):
    """Commits a ticket in two transactions."""

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        half = len(changes) // 2
        self._inner.submit(ticket, changes[:half], lambda *_: self._inner.submit(ticket, changes[half:], on_committed))


class TakesTurns(_Wrapped):
    """Lets a later ticket overtake an earlier one."""

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        if ticket % 3:
            self._inner.submit(ticket, changes, on_committed)
        else:
            asyncio.get_running_loop().call_later(0.005, self._inner.submit, ticket, changes, on_committed)


def _as_it_is(store: Store) -> Store:
    return store


BROKER = (
    "acknowledged-before-commit",
    "pubrel-before-pubrec-is-recorded",
    "pubcomp-before-removal",
    "identifier-not-recorded",
    "removed-at-send",
    "acknowledgement-not-recorded",
    "retained-deletion-forgotten",
    "retained-forgotten",
    "subscription-forgotten",
    "unsubscription-forgotten",
    "session-forgotten",
    "messages-forgotten",
)
"""Faults of a broker: those of the crash machine (``tests.crash.planted``) that this one's clients can see."""


def store_of(fault: str, store: Store) -> Any:
    """The store with a fault round it."""
    if fault not in BROKER:
        return STORE[fault](store)
    from tests.crash.planted import FAULTS  # a whole broker is imported with it

    return FAULTS[fault](store)


STORE: defaultdict[str, Callable[[Store], Any]] = defaultdict(
    lambda: _as_it_is,
    {
        "answers-early": AnswersEarly,
        "forgets-deletions": ForgetsDeletions,
        "splits-tickets": SplitsTickets,
        "takes-turns": TakesTurns,
    },
)
"""Faults of the store: wrappers round it."""

OF_STORES = (*IGNORED_SYNCS, *ENVIRONMENTS, "answers-early", "forgets-deletions", "splits-tickets", "takes-turns")
"""Those that a store without a broker shows."""

NAMES = ("none", *IGNORED_SYNCS, *ENVIRONMENTS, *STORE, *BROKER)
"""All of them."""


@contextmanager
def planted(fault: str) -> Iterator[None]:
    """Open every environment with a fault's options, where the fault is one of those."""
    options = ENVIRONMENTS.get(fault, {})
    opened = lmdb.open
    with mock.patch.object(lmdb, "open", lambda *where, **how: opened(*where, **{**how, **options})):
        yield
