"""What an enemy tries against kept sessions, deadlines and promises: each costs him, and nobody else (law 8)."""

from __future__ import annotations

import pytest

from broker.wire import Puback, Pubcomp, Pubrel
from tests.support.core import Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])


# ---------------------------------------------------------------- deadlines


def test_a_crowd_of_sessions_that_expires_at_one_moment_ends_in_slices(core: Core) -> None:
    for number in range(500):
        client = core.keep(f"c{number}")
        for name in (b"a/+/#", b"b", b"c/+"):
            assert core.shard.subscribe(client.handle, name, 1)
        core.shard.close_connection(client.handle)
    core.run()
    core.now_ns += 601 * 10**9
    core.deliveries = 100
    assert core.slice(), "there is more to do"
    assert core.shard.counters()["sessions"] > 300
    slices = 1
    while core.slice():
        slices += 1
    assert slices > 5
    assert core.shard.counters()["subscriptions"] == 0


def test_a_crowd_of_silent_clients_is_cut_in_slices(core: Core) -> None:
    clients = [core.connect(f"c{number}", keep_alive_s=10) for number in range(500)]
    core.now_ns += 16 * 10**9
    core.deliveries = 50
    assert core.slice(), "there is more to do"
    assert sum(one.is_open for one in clients) > 300
    while core.slice():
        pass
    assert not any(one.is_open for one in clients)


# ---------------------------------------------------------------- promises


@VERSIONS
def test_releases_of_nothing_behind_a_promise_do_not_pile_up_without_end(version: int) -> None:
    core = Core(server_receive_maximum=10)
    core.grant(synced=True)
    core.hold()
    client = core.connect("c", version)
    client.publish("t", b"", 1)
    client.send(*(Pubrel(number) for number in range(1, 1001)))
    assert client.described["promises_held"] <= 12
    assert core.shard.is_stopped(client.handle)
    core.release()
    found = client.received()
    assert found[0] == Puback(1, 0x10 if version == 5 else 0)
    assert [one.packet_id for one in found[1:] if isinstance(one, Pubcomp)] == list(range(1, 1001))
    core.end()
