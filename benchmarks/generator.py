"""Building the load generator and running it.

Belongs here: processes of the generator and their reports. Not here: which load.
"""

from __future__ import annotations

import json
import subprocess
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


def run(arguments: list[str], *, core: int | None, timeout_s: float = 180) -> Report:
    """Run the generator and return its last report; ``command`` in it is what was run."""
    command = [*pinned(core), str(BUILD / "loadgen"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    if done.returncode or not done.stdout.strip():
        raise GeneratorFailed(f"status {done.returncode}: {done.stderr.strip()[-500:]}")
    report: Report = json.loads(done.stdout.splitlines()[-1])
    report["command"] = [Path(word).name if word.endswith("/loadgen") else word for word in command]
    return report
