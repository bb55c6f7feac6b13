"""Pages of an LMDB data file, read as bytes that may be anything: the native half of ``broker.storage.pages``.

The numbers in capitals are what may be wrong with a page; 0 is nothing. *Marks* are one byte a page of the file: in the
lower three bits what the page is (0 not seen, 1 branch, 2 leaf, 3 head of a large value's run, 4 its tail, 5 free), in
the upper five who owns it (0 to 31).
"""

UNREADABLE: int
OUTSIDE: int
CUT: int
TWICE: int
NUMBER: int
KIND: int
BOUNDS: int
EMPTY: int
NODE: int
SPACE: int
KEY: int
ORDER: int
RANGE: int
DEPTH: int
VALUE: int
RUN: int
FREE: int

def walk(
    fd: int,
    page_bytes: int,
    last_page: int,
    marks: bytearray,
    owner: int,
    root: int,
    depth: int,
    integer_keys: bool,
) -> tuple[tuple[int, int, int, int], list[tuple[int, int, int]], int]:
    """Check every page of a tree but the insides of large values' runs, and mark them all; the interpreter is released.

    ``marks`` has one byte for each page that the file holds whole. Gives (branch pages, leaf pages, entries, bytes of
    keys and values), the first 64 faults (page, what is wrong with it, owner), and how many there are. Below a faulty
    page nothing is looked at. Raises ``ValueError`` for a page size, depth (1 to 32) or owner that cannot be.
    """
    ...

def runs(
    fd: int, page_bytes: int, last_page: int, marks: bytearray, seconds: float
) -> tuple[bool, list[int], list[tuple[int, int, int]], int]:
    """Check the heads of large values' runs that walks have marked, in the order of the file.

    Stops after ``seconds`` (0: never). Gives whether all were checked, pages in runs by owner, faults, how many.
    """
    ...

def take_free(value: bytes, last_page: int, marks: bytearray) -> tuple[int, int]:
    """Mark the pages of one list of free pages; gives how many, and what is wrong with the list or 0."""
    ...

def inspect(page: bytes, number: int, integer_keys: bool) -> int:
    """Tell what is wrong with a branch or leaf page of this number, or 0."""
    ...

def is_leaf(page: bytes) -> bool:
    """Tell whether a page that ``inspect`` found well is a leaf."""
    ...

def nodes(page: bytes) -> list[tuple[bytes, int, int, bytes]]:
    """Take a well page apart: (key, flags, size of the value or number of the page below, what the node holds).

    The node holds the value, or, with flag 1, the number of the page where a large value begins (8 bytes,
    little-endian). Flag 2 is a tree's record. Raises ``ValueError`` for a page that ``inspect`` finds faulty.
    """
    ...
