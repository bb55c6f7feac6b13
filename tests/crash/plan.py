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
    """One kill: in which phase, and how long after its beginning."""

    phase: str
    after_s: float


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


def draw_round(rng: random.Random, kind: str, number: int, can_back_up: bool) -> Round:
    """Choose one round of a campaign; ``number`` counts from 0."""
    deaths = [Death(_first_phase(rng), rng.uniform(0.05, 0.5))]
    if kind == OLD and number == 0:
        deaths = [Death(MIGRATION, rng.uniform(0.0, 0.5)) for _ in range(rng.randint(1, 3))]
    fills_up = kind == SMALL and rng.random() < 0.7
    if fills_up:
        deaths = [Death(FULL, rng.uniform(0.0, 0.3))]
    while rng.random() < 0.2 and len(deaths) < 4:
        deaths.append(Death(STARTING, rng.uniform(0.0, 0.5)))
    if rng.random() < 0.12:
        deaths.append(Death(RETURNING, rng.uniform(0.0, 0.15)))
    with_backup = can_back_up and kind == PLAIN and rng.random() < 0.06
    return Round(rng.choice((60, 200, 500, 900)), tuple(deaths), with_backup, fills_up)


def _first_phase(rng: random.Random) -> str:
    return STOPPING if rng.random() < 0.06 else TRAFFIC
