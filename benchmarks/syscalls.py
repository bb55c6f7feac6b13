"""System calls per delivered message, from separate runs under ``strace`` that are never used for timing.

Belongs here: tracing and the difference that takes start and connects out. Not here: what the figures should be; the
gate in ``tests/gate`` knows that.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks import generator
from benchmarks.brokers import Contestant
from benchmarks.scenarios import Scenario

SENDS = frozenset({"send", "sendto", "sendmsg", "sendmmsg", "write", "writev"})
RECEIVES = frozenset({"recv", "recvfrom", "recvmsg", "recvmmsg", "read", "readv"})
TRACER_TIMEOUT_S = 10.0
GOODBYE_S = 1.5
"""For thousands of disconnects under a tracer: both runs must count all of them."""
_ROW = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?([a-z_0-9]+)$")


def available() -> bool:
    """Whether strace is installed."""
    return shutil.which("strace") is not None


def parse_summary(text: str) -> dict[str, int]:
    """Calls by name, from the table ``strace -c`` writes."""
    rows = (_ROW.match(line) for line in text.splitlines())
    return {row[2]: int(row[1]) for row in rows if row and row[2] != "total"}


def _finished(table: Path) -> str:
    """The table of a tracer that outlives the broker (-D: the broker is our child, the tracer is not) for a moment."""
    deadline = time.monotonic() + TRACER_TIMEOUT_S
    while time.monotonic() < deadline:
        text = table.read_text() if table.exists() else ""
        if text.rstrip().endswith("total"):
            return text
        time.sleep(0.05)
    raise generator.GeneratorFailed("strace wrote no table")


def _count(contestant: Contestant, scenario: Scenario, seconds: float) -> tuple[dict[str, int], int]:
    """Calls of a whole life of the broker, and messages delivered in it; nothing is published in zero seconds."""
    with tempfile.TemporaryDirectory(prefix="iot-broker-strace-") as folder:
        table = Path(folder) / "calls"
        with contestant.start(scenario, None, ("strace", "-D", "-f", "-c", "-o", str(table))) as running:
            arguments = [word for word in scenario.generator_arguments(seconds) if word != "--spin"]
            if not seconds:
                arguments += ["--warmup-s", "0"]
            report = generator.run([*arguments, "--port", str(running.port), *running.client_arguments], core=None)
            time.sleep(GOODBYE_S)
        return parse_summary(_finished(table)), report["delivered"]


def per_message(contestant: Contestant, scenario: Scenario, seconds: float) -> dict[str, float]:
    """Calls per delivered message: ``receives``, ``sends`` and ``all``."""
    before, _ = _count(contestant, scenario, 0)
    after, delivered = _count(contestant, scenario, seconds)
    grown = {name: calls - before.get(name, 0) for name, calls in after.items()}
    if not delivered:
        raise generator.GeneratorFailed(f"{contestant.name} delivered nothing under strace")
    groups = {"receives": RECEIVES, "sends": SENDS, "all": frozenset(grown)}
    return {group: sum(grown.get(name, 0) for name in names) / delivered for group, names in groups.items()}
