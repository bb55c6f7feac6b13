"""The recorder's log: its records, as ``shim.c`` writes them, and the marks that drivers put between them.

Here belongs the format. Not here: what the calls do to a disk (``disk``), or which programs are recorded (``record``).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPEN, WRITE, TRUNCATE, SYNC, MKDIR, RENAME, UNLINK, UNSEEN, MARK = range(1, 10)
CREATED, EMPTIED = 1, 2
SYNCED = 1

_HEAD = struct.Struct("<IBBHQQQII")


@dataclass(frozen=True, slots=True)
class Record:
    """One call that succeeded. ``position`` is its byte offset in the log, ``upto`` a sync's own beginning there.

    ``first`` is what was written, a path, or a mark's text; ``second`` the new name of a rename. ``offset`` of TRUNCATE
    is the new size.
    """

    kind: int
    flags: int
    handle: int
    offset: int
    upto: int
    first: bytes
    second: bytes
    position: int


def read(log: Path) -> Iterator[Record]:
    """All whole records; the last one may be cut where its process was killed."""
    data = log.read_bytes()
    at = 0
    while at + _HEAD.size <= len(data):
        size, kind, flags, _, handle, offset, upto, first, second = _HEAD.unpack_from(data, at)
        if at + size > len(data):
            return
        body = at + _HEAD.size
        yield Record(
            kind, flags, handle, offset, upto, data[body : body + first], data[body + first : body + first + second], at
        )
        at += size


class Marks:
    """Puts a driver's words into the log: what was asked, what was promised, each by one atomic append."""

    def __init__(self, log: Path) -> None:
        self._descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def put(self, text: str) -> None:
        """Append one mark; what was written before it is before it in the log."""
        data = text.encode()
        os.write(self._descriptor, _HEAD.pack(_HEAD.size + len(data), MARK, 0, 0, 0, 0, 0, len(data), 0) + data)

    def close(self) -> None:
        """End the marks; the log stays."""
        os.close(self._descriptor)
