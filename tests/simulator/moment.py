"""The present of a run: its event, its clocks, and how much of the past is on disk.

Here belong numbers that everybody reads and the world alone writes.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000
SLACK_NS = 1_200_000_000
"""Deadlines are kept in whole seconds on disk and in ticks of 17 ms in the core; around them nothing is sure."""


class Moment:
    """``committed_t``: everything that the core did by this event is on disk. ``ran_ns``: its timers have fired."""

    __slots__ = (
        "back_ns",
        "committed_t",
        "crashed_committed_t",
        "life",
        "now_ns",
        "ran_ns",
        "ran_t",
        "refused_t",
        "refusing",
        "skew_ns",
        "t",
        "trusted",
    )

    def __init__(self, now_ns: int) -> None:
        self.t = 1
        self.now_ns = now_ns
        self.ran_ns = now_ns
        self.ran_t = 0  # and when that was
        self.skew_ns = 0
        self.back_ns = 0  # how far the wall clock was set back, all in all
        self.committed_t = 0
        self.crashed_committed_t = 0  # what was on disk when the last life ended
        self.life = 0
        self.refusing = False  # the core refuses what needs the disk
        self.refused_t = -1  # when that last began or ended
        self.trusted = True  # False: the disk has lied, and everything is excused but nonsense

    def refused_since(self, t: int) -> bool:
        """Whether the core refused what needs the disk at any event from ``t`` on."""
        return self.refusing or self.refused_t >= t

    @property
    def wall_ns(self) -> int:
        """The wall clock, which jumps."""
        return 1_700_000_000 * SECOND_NS + self.now_ns + self.skew_ns
