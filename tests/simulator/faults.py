"""Bugs that the simulator has to find, planted between the core's journal and the store.

Here belong switches for tests: production code has none. Each breaks one promise in the way a careless change would:
what the journal's writer is told, or what reaches the disk of what the core has recorded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

from broker.ports import (
    CommitCallback,
    EntriesCallback,
    HealthCallback,
    PlainChange,
    ReadCallback,
    StoreFigures,
    StoreHealth,
)
from broker.storage.tables import MESSAGES, OPS, RETAINED, SESSIONS, SUBSCRIPTIONS, WILLS, long_key
from tests.simulator.disk import Disk

DONE, SENT, RECEIVED, FREED, TAKEN, RELEASED = range(1, 7)
OP = struct.Struct("<BBHIQQ")
SUMMED = struct.Struct("<II")
RECORD = struct.Struct("<IIQII")
MESSAGE = struct.Struct("<BBBBIIIIIIIq")
PAIR = struct.Struct("<QHBB")
HAS_GROUP = 8

Changes = Sequence[PlainChange]
Op = tuple[int, int, int, int, int, int]


def read_ops(blob: bytes) -> list[Op]:
    """What one ticket's blob of ops holds."""
    return [OP.unpack_from(blob, at) for at in range(SUMMED.size, len(blob), OP.size)]


def write_ops(ops: Sequence[Op]) -> bytes:
    """The blob of some ops, with its sum."""
    rest = struct.pack("<I", len(ops)) + b"".join(OP.pack(*one) for one in ops)
    return struct.pack("<I", zlib.crc32(rest)) + rest


def pairs_of(chunk: bytes) -> Iterator[tuple[int, int, int]]:
    """Session, message number and packet identifier (0: queued) of each delivery in a chunk."""
    at = SUMMED.size
    while at < len(chunk):
        size, count, number, _, _ = RECORD.unpack_from(chunk, at)
        head = MESSAGE.unpack_from(chunk, at + RECORD.size)
        inside = at + RECORD.size + MESSAGE.size + head[4] + head[5] + head[6]
        for _ in range(count):
            session, packet_id, flags, identifiers = PAIR.unpack_from(chunk, inside)
            inside += PAIR.size + 4 * identifiers
            if flags & HAS_GROUP:
                inside += 2 + int.from_bytes(chunk[inside : inside + 2], "little")
            yield session, number, packet_id
        at += size


def _with_ops(ticket: int, changes: Changes, change: Callable[[list[Op]], list[Op]]) -> Changes:
    ops = [op for table, _, value in changes if table == OPS and value is not None for op in read_ops(value)]
    deleted = [one for one in changes if one[0] == OPS and one[2] is None]
    others = [one for one in changes if one[0] != OPS]
    changed = change(ops)
    written: list[PlainChange] = [(OPS, long_key(ticket), write_ops(changed))] if changed else []
    return [*others, *deleted, *written]


def without_op(kind: int) -> Callable[[int, Changes], Changes]:
    """Leave out one kind of op."""
    return lambda ticket, changes: _with_ops(ticket, changes, lambda ops: [op for op in ops if op[0] != kind])


def done_when_sent(ticket: int, changes: Changes) -> Changes:
    """Take what was sent for what was acknowledged."""
    sent = [
        (DONE, 0, 0, 0, session, number)
        for table, _, value in changes if table == MESSAGES and value is not None
        for session, number, packet_id in pairs_of(value) if packet_id
    ]  # fmt: skip
    return _with_ops(ticket, changes, lambda ops: [(DONE, *op[1:]) if op[0] == SENT else op for op in ops] + sent)


def without_deletion(table: str) -> Callable[[int, Changes], Changes]:
    """Leave out the deletions of one table."""
    return lambda _ticket, changes: [one for one in changes if one[0] != table or one[2] is not None]


FILTERS: dict[str, Callable[[int, Changes], Changes]] = {
    "pubrel-before-pubrec-is-recorded": without_op(RECEIVED),
    "pubcomp-before-identifier-is-removed": without_op(RELEASED),
    "pubrec-before-identifier-is-recorded": without_op(TAKEN),
    "removed-at-send": done_when_sent,
    "retained-deletion-forgotten": without_deletion(RETAINED),
    "unsubscribe-forgotten": without_deletion(SUBSCRIPTIONS),
    "session-end-forgotten": without_deletion(SESSIONS),
    "will-removal-forgotten": without_deletion(WILLS),
}
"""By name, what becomes of a batch on its way to the store."""

ACKNOWLEDGED_EARLY = "acknowledged-before-commit"
NOT_SYNCED = "sync-skipped"
FAULTS = (ACKNOWLEDGED_EARLY, NOT_SYNCED, *FILTERS)


class FaultyDisk:
    """Implements ``ports.Store`` over a ``Disk`` with some faults planted."""

    def __init__(self, disk: Disk, faults: frozenset[str]) -> None:
        self._disk = disk
        self._filters = [FILTERS[name] for name in FILTERS if name in faults]
        self._early = ACKNOWLEDGED_EARLY in faults

    @property
    def health(self) -> StoreHealth:
        """The disk's."""
        return self._disk.health

    def watch(self, callback: HealthCallback) -> None:
        """As the disk does."""
        self._disk.watch(callback)

    def load(self, table: str) -> Sequence[tuple[bytes, bytes]]:
        """As the disk does."""
        return self._disk.load(table)

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """As the disk does."""
        return self._disk.scan(table)

    def read(self, table: str, keys: Sequence[bytes], on_read: ReadCallback) -> None:
        """As the disk does."""
        self._disk.read(table, keys, on_read)

    def read_range(self, table: str, first: bytes, end: bytes, at_most: int, on_read: EntriesCallback) -> None:
        """As the disk does."""
        self._disk.read_range(table, first, end, at_most, on_read)

    def figures(self) -> StoreFigures:
        """The disk's."""
        return self._disk.figures()

    async def close(self) -> None:
        """As the disk does."""
        await self._disk.close()

    def submit(self, ticket: int, changes: Changes, on_committed: CommitCallback) -> None:
        """Take changes, as far as they get through."""
        for one in self._filters:
            changes = one(ticket, changes)
        if self._early:
            self._disk.submit(ticket, changes, lambda _ticket, _error: None)
            self._disk.unanswered.append((ticket, on_committed, None))
        else:
            self._disk.submit(ticket, changes, on_committed)
