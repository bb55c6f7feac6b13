"""The durable store: one LMDB environment, one worker thread, one synced transaction for all that waits.

Here belong the group commit, the reader beside it, and the recovery of both from a disk that fails. Not here: LMDB
itself (``environment``), what an error means (``health``), and what a record means. Nothing of LMDB is touched before
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
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb

from broker.errors import StoreError
from broker.ports import (
    COMMIT_BOUNDS_NS,
    CommitCallback,
    HealthCallback,
    PlainChange,
    ReadCallback,
    StoreFigures,
    StoreHealth,
    no_store_figures,
)
from broker.storage.environment import Environment, Room, verify
from broker.storage.health import Trouble, budget_state, full_reason, trouble_of

log = logging.getLogger(__name__)

BATCH_MAXIMUM_SUBMITS = 4096
RETRY_S = 1.0
RETRY_FACTOR = 4  # an attempt that took long is not made again at once
COUNT_PAGES_NS = 250_000_000
PROBE_MINIMUM_BYTES = 4096
PROBE_MAXIMUM_BYTES = 16 * 1024 * 1024
CLOSED = "the store is closed"


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


_Answer = tuple[_Submit, StoreError | None]
_WELL = StoreHealth()


class LmdbStore:
    """Implements ``ports.Store`` on one folder; belongs to the event loop that is running when it is made.

    ``map_size_bytes`` is the budget of disk space (the file is sparse). Files are 0600, the folder 0700.
    After a failure of the disk the environment is closed and tried again every ``retry_s``: opened on fresh
    descriptors, verified page by page where the disk may have lied, and written to. Raises ``StoreError`` when it
    cannot be opened, ``StoreTooNew`` and ``StoreDamaged`` among them.
    """

    def __init__(self, path: Path, *, map_size_bytes: int, retry_s: float = RETRY_S) -> None:
        self._path = path
        self._map_size_bytes = map_size_bytes
        self._retry_s = retry_s
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Submit | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Read | None] = queue.SimpleQueue()
        self._borrowing = threading.Lock()  # held while somebody copies or checks the file, beside reads and writes
        self._reading = threading.Lock()  # held while the environment is read, and while it is replaced
        self._closed = False
        self._submitted = self._answered = 0
        self._figures = no_store_figures()
        self._watchers: list[HealthCallback] = []
        self._told = _WELL  # the owner's thread knows this one
        self._health = _WELL  # the worker's thread this one
        self._room = Room()
        self._counted_ns = 0
        self._again_at = 0.0
        self._last_transaction = 0
        self._unsure = False
        self._probe_bytes = PROBE_MINIMUM_BYTES
        self._done = self._loop.create_future()
        self._environment: Environment | None = self._opened()
        self._look_at_budget(now=True)
        self._told = self._posted = self._health
        self._reader = threading.Thread(target=self._answer_reads, name="store-reads", daemon=True)
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._reader.start()
        self._thread.start()

    # ------------------------------------------------------------ the owner's thread

    @property
    def health(self) -> StoreHealth:
        """How the store is, as was told to those who watch; bytes are those of the last count."""
        room = self._room
        return StoreHealth(self._told.state, self._told.reason, room.used_bytes, room.free_bytes, self._map_size_bytes)

    def watch(self, callback: HealthCallback) -> None:
        """Call back at every change of state or reason."""
        self._watchers.append(callback)

    def load(self, table: str) -> list[tuple[bytes, bytes]]:
        """All committed entries of a table in key order; blocks, so for start-up only."""
        return list(self.scan(table))

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Committed entries of a table in key order, a page in memory at a time; blocks, so for start-up only."""
        pages = self._there().pages(table)
        while True:
            with self._reading:
                self._there()
                page = next(pages, None)
            if page is None:
                return
            yield from page

    def read(self, table: str, keys: Sequence[bytes], on_read: ReadCallback) -> None:
        """Read values on the reader's thread; the answer comes on the owner's loop, never inside this call."""
        read = _Read(table, keys, on_read)
        if self._closed:
            self._done.add_done_callback(lambda _: _answer_read(read, (), StoreError(CLOSED)))
        else:
            self._reads.put(read)

    @contextmanager
    def borrowed(self) -> Iterator[Environment]:
        """Give the environment to another thread for something long; it is not replaced meanwhile, nor closed.

        Raises ``StoreError`` while it cannot be read.
        """
        with self._borrowing:
            with self._reading:
                environment = self._there()
            yield environment

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
        told, room = self._told, self._room
        return {
            **self._figures,
            "commit_counts": list(self._figures["commit_counts"]),
            "waiting": self._submitted - self._answered,
            "healthy": int(told.state == "ok"),
            "state": told.state,
            "used_bytes": room.used_bytes,
            "free_bytes": room.free_bytes,
            "file_bytes": room.file_bytes,
            "budget_bytes": self._map_size_bytes,
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
            values: Sequence[bytes | None] = ()
            failure = None
            try:
                with self._reading:
                    values = self._there().read(read.table, read.keys)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is who asked that has to know
                failure = _failure(error, "read")
            self._figures["reads"] += len(values)
            self._loop.call_soon_threadsafe(_answer_read, read, values, failure)

    def _there(self) -> Environment:
        if self._environment is None:
            raise StoreError(f"the store cannot be read: {self._health.reason or CLOSED}")
        return self._environment

    # ------------------------------------------------------------ the worker's thread

    def _work(self) -> None:
        """Commit batch after batch until the sentinel; whatever waits when a commit starts goes into it."""
        running = True
        while running:
            batch, running = self._next_batch()
            if self._health.state != "ok" and time.monotonic() >= self._again_at:
                self._try_again()
            answers = self._commit(batch) if batch else []
            self._answered += len(answers)
            if answers or self._health is not self._posted:
                self._posted = self._health
                self._loop.call_soon_threadsafe(self._deliver, self._health, answers)
        self._reader.join()
        self._shut()
        self._loop.call_soon_threadsafe(self._finish)

    def _next_batch(self) -> tuple[list[_Submit], bool]:
        batch: list[_Submit] = []
        try:
            item = self._queue.get(timeout=self._patience())
            while item is not None:
                batch.append(item)
                if len(batch) == BATCH_MAXIMUM_SUBMITS:
                    return batch, True
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _patience(self) -> float | None:
        """How long to wait for submits: for ever while all is well, else until the next attempt."""
        if self._health.state == "ok":
            return None
        return max(self._again_at - time.monotonic(), 0.0)

    def _commit(self, batch: Sequence[_Submit]) -> list[_Answer]:
        """One transaction for all; when one submit spoils it, each gets a transaction of its own."""
        if self._health.state in ("failed", "read_only"):
            self._figures["failed_commits"] += 1
            failure = StoreError(f"the store cannot be written: {self._health.reason}")
            return [(submit, failure) for submit in batch]
        try:
            self._write(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, every ticket has its answer
            trouble = trouble_of(error, self._path)
            if trouble is None and len(batch) > 1:
                return [answer for submit in batch for answer in self._commit([submit])]
            self._figures["failed_commits"] += 1
            self._note_failure(batch, error, trouble)
            failure = _failure(error, "written", trouble.reason if trouble else "")
            return [(submit, failure) for submit in batch]
        self._figures["commits"] += 1
        self._figures["changes"] += sum(len(submit.changes) for submit in batch)
        self._look_at_budget()
        return [(submit, None) for submit in batch]

    def _write(self, batch: Sequence[_Submit]) -> None:
        assert self._environment is not None  # while the store takes anything
        started_ns = time.monotonic_ns()
        try:
            self._count_sync(self._environment.write([submit.changes for submit in batch]))
        finally:
            self._figures["busy_ns"] += time.monotonic_ns() - started_ns

    def _count_sync(self, took_ns: int) -> None:
        figures = self._figures
        figures["synced_ns"] += took_ns
        figures["last_sync_ns"] = took_ns
        figures["longest_sync_ns"] = max(took_ns, figures["longest_sync_ns"])
        figures["commit_counts"][bisect_left(COMMIT_BOUNDS_NS, took_ns)] += 1

    # ------------------------------------------------------------ health, on the worker's thread

    def _look_at_budget(self, *, now: bool = False) -> None:
        """Count pages: rarely while there is room, since it costs more than a small commit."""
        try:
            self._judge_budget(now)
        except (lmdb.Error, OSError):  # the next commit will meet whatever it is
            log.exception("store: its pages could not be counted")

    def _judge_budget(self, now: bool) -> None:
        assert self._environment is not None
        clock_ns = time.monotonic_ns()
        if not (now or self._health.state != "ok" or clock_ns - self._counted_ns >= COUNT_PAGES_NS) and (
            budget_state(self._environment.end_bytes(), self._map_size_bytes, "ok") == "ok"
        ):
            return
        self._counted_ns = clock_ns
        self._room = self._environment.room()
        state = budget_state(self._room.used_bytes, self._map_size_bytes, self._health.state)
        self._health = StoreHealth(state, "" if state == "ok" else full_reason(self._map_size_bytes))

    def _note_failure(self, batch: Sequence[_Submit], error: Exception, trouble: Trouble | None) -> None:
        """Close the environment after an error of the disk: its pages in memory may differ from those on disk."""
        if trouble is None:
            if isinstance(error, lmdb.MapFullError):
                self._health = StoreHealth("full", "the store's file has reached its budget, and a batch did not fit")
                self._again_at = time.monotonic() + self._retry_s
            return
        log.error("store: a commit of %d submits failed", len(batch), exc_info=error)
        self._unsure = trouble.unsure
        wanted = sum(len(change[2] or b"") for submit in batch for change in submit.changes)
        self._probe_bytes = min(max(wanted, PROBE_MINIMUM_BYTES), PROBE_MAXIMUM_BYTES)
        self._health = StoreHealth(trouble.state, trouble.reason)
        self._again_at = time.monotonic() + self._retry_s
        self._shut()
        if not trouble.unsure:
            self._open_for_reading()

    def _try_again(self) -> None:
        """See whether the disk is well: open on fresh descriptors, verify, write as much as has failed."""
        if self._health.state == "full":
            self._again_at = time.monotonic() + self._retry_s
            self._look_at_budget(now=True)
            return
        started = time.monotonic()
        self._shut()
        at_least = self._last_transaction
        try:
            if self._unsure:
                verify(self._path)
            environment = self._opened(at_least=at_least)
            self._replace(environment)
            environment.probe(self._probe_bytes)
        except lmdb.MapFullError:
            self._is_well_again()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may not find it
            self._still_failing(error)
            self._again_at = time.monotonic() + max(self._retry_s, RETRY_FACTOR * (time.monotonic() - started))
        else:
            self._is_well_again()

    def _is_well_again(self) -> None:
        self._unsure = False
        self._health = _WELL
        self._look_at_budget(now=True)
        log.info("store: the disk is well again")

    def _still_failing(self, error: Exception) -> None:
        trouble = trouble_of(error, self._path) or Trouble("failed", str(error), unsure=True)
        self._health = StoreHealth(trouble.state, trouble.reason)
        self._unsure = self._unsure or trouble.unsure
        if trouble.unsure:
            self._shut()
        elif self._environment is None:
            self._open_for_reading()

    def _opened(self, *, readonly: bool = False, at_least: int | None = None) -> Environment:
        return Environment.opened(self._path, map_size_bytes=self._map_size_bytes, readonly=readonly, at_least=at_least)

    def _open_for_reading(self) -> None:
        """What is on disk can be read while it cannot be written."""
        try:
            self._replace(self._opened(readonly=True, at_least=self._last_transaction))
        except StoreError:
            log.debug("store: it cannot be read either", exc_info=True)

    def _replace(self, environment: Environment | None) -> None:
        with self._borrowing, self._reading:
            before, self._environment = self._environment, environment
            if before is not None:
                self._last_transaction = max(self._last_transaction, before.last_transaction)
                before.close()

    def _shut(self) -> None:
        self._replace(None)


def _failure(error: Exception, done: str, reason: str = "") -> StoreError:
    if isinstance(error, StoreError):
        return error
    failure = StoreError(f"the store cannot be {done}: {reason or error}")
    failure.__cause__ = error
    return failure


def _answer_all(answers: Sequence[_Answer]) -> None:
    """Answer tickets in their order; one bad callback does not silence the next."""
    for submit, error in answers:
        try:
            submit.on_committed(submit.ticket, error)
        except Exception:
            log.exception("store: the owner of ticket %d failed on its answer", submit.ticket)


def _answer_read(read: _Read, values: Sequence[bytes | None], error: StoreError | None) -> None:
    try:
        read.on_read(values, error)
    except Exception:
        log.exception("store: who asked for %d records of %s failed on the answer", len(read.keys), read.table)
