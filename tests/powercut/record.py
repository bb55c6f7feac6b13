"""Recording: the shim is compiled, and programs run under it one after the other on one folder.

Here belong the compiler, the environment variables and the proof that nothing was missed. Not here: what the programs
do, or what is made of the log.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.served import plain_environment
from tests.powercut import journal
from tests.powercut.cuts import EVERYTHING, image
from tests.powercut.disk import Disk

SOURCE = Path(__file__).with_name("shim.c")
NO_COMPILER = "there is no C compiler: the recorder cannot be built"
ROOM_BYTES = 256 * 1024 * 1024
COMPILE_OPTIONS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared")


def compiler() -> str | None:
    """The system's C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(folder: Path) -> Path:
    """Compile the recorder into a folder."""
    command = compiler()
    assert command is not None, NO_COMPILER
    library = folder / "shim.so"
    subprocess.run([command, *COMPILE_OPTIONS, "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, in memory where the system has such a place: nothing here needs a disk."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES else None
    with tempfile.TemporaryDirectory(prefix="powercut-", dir=place) as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Recorder:
    """One folder under watch, and its log."""

    library: Path
    root: Path
    log: Path
    sync_us: int = 0
    ignored: str = ""

    def environment(self, die: int = 0) -> dict[str, str]:
        """What a program needs so that it is recorded, and killed in its so manieth call."""
        return {
            **plain_environment(),
            "LD_PRELOAD": str(self.library),
            "POWERCUT_ROOT": str(self.root),
            "POWERCUT_LOG": str(self.log),
            "POWERCUT_SYNC_US": str(self.sync_us),
            "POWERCUT_IGNORE": self.ignored,
            "POWERCUT_DIE": str(die),
        }

    def run(self, module: str, arguments: Sequence[object], *, die: int = 0, recorded: bool = True) -> None:
        """Run one program to its end, or until it is killed in its so manieth call. Raises where it fails."""
        command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
        environment = self.environment(die) if recorded else plain_environment()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode != 0 and not (die and done.returncode == -signal.SIGKILL):
            raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def unlike(root: Path, log: Path, before: Path | None = None) -> list[str]:
    """Names of files that are not what the whole log makes of them: the recorder has missed something."""
    disk = Disk(root, before)
    for record in journal.read(log):
        disk.begin(record)
        disk.finish(record)
    expected = image(disk, 0, EVERYTHING)
    found = {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}
    names = expected.keys() | found.keys()
    return sorted(
        name
        for name in names
        if Path(name).name not in disk.unseen and expected.get(name, b"-") != found.get(name, b"-")
    )
