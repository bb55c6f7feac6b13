"""Native instructions per delivered message, counted by callgrind over ``driver.py``.

Only the instructions of the core's own code count: what is executed in the shared objects of ``broker/_core``. Python
and libc (memcpy is chosen by processor) do not, so that a figure depends on the compiler alone.

Belongs here: valgrind and its profile. Not here: which figure is too much.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import broker
from tests.gate.lockstep import LOADS

DRIVER = Path(__file__).with_name("driver.py")
CORE = re.compile(r"/broker/_core/[^/]+\.so$")
TIMEOUT_S = 240


class CannotCount(Exception):
    """Valgrind is missing or failed; the text says which."""


def core_folder() -> Path:
    """Where the core's shared objects are installed."""
    return Path(broker.__file__).parent / "_core"


def compiler_key() -> str:
    """Compiler, its major version and the machine, as the core's own objects say: "gcc-12-x86_64"."""
    for module in sorted(core_folder().glob("*.so")):
        if found := re.search(rb"GCC: \([^)]*\) (\d+)", module.read_bytes()):
            return f"gcc-{int(found[1])}-{os.uname().machine}"
    return f"unknown-{os.uname().machine}"


def core_instructions(profile: str) -> int:
    """Sum of the self cost of all objects of the core in one part of a callgrind profile."""
    names: dict[str, str] = {}
    total, inside, skip = 0, False, False
    for line in profile.splitlines():
        if line.startswith(("ob=", "cob=")):
            number, _, name = line.partition("=")[2].partition(" ")
            if name:
                names[number] = name
            if line.startswith("ob="):
                inside = bool(CORE.search(names[number]))
        elif line.startswith("calls="):
            skip = True  # the next line is the cost of the called function, which has its own lines
        elif line[:1] in "+-*0123456789" and line[:1]:
            total += 0 if skip or not inside else int(line.split()[1])
            skip = False
    return total


def run_callgrind(folder: Path) -> tuple[list[str], list[int]]:
    """Profile parts in order, and the messages delivered in each load."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CannotCount("valgrind is missing: sudo apt-get install valgrind")
    command = [
        valgrind, "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder / 'profile'}",
        sys.executable, "-P", str(DRIVER),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode:
        raise CannotCount(f"the driver ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    parts = sorted(folder.glob("profile.*"), key=lambda path: int(path.suffix[1:]))
    return [part.read_text() for part in parts], json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path) -> dict[str, float]:
    """Instructions per delivered message, by load."""
    parts, delivered = run_callgrind(folder)
    if len(parts) < 2 * len(LOADS):
        raise CannotCount(f"callgrind wrote {len(parts)} parts, not {2 * len(LOADS)}")
    return {load.name: core_instructions(parts[2 * i + 1]) / delivered[i] for i, load in enumerate(LOADS)}
