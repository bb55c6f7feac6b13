"""The core as the ports see it: grants in, presence out, messages from inside the process.

Here belongs the step from frozen values to the shard's calls, with the reactor's clock. Not here: any rule.
"""

from __future__ import annotations

from broker._core.reactor import Reactor
from broker._core.shard import LIMITS
from broker.config import Capabilities
from broker.ports import Durability, Grant, Presence

NS_PER_S = 1_000_000_000


def core_limits(capabilities: Capabilities) -> dict[str, int]:
    """Give the core its limits: under the configuration's names, times in nanoseconds."""
    limits = {name: getattr(capabilities, name) for name in LIMITS if name != "connect_timeout_ns"}
    return {**limits, "connect_timeout_ns": int(capabilities.connect_timeout_s * NS_PER_S)}


class Gateway:
    """Implements ``ports.GrantTable``, ``ports.PresenceSource`` and ``ports.Publisher`` on one reactor's shard."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._shard = reactor.shard

    def put_grant(self, credential: bytes, grant: Grant) -> None:
        """Make a credential known to the core."""
        self._shard.put_grant(
            credential,
            grant.account_id,
            grant.principal_id,
            grant.principal,
            grant.device_id,
            grant.policy.publish,
            grant.policy.subscribe,
            synced=grant.durability is Durability.SYNCED,
            limits=grant.limits,
        )
        self._reactor.soon()

    def remove_grant(self, credential: bytes) -> None:
        """Forget a credential and cut who came in with it."""
        if self._shard.remove_grant(credential):
            self._reactor.soon()

    def presence(self, principal_id: int) -> Presence:
        """Give a principal's presence; zeros for one that the core does not know."""
        connections, last_seen_ns = self._shard.presence(principal_id)
        return Presence(connections, last_seen_ns)

    def publish(self, account_id: int, topic_name: str, payload: bytes, qos: int = 0) -> int:
        """Route one message; returns to how many sessions it was sent or queued."""
        taken = self._shard.publish(account_id, topic_name.encode(), payload, qos, self._reactor.now_ns())
        self._reactor.soon()
        return taken
