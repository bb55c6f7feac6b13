"""The plans that an account can be on, and the limits that follow from them.

Here belong the figures of each plan, and whose limits they become. Not here: their enforcement, which is where each
thing is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from broker.config import QUEUE_FULL_POLICIES, AccountBudgets
from broker.ports import AccountLimits, GrantLimits

GB = 10**9
MIB = 1024 * 1024
PLENTY = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What one account may have, and each of its devices. A month's messages and bytes count both directions."""

    name: str
    devices_maximum: int
    messages_per_month: int
    bytes_per_month: int
    payload_maximum_bytes: int
    device_messages_per_s: int
    device_burst_messages: int
    connections_maximum: int
    applications_reserved: int
    device_connections_maximum: int = 5
    device_sessions_maximum: int = 5
    device_subscriptions_maximum: int = 100
    device_retained_maximum: int = 100


DEFAULT_PLAN = "professional"

PLANS = {
    plan.name: plan
    for plan in (
        Plan("free", 100, 1_000_000, 10 * GB, MIB // 10, 10, 20, 100, 5),
        Plan(DEFAULT_PLAN, 1000, 10_000_000, 100 * GB, MIB, 100, 200, 1000, 50),
        Plan(
            "unlimited",
            devices_maximum=PLENTY,
            messages_per_month=PLENTY * 1000,
            bytes_per_month=PLENTY * GB,
            payload_maximum_bytes=255 * MIB,
            device_messages_per_s=1_000_000,
            device_burst_messages=1_000_000,
            connections_maximum=PLENTY,
            applications_reserved=50,
        ),
    )
}


@cache
def device_limits(plan: Plan, queue_maximum_bytes: int) -> GrantLimits:
    """What one device may do on a plan."""
    return GrantLimits(
        messages_per_s=plan.device_messages_per_s,
        burst_messages=plan.device_burst_messages,
        connections_maximum=plan.device_connections_maximum,
        sessions_maximum=plan.device_sessions_maximum,
        subscriptions_maximum=plan.device_subscriptions_maximum,
        retained_maximum=plan.device_retained_maximum,
        payload_maximum_bytes=plan.payload_maximum_bytes,
        queue_maximum_bytes=queue_maximum_bytes,
    )


@cache
def application_limits(plan: Plan) -> GrantLimits:
    """What one application may do on a plan: its account's limits are its own, and it has no rate."""
    return GrantLimits(payload_maximum_bytes=plan.payload_maximum_bytes)


def account_limits(plan: Plan, budgets: AccountBudgets, queue_full_policy: str = "") -> AccountLimits:
    """What all of an account together may have: the plan's connections beside the installation's budgets.

    ``queue_full_policy`` is empty where the whole broker's holds.
    """
    return AccountLimits(
        connections_maximum=plan.connections_maximum,
        applications_reserved=plan.applications_reserved,
        sessions_maximum=budgets.sessions_maximum,
        retained_maximum=budgets.retained_maximum,
        retained_maximum_bytes=budgets.retained_maximum_bytes,
        queue_maximum_bytes=budgets.queue_maximum_bytes,
        outbox_maximum_bytes=budgets.outbox_maximum_bytes,
        filters_maximum_bytes=budgets.filters_maximum_bytes,
        queue_full_policy=QUEUE_FULL_POLICIES.index(queue_full_policy) + 1 if queue_full_policy else 0,
    )
