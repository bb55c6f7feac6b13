"""States of a data file that no meta page shows any more: roots that are found by looking at every page.

Here belongs the search for them. Not here: reading meta pages that are there (``datafile``). ``find_state`` believes a
candidate only when its tables and its list of free pages together are the whole file, each page once, and all counts
are right: old roots, and bytes that a client has sent, are not. ``find_remains`` is for files of which nothing better
is left: roots of earlier commits, whose trees are partly overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.storage import _pages
from broker.storage.datafile import NO_ROOT, PAGE_SIZES, DataFile, Meta, Tree
from broker.storage.pages import Report, examine_state, table_tree
from broker.storage.tables import TABLES
from broker.storage.trees import BIG, TREE, Entry

FREE_ROOTS_TRIED = 4
MAIN_ROOTS_TRIED = 32
INTEGER_KEYS = 8
LOST_PAGES_MAXIMUM = 2
REMAINS_MAXIMUM = 4

_NAMES = frozenset(table.encode() for table in TABLES)


def find_state(file: DataFile) -> Meta | None:
    """Look for the newest whole state; None when there is none. Sets the file's page size when it is not known."""
    file.page_bytes = _page_bytes(file)
    mains: list[tuple[int, int]] = []
    frees: list[tuple[int, int]] = []
    for number in range(2, file.whole_pages):
        page = file.page(number)
        if page is None or page[10:12] != b"\x02\x00":
            continue
        if (entries := _main_entries(file, page, number)) is not None:
            mains.append((number, entries))
        if (txn_id := _last_freeing(file, page, number)) is not None:
            frees.append((number, txn_id))
    frees.sort(key=lambda found: -found[1])
    for meta in _candidates(file, mains, frees):
        report = Report()
        examine_state(file, meta, report)
        if not report.findings and report.lost_pages <= LOST_PAGES_MAXIMUM:
            return meta
    return None


def find_remains(file: DataFile) -> list[Meta]:
    """Look for roots of any commit, those first below which most can be read; at most a few."""
    found: list[tuple[int, Meta]] = []
    number = 2
    while number < file.whole_pages:
        if run := file.run_pages(number):
            number += run  # what is inside a value is a client's
            continue
        page = file.page(number) or b""
        if (entries := _main_entries(file, page, number, whole=False)) is not None:
            meta = _state(file, Tree(0, 1, 0, 1, 0, entries, number), Tree(0, 0, 0, 0, 0, 0, NO_ROOT), 0)
            report = Report()
            examine_state(file, meta, report)
            found.append((sum(table.entries for table in report.tables.values()), meta))
        number += 1
    found.sort(key=lambda one: -one[0])
    return [meta for entries, meta in found if entries][:REMAINS_MAXIMUM]


def _state(file: DataFile, main: Tree, free: Tree, txn_id: int) -> Meta:
    return Meta(file.page_bytes, 0, free, main, file.whole_pages - 1, txn_id)


def _candidates(file: DataFile, mains: list[tuple[int, int]], frees: list[tuple[int, int]]) -> Iterator[Meta]:
    """Yield pairs of roots, those of the newest list of free pages first."""
    for free_root, txn_id in frees[:FREE_ROOTS_TRIED]:
        page = file.page(free_root) or b""
        nodes = _pages.nodes(page)
        free_pages = b"".join(_value(file, flags, size, held) or b"" for _, flags, size, held in nodes)
        free = {int.from_bytes(free_pages[at : at + 8], "little") for at in range(0, len(free_pages), 8)}
        large = sum((15 + size) // file.page_bytes + 1 for _, flags, size, _ in nodes if flags == BIG)
        possible = [main for main in mains if main[0] not in free]
        for main_root, entries in possible[:MAIN_ROOTS_TRIED]:
            main = Tree(0, 1, 0, 1, 0, entries, main_root)
            yield _state(file, main, Tree(INTEGER_KEYS, 1, 0, 1, large, len(nodes), free_root), txn_id)


def _main_entries(file: DataFile, page: bytes, number: int, *, whole: bool = True) -> int | None:
    """Tell how many tables a page names that may be the root of the main tree; None for any other page."""
    if _pages.inspect(page, number, False) or not _pages.is_leaf(page):
        return None
    nodes = _pages.nodes(page)
    if any(flags != TREE or key not in _NAMES for key, flags, _, _ in nodes):
        return None
    trees = [table_tree(Entry(key, flags, held), file.whole_pages - 1) for key, flags, _, held in nodes]
    return None if whole and None in trees else len(nodes)


def _last_freeing(file: DataFile, page: bytes, number: int) -> int | None:
    """Tell the newest transaction in a page that may be the root of the free tree; None for any other page."""
    if _pages.inspect(page, number, True):
        return None
    nodes = _pages.nodes(page)
    for key, flags, size, held in nodes:
        value = _value(file, flags, size, held)
        if len(key) != 8 or flags == TREE or value is None or not _is_list(value, file.whole_pages):
            return None
    return int.from_bytes(nodes[-1][0], "little")


def _is_list(value: bytes, pages: int) -> bool:
    if len(value) < 8 or int.from_bytes(value[:8], "little") >= len(value) // 8:
        return False
    return not _pages.take_free(value, pages - 1, bytearray(pages))[1]


def _value(file: DataFile, flags: int, size: int, held: bytes) -> bytes | None:
    return file.large_value(int.from_bytes(held, "little"), size) if flags == BIG else held


def _page_bytes(file: DataFile) -> int:
    """Guess the page size: the one with which most of the first pages are well."""

    def well(size: int) -> int:
        pages = ((number, file.read(number * size, size)) for number in range(2, 66))
        return sum(1 for number, page in pages if len(page) == size and not _pages.inspect(page, number, False))

    return max(PAGE_SIZES, key=lambda size: (well(size), size == file.page_bytes))
