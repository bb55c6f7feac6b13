"""From the core's batches to the store: one at a time, in their order, until each is on disk.

Here belong when a batch is sealed, what happens when a disk is slow, full or broken, and who is told. Not here: what a
batch holds (``broker._core.journal``) and how it is committed (the store). A batch that could not be committed is
submitted again when the store is well: nothing that was routed is ever taken back, so newcomers that would need the
disk are refused meanwhile, before they are routed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from broker.ports import PlainChange, Store

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
WRITABLE = ("ok", "full")
"""States of a store in which a commit is worth trying: a full one still takes deletions, if they fit."""
BATCH_MAXIMUM_BYTES = 64 * 1024 * 1024
"""Of the open batch, while another one is being written: above it the disk counts as too slow."""


class JournalCore(Protocol):
    """The part of ``broker._core.shard.Shard`` that is written."""

    def seal(self) -> tuple[int, list[PlainChange]] | None:
        """Close the open batch; None when it is empty."""
        ...

    def settle(self, ticket: int) -> None:
        """The sealed batch is on disk."""
        ...

    def set_refusing(self, refusing: bool) -> None:
        """Refuse from now on what would need the disk, or take it again."""
        ...

    def newest_ticket(self) -> int:
        """The ticket of everything that was recorded until now."""
        ...

    def open_batch_bytes(self) -> int:
        """The size of the batch that is being gathered."""
        ...

    def wanted(self) -> list[bytes]:
        """Keys of chunks that sessions wait for, each once."""
        ...

    def loaded(self, key: bytes, chunk: bytes | None) -> int:
        """Give a chunk that was asked for, None: it is not there any more; returns how many deliveries are lost."""
        ...

    def unread(self, key: bytes) -> None:
        """A chunk that was asked for could not be read now."""
        ...

    def settled_ticket(self) -> int:
        """The last ticket that is on disk."""
        ...


def _nothing() -> None:
    """Add nothing to the batch."""


class JournalWriter:
    """Writes one core's journal into one store; belongs to the thread of the event loop.

    ``settled`` is called after promises have left, ``refusing`` whenever the core begins to refuse what needs the disk,
    with the reason, or takes it again, with an empty one. A batch that is not on disk after ``slow_disk_s`` makes the
    disk too slow to promise anything more.
    """

    def __init__(
        self,
        core: JournalCore,
        store: Store,
        *,
        monotonic_ns: Callable[[], int],
        settled: Callable[[], None],
        refusing: Callable[[str], None],
        slow_disk_s: float = 2.0,
        batch_maximum_bytes: int = BATCH_MAXIMUM_BYTES,
    ) -> None:
        self._core = core
        self._store = store
        self._monotonic_ns = monotonic_ns
        self._settled = settled
        self._tell = refusing
        self.before_seal: Callable[[], None] = _nothing  # may add to the open batch
        self._slow_disk_ns = round(slow_disk_s * NS_PER_S)
        self._batch_maximum_bytes = batch_maximum_bytes
        self._batch: tuple[int, Sequence[PlainChange]] | None = None
        self._submitted = False
        self._since_ns = 0
        self._unread: list[bytes] = []
        self._reason = ""
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        store.watch(lambda _: self.look())

    @property
    def reason(self) -> str:
        """Why what needs the disk is refused; empty while it is not."""
        return self._reason

    def write(self) -> None:
        """Seal and submit what has been gathered, unless a batch is under way."""
        if self._batch is not None:
            return
        self.before_seal()
        self._batch = self._core.seal()
        if self._batch is None:  # there is nothing that is not on disk
            self._answer_waiters(self._core.newest_ticket() + 1)  # what was open is empty now
        else:
            self._since_ns = self._monotonic_ns()
            self._submit()

    def look(self) -> None:
        """Judge the disk: at every change of the store's health, and a few times a second."""
        if self._batch is not None and not self._submitted and self._store.health.state in WRITABLE:
            self._submit()
        unread, self._unread = self._unread, []
        for key in unread:
            self._core.unread(key)
        self.read_wanted()
        self._judge()

    def _judge(self) -> None:
        reason = self._why_refusing()
        if reason != self._reason:
            self._reason = reason
            self._core.set_refusing(bool(reason))
            self._tell(reason)

    def read_wanted(self) -> None:
        """Bring chunks that sessions wait for out of the store."""
        keys = self._core.wanted()
        if keys:
            self._store.read("messages", keys, lambda values, error: self._read(keys, values, error))

    async def durable(self) -> None:
        """Return when everything that has been recorded until now is on disk."""
        self.before_seal()
        ticket = self._core.newest_ticket()
        if ticket <= self._core.settled_ticket():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((ticket, future))
        self.write()
        await future

    async def close(self, timeout_s: float = 5.0) -> None:
        """Write the rest, if the disk takes it in time; whoever waits for more is given up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.durable()
        except TimeoutError:
            log.error("journal: the disk did not take the last changes in time: %s", self._reason or "too slow")
        for _, future in self._waiters:
            future.cancel()

    def _submit(self) -> None:
        assert self._batch is not None  # both callers have looked
        self._submitted = True
        ticket, changes = self._batch
        self._store.submit(ticket, changes, self._answered)

    def _answered(self, ticket: int, error: BaseException | None) -> None:
        self._submitted = False
        if error is not None:
            log.warning("journal: batch %d is not on disk: %s", ticket, error)
            self._judge()  # and no new attempt before the next look, or at once when the store is well again
            return
        self._batch = None
        self._core.settle(ticket)
        self._answer_waiters(ticket)
        if self._waiters:
            self.write()
        self.look()
        self._settled()

    def _answer_waiters(self, ticket: int) -> None:
        due = [future for until, future in self._waiters if until <= ticket]
        self._waiters = [one for one in self._waiters if one[0] > ticket]
        for future in due:
            if not future.done():
                future.set_result(None)

    def _why_refusing(self) -> str:
        health = self._store.health
        if health.state != "ok":
            return f"{health.state}: {health.reason}"
        if self._batch is not None and self._monotonic_ns() - self._since_ns > self._slow_disk_ns:
            return "slow: a batch has been waiting for the disk for too long"
        if self._batch is not None and self._core.open_batch_bytes() > self._batch_maximum_bytes:
            return "slow: more is gathered than the disk takes"
        return ""

    def _read(self, keys: Sequence[bytes], values: Sequence[bytes | None], error: BaseException | None) -> None:
        if error is not None:  # asked again, a few times a second, for as long as somebody waits
            log.warning("journal: %d chunks could not be read: %s", len(keys), error)
            self._unread += keys
            return
        for key, value in zip(keys, values, strict=True):
            lost = self._core.loaded(key, value)
            if lost:
                log.error("journal: %d deliveries are lost: chunk %s cannot be read", lost, key.hex())
        self._settled()
