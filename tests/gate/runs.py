"""The measurements of the gate against the installed broker, as tests and the update command need them.

Belongs here: starting the broker and collecting figures. Not here: comparing them.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
import time
from pathlib import Path

from tests.gate import counters, instructions, lockstep
from tests.gate.figures import Figures

START_TIMEOUT_S = 30.0


def broker_command(data: Path) -> list[str]:
    """The command of this environment, in open mode on free ports of the loopback interface."""
    program = Path(sysconfig.get_path("scripts")) / "iot-broker"
    listeners = ["--host", "127.0.0.1", "--mqtt-port", "0", "--http-port", "0", "--open"]
    return [str(program), "serve", "--data-dir", str(data), *listeners]


def wait_for_port(data: Path, process: subprocess.Popen[bytes], log: Path) -> int:
    """The MQTT port, once the broker says it is ready."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            rows = json.loads((data / "endpoints.json").read_text())
            return int(next(row["port"] for row in rows if row["protocol"] == "mqtt"))
        except (OSError, ValueError, StopIteration):
            time.sleep(0.02)
    raise AssertionError(f"the broker did not start:\n{log.read_text()[-2000:]}")


def count_calls(load: lockstep.Load, folder: Path, library: Path) -> dict[str, float]:
    """System calls and allocations per delivered message of one load, in a fresh broker."""
    data = folder / "data"
    with counters.counted(broker_command(data), folder, library) as (process, counts):
        port = wait_for_port(data, process, folder / "log")
        return lockstep.measure(load, port, process.pid, counts)


def count_all_calls(folder: Path) -> Figures:
    """Every load."""
    library = counters.build(folder)
    found: Figures = {}
    for load in lockstep.LOADS:
        place = folder / load.name
        place.mkdir()
        found[load.name] = count_calls(load, place, library)
    return found


def count_instructions(folder: Path) -> Figures:
    """Every load, in one run of callgrind."""
    return {name: {"instructions": value} for name, value in instructions.measure(folder).items()}
