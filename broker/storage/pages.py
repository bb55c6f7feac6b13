"""A store's data file judged whole: every tree walked, every page accounted for, and figures about what it holds.

Here belong ``examine`` and its report. Not here: the layout (``datafile``), one tree (``trees``), and what is done
about damage (``rescue``). The checks know LMDB's invariants and nothing of records.

A tree is found well when each page says its own number and is of its level's kind, its entries lie inside it, fill its
space and rise in key order, its keys lie between those of its parent, no page is reached twice or free as well, and the
tree counts as many entries and pages as it says. What LMDB cannot show is a bit that has turned inside a value.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from broker.errors import StoreError
from broker.storage import _pages
from broker.storage.datafile import FAULT_WORDS, NO_ROOT, DataFile, Finding, Kind, Meta, Tree, read_metas
from broker.storage.trees import TREE, Entry, TreeReader, fresh_marks

FREE_OWNER = 0
MAIN_OWNER = 1
TABLES_MAXIMUM = 30
NAMES = {FREE_OWNER: "(free pages)", MAIN_OWNER: "(tables)"}
FINDINGS_MAXIMUM = 200
READ_AHEAD_MAXIMUM_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class TableFigures:
    """What one table takes; ``entry_bytes`` are those of keys and values, without LMDB's own."""

    entries: int
    entry_bytes: int
    pages: int
    depth: int


@dataclass(slots=True)
class Report:
    """What was found in a data file; without findings it is well.

    ``complete`` is False when time was up before every large value's run was looked at. ``lost_pages`` are in use by
    nobody and not free either: harmless. All is as of transaction ``txn_id``.
    """

    findings: list[Finding] = field(default_factory=list)
    file_bytes: int = 0
    page_bytes: int = 4096
    pages: int = 0
    free_pages: int = 0
    lost_pages: int = 0
    txn_id: int = 0
    complete: bool = True
    tables: dict[str, TableFigures] = field(default_factory=dict)

    @property
    def used_bytes(self) -> int:
        """What the file's pages take that are not free."""
        return (self.pages - self.free_pages) * self.page_bytes


class StateGone(StoreError):
    """The state that was to be examined has no meta page any more: there were two commits meanwhile."""


def verify(path: Path) -> list[Finding]:
    """Find everything that is wrong with a data file; see ``examine``."""
    return examine(path).findings


def examine(path: Path, *, run_seconds: float = 0.0, txn_id: int | None = None) -> Report:
    """Walk all trees of a data file. Never raises for what is in it, and ends whatever is in it.

    ``run_seconds`` bounds the time for the runs of large values, which are scattered over the file (0: no bound).
    ``txn_id`` picks the state to look at, which somebody holds with a read transaction while the store is written; else
    it is the newest. Raises ``StoreError`` for a file that may not be read, ``FileNotFoundError``, and ``StateGone``.
    """
    with DataFile(path) as file:
        if txn_id is not None:
            meta = _held_meta(file, txn_id)
            report = Report(file_bytes=file.size, page_bytes=file.page_bytes)
            examine_state(file, meta, report, run_seconds)
            return report
        metas, findings = read_metas(file)
        report = Report(findings=findings, file_bytes=file.size, page_bytes=file.page_bytes)
        if metas:
            examine_state(file, metas[0], report, run_seconds)
        return report


def _held_meta(file: DataFile, txn_id: int) -> Meta:
    """Read the meta page of a transaction while others write theirs; twice alike is no torn read."""
    first, second = ([meta for meta in read_metas(file)[0] if meta.txn_id == txn_id] for _ in range(2))
    if not first or first != second:
        raise StateGone(f"no meta page is of transaction {txn_id} any more")
    return first[0]


def examine_state(file: DataFile, meta: Meta, report: Report, run_seconds: float = 0.0) -> None:
    """Walk all trees of one state of a file, and report."""
    report.txn_id, report.pages = meta.txn_id, meta.last_page + 1
    _Examination(file, meta, report).run(run_seconds)


def tables_of(file: DataFile, meta: Meta) -> Iterator[tuple[str, Tree | None]]:
    """Yield the named tables of a state, as far as they can be read; None for an entry that is no table."""
    for entry in TreeReader(file, meta.main, fresh_marks(file, meta)).entries():
        yield entry.key.decode("utf-8", "replace"), table_tree(entry, meta.last_page)


def table_tree(entry: Entry, last_page: int) -> Tree | None:
    """Read the record of a named table; None when it cannot be one."""
    tree = Tree.unpack(entry.value) if entry.flags == TREE else None
    return tree if tree is not None and tree.possible(last_page) and tree.flags == 0 else None


class _Examination:
    """One walk over everything."""

    def __init__(self, file: DataFile, meta: Meta, report: Report) -> None:
        self._file = file
        self._meta = meta
        self._report = report
        self._marks = fresh_marks(file, meta)
        self._names = dict(NAMES)
        self._trees: dict[int, Tree] = {}
        self._figures: dict[int, tuple[int, int, int, int]] = {}

    def run(self, run_seconds: float) -> None:
        if self._file.size <= READ_AHEAD_MAXIMUM_BYTES:  # page by page takes a cold disk five times as long
            os.posix_fadvise(self._file.fd, 0, self._file.size, os.POSIX_FADV_WILLNEED)
        self._walk(FREE_OWNER, self._meta.free, integer_keys=True)
        self._walk(MAIN_OWNER, self._meta.main)
        for owner, (name, tree) in enumerate(tables_of(self._file, self._meta), MAIN_OWNER + 1):
            if tree is None or owner > TABLES_MAXIMUM:
                self._note(Kind.PAGE, f"table {name!r}: its record is damaged", name)
            else:
                self._names[owner] = name
                self._walk(owner, tree)
        self._check_runs(run_seconds)
        self._take_free_pages()
        self._report.lost_pages = self._marks.count(0) - 2 if len(self._marks) >= 2 else 0

    def _walk(self, owner: int, tree: Tree, *, integer_keys: bool = False) -> None:
        self._trees[owner], self._figures[owner] = tree, (0, 0, 0, 0)
        if tree.root == NO_ROOT:
            return
        counts, faults, number = _pages.walk(
            self._file.fd,
            self._file.page_bytes,
            self._meta.last_page,
            self._marks,
            owner,
            tree.root,
            tree.depth,
            integer_keys,
        )
        self._figures[owner] = counts
        self._note_faults(faults, number)
        said = (tree.branch_pages, tree.leaf_pages, tree.entries)
        if not number and counts[:3] != said:
            self._note_count(owner, said, counts[:3])

    def _check_runs(self, seconds: float) -> None:
        complete, per_owner, faults, number = _pages.runs(
            self._file.fd, self._file.page_bytes, self._meta.last_page, self._marks, seconds
        )
        self._report.complete = complete
        self._note_faults(faults, number)
        for owner, tree in self._trees.items():
            branches, leaves, entries, entry_bytes = self._figures[owner]
            if complete and not self._report.findings and per_owner[owner] != tree.overflow_pages:
                self._note_count(owner, (tree.overflow_pages,), (per_owner[owner],))
            if owner > MAIN_OWNER:
                pages = branches + leaves + (per_owner[owner] if complete else tree.overflow_pages)
                self._report.tables[self._names[owner]] = TableFigures(entries, entry_bytes, pages, tree.depth)

    def _take_free_pages(self) -> None:
        marks = fresh_marks(self._file, self._meta)
        reader = TreeReader(self._file, self._meta.free, marks, integer_keys=True)
        for entry in reader.entries():
            count, wrong = _pages.take_free(entry.value, self._meta.last_page, self._marks)
            self._report.free_pages += count
            if wrong:
                txn_id = int.from_bytes(entry.key, "little")
                words = f"the list of pages that transaction {txn_id} freed is damaged"
                self._note(Kind.FREE_LIST, words + (": it has pages in use" if wrong == _pages.TWICE else ""))

    def _note_faults(self, faults: list[tuple[int, int, int]], number: int) -> None:
        for page, fault, owner in faults:
            kind = Kind.CUT if fault == _pages.CUT else Kind.FREE_LIST if owner == FREE_OWNER else Kind.PAGE
            name = self._names[owner]
            self._note(kind, f"table {name!r}: page {page} {FAULT_WORDS[fault]}", name, page)
        if number > len(faults):
            self._note(Kind.PAGE, f"and {number - len(faults)} more pages")

    def _note_count(self, owner: int, said: tuple[int, ...], found: tuple[int, ...]) -> None:
        kind = Kind.FREE_LIST if owner == FREE_OWNER else Kind.COUNT
        name = self._names[owner]
        self._note(kind, f"table {name!r}: it counts {said} pages and entries, and has {found}", name)

    def _note(self, kind: Kind, text: str, table: str = "", page: int | None = None) -> None:
        if len(self._report.findings) < FINDINGS_MAXIMUM:
            self._report.findings.append(Finding(kind, text, table, page))
