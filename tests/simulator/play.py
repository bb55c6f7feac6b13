"""Playing runs, telling of a failure, and finding fewer steps that fail alike.

Here belongs what surrounds a run. Not here: the run.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

from tests.simulator.facts import Broken
from tests.simulator.world import World

SHRINK_ATTEMPTS = 400


@dataclass
class Failure:
    """What went wrong, in which run, and the last that happened before. ``kept``: the steps that were played."""

    seed: int
    kept: list[int]
    rule: str
    error: str
    trace: list[str]
    level: str | None = None
    faults: frozenset[str] = field(default_factory=frozenset)
    steps: int = 0
    lying: str = ""

    def text(self) -> str:
        """Tell it, with the command that repeats it."""
        chosen = (
            "".join(f" --fault {one}" for one in sorted(self.faults))
            + (f" --level {self.level}" if self.level else "")
            + (f" --lying {self.lying}" if self.lying else "")
        )
        again = f"python -m tests.simulator --seed {self.seed} --steps {self.steps}{chosen}"
        return "\n".join(
            [*self.trace, f"FAILED after {len(self.kept)} steps, {self.rule}", self.error, f"again: {again}"]
        )


def play(
    seed: int, steps: int, *, level: str | None = None, faults: frozenset[str] = frozenset(),
    lying: str = "", kept: list[int] | None = None,
) -> World | Failure:  # fmt: skip
    """Play one run, or some of its steps, and come to rest at the end."""
    world = World(seed, level=level, faults=faults, lying=lying)
    done: list[int] = []
    try:
        for i in range(steps) if kept is None else kept:
            done.append(i)
            world.step(i)
        world.chance.at(seed, -1)
        world.drain()
    except Exception as error:  # noqa: BLE001  whatever it is, it is the run's outcome
        rule = error.rule if isinstance(error, Broken) else type(error).__name__
        told = str(error) if isinstance(error, Broken) else traceback.format_exc()
        trace = [" ".join(map(str, one)) for one in world.trace]
        return Failure(seed, done, rule, told, trace, level, faults, steps, lying)
    return world


def shrink(failure: Failure, attempts: int = SHRINK_ATTEMPTS) -> Failure:
    """Leave out steps while the same rule is broken: halves first, single ones last."""
    best = failure
    size = len(best.kept) // 2
    left = attempts
    while size and left:
        at = 0
        while at < len(best.kept) and left:
            left -= 1
            fewer = best.kept[:at] + best.kept[at + size :]
            outcome = play(best.seed, best.steps, level=best.level, faults=best.faults, lying=best.lying, kept=fewer)
            if isinstance(outcome, Failure) and outcome.rule == failure.rule:
                best = outcome
            else:
                at += size
        size //= 2
    return best
