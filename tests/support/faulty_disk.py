"""A disk that fails on command, under a process of its own: the preloaded library, and its commands.

Belongs here: building, preloading, commanding. Not here: what a store has to do about it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
VARIABLE = "FAULTY_DISK"


class Commands(ctypes.Structure):
    """Errors by number (0: none) and a delay, in the order of ``faulty_disk.c``."""

    write_error: int
    meta_error: int
    sync_error: int
    open_error: int
    sync_delay_ms: int
    failures: int

    _fields_ = [
        ("write_error", ctypes.c_int),
        ("meta_error", ctypes.c_int),
        ("sync_error", ctypes.c_int),
        ("open_error", ctypes.c_int),
        ("sync_delay_ms", ctypes.c_int),
        ("failures", ctypes.c_int),
    ]

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.write_error = self.meta_error = self.sync_error = self.open_error = self.sync_delay_ms = 0


def build(folder: Path) -> Path:
    """Compile the library; return its path."""
    library = folder / "faulty_disk.so"
    compiler = [os.environ.get("CC", "gcc"), "-O1", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run([*compiler, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def environment(library: Path, commands: Path) -> dict[str, str]:
    """Environment of a process that shall have this disk; makes the file of commands, with none in it."""
    commands.write_bytes(bytes(ctypes.sizeof(Commands)))
    return {**os.environ, "LD_PRELOAD": str(library), VARIABLE: str(commands)}


def opened(path: Path | None = None) -> Commands:
    """Map the commands of a file, or of this process's own disk."""
    with (path or Path(os.environ[VARIABLE])).open("r+b") as file:
        return Commands.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(Commands)))
