"""What one sync of this disk takes, so that latency can be told in a unit that means the same on another disk.

Belongs here: that figure. Not here: anything of a broker.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

SYNCS = 200
PAGE_BYTES = 4096
PAGES = 64


def sync_times_us(folder: Path, count: int = SYNCS, *, real_time: bool = False) -> list[float]:
    """Microseconds of each of ``count`` writes of one page into an existing file, each with its ``fdatasync``.

    ``real_time``: before all other processes, as the broker is that it is compared with.
    """
    policy, usual = os.sched_getscheduler(0), os.sched_getparam(0)
    if real_time:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        return _sync_times_us(folder, count)
    finally:
        os.sched_setscheduler(0, policy, usual)


def _sync_times_us(folder: Path, count: int) -> list[float]:
    path = folder / "sync-probe"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(PAGES * PAGE_BYTES))
        os.fsync(file.fileno())
        times = [_sync_us(file.fileno(), number) for number in range(count)]
    path.unlink()
    return times


def _sync_us(descriptor: int, number: int) -> float:
    started = time.perf_counter()
    os.pwrite(descriptor, bytes([number % 256]) * PAGE_BYTES, number % PAGES * PAGE_BYTES)
    os.fdatasync(descriptor)
    return (time.perf_counter() - started) * 1e6
