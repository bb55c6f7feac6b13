"""Which disks are looked at: for one moment, one of the many contents that a disk may hold when power goes.

Here belongs the choice, by seed. Not here: what is durable (``disk``), or what must hold (``check``).

Variant 0 of each moment is what the programs saw, which over all moments is every prefix of the log; variant 1 is what
is durable and nothing else; all others are chosen by a seed: names first (as of one moment, as a journal keeps their
order; or any calls with those that they build on: a rename is whole or not done), then each file for itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.powercut.disk import SECTOR_BYTES, Disk, File, Folder, Inode, folders, perform, set_name

EVERYTHING, DURABLE, CHOSEN = 0, 1, 2
"""Variants; those from ``CHOSEN`` on are seeded."""

Image = dict[str, bytes | None]
"""Path below the root -> content; None for a folder. Folders stand before what is in them."""

_MODES = ("all", "none", "calls", "sectors", "sectors", "all but one", "one alone")


def image(disk: Disk, seed: int, variant: int) -> Image:
    """One content that the disk may have after a cut at this moment."""
    choice = _Choice(disk, random.Random(f"{seed}:{variant}"), variant)
    found: Image = {}
    choice.gather(disk.root, "", found)
    return found


def write_out(found: Image, folder: Path) -> None:
    """Put an image into an empty folder."""
    for name, content in found.items():
        path = folder / name
        if content is None:
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(content)


class _Choice:
    def __init__(self, disk: Disk, chance: random.Random, variant: int) -> None:
        self._chance = chance
        self._variant = variant
        self._names: Callable[[Folder], dict[str, Inode]] = self._how_names(disk)
        self._unseen = disk.unseen

    def gather(self, folder: Folder, path: str, found: Image) -> None:
        for name, inode in sorted(self._names(folder).items(), key=lambda item: item[0]):
            if isinstance(inode, Folder):
                found[path + name] = None
                self.gather(inode, f"{path}{name}/", found)
            elif name not in self._unseen:
                found[path + name] = self._content(inode)
            elif (noise := self._noise(inode)) is not None:
                found[path + name] = noise

    # ------------------------------------------------------------ names

    def _how_names(self, disk: Disk) -> Callable[[Folder], dict[str, Inode]]:
        if self._variant == EVERYTHING:
            return lambda folder: folder.state
        if self._variant == DURABLE:
            return lambda folder: folder.durable
        found = folders(disk.root)
        if self._chance.random() < 0.5:
            moments = sorted({one.position for folder in found for one in folder.pending})
            last = self._chance.choice([-1, *moments])
            done = {position for position in moments if position <= last}
        else:
            done = self._some(found)
        return lambda folder: _names_after(folder, done)

    def _some(self, found: list[Folder]) -> set[int]:
        """Some changes of names, each with those before it that concern the same inode or the same name."""
        calls: dict[int, set[object]] = {}
        for folder in found:
            for one in folder.pending:
                calls.setdefault(one.position, set()).update(((id(folder), one.name), id(one.inode)))
        done: set[int] = set()
        touched: set[object] = set()
        for position in sorted(calls, reverse=True):
            concerns = calls[position] - {id(None)}
            if concerns & touched or self._chance.random() < 0.5:
                done.add(position)
                touched |= concerns
        return done

    # ------------------------------------------------------------ contents

    def _content(self, file: File) -> bytes:
        if self._variant == EVERYTHING:
            return bytes(file.state)
        if self._variant == DURABLE or not file.pending:
            return bytes(file.durable)
        mode = self._chance.choice(_MODES)
        if mode == "calls":
            return self._calls(file)
        return self._sectors(file, mode)

    def _calls(self, file: File) -> bytes:
        content = bytearray(file.durable)
        for one in file.pending:
            if self._chance.random() < 0.5:
                perform(content, one)
        return bytes(content)

    def _sectors(self, file: File, mode: str) -> bytes:
        versions = sector_versions(file)
        content = bytearray(max(len(file.durable), len(file.state), *(one.size for one in file.pending)))
        content[: len(file.durable)] = file.durable
        odd = self._chance.choice(sorted(versions)) if versions else -1
        share = self._chance.choice((0.1, 0.5, 0.9))
        for number, contents in sorted(versions.items()):
            chosen = self._version(mode, number == odd, share, contents)
            at = number * SECTOR_BYTES
            fresh = at >= len(file.durable) and chosen is contents[0]
            if fresh and self._chance.random() < 0.1:
                chosen = self._chance.randbytes(SECTOR_BYTES)  # a block of a file that was deleted long ago
            content[at : at + len(chosen)] = chosen
        return bytes(content[: self._size(file, mode)])

    def _version(self, mode: str, is_odd: bool, share: float, contents: list[bytes]) -> bytes:
        match mode:
            case "all":
                return contents[-1]
            case "none":
                return contents[0]
            case "all but one":
                return contents[0 if is_odd else -1]
            case "one alone":
                return contents[-1 if is_odd else 0]
            case _:
                return self._chance.choice(contents[1:]) if self._chance.random() < share else contents[0]

    def _size(self, file: File, mode: str) -> int:
        sizes = [len(file.durable), *(one.size for one in file.pending)]
        if mode == "all":
            return sizes[-1]
        if mode == "all but one" or self._chance.random() < 0.5:
            return max(sizes)
        low, high = sorted((self._chance.choice(sizes), self._chance.choice(sizes)))
        return min(high, -(-self._chance.randint(low, high) // SECTOR_BYTES) * SECTOR_BYTES)

    def _noise(self, file: File) -> bytes | None:
        """Content of a file that is mapped and never synced: anything, or no file."""
        if self._variant == EVERYTHING:
            return bytes(file.state)
        size = self._chance.choice((0, 1, SECTOR_BYTES, len(file.state), 2 * len(file.state)))
        return self._chance.choice((None, bytes(size), self._chance.randbytes(size)))


def sector_versions(file: File) -> dict[int, list[bytes]]:
    """Number of each sector that is not synced -> what it has held since it was, the durable content first."""
    content = bytearray(file.durable)
    versions: dict[int, list[bytes]] = {}
    for one in file.pending:
        first, last = (one.offset, one.offset + len(one.data)) if one.data is not None else _resized(content, one.size)
        numbers = range(first // SECTOR_BYTES, -(-last // SECTOR_BYTES))
        for number in numbers:
            versions.setdefault(number, [_sector(content, number)])
        perform(content, one)
        for number in numbers:
            versions[number].append(_sector(content, number))
    return versions


def _resized(content: bytearray, size: int) -> tuple[int, int]:
    """Offsets between which a change of size changes bytes: only what is cut off, and may be seen again as zeros."""
    return (size, len(content)) if size < len(content) else (0, 0)


def _sector(content: bytearray, number: int) -> bytes:
    return bytes(content[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")


def _names_after(folder: Folder, done: set[int]) -> dict[str, Inode]:
    names = dict(folder.durable)
    for one in folder.pending:
        if one.position in done:
            set_name(names, one.name, one.inode)
    return names
