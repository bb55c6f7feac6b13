"""One opened LMDB environment: its tables, one transaction for many changes, pages of reads, room, verification.

Here belongs all that touches LMDB. Not here: threads, tickets and what follows from an error (``lmdb``, ``health``),
older formats (``migrations``), and what a record means. All commits sync: an environment without sync can be
corrupted whole, for every account. The process must not fork while one is open.
"""

from __future__ import annotations

import os
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import lmdb

from broker.errors import StoreDamaged, StoreError
from broker.ports import PlainChange
from broker.storage import migrations, pages
from broker.storage.datafile import DATA_FILE
from broker.storage.folders import make_folder, sync_folder
from broker.storage.tables import FORMAT, MAXIMUM_KEY_BYTES, MESSAGES, META, OPS, TABLES, check_change

NEW_FOLDER = "new"  # beside the data file, while it is made
SPARE_TABLES = 16  # of older formats, while they are brought to this one
FEW_CHANGES = 8
RESERVE_BYTES = 128 * 1024 * 1024
"""Of the map beyond the budget: what was accepted while there was room is written, whatever room there is."""
PAGE_ENTRIES = 1024
PAGE_BYTES = 4 * 1024 * 1024
PROBE_KEY = b"probe"
ALWAYS_RISING = frozenset((MESSAGES, OPS))  # their keys are given in order, so that a put finds its place at the end

_DAMAGED = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)


class Room(NamedTuple):
    """How much of the file holds something, how much of it holds nothing any more, and its length."""

    used_bytes: int = 0
    free_bytes: int = 0
    file_bytes: int = 0


class Environment:
    """An open environment of the present format; made with ``opened``.

    ``write`` belongs to one thread; anything else may be called from others beside it, and none after ``close``.
    """

    def __init__(self, path: Path, inner: lmdb.Environment) -> None:
        self._path = path
        self._inner = inner
        self._page_bytes = inner.stat()["psize"]
        self._tables: dict[str, lmdb._Database] = {}
        self.last_transaction = 0
        """Number of the last transaction that was committed; they only rise."""

    @classmethod
    def opened(
        cls, path: Path, *, map_size_bytes: int, readonly: bool = False, at_least: int | None = None
    ) -> Environment:
        """Open the environment in a folder, make it where there is none, and bring it to the present format.

        ``map_size_bytes`` is the budget; LMDB itself refuses nothing before ``RESERVE_BYTES`` more are used. With
        ``at_least`` it must be there, and hold that transaction: an empty folder where a disk was is not our store.
        Raises ``StoreDamaged``, ``StoreTooNew``, ``StoreError`` for the disk's sake; an ``lmdb.Error`` is its cause.
        """
        try:
            if at_least is not None and not (path / DATA_FILE).exists():
                raise StoreError(f"the store in {path} is gone")
            if not readonly:
                make_folder(path)
                _make_data_file(path, map_size_bytes)
            environment = cls(path, _open(path, map_size_bytes, readonly))
        except _DAMAGED as error:
            raise StoreDamaged(f"the store in {path} cannot be opened: {error}") from error
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"the store in {path} cannot be opened: {error}") from error
        try:
            environment._prepare(readonly, at_least or 0)
        except StoreError:
            environment.close()
            raise
        except (lmdb.Error, OSError) as error:
            environment.close()
            kind = StoreDamaged if isinstance(error, _DAMAGED) else StoreError
            raise kind(f"the store in {path} cannot be opened: {error}") from error
        return environment

    # ------------------------------------------------------------ writing

    def write(self, parts: Sequence[Sequence[PlainChange]]) -> int:
        """Commit the changes of all parts in one synced transaction; returns how long the commit took, in ns.

        Where two change the same key the later one counts. Raises ``StoreError`` for a change that no store takes,
        and what LMDB raises; nothing of it is written then, unless the commit itself failed: then nobody knows.
        """
        transaction = self._inner.begin(write=True)
        try:
            if sum(map(len, parts)) <= FEW_CHANGES:
                self._apply(transaction, parts)
            else:
                self._apply_sorted(transaction, parts)
        except BaseException:
            transaction.abort()
            raise
        number = transaction.id()
        started_ns = time.monotonic_ns()
        transaction.commit()
        took_ns = time.monotonic_ns() - started_ns
        self.last_transaction = number
        return took_ns

    def _apply(self, transaction: lmdb.Transaction[bytes], parts: Sequence[Sequence[PlainChange]]) -> None:
        """As they come: what is frequent has two or three large ones."""
        tables = self._tables
        for changes in parts:
            for table, key, value in changes:
                if (database := tables.get(table)) is None or not 0 < len(key) <= MAXIMUM_KEY_BYTES:
                    raise StoreError(check_change(table, key))
                if value is None:
                    transaction.delete(key, db=database)
                elif table not in ALWAYS_RISING or not transaction.put(key, value, db=database, append=True):
                    transaction.put(key, value, db=database)

    def _apply_sorted(self, transaction: lmdb.Transaction[bytes], parts: Sequence[Sequence[PlainChange]]) -> None:
        """By table and key: neighbours share their pages, and one call of LMDB's takes all puts of a table."""
        by_table: dict[str, dict[bytes, bytes | None]] = {}
        for changes in parts:
            for table, key, value in changes:
                if not 0 < len(key) <= MAXIMUM_KEY_BYTES:
                    raise StoreError(check_change(table, key))
                entries = by_table.get(table)
                if entries is None:
                    if table not in self._tables:
                        raise StoreError(check_change(table, key))
                    entries = by_table[table] = {}
                entries[key] = value
        for table, entries in by_table.items():
            database = self._tables[table]
            for key in sorted(key for key, value in entries.items() if value is None):
                transaction.delete(key, db=database)
            transaction.cursor(database).putmulti(
                sorted((key, value) for key, value in entries.items() if value is not None)
            )

    def probe(self, value_bytes: int) -> None:
        """Write, sync and remove a record of that many bytes. Raises what a commit raises."""
        self.write([[(META, PROBE_KEY, bytes(value_bytes))]])
        self.write([[(META, PROBE_KEY, None)]])

    # ------------------------------------------------------------ reading

    def read(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of some keys, all of one moment. Raises ``StoreError`` for an unknown table."""
        database = self._table(table)
        with self._inner.begin() as transaction:
            return [transaction.get(key, db=database) if key else None for key in keys]

    def read_range(self, table: str, first: bytes, end: bytes, at_most: int) -> list[tuple[bytes, bytes]]:
        """Entries with ``first`` <= key < ``end``, at most so many, of one moment. Raises ``StoreError``."""
        database = self._table(table)
        with self._inner.begin(db=database) as transaction, transaction.cursor() as cursor:
            if not (cursor.set_range(first) if first else cursor.first()):
                return []
            found = list(islice(cursor.iternext(), at_most))  # without a step of Python for each
        if found and found[-1][0] >= end:
            del found[bisect_left(found, (end, b"")) :]
        return found

    def pages(self, table: str) -> Iterator[list[tuple[bytes, bytes]]]:
        """All entries of a table in key order, in pages, each of its own moment."""
        database = self._table(table)
        after = b""
        while page := self._page(database, after):
            yield page
            after = page[-1][0]

    def room(self) -> Room:
        """Count pages: those of the free list itself are told as free, which they nearly are."""
        inner = self._inner
        with inner.begin() as transaction:
            stats = [inner.stat(), *(transaction.stat(database) for database in self._tables.values())]
        used = 2 + sum(one["branch_pages"] + one["leaf_pages"] + one["overflow_pages"] for one in stats)
        last = inner.info()["last_pgno"] + 1
        file_bytes = (self._path / DATA_FILE).stat().st_size
        return Room(used * self._page_bytes, max(last - used, 0) * self._page_bytes, file_bytes)

    def copy(self, folder: Path) -> None:
        """Copy the newest state into a folder, without its free pages, while others write. Raises what LMDB raises."""
        self._inner.copy(str(folder), compact=True)

    @contextmanager
    def held(self) -> Iterator[int]:
        """Keep the pages of the newest state as they are meanwhile; gives its transaction."""
        with self._inner.begin() as transaction:
            yield transaction.id()

    def end_bytes(self) -> int:
        """Where the last page that was ever used ends; cheap."""
        return (self._inner.info()["last_pgno"] + 1) * self._page_bytes

    def close(self) -> None:
        """Release the files; again is no error."""
        self._inner.close()

    def _table(self, table: str) -> lmdb._Database:
        try:
            return self._tables[table]
        except KeyError:
            raise StoreError(f"there is no table {table!r}") from None

    def _page(self, database: lmdb._Database, after: bytes) -> list[tuple[bytes, bytes]]:
        """Entries behind a key, as many as may be held at once."""
        page: list[tuple[bytes, bytes]] = []
        size = 0
        with self._inner.begin(db=database) as transaction, transaction.cursor() as cursor:
            if not (cursor.set_range(after) if after else cursor.first()):
                return page
            for key, value in cursor.iternext():
                if key == after:
                    continue
                page.append((key, value))
                size += len(value)
                if len(page) == PAGE_ENTRIES or size >= PAGE_BYTES:
                    break
        return page

    # ------------------------------------------------------------ opening

    def _prepare(self, readonly: bool, at_least: int) -> None:
        """Have all tables of the present format; nothing is written where they are there."""
        self.last_transaction = self._inner.info()["last_txnid"]
        if self.last_transaction < at_least:
            raise StoreDamaged(
                f"the store in {self._path} ends at transaction {self.last_transaction}, and {at_least} was on disk"
            )
        with self._inner.begin() as transaction:
            found = migrations.format_of(self._inner, transaction)
        if readonly:
            if found != FORMAT:
                raise StoreError(f"the store in {self._path} has another format, and cannot be written")
        else:
            # Who wrote last may have been killed before its commit was durable: what is read here is told to others.
            self._inner.sync(True)
            migrations.migrate(self._inner, found)
        if readonly:  # handles that a transaction for reading has opened end with it
            self._tables = {table: self._inner.open_db(table.encode(), create=False) for table in TABLES}
            return
        with self._inner.begin(write=True) as transaction:
            self._tables = {table: self._inner.open_db(table.encode(), txn=transaction) for table in TABLES}


def verify(path: Path) -> None:
    """Judge a store that nobody has open by what is on the disk, not by what memory believes is.

    Raises ``StoreDamaged`` with what is wrong, and ``OSError``. A page that cannot be read would otherwise end the
    process when LMDB's map first touches it.
    """
    descriptor = os.open(path / DATA_FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    if findings := pages.verify(path / DATA_FILE):
        raise StoreDamaged(f"the store in {path} is damaged: {findings[0]} ({len(findings)} findings)")


def _open(path: Path, map_size_bytes: int, readonly: bool) -> lmdb.Environment:
    return lmdb.open(
        str(path),
        map_size=map_size_bytes + RESERVE_BYTES,
        max_dbs=len(TABLES) + SPARE_TABLES,
        mode=0o600,
        sync=True,
        metasync=True,
        max_readers=16,
        readonly=readonly,
        lock=not readonly,
    )


def _make_data_file(path: Path, map_size_bytes: int) -> None:
    """Where there is no data file yet, make one beside and move it into place: a crash leaves it whole, or not there.

    LMDB writes its first two pages without syncing them, and takes half of them for a foreign file.
    """
    new = path / NEW_FOLDER
    if new.exists():
        shutil.rmtree(new)
    if not (path / DATA_FILE).exists():
        new.mkdir(mode=0o700)
        with _open(new, map_size_bytes, readonly=False) as environment:
            migrations.migrate(environment, migrations.NOTHING)
        (new / DATA_FILE).rename(path / DATA_FILE)
        shutil.rmtree(new)
    sync_folder(path)
