"""The durable store: one LMDB environment, one worker thread, one synced transaction for all that waits.

Here belong the environment, the group commit and its recovery. Not here: what a record means. All commits sync: an
environment without sync can be corrupted whole, for every account. Nothing of LMDB is touched before ``__init__``, and
the process must not fork afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb

from broker.errors import StoreError
from broker.ports import Change, CommitCallback, StoreFigures
from broker.storage.tables import TABLES, check_change

log = logging.getLogger(__name__)

BATCH_MAXIMUM_SUBMITS = 4096


@dataclass(frozen=True, slots=True)
class _Submit:
    """One ticket's changes on their way to disk."""

    ticket: int
    changes: Sequence[Change]
    on_committed: CommitCallback


# The environment is as it was after these: the transaction was refused before it touched the disk.
HARMLESS = (lmdb.MapFullError, lmdb.BadValsizeError)

_Answer = tuple[_Submit, StoreError | None]


class LmdbStore:
    """Implements ``ports.Store`` on one folder; belongs to the event loop that is running when it is made.

    ``map_size_bytes`` bounds the disk space (the file is sparse). Files are 0600, the folder 0700. Raises
    ``StoreError`` when the environment cannot be opened.
    """

    def __init__(self, path: Path, *, map_size_bytes: int) -> None:
        self._path = path
        self._map_size_bytes = map_size_bytes
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Submit | None] = queue.SimpleQueue()
        self._environment_lock = threading.Lock()  # a recovery may replace the environment under a load
        self._closed = False
        self._submitted = self._answered = 0
        self._figures = StoreFigures(commits=0, failed_commits=0, changes=0, busy_ns=0, waiting=0)
        self._done = self._loop.create_future()
        self._environment: lmdb.Environment | None = None
        self._open()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    def load(self, table: str) -> list[tuple[bytes, bytes]]:
        """All committed entries of a table in key order; blocks, so for start-up only."""
        with self._environment_lock:
            environment = self._opened()
            with environment.begin(db=self._databases[table]) as transaction:
                return [(bytes(key), bytes(value)) for key, value in transaction.cursor()]

    def submit(self, ticket: int, changes: Sequence[Change], on_committed: CommitCallback) -> None:
        """Take changes for the next group commit; the answer comes on the owner's loop, never inside this call."""
        submit = _Submit(ticket, changes, on_committed)
        if self._closed:
            refusal = [(submit, StoreError("the store is closed"))]
            self._done.add_done_callback(lambda _: _answer_all(refusal))
        else:
            self._submitted += 1
            self._queue.put(submit)

    def figures(self) -> StoreFigures:
        """Tell what was done since the start."""
        return {**self._figures, "waiting": self._submitted - self._answered}

    async def close(self) -> None:
        """Commit what was submitted, answer its tickets, release the files; a second call waits for the first."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.shield(self._done)

    # Below here: the worker's thread.

    def _work(self) -> None:
        """Commit batch after batch until the sentinel; whatever waits when a commit starts goes into it."""
        running = True
        while running:
            batch, running = self._next_batch()
            if batch:
                with self._environment_lock:
                    answers = self._commit(batch)
                self._answered += len(answers)
                self._loop.call_soon_threadsafe(_answer_all, answers)
        with self._environment_lock:
            self._shut()
        self._thread_is_done()

    def _thread_is_done(self) -> None:
        def finish() -> None:
            if not self._done.done():
                self._done.set_result(None)

        self._loop.call_soon_threadsafe(finish)

    def _next_batch(self) -> tuple[list[_Submit], bool]:
        batch: list[_Submit] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == BATCH_MAXIMUM_SUBMITS:
                return batch, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: Sequence[_Submit]) -> list[_Answer]:
        """One transaction for all; when one submit spoils it, each gets a transaction of its own."""
        try:
            self._write(batch)
        except (StoreError, *HARMLESS) as error:
            if len(batch) > 1:
                return [answer for submit in batch for answer in self._commit([submit])]
            self._figures["failed_commits"] += 1
            return [(batch[0], _failure(error))]
        except Exception as error:
            log.exception("store: a commit of %d submits failed", len(batch))
            # After an I/O error the pages in memory may differ from the disk, and a second sync may falsely succeed:
            # nothing of this batch is tried again, and the next one starts from what is on disk.
            self._shut()
            self._figures["failed_commits"] += 1
            return [(submit, _failure(error)) for submit in batch]
        self._figures["commits"] += 1
        self._figures["changes"] += sum(len(submit.changes) for submit in batch)
        return [(submit, None) for submit in batch]

    def _write(self, batch: Sequence[_Submit]) -> None:
        environment = self._opened()
        started_ns = time.monotonic_ns()
        try:
            with environment.begin(write=True) as transaction:
                for submit in batch:
                    for change in submit.changes:
                        self._apply(transaction, change)
        finally:
            self._figures["busy_ns"] += time.monotonic_ns() - started_ns

    def _apply(self, transaction: lmdb.Transaction, change: Change) -> None:
        wrong = check_change(change.table, change.key)
        if wrong:
            raise StoreError(wrong)
        database = self._databases[change.table]
        if change.value is None:
            transaction.delete(change.key, db=database)
        else:
            transaction.put(change.key, change.value, db=database)

    def _opened(self) -> lmdb.Environment:
        if self._environment is None:
            self._open()
        assert self._environment is not None  # _open raises otherwise
        return self._environment

    def _open(self) -> None:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            environment = lmdb.open(
                str(self._path),
                map_size=self._map_size_bytes,
                max_dbs=len(TABLES),
                mode=0o600,
                sync=True,
                metasync=True,
                max_readers=8,
            )
            self._databases = {table: environment.open_db(table.encode()) for table in TABLES}
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"the store in {self._path} cannot be opened: {error}") from error
        self._environment = environment

    def _shut(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None


def _failure(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    failure = StoreError(f"the store cannot be written: {error}")
    failure.__cause__ = error
    return failure


def _answer_all(answers: Sequence[_Answer]) -> None:
    """Answer tickets in their order; one bad callback does not silence the next."""
    for submit, error in answers:
        try:
            submit.on_committed(submit.ticket, error)
        except Exception:
            log.exception("store: the owner of ticket %d failed on its answer", submit.ticket)
