"""Connections that are not read: nobody listens to their sockets until they may go on."""

from __future__ import annotations

from broker._core.core_probe import deafen, waking
from tests.support.core import Core


def test_a_connection_that_is_stopped_and_freed_again_stands_once_among_those_that_wake(core: Core) -> None:
    client = core.connect("c")
    for number in range(3):
        deafen(core.shard, client.handle)
        client.subscribe(f"t/{number}")
    assert waking(core.shard) == 1


def test_a_connection_that_nobody_stopped_listening_to_does_not_wake(core: Core) -> None:
    core.connect("c").subscribe("t")
    assert waking(core.shard) == 0
