"""What an account and its principals have at a moment: connections by door, the day's peak, sessions, queues."""

from __future__ import annotations

import pytest

from tests.support.core import Core

INSIDE = 255


def peak(core: Core, account_id: int = 1) -> int:
    highest: int = core.shard.account_connections(account_id)[0]
    return highest


def test_connections_are_counted_by_the_door_that_they_came_through(core: Core) -> None:
    core.shard.set_door(1, 3)
    core.shard.set_door(2, 1)
    one = core.connect("a", listener=0)
    core.connect("b", listener=1)
    core.connect("c", listener=1)
    core.connect("d", listener=2)
    core.connect("inside", listener=INSIDE)
    assert core.shard.account_connections(1) == (4, [1, 1, 0, 2])
    one.drop()
    assert core.shard.account_connections(1) == (4, [0, 1, 0, 2])
    assert core.shard.account_connections(2) == (0, [0, 0, 0, 0])
    for wrong in ((-1, 0), (255, 0), (0, 4), (0, -1)):
        with pytest.raises(ValueError, match="numbered"):
            core.shard.set_door(*wrong)


def test_the_peak_is_the_days_and_begins_with_who_is_there(core: Core) -> None:
    clients = [core.connect(name) for name in "abc"]
    clients[0].drop()
    assert peak(core) == 3
    core.shard.set_day(7)
    clients[1].drop()
    assert peak(core) == 2  # who left first on this day was there on it
    core.shard.set_day(7)
    assert peak(core) == 2
    core.shard.set_day(8)
    assert peak(core) == 1
    core.connect("d")
    clients[2].drop()
    assert peak(core) == 2
    core.shard.set_day(7)  # a clock that was set back
    assert peak(core) == 1


def test_a_takeover_is_no_peak(core: Core) -> None:
    core.connect("a")
    core.connect("a")
    assert core.shard.account_connections(1) == (1, [1, 0, 0, 0])


def test_sessions_that_outlive_their_connection_and_what_waits_for_them(core: Core) -> None:
    core.grant("fleet", account_id=1)
    core.connect("short", user_name="fleet")
    kept = core.keep("kept", user_name="fleet")
    kept.subscribe("t", qos=1)
    assert core.shard.standing(core.principals) == (2, 1, 0)
    kept.drop()
    for _ in range(3):
        core.publish("t", b"x", 1)
    assert core.shard.standing(core.principals) == (1, 1, 3)
    core.resume("kept", user_name="fleet")
    assert core.shard.standing(core.principals) == (2, 1, 0)
    assert core.shard.standing(99) == (0, 0, 0)
