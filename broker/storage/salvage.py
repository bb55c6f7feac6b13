"""What can still be read of a damaged data file, table by table.

Here belong the search and its account of what was lost. Not here: checking a file (``pages``), what a value may look
like (``shapes``), and where the entries go (``rescue``).

In this order: the newest state; in the ranges of keys that it has lost, leaves that nothing points to any more; what
is missing then, from the state one commit before. A leaf without a tree is taken only where the list of free pages is
whole and says that it is in use, where nothing before it can be the inside of a large value (whose bytes are a
client's), and where its keys and values fit one table alone. Where a meta page cannot be used, a state is looked for
that explains every page of the file; where no root is left, for roots of earlier commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from broker.storage import _pages
from broker.storage.datafile import DataFile, Finding, Kind, Meta, Tree, read_metas
from broker.storage.pages import table_tree
from broker.storage.states import find_remains, find_state
from broker.storage.trees import ALL, BIG, TREE, Range, TreeReader, fresh_marks

Judge = Callable[[str, bytes, bytes], bool]
"""Tells whether a table can have an entry of this key and value."""


class Found(NamedTuple):
    """One entry that was rescued."""

    table: str
    key: bytes
    value: bytes


@dataclass(slots=True)
class Account:
    """What became of one table.

    ``said`` is how many entries it should have, None where that is not known. ``older`` came from the state before the
    newest, ``orphaned`` from leaves without a tree, and ``refused`` were read but cannot be right.
    """

    said: int | None = None
    rescued: int = 0
    older: int = 0
    orphaned: int = 0
    refused: int = 0
    damaged_pages: int = 0
    missing: list[Range] = field(default_factory=lambda: [ALL])
    taken: set[bytes] = field(default_factory=set)

    @property
    def incomplete(self) -> bool:
        """Whether there may be more that is not found."""
        return bool(self.missing) and (self.said is None or self.rescued + self.refused < self.said)

    @property
    def lost(self) -> int | None:
        """How many entries are gone, as far as that is known."""
        if self.said is None:
            return None
        return max(self.said - self.rescued, self.refused)


def anything(_table: str, _key: bytes, _value: bytes) -> bool:
    """Judge that any entry is right."""
    return True


class Salvage:
    """Iterates over everything that can be read; ``accounts`` and ``findings`` are complete when that has ended.

    ``remains`` tells that the newest commits' roots are gone, and what was read may be of any age.
    Raises ``StoreError`` for a file that may not be read.
    """

    def __init__(self, path: Path, judge: Judge = anything) -> None:
        self._file = DataFile(path)
        self._judge = judge
        self.accounts: dict[str, Account] = {}
        self.unplaced_leaves = 0
        self.remains = False
        self.findings: list[Finding] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Found]:
        metas, self.findings = read_metas(self._file)
        if not metas and any(one.kind is Kind.NEWER_LMDB for one in self.findings):
            return  # its pages may mean something else
        states = self._states(metas)
        if not any(self._tables(meta, fresh_marks(self._file, meta)) for meta in states):
            states = find_remains(self._file)
            self.remains = bool(states)
        if not states:
            return
        marks = [fresh_marks(self._file, meta) for meta in states]
        roots = [self._tables(meta, used) for meta, used in zip(states, marks, strict=True)]
        self.accounts = {table: Account() for table in sorted({name for names in roots for name in names})}
        for table, account in self.accounts.items():
            if (tree := roots[0].get(table)) is not None and not self.remains:
                account.said = tree.entries
            yield from self._read(table, account, tree, marks[0])
        if self._incomplete():
            yield from self._orphans(states[0], marks[0])
        for names, used in zip(roots[1:], marks[1:], strict=True):
            for table, account in self._incomplete():
                yield from self._read_older(table, account, names.get(table), used)

    def _incomplete(self) -> list[tuple[str, Account]]:
        return [(table, account) for table, account in self.accounts.items() if account.incomplete]

    def _states(self, metas: list[Meta]) -> list[Meta]:
        """The states to read, best first; with a meta page missing, there may be one that is newer."""
        if len(metas) == 2:
            return metas
        found = find_state(self._file)
        if found is None or any(found.txn_id <= meta.txn_id for meta in metas):
            return metas
        return [found, *metas]

    def _tables(self, meta: Meta, marks: bytearray) -> dict[str, Tree | None]:
        """The tables of a state. Its free pages are marked with the orphans alone."""
        reader = TreeReader(self._file, meta.main, marks)
        return {entry.key.decode("utf-8", "replace"): table_tree(entry, meta.last_page) for entry in reader.entries()}

    def _read(self, table: str, account: Account, tree: Tree | None, marks: bytearray) -> Iterator[Found]:
        """Yield what a tree has in the ranges that are missing, and make them smaller."""
        if tree is None:
            return
        reader = TreeReader(self._file, tree, marks)
        for entry in reader.entries(account.missing):
            if entry.flags == TREE or entry.key in account.taken:
                continue
            if self._good(account, table, entry.key, entry.value):
                yield Found(table, entry.key, entry.value)
        account.damaged_pages += reader.damaged_pages
        account.missing = _common(account.missing, reader.lost)

    def _read_older(self, table: str, account: Account, tree: Tree | None, marks: bytearray) -> Iterator[Found]:
        for found in self._read(table, account, tree, marks):
            account.older += 1
            yield found

    def _good(self, account: Account, table: str, key: bytes, value: bytes) -> bool:
        good = self._judge(table, key, value)
        account.rescued += good
        account.refused += not good
        return good

    # ------------------------------------------------------------ leaves that nothing points to

    def _orphans(self, meta: Meta, marks: bytearray) -> Iterator[Found]:
        if not self._mark_free(meta, marks):
            return
        for number in self._orphan_pages(marks):
            entries = self._leaf_entries(number)
            if not entries:
                continue
            tables = [table for table, account in self.accounts.items() if self._fits(table, account, entries)]
            if len(tables) != 1:
                self.unplaced_leaves += 1
                continue
            account = self.accounts[tables[0]]
            account.rescued += len(entries)
            account.orphaned += len(entries)
            account.taken.update(key for key, _ in entries)
            yield from (Found(tables[0], key, value) for key, value in entries)

    def _mark_free(self, meta: Meta, marks: bytearray) -> bool:
        """Mark what is free; False when that is not known for every page."""
        reader = TreeReader(self._file, meta.free, marks, integer_keys=True)
        lists = [entry.value for entry in reader.entries()]
        if reader.lost:
            return False
        return not any(_pages.take_free(value, meta.last_page, marks)[1] for value in lists)

    def _orphan_pages(self, marks: bytearray) -> Iterator[int]:
        """Yield well leaves that nobody claims, where every page since the last claimed one is explained."""
        number, explained = 2, True
        while number < len(marks):
            if marks[number]:
                number, explained = number + 1, True
                continue
            run = self._file.run_pages(number)
            if run and number + run <= len(marks) and not any(marks[number : number + run]):
                number += run
                continue
            page = self._file.page(number)
            explained = explained and not run and page is not None and not _pages.inspect(page, number, False)
            if explained and page is not None and _pages.is_leaf(page):
                yield number
            number += 1

    def _leaf_entries(self, number: int) -> list[tuple[bytes, bytes]]:
        """Read all entries of a leaf; nothing when one of them cannot be read."""
        page = self._file.page(number)
        found: list[tuple[bytes, bytes]] = []
        for key, flags, size, held in _pages.nodes(page or b""):
            value = self._file.large_value(int.from_bytes(held, "little"), size) if flags == BIG else held
            if flags == TREE or value is None:
                return []
            found.append((key, value))
        return found

    def _fits(self, table: str, account: Account, entries: list[tuple[bytes, bytes]]) -> bool:
        first, last = entries[0][0], entries[-1][0]
        inside = any(one.has(first) and one.has(last) for one in account.missing)
        return inside and all(self._judge(table, key, value) for key, value in entries)


def _common(ones: list[Range], others: list[Range]) -> list[Range]:
    """Give the keys that are in ranges of both."""
    met = (one.meet(other) for one in ones for other in others)
    return [found for found in met if found is not None]


def salvage(path: Path, judge: Judge = anything) -> Iterator[Found]:
    """Yield every entry that can still be read of a data file, whatever is in it."""
    with Salvage(path, judge) as found:
        yield from found
