"""An LMDB data file as bytes: its pages, its two meta pages, and what may be wrong with them.

Here belong the layout of LMDB 0.9 on a 64-bit little-endian machine and the words for findings. Not here: trees
(``trees``), the judgement of a whole file (``pages``). Nothing is mapped, so nothing here can end the process.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.errors import StoreError
from broker.storage import _pages

DATA_FILE = "data.mdb"
MAGIC = 0xBEEFC0DE
DATA_VERSION = 1
NO_ROOT = 2**64 - 1
HEADER_BYTES = 16
META_FLAG = 8
PAGE_SIZES: tuple[int, ...] = tuple(1 << power for power in range(8, 16))
DEPTH_MAXIMUM = 32
SHORTEST_BYTES = HEADER_BYTES + 136

_HEADER = struct.Struct("<QHHI")
_META = struct.Struct("<IIQQ")
_TREE = struct.Struct("<IHHQQQQQ")
_LAST = struct.Struct("<QQ")


class Kind(StrEnum):
    """What a finding is about; stable words for scripts."""

    EMPTY = "empty"
    """The file has no bytes."""
    CUT = "cut"
    """The file ends before what it should hold."""
    ZEROED = "zeroed"
    """The file begins with zeros."""
    FOREIGN = "foreign"
    """Something else than an LMDB file."""
    NEWER_LMDB = "newer-lmdb"
    """Written by a version of LMDB with another layout."""
    NEWER_FORMAT = "newer-format"
    """Written by a version of this broker that is newer."""
    META = "meta"
    """One of the two meta pages is damaged."""
    PAGE = "page"
    """A page of a table is damaged."""
    FREE_LIST = "free-list"
    """The list of free pages is damaged."""
    COUNT = "count"
    """A table holds another number of entries or pages than it says."""
    RECORD = "record"
    """A value is not what its table holds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a store; ``page`` is None where no one page is."""

    kind: Kind
    text: str
    table: str = ""
    page: int | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Tree:
    """LMDB's record of one tree: where it begins and what it counts."""

    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int

    @classmethod
    def unpack(cls, record: bytes) -> Tree:
        """Read 48 bytes."""
        return cls(*_TREE.unpack(record)[1:])

    def possible(self, last_page: int) -> bool:
        """Tell whether it can be a tree of a file with this last page."""
        if self.root == NO_ROOT:
            return self.depth == 0 and self.entries == 0
        pages = self.branch_pages + self.leaf_pages + self.overflow_pages
        return 2 <= self.root <= last_page and 1 <= self.depth <= DEPTH_MAXIMUM and pages <= last_page

    @property
    def pages(self) -> int:
        """How many pages it counts."""
        return self.branch_pages + self.leaf_pages + self.overflow_pages


@dataclass(frozen=True, slots=True)
class Meta:
    """One state of the whole file, as a commit has left it."""

    page_bytes: int
    map_bytes: int
    free: Tree
    main: Tree
    last_page: int
    txn_id: int


class DataFile:
    """A data file open for reading, by ``pread`` alone.

    Raises ``StoreError`` when it is no plain file or may not be read, ``FileNotFoundError`` when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self.fd)
            raise StoreError(f"{path} is not a plain file")
        self.size = status.st_size
        self.page_bytes = 4096

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def whole_pages(self) -> int:
        """How many pages the file holds to their end."""
        return self.size // self.page_bytes

    def read(self, offset: int, count: int) -> bytes:
        """Read as much as there is and can be read, which may be nothing."""
        parts: list[bytes] = []
        while count > 0:
            try:
                part = os.pread(self.fd, count, offset)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return b"".join(parts)

    def page(self, number: int) -> bytes | None:
        """Read one page; None when not all of it is there."""
        if not 0 <= number < self.whole_pages:
            return None
        page = self.read(number * self.page_bytes, self.page_bytes)
        return page if len(page) == self.page_bytes else None

    def run_pages(self, first: int) -> int:
        """Tell how many pages the run of a large value has that begins here; 0 when none does."""
        if not 2 <= first < self.whole_pages:
            return 0
        header = self.read(first * self.page_bytes, HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return 0
        number, _, flags, pages = _HEADER.unpack(header)
        return pages if number == first and flags == 4 and first + pages <= self.whole_pages else 0

    def large_value(self, first: int, size: int) -> bytes | None:
        """Read a large value; None when its run is damaged or ends before it."""
        if self.run_pages(first) * self.page_bytes < HEADER_BYTES + size:
            return None
        value = self.read(first * self.page_bytes + HEADER_BYTES, size)
        return value if len(value) == size else None


def read_metas(file: DataFile) -> tuple[list[Meta], list[Finding]]:
    """Read both meta pages; gives those that are well, newest first, and sets the file's page size by them."""
    if file.size == 0:
        return [], [Finding(Kind.EMPTY, "the file is empty")]
    first, wrong = _meta_at(file, 0, 0)
    sizes = (first.page_bytes,) if first is not None else PAGE_SIZES
    pairs = [_meta_at(file, 1, size) for size in sizes]
    second, also_wrong = next((pair for pair in pairs if pair[0] is not None), pairs[0] if first else pairs[4])
    found = [finding for finding in (wrong, also_wrong) if finding is not None]
    metas = [meta for meta in (first, second) if meta is not None]
    if metas:
        file.page_bytes = metas[0].page_bytes
    elif any(finding.kind is Kind.NEWER_LMDB for finding in found):
        found = [next(finding for finding in found if finding.kind is Kind.NEWER_LMDB)]
    else:
        found = [_whole_file(file), *found]
    return sorted(metas, key=lambda meta: -meta.txn_id), found


def _whole_file(file: DataFile) -> Finding:
    """Say what a file is of which neither meta page is well."""
    start = file.read(0, 2 * 4096)
    if start.count(0) == len(start):
        return Finding(Kind.ZEROED, "the file begins with zeros")
    if len(start) < SHORTEST_BYTES:
        return Finding(Kind.CUT, f"the file ends after {file.size} bytes, inside its first page")
    magic = struct.pack("<I", MAGIC)
    if magic not in (start[16:20], start[4112:4116]):
        return Finding(Kind.FOREIGN, "the file is not a store: neither of its first pages is one of LMDB's")
    return Finding(Kind.META, "neither meta page can be used")


def _meta_at(file: DataFile, index: int, page_bytes: int) -> tuple[Meta | None, Finding | None]:
    """Read one meta page; of the second it is checked whether it stands where its own page size puts it."""
    start = file.read(index * page_bytes, SHORTEST_BYTES)
    if len(start) < SHORTEST_BYTES:
        return None, Finding(Kind.CUT, f"the file ends inside meta page {index}", page=index)
    number, _, flags, _ = _HEADER.unpack_from(start)
    magic, version, _, map_bytes = _META.unpack_from(start, HEADER_BYTES)
    if magic != MAGIC or number != index or not flags & META_FLAG:
        return None, Finding(Kind.META, f"meta page {index} is damaged: it is none", page=index)
    if version != DATA_VERSION:
        words = f"the file was written by a newer LMDB: its layout is {version}, this one reads {DATA_VERSION}"
        return None, Finding(Kind.NEWER_LMDB, words, page=index)
    free, main = Tree.unpack(start[40:88]), Tree.unpack(start[88:136])
    last_page, txn_id = _LAST.unpack_from(start, 136)
    meta = Meta(struct.unpack_from("<I", start, 40)[0], map_bytes, free, main, last_page, txn_id)
    wrong = _impossible(meta, index, page_bytes)
    if wrong:
        return None, Finding(Kind.META, f"meta page {index} is damaged: {wrong}", page=index)
    return meta, None


def _impossible(meta: Meta, index: int, page_bytes: int) -> str:
    if meta.page_bytes not in PAGE_SIZES or (index and meta.page_bytes != page_bytes):
        return f"its page size is {meta.page_bytes}"
    if not 1 <= meta.last_page < 2**47:
        return f"its last page is {meta.last_page}"
    if not meta.free.possible(meta.last_page) or not meta.main.possible(meta.last_page):
        return "its trees cannot be"
    if not 0 <= meta.txn_id < 2**63:
        return f"its transaction is {meta.txn_id}"
    return ""


FAULT_WORDS = {
    _pages.UNREADABLE: "cannot be read from the disk",
    _pages.OUTSIDE: "lies outside the store",
    _pages.CUT: "lies behind the end of the file",
    _pages.TWICE: "is in use twice",
    _pages.NUMBER: "says that it is another page",
    _pages.KIND: "is not of a known kind",
    _pages.BOUNDS: "has impossible bounds",
    _pages.EMPTY: "has no entries",
    _pages.NODE: "has an entry that is not inside it",
    _pages.SPACE: "has entries that do not fill their space",
    _pages.KEY: "has an impossible key",
    _pages.ORDER: "has keys out of order",
    _pages.RANGE: "has keys that belong elsewhere",
    _pages.DEPTH: "is not at its depth",
    _pages.VALUE: "has an impossible value",
    _pages.RUN: "does not begin the large value that it should",
    _pages.FREE: "is in a damaged list of free pages",
}
