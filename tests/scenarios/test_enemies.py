"""What an enemy tries against kept sessions, deadlines and promises: each costs him, and nobody else (law 8)."""

from __future__ import annotations

import pytest

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
