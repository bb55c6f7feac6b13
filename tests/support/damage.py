"""Small stores whose every value proves itself, and ways to damage their files.

Here belong stores that are made, their truth, and what may happen to a file. Not here: what the broker makes of it.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import lmdb

PAGE = 4096
SECTOR = 512
TABLES = ("devices", "messages", "sessions")

Contents = dict[tuple[str, bytes], bytes]


def sealed(table: str, key: bytes, body: bytes) -> bytes:
    """A value that tells when it is not the one that was put under its key."""
    return struct.pack("<I", zlib.crc32(table.encode() + key + body)) + body


def is_sealed(table: str, key: bytes, value: bytes) -> bool:
    """The judge of such values."""
    return len(value) >= 4 and value == sealed(table, key, value[4:])


class Sample:
    """A store's file, and what it held after its last two commits."""

    def __init__(self, path: Path, newest: Contents, before: Contents) -> None:
        self.path = path
        self.newest = newest
        self.before = before

    def __repr__(self) -> str:
        return f"a store of {self.pages} pages"

    @property
    def pages(self) -> int:
        return self.path.stat().st_size // PAGE


def make_store(folder: Path, *, commits: int = 12, puts: int = 30, seed: int = 1) -> Sample:
    """Make a store with values of all sizes, deletions, free pages and trees of two and three levels."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    environment = lmdb.open(str(folder), map_size=1 << 28, max_dbs=16, sync=False)
    tables = {name: environment.open_db(name.encode()) for name in TABLES}
    newest: Contents = {}
    before: Contents = {}
    for _ in range(commits):
        before = dict(newest)
        with environment.begin(write=True) as transaction:
            for name in TABLES:
                for place in rng.sample(sorted(newest), min(len(newest), 4)):
                    transaction.delete(place[1], db=tables[place[0]])
                    newest.pop(place, None)
                for _ in range(puts):
                    key = struct.pack(">Q", rng.randrange(2**20)) + rng.randbytes(rng.choice((0, 16, 200)))
                    value = sealed(name, key, rng.randbytes(rng.choice((3, 40, 300, 1500, 3000, 9000))))
                    transaction.put(key, value, db=tables[name])
                    newest[name, key] = value
    environment.close()
    return Sample(folder / "data.mdb", newest, before)


def zero_page(data: bytearray, page: int) -> None:
    """The page was never written, or its block was lost."""
    data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)


def tear_page(data: bytearray, page: int, sectors: int) -> None:
    """Only the first sectors of the page were written."""
    data[page * PAGE + sectors * SECTOR : (page + 1) * PAGE] = bytes(PAGE - sectors * SECTOR)


def swap_pages(data: bytearray, one: int, other: int) -> None:
    """Two blocks have changed places."""
    first, second = slice(one * PAGE, (one + 1) * PAGE), slice(other * PAGE, (other + 1) * PAGE)
    data[first], data[second] = data[second], data[first]


def used_pages(path: Path) -> Iterator[int]:
    """The pages of a file."""
    yield from range(path.stat().st_size // PAGE)
