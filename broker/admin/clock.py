"""Time at the edge: the one place where the upper floors get it from.

Here belong the clock's face and the system's clock. Not here: any arithmetic with time.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time; tests bring their own."""

    def wall_s(self) -> int:
        """Whole seconds of UTC since 1970."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds on the clock that the core uses as well."""
        ...


class SystemClock:
    """The machine's clocks: CLOCK_REALTIME and CLOCK_MONOTONIC."""

    def wall_s(self) -> int:
        """Whole seconds of UTC since 1970."""
        return int(time.time())

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()
