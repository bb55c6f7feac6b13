"""A fleet with deadlines: nothing has to be looked at while nothing is due."""

from __future__ import annotations

from broker.ports import GrantLimits
from tests.support.core import SECOND_NS, Core

FLEET = 2000


def test_a_fleet_wakes_nobody_before_its_first_deadline() -> None:
    core = Core()
    core.grant(limits=GrantLimits(messages_per_s=100, burst_messages=200))
    for number in range(FLEET):
        core.connect(f"c{number}", keep_alive_s=1800, properties={"session_expiry_interval": 7200})
    for client in core.clients[: FLEET // 2]:
        core.shard.close_connection(client.handle)
    core.run()
    assert core.figures()["timers"] == FLEET
    wakes, until = 0, core.now_ns + 2400 * SECOND_NS
    while (deadline := core.shard.next_deadline_ns()) is not None and deadline < until:
        wakes += 1
        core.now_ns = max(deadline, core.now_ns + 1)
        core.shard.run(core.now_ns)
    # A wheel of five levels spreads a slot a few times on the way to its deadline: none of that grows with the fleet.
    assert wakes < 60
    core.end()
