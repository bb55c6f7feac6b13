"""What kind of run a seed is: how many clients, what they promise each other, how bad the days are.

Here belong choices that hold for a whole run. All of them follow from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.config import Capabilities
from broker.net.gateway import core_limits
from tests.simulator.chance import Chance

UNLIMITED = 1 << 40


@dataclass
class Profile:
    """One run's circumstances. ``levels`` has one entry for each client, the prober's last."""

    levels: list[str]
    limits: dict[str, int]
    slices: tuple[int, ...]
    cuts: int  # one feed in so many is cut at any byte
    crashes: int  # one step in so many
    drains: int
    writes: int  # one round in so many ends with the journal's batch being closed
    ills: int  # the disk changes its health once in so many of its events
    prompt: bool  # clients acknowledge soon
    expiries_s: tuple[int, ...]
    delays_s: tuple[int, ...]
    roomy: bool = True
    weights: dict[str, int] = field(default_factory=dict)


def choose(chance: Chance, level: str | None) -> Profile:
    """Draw the circumstances of a run; ``level`` makes all clients of one level."""
    count = 2 + chance.below(5)
    drawn = level or chance.pick(("synced", "synced", "synced", "memory"))
    levels = [drawn] * count
    roomy = chance.below(6) > 0
    limits = core_limits(Capabilities.model_validate({}))
    limits["outbound_inflight_maximum"] = chance.pick((1, 3, 1000))
    limits["queue_messages_maximum"] = 100_000 if roomy else chance.pick((2, 5, 20))
    limits["session_expiry_maximum_s"] = 1_000_000
    slices = chance.pick(((UNLIMITED,), (UNLIMITED,), (1,), (1, 2, 7, UNLIMITED)))
    return Profile(
        levels=[*levels, drawn],
        limits=limits,
        slices=slices,
        cuts=chance.pick((4, 20, 1000)),
        crashes=chance.pick((60, 200, 600)),
        drains=chance.pick((150, 400, 1500)),
        writes=chance.pick((1, 1, 4)),
        ills=chance.pick((10, 10_000, 10_000)),
        prompt=chance.below(2) == 0,
        expiries_s=chance.pick(((0, 100_000), (0, 5, 300, 100_000), (100_000,))),
        delays_s=chance.pick(((0,), (0, 1, 100), (100,))),
        roomy=roomy,
    )
