"""Building the load generator and running it.

Belongs here: processes of the generator and their reports. Not here: which load.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "loadgen"
Report = dict[str, Any]


class GeneratorFailed(Exception):
    """The generator could not be built, ended with an error, or lost a connection; the text is what it said."""


def build() -> Path:
    """Build the generator if its sources are newer; return the program."""
    made = subprocess.run(
        ["make", "-C", str(ROOT / "benchmarks" / "loadgen")], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise GeneratorFailed(f"the load generator does not build (gcc and make are needed):\n{made.stderr}")
    return BUILD / "loadgen"


def pinned(core: int | None) -> list[str]:
    """Words before a command that keep it on one core."""
    return [] if core is None else ["taskset", "-c", str(core)]


def run(
    arguments: list[str],
    *,
    core: int | None,
    wrapper: tuple[str, ...] = (),
    timeout_s: float = 180,
    on_mark: Callable[[str], None] | None = None,
) -> Report:
    """Run the generator and return what it reports, phases together; ``command`` in it is what was run.

    ``wrapper`` words come before its command. ``on_mark`` is told ``measuring`` and ``measured`` as it is so.
    """
    command = [*pinned(core), *wrapper, str(BUILD / "loadgen"), *arguments, *(["--marks"] if on_mark else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = threading.Timer(timeout_s, process.kill)
    deadline.start()
    try:
        with process:
            report = _listen(process, on_mark)
            said = process.stderr.read() if process.stderr else ""
    finally:
        deadline.cancel()
    if process.returncode or not report:
        raise GeneratorFailed(f"status {process.returncode}: {said.strip()[-500:]}")
    report["command"] = [Path(word).name if word.endswith("/loadgen") else word for word in command]
    return report


def _listen(process: subprocess.Popen[str], on_mark: Callable[[str], None] | None) -> Report:
    """Read to the end: reports are lines of JSON, marks are words."""
    report: Report = {}
    for line in process.stdout or ():
        if line.startswith("{"):
            report |= json.loads(line)
        elif on_mark:
            on_mark(line.strip())
    return report
