"""Brokers that break one promise each: the machine is worth something when it finds every one of them.

``python -m tests.crash.planted FAULT serve ...`` starts the broker as ``iot-broker serve ...`` does, on a store that
lies. Here belong the lies, told to the real broker from outside. Not here: a sync that is left out, which no killed
process can show, since the page cache survives it: that fault is found by the simulator and the power cut.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from broker import cli
from broker.config import Flags, load_config
from broker.observability import logs
from broker.ports import CommitCallback, PlainChange, Store
from broker.runtime import Broker
from broker.storage import tables

Lie = Callable[[PlainChange], PlainChange | None]
"""What is written in place of a change; None for nothing."""

LATE_S = 0.15
DONE, SENT, RECEIVED, FREED, TAKEN, RELEASED = range(1, 7)
_OP = struct.Struct("<BBHIQQ")
_OPS_HEAD = struct.Struct("<II")
_PAIR = struct.Struct("<QHBB")
_RECORD_HEAD_BYTES = 24
_MESSAGE_HEAD_BYTES = 40
_SIZES_AT = _RECORD_HEAD_BYTES + 4  # of topic name, properties and payload
_GROUPED = 8


def _ops(value: bytes) -> Iterator[tuple[int, ...]]:
    yield from _OP.iter_unpack(value[_OPS_HEAD.size :])


def _packed(ops: Sequence[tuple[int, ...]]) -> bytes:
    rest = struct.pack("<I", len(ops)) + b"".join(_OP.pack(*one) for one in ops)
    return struct.pack("<I", zlib.crc32(rest)) + rest


def without_op(kind: int) -> Lie:
    """Never write one kind of op."""
    return _with_ops(lambda op: None if op[0] == kind else op)


def removed_at_send() -> Lie:
    """Write that a delivery is done when it is sent: later as an op, at once as a pair that is nobody's."""
    later = _with_ops(lambda op: (DONE, op[1], 0, *op[3:]) if op[0] == SENT else op)

    def lie(change: PlainChange) -> PlainChange | None:
        table, key, value = change
        if table == tables.MESSAGES and value is not None:
            return table, key, _without_sent_pairs(value)
        return later(change)

    return lie


def _without_sent_pairs(chunk: bytes) -> bytes:
    rest = bytearray(chunk[4:])
    (messages,) = struct.unpack_from("<I", rest)
    at = 4
    for _ in range(messages):
        record_bytes, pairs = struct.unpack_from("<II", rest, at)
        end = at + record_bytes
        at += _RECORD_HEAD_BYTES + _MESSAGE_HEAD_BYTES + sum(struct.unpack_from("<III", rest, at + _SIZES_AT))
        for _ in range(pairs):
            _, packet_id, flags, identifiers = _PAIR.unpack_from(rest, at)
            if packet_id:
                struct.pack_into("<Q", rest, at, 0)
            at += _PAIR.size + 4 * identifiers
            if flags & _GROUPED:
                at += 2 + int.from_bytes(rest[at : at + 2], "little")
        assert at == end
    return struct.pack("<I", zlib.crc32(rest)) + bytes(rest)


def _with_ops(change_op: Callable[[tuple[int, ...]], tuple[int, ...] | None]) -> Lie:
    def lie(change: PlainChange) -> PlainChange | None:
        table, key, value = change
        if table != tables.OPS or value is None:
            return change
        ops = [changed for op in _ops(value) if (changed := change_op(op)) is not None]
        return (table, key, _packed(ops)) if ops else None

    return lie


def never_deleted(table: str) -> Lie:
    """Keep for ever what is in a table."""
    return lambda change: None if change[0] == table and change[2] is None else change


def never_written(table: str) -> Lie:
    """Write nothing into a table."""
    return lambda change: None if change[0] == table and change[2] is not None else change


class LyingStore:
    """A store that writes something else than what it is given."""

    def __init__(self, store: Store, lie: Lie) -> None:
        self._store = store
        self._lie = lie

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        """Take changes, and write what is left of them."""
        kept = [written for change in changes if (written := self._lie(change)) is not None]
        self._store.submit(ticket, kept, on_committed)


class HastyStore(LyingStore):
    """A store that says "committed" at once, and commits a little later."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, lambda change: change)

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        """Answer at once."""
        loop = asyncio.get_running_loop()
        loop.call_soon(on_committed, ticket, None)
        loop.call_later(LATE_S, self._store.submit, ticket, changes, lambda ticket, error: None)


FAULTS: dict[str, Callable[[Store], Any]] = {
    "acknowledged-before-commit": HastyStore,
    "pubrel-before-pubrec-is-recorded": lambda store: LyingStore(store, without_op(RECEIVED)),
    "pubcomp-before-removal": lambda store: LyingStore(store, without_op(RELEASED)),
    "identifier-not-recorded": lambda store: LyingStore(store, without_op(TAKEN)),
    "removed-at-send": lambda store: LyingStore(store, removed_at_send()),
    "acknowledgement-not-recorded": lambda store: LyingStore(store, without_op(DONE)),
    "retained-deletion-forgotten": lambda store: LyingStore(store, never_deleted(tables.RETAINED)),
    "retained-forgotten": lambda store: LyingStore(store, never_written(tables.RETAINED)),
    "subscription-forgotten": lambda store: LyingStore(store, never_written(tables.SUBSCRIPTIONS)),
    "unsubscription-forgotten": lambda store: LyingStore(store, never_deleted(tables.SUBSCRIPTIONS)),
    "session-forgotten": lambda store: LyingStore(store, never_written(tables.SESSIONS)),
    "session-end-forgotten": lambda store: LyingStore(store, never_deleted(tables.SESSIONS)),
    "will-forgotten": lambda store: LyingStore(store, never_written(tables.WILLS)),
    "will-not-removed": lambda store: LyingStore(store, never_deleted(tables.WILLS)),
    "messages-forgotten": lambda store: LyingStore(store, never_written(tables.MESSAGES)),
    "device-forgotten": lambda store: LyingStore(store, never_written(tables.DEVICES)),
    "device-deletion-forgotten": lambda store: LyingStore(store, never_deleted(tables.DEVICES)),
}


async def serve(fault: str, flags: Flags) -> None:
    """Run a broker on a store that lies, until a signal."""
    config = load_config(None, os.environ, flags)
    logs.configure(config.log_level, config.log_format)
    async with Broker(config, wrap_store=FAULTS[fault]) as broker:
        sys.stdout.write(cli.banner(config, broker.endpoints, broker.first_key) + "\n")
        sys.stdout.flush()
        await broker.run_until_signal()


def main(words: list[str]) -> None:
    """``FAULT serve --data-dir DIR --host H --mqtt-port N --http-port N``."""
    fault, _, *rest = words
    given = dict(zip(rest[::2], rest[1::2], strict=True))
    flags = Flags(
        data_dir=Path(given["--data-dir"]),
        host=given["--host"],
        mqtt_port=int(given["--mqtt-port"]),
        http_port=int(given["--http-port"]),
    )
    asyncio.run(serve(fault, flags))


if __name__ == "__main__":
    main(sys.argv[1:])
