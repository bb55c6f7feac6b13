"""The durable store: one LMDB environment, one worker thread, one synced transaction for all that waits.

Here belong the group commit, the reader beside it, and the answers to both. Not here: LMDB itself (``environment``),
what becomes of it when its disk fails (``disk``), and what a record means. Nothing of LMDB is touched before
``__init__``, and the process must not fork afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from broker.errors import StoreError
from broker.ports import (
    COMMIT_BOUNDS_NS,
    CommitCallback,
    Entries,
    EntriesCallback,
    HealthCallback,
    PlainChange,
    ReadCallback,
    StoreFigures,
    StoreHealth,
    no_store_figures,
)
from broker.storage.disk import CLOSED, Disk
from broker.storage.environment import Environment

log = logging.getLogger(__name__)

BATCH_MAXIMUM_SUBMITS = 4096
RETRY_S = 1.0


class _Submit(NamedTuple):
    """One ticket's changes on their way to disk."""

    ticket: int
    changes: Sequence[PlainChange]
    on_committed: CommitCallback


class _Read(NamedTuple):
    """Keys on their way from disk."""

    table: str
    keys: Sequence[bytes]
    on_read: ReadCallback

    def ask(self, environment: Environment) -> Sequence[bytes | None]:
        return environment.read(self.table, self.keys)


class _ReadRange(NamedTuple):
    """A range on its way from disk."""

    table: str
    first: bytes
    end: bytes
    at_most: int
    on_read: EntriesCallback

    def ask(self, environment: Environment) -> Entries:
        return environment.read_range(self.table, self.first, self.end, self.at_most)


_Answer = tuple[_Submit, StoreError | None]


class LmdbStore:
    """Implements ``ports.Store`` on one folder; belongs to the event loop that is running when it is made.

    ``map_size_bytes`` is the budget of disk space (the file is sparse). Files are 0600, the folder 0700.
    After a failure of the disk the environment is closed and tried again every ``retry_s``: opened on fresh
    descriptors, verified page by page where the disk may have lied, and written to. Raises ``StoreError`` when it
    cannot be opened, ``StoreTooNew`` and ``StoreDamaged`` among them.
    """

    def __init__(self, path: Path, *, map_size_bytes: int, retry_s: float = RETRY_S) -> None:
        self._disk = Disk(path, map_size_bytes, retry_s)
        self._budget_bytes = map_size_bytes
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Submit | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Read | _ReadRange | None] = queue.SimpleQueue()
        self._closed = False
        self._submitted = self._answered = 0
        self._figures = no_store_figures()
        self._watchers: list[HealthCallback] = []
        self._told = self._posted = self._disk.health  # what the owner's thread knows, and what is on its way there
        self._done = self._loop.create_future()
        self._reader = threading.Thread(target=self._answer_reads, name="store-reads", daemon=True)
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._reader.start()
        self._thread.start()

    # ------------------------------------------------------------ the owner's thread

    @property
    def health(self) -> StoreHealth:
        """How the store is, as was told to those who watch; bytes are those of the last count."""
        room = self._disk.room
        return StoreHealth(self._told.state, self._told.reason, room.used_bytes, room.free_bytes, self._budget_bytes)

    def watch(self, callback: HealthCallback) -> None:
        """Call back at every change of state or reason."""
        self._watchers.append(callback)

    def load(self, table: str) -> list[tuple[bytes, bytes]]:
        """All committed entries of a table in key order; blocks, so for start-up only."""
        return list(self.scan(table))

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Committed entries of a table in key order, a page in memory at a time; blocks, so for start-up only."""
        with self._disk.reading() as environment:
            pages = environment.pages(table)
        while True:
            with self._disk.reading():
                page = next(pages, None)
            if page is None:
                return
            yield from page

    def read(self, table: str, keys: Sequence[bytes], on_read: ReadCallback) -> None:
        """Read values on the reader's thread; the answer comes on the owner's loop, never inside this call."""
        self._ask(_Read(table, keys, on_read))

    def read_range(self, table: str, first: bytes, end: bytes, at_most: int, on_read: EntriesCallback) -> None:
        """Read entries on the reader's thread; the answer comes on the owner's loop, never inside this call."""
        self._ask(_ReadRange(table, first, end, at_most, on_read))

    def _ask(self, read: _Read | _ReadRange) -> None:
        if self._closed:
            self._done.add_done_callback(lambda _: _answer_read(read, (), StoreError(CLOSED)))
        else:
            self._reads.put(read)

    def borrowed(self) -> AbstractContextManager[Environment]:
        """Give the environment to another thread for something long; it is not replaced meanwhile, nor closed.

        Raises ``StoreError`` while it cannot be read.
        """
        return self._disk.borrowed()

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        """Take changes for the next group commit; the answer comes on the owner's loop, never inside this call."""
        submit = _Submit(ticket, changes, on_committed)
        if self._closed:
            self._done.add_done_callback(lambda _: _answer_all([(submit, StoreError(CLOSED))]))
        else:
            self._submitted += 1
            self._queue.put(submit)

    def figures(self) -> StoreFigures:
        """Tell what was done since the start, and how the store is."""
        told, room = self._told, self._disk.room
        return {
            **self._figures,
            "commit_counts": list(self._figures["commit_counts"]),
            "waiting": self._submitted - self._answered,
            "healthy": int(told.state == "ok"),
            "state": told.state,
            "used_bytes": room.used_bytes,
            "free_bytes": room.free_bytes,
            "file_bytes": room.file_bytes,
            "budget_bytes": self._budget_bytes,
        }

    async def close(self) -> None:
        """Commit what was submitted, answer its tickets, release the files; a second call waits for the first."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._reads.put(None)
        await asyncio.shield(self._done)

    def _deliver(self, health: StoreHealth, answers: Sequence[_Answer]) -> None:
        """Tell those who watch first: an error is understood better by who knows that the disk has failed."""
        if (health.state, health.reason) != (self._told.state, self._told.reason):
            self._told = health
            for watcher in self._watchers:
                try:
                    watcher(self.health)
                except Exception:
                    log.exception("store: one who watches its health failed")
        _answer_all(answers)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    # ------------------------------------------------------------ the reader's thread

    def _answer_reads(self) -> None:
        while (read := self._reads.get()) is not None:
            found: Sequence[Any] = ()
            failure = None
            try:
                with self._disk.reading() as environment:
                    found = read.ask(environment)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is who asked that has to know
                failure = _failure(error, "read")
            self._figures["reads"] += len(found)
            self._loop.call_soon_threadsafe(_answer_read, read, found, failure)

    # ------------------------------------------------------------ the worker's thread

    def _work(self) -> None:
        """Commit batch after batch until the sentinel; whatever waits when a commit starts goes into it."""
        running = True
        while running:
            batch, running = self._next_batch()
            self._disk.try_again()
            answers = self._commit(batch) if batch else []
            self._answered += len(answers)
            if answers or self._disk.health is not self._posted:
                self._posted = self._disk.health
                self._loop.call_soon_threadsafe(self._deliver, self._posted, answers)
        self._reader.join()
        self._disk.close()
        self._loop.call_soon_threadsafe(self._finish)

    def _next_batch(self) -> tuple[list[_Submit], bool]:
        batch: list[_Submit] = []
        try:
            item = self._queue.get(timeout=self._disk.patience_s())
            while item is not None:
                batch.append(item)
                if len(batch) == BATCH_MAXIMUM_SUBMITS:
                    return batch, True
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _commit(self, batch: Sequence[_Submit]) -> list[_Answer]:
        """One transaction for all; when one submit spoils it, each gets a transaction of its own."""
        if not self._disk.writable:
            self._figures["failed_commits"] += 1
            return _all(batch, StoreError(f"the store cannot be written: {self._disk.health.reason}"))
        started_ns = time.monotonic_ns()
        try:
            self._count_sync(self._disk.write([submit.changes for submit in batch]))
        except Exception as error:  # noqa: BLE001 - whatever it is, every ticket has its answer
            return self._failed(batch, error)
        finally:
            self._figures["busy_ns"] += time.monotonic_ns() - started_ns
        self._figures["commits"] += 1
        self._figures["changes"] += sum(len(submit.changes) for submit in batch)
        return _all(batch, None)

    def _failed(self, batch: Sequence[_Submit], error: Exception) -> list[_Answer]:
        trouble = self._disk.failed(
            error, sum(len(part) for one in batch for change in one.changes for part in change if part)
        )
        if trouble is None and len(batch) > 1:
            return [answer for submit in batch for answer in self._commit([submit])]
        if isinstance(error, lmdb.MapFullError):
            self._disk.met_its_end()
        self._figures["failed_commits"] += 1
        return _all(batch, _failure(error, "written", trouble.reason if trouble else ""))

    def _count_sync(self, took_ns: int) -> None:
        figures = self._figures
        figures["synced_ns"] += took_ns
        figures["last_sync_ns"] = took_ns
        figures["longest_sync_ns"] = max(took_ns, figures["longest_sync_ns"])
        figures["commit_counts"][bisect_left(COMMIT_BOUNDS_NS, took_ns)] += 1


def _failure(error: Exception, done: str, reason: str = "") -> StoreError:
    if isinstance(error, StoreError):
        return error
    failure = StoreError(f"the store cannot be {done}: {reason or error}")
    failure.__cause__ = error
    return failure


def _all(batch: Sequence[_Submit], error: StoreError | None) -> list[_Answer]:
    return [(submit, error) for submit in batch]


def _answer_all(answers: Sequence[_Answer]) -> None:
    """Answer tickets in their order; one bad callback does not silence the next."""
    for submit, error in answers:
        try:
            submit.on_committed(submit.ticket, error)
        except Exception:
            log.exception("store: the owner of ticket %d failed on its answer", submit.ticket)


def _answer_read(read: _Read | _ReadRange, found: Sequence[Any], error: StoreError | None) -> None:
    try:
        read.on_read(found, error)
    except Exception:
        log.exception("store: who asked for records of %s failed on the answer", read.table)
