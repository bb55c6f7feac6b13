"""One tree of a data file, read as far as it can be: what is damaged is left out, and named as ranges of keys.

Here belong the walk that goes on around damage, and arithmetic with ranges. Not here: the fast check of a whole tree
(``_pages.walk``), and what to do about what is lost (``salvage``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from broker.storage import _pages
from broker.storage.datafile import NO_ROOT, DataFile, Meta, Tree

BIG = 1
TREE = 2
CLAIMED = 1


class Range(NamedTuple):
    """Keys from ``low`` up to, without, ``high``; None is without end."""

    low: bytes | None
    high: bytes | None

    def has(self, key: bytes) -> bool:
        """Tell whether a key is inside."""
        return (self.low is None or key >= self.low) and (self.high is None or key < self.high)

    def meet(self, other: Range) -> Range | None:
        """Give what both have; None when that is nothing."""
        low = self.low if other.low is None or (self.low is not None and self.low > other.low) else other.low
        high = self.high if other.high is None or (self.high is not None and self.high < other.high) else other.high
        return None if low is not None and high is not None and low >= high else Range(low, high)


ALL = Range(None, None)


class Entry(NamedTuple):
    """One entry of a tree; flag ``TREE`` marks the record of a named tree."""

    key: bytes
    flags: int
    value: bytes


class TreeReader:
    """Reads one tree in key order; ``lost`` is complete when ``entries`` has ended.

    ``marks`` is one byte a page of the file, not 0 for those that are in use already: the tree marks what it claims,
    damaged pages and those of large values too, and takes nothing twice.
    """

    def __init__(self, file: DataFile, tree: Tree, marks: bytearray, *, integer_keys: bool = False) -> None:
        self._file = file
        self._tree = tree
        self._marks = marks
        self._integer_keys = integer_keys
        self.lost: list[Range] = []
        self.damaged_pages = 0

    def entries(self, within: Sequence[Range] = (ALL,)) -> Iterator[Entry]:
        """Yield what can be read and lies in one of the ranges."""
        if self._tree.root != NO_ROOT:
            yield from self._below(self._tree.root, self._tree.depth, ALL, within)

    def _below(self, number: int, levels: int, bounds: Range, within: Sequence[Range]) -> Iterator[Entry]:
        if not any(bounds.meet(one) for one in within):
            return
        page = self._page(number, levels, bounds)
        if page is None:
            self.damaged_pages += 1
            self.lost.append(bounds)
            return
        nodes = _pages.nodes(page)
        if levels > 1:
            for index, (key, _, child, _) in enumerate(nodes):
                low = key if index else bounds.low
                high = nodes[index + 1][0] if index + 1 < len(nodes) else bounds.high
                yield from self._below(child, levels - 1, Range(low, high), within)
            return
        for key, flags, size, held in nodes:
            if any(one.has(key) for one in within):
                yield from self._entry(key, flags, size, held)

    def _page(self, number: int, levels: int, bounds: Range) -> bytes | None:
        """Read a page and check all that can be checked of it."""
        if not 2 <= number < len(self._marks) or self._marks[number]:
            return None
        self._marks[number] = CLAIMED
        page = self._file.page(number)
        if page is None or _pages.inspect(page, number, self._integer_keys):
            return None
        if _pages.is_leaf(page) != (levels == 1):
            return None
        if self._integer_keys:
            return page  # its keys are numbers: ranges of bytes say nothing about them
        keys = [node[0] for node in _pages.nodes(page)][0 if levels == 1 else 1 :]
        return page if not keys or (bounds.has(keys[0]) and bounds.has(keys[-1])) else None

    def _entry(self, key: bytes, flags: int, size: int, held: bytes) -> Iterator[Entry]:
        if flags != BIG:
            yield Entry(key, flags, held)
            return
        first = int.from_bytes(held, "little")
        need = (15 + size) // self._file.page_bytes + 1
        value = None
        if 2 <= first <= len(self._marks) - need and not any(self._marks[first : first + need]):
            self._marks[first : first + need] = bytes((CLAIMED,)) * need
            value = self._file.large_value(first, size)
        if value is None:
            self.damaged_pages += 1
            self.lost.append(Range(key, key + b"\0"))
        else:
            yield Entry(key, 0, value)


def fresh_marks(file: DataFile, meta: Meta) -> bytearray:
    """Give marks for a state of a file, nothing marked: one byte for each page that it may have and that is there."""
    return bytearray(max(1, min(file.whole_pages, meta.last_page + 1)))
