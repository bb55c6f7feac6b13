"""What one round does and how it ends, drawn from the campaign's seed.

Here belong chances and figures. Not here: doing any of it (``campaign``, ``cast``).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

TRAFFIC = "traffic"
STARTING = "starting"
RETURNING = "returning"
STOPPING = "stopping"
FULL = "full store"
MIGRATION = "migration"
BACKUP = "backup"
RESTORE = "restore"

PLAIN, SMALL, OLD = "plain", "small map", "format 0"


@dataclass(frozen=True, slots=True)
class Death:
    """One kill: in which phase, and when: seconds after its beginning, or parts of a usual start."""

    phase: str
    after: float


@dataclass(frozen=True, slots=True)
class Round:
    """What happens until everybody is back."""

    messages: int
    deaths: tuple[Death, ...]
    with_backup: bool
    fills_up: bool


def draw_kind(rng: random.Random, kinds: list[str]) -> str:
    """Choose what kind of data directory a campaign has."""
    weights = {PLAIN: 6, SMALL: 1, OLD: 1}
    return rng.choices(kinds, [weights[one] for one in kinds])[0]


def draw_first_deaths(rng: random.Random, kind: str) -> list[Death]:
    """Choose how often the very first start is cut short: only where it has something to bring over."""
    return [_while_starting(rng, MIGRATION) for _ in range(rng.randint(1, 3) if kind == OLD else 0)]


def draw_round(rng: random.Random, kind: str) -> Round:
    """Choose one round of a campaign."""
    with_backup = kind == PLAIN and rng.random() < 0.05
    fills_up = kind == SMALL and rng.random() < 0.5
    if fills_up:
        deaths = [Death(FULL, rng.uniform(0.0, 0.3))]
    else:
        deaths = [Death(STOPPING if rng.random() < 0.06 else TRAFFIC, rng.uniform(0.05, 0.5))]
    while rng.random() < 0.2 and len(deaths) < 4:
        deaths.append(_while_starting(rng, STARTING))
    if rng.random() < 0.12:
        deaths.append(Death(RETURNING, rng.uniform(0.0, 0.15)))
    return Round(rng.choice((60, 200, 500, 900)), tuple(deaths), with_backup, fills_up)


def _while_starting(rng: random.Random, phase: str) -> Death:
    """Python itself takes the first half of a start, which nobody needs to see again and again."""
    return Death(phase, rng.uniform(0.5, 1.1) if rng.random() < 0.8 else rng.uniform(0.0, 0.5))
