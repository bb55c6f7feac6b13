"""A disk that keeps no more than it was told to: what is on it, and what is still under way.

Here belongs the model: inodes, folders, what a sync makes durable. Not here: which of the possible disks is looked at
(``cuts``), or whether what is on it is right (``check``).

A *state* is what the programs saw; *durable* is what any disk must hold. Between the two lie the pending operations, of
which a disk may hold any part: each sector of 512 bytes as of any moment since it was last synced, each file as long
as at any moment since then, each name of a folder as of any moment since the folder was synced.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.powercut import journal
from tests.powercut.journal import Record

SECTOR_BYTES = 512


@dataclass(slots=True)
class Pending:
    """A write (``data``) or a change of size (None) that no sync has covered; ``size`` is the file's after it."""

    position: int
    offset: int
    data: bytes | None
    size: int

    def lies_in(self, first: int, last: int) -> bool:
        """Whether all that is written is between two offsets."""
        return self.data is not None and first <= self.offset and self.offset + len(self.data) <= last

    def overlay(self, first: int, newest: bytes) -> None:
        """Let what is newer and durable stand where both have bytes: old ones cannot come back."""
        assert self.data is not None
        start, end = max(first, self.offset), min(first + len(newest), self.offset + len(self.data))
        if start < end:
            self.data = (
                self.data[: start - self.offset] + newest[start - first : end - first] + self.data[end - self.offset :]
            )


@dataclass(slots=True)
class File:
    """One inode's bytes: durable ones, and those that the programs saw."""

    durable: bytearray = field(default_factory=bytearray)
    state: bytearray = field(default_factory=bytearray)
    pending: list[Pending] = field(default_factory=list)

    def write(self, position: int, offset: int, data: bytes) -> None:
        """Apply a write that is not synced."""
        apply(self.state, offset, data)
        self.pending.append(Pending(position, offset, data, len(self.state)))

    def resize(self, position: int, size: int) -> None:
        """Cut, or lengthen with zeros."""
        resize(self.state, size)
        self.pending.append(Pending(position, 0, None, size))

    def sync(self, upto: int) -> set[int]:
        """Make durable what was done before a position of the log."""
        done = [one for one in self.pending if one.position < upto]
        self.pending = self.pending[len(done) :]
        for one in done:
            perform(self.durable, one)
        return set()

    def finish_synced(self, offset: int, size: int) -> None:
        """Make durable what a write through O_DSYNC has written: it alone, with the file's size.

        Older writes elsewhere in its sectors go with it: the page cache has only the newest of a sector.
        """
        first = offset // SECTOR_BYTES * SECTOR_BYTES
        last = -(-(offset + size) // SECTOR_BYTES) * SECTOR_BYTES
        newest = bytes(self.state[first:last])
        apply(self.durable, first, newest)
        if any(one.data is None for one in self.pending):
            resize(self.durable, len(self.state))
        self.pending = [one for one in self.pending if one.data is not None and not one.lies_in(first, last)]
        for one in self.pending:
            one.overlay(first, newest)


@dataclass(slots=True)
class Name:
    """A pending change of one name in a folder; ``inode`` is None where the name was taken away."""

    position: int
    name: str
    inode: Inode | None


@dataclass(slots=True)
class Folder:
    """A folder's names: durable ones, and those that the programs saw."""

    durable: dict[str, Inode] = field(default_factory=dict)
    state: dict[str, Inode] = field(default_factory=dict)
    pending: list[Name] = field(default_factory=list)

    def change(self, position: int, name: str, inode: Inode | None) -> None:
        """Give a name to an inode, or take it away."""
        set_name(self.state, name, inode)
        self.pending.append(Name(position, name, inode))

    def sync(self, upto: int) -> set[int]:
        """Make durable what was done before a position of the log; returns when those changes were made."""
        done = {one.position for one in self.pending if one.position < upto}
        self.finish(done)
        return done

    def finish(self, done: set[int]) -> None:
        """Make durable what was changed at some positions, and before them under the same names."""
        names = {one.name: one.position for one in self.pending if one.position in done}
        for one in self.pending:
            if one.position <= names.get(one.name, -1):
                set_name(self.durable, one.name, one.inode)
        self.pending = [one for one in self.pending if one.position > names.get(one.name, -1)]


Inode = File | Folder


def apply(content: bytearray, offset: int, data: bytes) -> None:
    """Write into a file's bytes, with zeros up to there."""
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def resize(content: bytearray, size: int) -> None:
    """Cut a file's bytes, or lengthen them with zeros."""
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def perform(content: bytearray, one: Pending) -> None:
    """Do one pending operation on a file's bytes."""
    if one.data is None:
        resize(content, one.size)
    else:
        apply(content, one.offset, one.data)


def set_name(names: dict[str, Inode], name: str, inode: Inode | None) -> None:
    """Give a name to an inode, or take it away."""
    if inode is None:
        names.pop(name, None)
    else:
        names[name] = inode


def durable_copy(path: Path) -> Inode:
    """A file or folder as it lies there, all of it durable."""
    if path.is_dir():
        names = {one.name: durable_copy(one) for one in path.iterdir()}
        return Folder(dict(names), names)
    content = path.read_bytes()
    return File(bytearray(content), bytearray(content))


def folders(folder: Folder) -> list[Folder]:
    """A folder and all below it that a disk may hold."""
    inner = {
        id(one): one for one in [*folder.durable.values(), *folder.state.values(), *(p.inode for p in folder.pending)]
    }
    return [folder, *(deep for one in inner.values() if isinstance(one, Folder) for deep in folders(one))]


class UnseenWrite(Exception):
    """The recorded program changed a file in a way that the recorder does not follow."""


class Disk:
    """All below one folder, as the log tells it; ``root`` must be durable before the first record.

    ``before`` is a copy of what was in it then; None for nothing. ``unseen`` are names of files whose content is not
    looked at: those a program maps, and sets right at its start.
    """

    def __init__(
        self, root: Path, before: Path | None = None, *, unseen: frozenset[str] = frozenset({"lock.mdb"})
    ) -> None:
        self.root = Folder()
        if before is not None:
            copied = durable_copy(before)
            assert isinstance(copied, Folder)
            self.root = copied
        self._prefix = os.fspath(root)
        self.unseen = unseen
        self._handles: dict[int, Inode] = {}

    def begin(self, record: Record) -> None:
        """Do what one record tells, as far as it is done before its call returns. Raises ``UnseenWrite``."""
        match record.kind:
            case journal.OPEN:
                self._handles[record.handle] = self._open(record)
            case journal.WRITE:
                self._file(record).write(record.position, record.offset, record.first)
            case journal.TRUNCATE:
                self._file(record).resize(record.position, record.offset)
            case journal.SYNC | journal.MARK:
                pass
            case journal.UNSEEN if Path(os.fsdecode(record.first)).name not in self.unseen:
                raise UnseenWrite(os.fsdecode(record.first))
            case _:
                self._rename(record)

    def finish(self, record: Record) -> None:
        """Do what is done when the call of a begun record has returned: what it has synced is durable."""
        if record.kind == journal.SYNC:
            done = self._handles[record.handle].sync(record.upto)
            if done:  # a rename between two folders is one change: both have it, or none
                for folder in folders(self.root):
                    folder.finish(done)
        elif record.kind == journal.WRITE and record.flags & journal.SYNCED:
            self._file(record).finish_synced(record.offset, len(record.first))

    def _file(self, record: Record) -> File:
        inode = self._handles[record.handle]
        assert isinstance(inode, File)
        return inode

    def _rename(self, record: Record) -> None:
        if record.kind == journal.MKDIR:
            folder, name = self._place(record.first)
            folder.change(record.position, name, Folder())
        elif record.kind == journal.UNLINK:
            folder, name = self._place(record.first)
            folder.change(record.position, name, None)
        elif record.kind == journal.RENAME:
            old, old_name = self._place(record.first)
            new, new_name = self._place(record.second)
            inode = old.state[old_name]
            new.change(record.position, new_name, inode)
            old.change(record.position, old_name, None)

    def _open(self, record: Record) -> Inode:
        if os.fsdecode(record.first) == self._prefix:
            return self.root
        folder, name = self._place(record.first)
        if record.flags & journal.CREATED:
            folder.change(record.position, name, File())
        inode = folder.state[name]
        if record.flags & journal.EMPTIED and isinstance(inode, File) and inode.state:
            inode.resize(record.position, 0)
        return inode

    def _place(self, path: bytes) -> tuple[Folder, str]:
        *folders, name = os.path.normpath(os.fsdecode(path))[len(self._prefix) :].strip("/").split("/")
        folder = self.root
        for one in folders:
            inner = folder.state[one]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name
