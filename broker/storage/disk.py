"""The environment and its life: open, failed, verified, open again; how it is, and how much room it has.

Here belongs what follows from an error of the disk. Not here: what an error means (``health``), LMDB itself
(``environment``), threads and tickets (``lmdb``). One thread writes and recovers; others read beside it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb

from broker.errors import StoreError
from broker.ports import PlainChange, StoreHealth
from broker.storage.environment import Environment, Room, verify
from broker.storage.health import Trouble, budget_state, full_reason, trouble_of

log = logging.getLogger(__name__)

RETRY_FACTOR = 4  # an attempt that took long is not made again at once
COUNT_PAGES_NS = 250_000_000
PROBE_MINIMUM_BYTES = 4096
PROBE_MAXIMUM_BYTES = 16 * 1024 * 1024
CLOSED = "the store is closed"
WELL = StoreHealth()


class Disk:
    """One store's environment, which is replaced when its disk has failed and is well again.

    ``health`` says state and reason alone. ``write``, ``try_again`` and ``close`` belong to one thread. Raises
    ``StoreError`` when the environment cannot be opened, ``StoreTooNew`` and ``StoreDamaged`` among them.
    """

    def __init__(self, path: Path, map_size_bytes: int, retry_s: float) -> None:
        self._path = path
        self._map_size_bytes = map_size_bytes
        self._retry_s = retry_s
        self._borrowing = threading.Lock()  # held while somebody copies or checks the file, beside reads and writes
        self._reading = threading.Lock()  # held while the environment is read, and while it is replaced
        self._counted_ns = 0
        self._again_at = 0.0
        self._last_transaction = 0
        self._unsure = False
        self._probe_bytes = PROBE_MINIMUM_BYTES
        self.health = WELL
        self.room = Room()
        self._environment: Environment | None = self._opened()
        self._look_at_budget(now=True)

    # ------------------------------------------------------------ reading, from any thread

    @contextmanager
    def reading(self) -> Iterator[Environment]:
        """Give the environment for something short; it is not replaced meanwhile.

        Raises ``StoreError`` while it cannot be read.
        """
        with self._reading:
            if self._environment is None:
                raise StoreError(f"the store cannot be read: {self.health.reason or CLOSED}")
            yield self._environment

    @contextmanager
    def borrowed(self) -> Iterator[Environment]:
        """Give the environment for something long, beside which it is read and written; it is not replaced meanwhile.

        Raises ``StoreError`` while it cannot be read.
        """
        with self._borrowing:
            with self.reading() as environment:
                pass
            yield environment

    # ------------------------------------------------------------ writing, from one thread

    @property
    def writable(self) -> bool:
        """Whether a commit is worth trying."""
        return self.health.state in ("ok", "full")

    def patience_s(self) -> float | None:
        """Tell when ``try_again`` is due: None while all is well."""
        return None if self.health.state == "ok" else max(self._again_at - time.monotonic(), 0.0)

    def write(self, parts: Sequence[Sequence[PlainChange]]) -> int:
        """Commit, and look at the room that is left; returns the nanoseconds that the commit took.

        Raises what ``Environment.write`` raises; ``failed`` has to be asked then.
        """
        assert self._environment is not None  # while it is writable
        took_ns = self._environment.write(parts)
        self._look_at_budget()
        return took_ns

    def failed(self, error: Exception, wanted_bytes: int) -> Trouble | None:
        """Judge why a commit of so many bytes has failed; None when the disk is not to blame, but the changes.

        After an error of the disk the environment is closed: its pages in memory may differ from those on disk.
        """
        trouble = trouble_of(error, self._path)
        if trouble is not None:
            log.error("store: a commit failed: %s", error)
            self._unsure = trouble.unsure
            self._probe_bytes = min(max(wanted_bytes, PROBE_MINIMUM_BYTES), PROBE_MAXIMUM_BYTES)
            self._note(trouble)
            self._wait(self._retry_s)
            self._shut()
            if not trouble.unsure:
                self._open_for_reading()
        return trouble

    def met_its_end(self) -> None:
        """Say that a batch did not fit into what is left of the map."""
        self.health = StoreHealth("full", "the store's file has reached its budget, and a batch did not fit")
        self._wait(self._retry_s)

    def try_again(self) -> None:
        """When it is time, see whether a disk that was not well is: fresh descriptors, verify, write as much."""
        if self.health.state == "ok" or time.monotonic() < self._again_at:
            return
        if self.health.state == "full":
            self._wait(self._retry_s)
            self._look_at_budget(now=True)
            return
        started = time.monotonic()
        try:
            self._reopen()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may not find it
            self._still_failing(error)
            self._wait(max(self._retry_s, RETRY_FACTOR * (time.monotonic() - started)))
        else:
            self._unsure = False
            self.health = WELL
            self._look_at_budget(now=True)
            log.info("store: the disk is well again")

    def close(self) -> None:
        """Release the files."""
        self._shut()

    # ------------------------------------------------------------ inside

    def _reopen(self) -> None:
        self._shut()
        if self._unsure:
            verify(self._path)
        environment = self._opened(at_least=self._last_transaction)
        self._replace(environment)
        try:
            environment.probe(self._probe_bytes)
        except lmdb.MapFullError:
            log.debug("store: the disk is well, and the budget used up")

    def _still_failing(self, error: Exception) -> None:
        trouble = trouble_of(error, self._path) or Trouble("failed", str(error), unsure=True)
        self._note(trouble)
        self._unsure = self._unsure or trouble.unsure
        if trouble.unsure:
            self._shut()
        elif self._environment is None:
            self._open_for_reading()

    def _note(self, trouble: Trouble) -> None:
        self.health = StoreHealth(trouble.state, trouble.reason)

    def _wait(self, seconds: float) -> None:
        self._again_at = time.monotonic() + seconds

    def _look_at_budget(self, *, now: bool = False) -> None:
        """Count pages: rarely while there is room, since it costs more than a small commit."""
        try:
            self._judge_budget(now)
        except (lmdb.Error, OSError):  # the next commit will meet whatever it is
            log.exception("store: its pages could not be counted")

    def _judge_budget(self, now: bool) -> None:
        assert self._environment is not None
        clock_ns = time.monotonic_ns()
        if not (now or self.health.state != "ok" or clock_ns - self._counted_ns >= COUNT_PAGES_NS) and (
            budget_state(self._environment.end_bytes(), self._map_size_bytes, "ok") == "ok"
        ):
            return
        self._counted_ns = clock_ns
        self.room = self._environment.room()
        state = budget_state(self.room.used_bytes, self._map_size_bytes, self.health.state)
        if state != self.health.state:
            self.health = StoreHealth(state, "" if state == "ok" else full_reason(self._map_size_bytes))

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
