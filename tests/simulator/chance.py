"""Chance that is cheap and can be set to any step of any run.

Here belongs the one source of randomness. Each step draws from a state that is made of the seed and the step's number,
so that a step means the same when others are left out: that is what makes shrinking possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
MASK = (1 << 64) - 1


def mix(seed: int, step: int) -> int:
    """Make one state of two numbers (splitmix64's finaliser)."""
    z = (seed * 0x9E37_79B9_7F4A_7C15 + step * 0xD1B5_4A32_D192_ED03 + 0x2545_F491_4F6C_DD1D) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & MASK
    return z ^ (z >> 31)


class Chance:
    """A generator of 64 bits (Knuth's linear congruential one, its upper half used)."""

    __slots__ = ("state",)

    def __init__(self, seed: int = 0) -> None:
        self.state = mix(seed, 0)

    def at(self, seed: int, step: int) -> None:
        """Continue as this step of this seed does."""
        self.state = mix(seed, step)

    def below(self, n: int) -> int:
        """Draw one of 0..n-1."""
        self.state = state = (self.state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & MASK
        return ((state >> 33) * n) >> 31

    def one_in(self, n: int) -> bool:
        """True once in n times."""
        return self.below(n) == 0

    def pick(self, items: Sequence[T]) -> T:
        """Draw one of some items."""
        return items[self.below(len(items))]
