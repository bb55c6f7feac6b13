"""Facts about the machine and the versions, so that figures of two days can be compared or kept apart.

Belongs here: what is read from the system. Not here: figures of any broker.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def _first_line(command: list[str]) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "missing"
    return (said.stdout or said.stderr).splitlines()[0].strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _is_virtual() -> bool:
    return any(
        " hypervisor" in line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
    )


def facts() -> dict[str, Any]:
    """Processor, cores, memory, kernel, compiler, Python."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": _is_virtual(),
        "memory_bytes": pages,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "compiler": _first_line([os.environ.get("CC", "gcc"), "--version"]),
        "python": platform.python_version(),
        "load_average_1_min": os.getloadavg()[0],
    }
