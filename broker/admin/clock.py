"""Time at the edge: the one place where the upper floors get it from.

Here belong the clock's face and the system's clock. Not here: any arithmetic with time.
"""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Wall and monotonic time; tests bring their own."""

    def wall_s(self) -> int:
        """Whole seconds of UTC since 1970."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds of UTC since 1970."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds on the clock that the core uses as well."""
        ...


class SystemClock:
    """The machine's clocks, CLOCK_REALTIME and CLOCK_MONOTONIC, and as much as a test has moved both."""

    def __init__(self) -> None:
        self._ahead_ns = 0

    def wall_s(self) -> int:
        """Whole seconds of UTC since 1970."""
        return (time.time_ns() + self._ahead_ns) // NS_PER_S

    def wall_ns(self) -> int:
        """Nanoseconds of UTC since 1970."""
        return time.time_ns() + self._ahead_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns() + self._ahead_ns

    def monotonic_s(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return self.monotonic_ns() / NS_PER_S

    def advance(self, ns: int) -> None:
        """Move both clocks forward. Raises ``ValueError`` for a negative time."""
        if ns < 0:
            raise ValueError("time does not go back")
        self._ahead_ns += ns
