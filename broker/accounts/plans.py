"""The plans that an account can be on.

Here belong the figures of each plan. Not here: their enforcement, which is where each thing is counted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """What one account may have."""

    name: str
    devices_maximum: int


DEFAULT_PLAN = "professional"

PLANS = {
    plan.name: plan
    for plan in (
        Plan("free", devices_maximum=100),
        Plan(DEFAULT_PLAN, devices_maximum=1000),
        Plan("unlimited", devices_maximum=1_000_000_000),
    )
}
