"""Counting from outside: the preloaded library, its file of counters, and a broker run under it.

Belongs here: building, preloading, reading. Not here: which load (``lockstep``) and what is too much (``figures``).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

SOURCE = Path(__file__).with_name("counters.c")


@dataclass(frozen=True)
class Counts:
    """Calls since the start, in the order of ``counters.c``."""

    allocations: int
    receives: int
    sends: int
    waits: int
    others: int

    @property
    def system_calls(self) -> int:
        """Everything that enters the kernel."""
        return self.receives + self.sends + self.waits + self.others

    def since(self, earlier: Counts) -> Counts:
        """What has been added."""
        return Counts(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))


SIZE = 8 * len(fields(Counts))


def build(folder: Path) -> Path:
    """Compile the library; return its path."""
    library = folder / "counters.so"
    compiler = [os.environ.get("CC", "gcc"), "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run([*compiler, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class Counters:
    """The file of counters, mapped; usable while the counted process lives and after."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(SIZE))
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ)

    def read(self) -> Counts:
        """What has been counted until now."""
        return Counts(*struct.unpack(f"={SIZE // 8}Q", self._map[:]))

    def close(self) -> None:
        """Unmap."""
        self._map.close()


@contextlib.contextmanager
def counted(command: list[str], folder: Path, library: Path) -> Iterator[tuple[subprocess.Popen[bytes], Counters]]:
    """Run a command with its calls counted; its words go to ``folder/log``. Every Python object is a malloc here."""
    path = folder / "counters"
    counters = Counters(path)
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "BROKER_GATE_COUNTERS": str(path),
        "PYTHONMALLOC": "malloc",
        "PYTHONHASHSEED": "0",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process, counters
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        counters.close()
