"""Connections and sessions in pages: nobody is left out, however many come and go between two of them."""

from __future__ import annotations

import pytest

from broker.stories import ConnectionNow, SessionNow
from tests.support.core import SECOND_NS, WALL_NS, Core


def connections(core: Core, size: int, account_id: int | None = None) -> list[ConnectionNow]:
    found: list[ConnectionNow] = []
    cursor = 0
    while True:
        rows, cursor = core.shard.connections(cursor, size, account_id)
        assert len(rows) <= size
        found += map(ConnectionNow._make, rows)
        if cursor == 0:
            return found


def sessions(core: Core, size: int, account_id: int | None = None, grow: int = 0) -> list[SessionNow]:
    """All pages; between two of them ``grow`` more clients come."""
    found: list[SessionNow] = []
    cursor = 0
    more = 0
    while True:
        rows, cursor = core.shard.sessions(cursor, size, account_id)
        found += map(SessionNow._make, rows)
        if cursor == 0:
            return found
        if grow > more:
            for _ in range(50):
                core.keep(f"late-{more}")
                more += 1


def test_a_row_tells_what_there_is_of_a_connection(core: Core) -> None:
    core.shard.set_door(1, 2)
    number = core.grant("dev", device_id="dev", account_id=3)
    core.wait(2)
    client = core.keep("c", user_name="dev", listener=1, keep_alive_s=30)
    client.subscribe("a", "b")
    (row,) = connections(core, 10)
    assert (row.handle, row.account_id, row.principal_id, row.device_id) == (client.handle, 3, number, "dev")
    assert (row.client_id, row.listener, row.door, row.version) == ("c", 1, 2, 5)
    assert (row.connected_at_ns, row.keep_alive_s) == (WALL_NS + 2 * SECOND_NS, 30)
    assert (row.session_expiry_interval_s, row.subscriptions) == (600, 2)
    assert core.shard.connection(client.handle) == tuple(row)
    assert core.shard.connections_of(number) == [tuple(row)]
    client.drop()
    assert core.shard.connection(client.handle) is None
    assert connections(core, 10) == []


def test_who_was_not_let_in_yet_is_not_listed(core: Core) -> None:
    client = core.open()
    assert core.shard.connection(client.handle) is None
    assert connections(core, 10) == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pages_hold_everybody_once(core: Core, size: int) -> None:
    core.grant("other", account_id=2)
    for number in range(150):
        core.connect(f"c{number}", user_name="other" if number % 3 == 0 else "user")
    assert sorted(one.client_id for one in connections(core, size)) == sorted(f"c{n}" for n in range(150))
    assert len(connections(core, size, 2)) == 50
    assert len(connections(core, size, 9)) == 0
    assert sorted(one.client_id for one in sessions(core, size)) == sorted(f"c{n}" for n in range(150))
    assert len(sessions(core, size, 2)) == 50


def test_the_table_may_grow_between_two_pages(core: Core) -> None:
    for number in range(60):
        core.keep(f"early-{number}")
    found = [one.client_id for one in sessions(core, 5, grow=400)]  # the table doubles several times
    assert {f"early-{number}" for number in range(60)} <= set(found)


def test_any_cursor_leads_to_an_end(core: Core) -> None:
    core.connect("c")
    for cursor in (1, 63, 64, 12345, 2**32 - 1):
        core.shard.connections(cursor, 10)
        for _ in range(100):
            _, cursor = core.shard.sessions(cursor, 10)
            if cursor == 0:
                break
        assert cursor == 0


def test_a_session_whose_client_is_away_tells_when_it_ends(core: Core) -> None:
    client = core.keep("c")
    number = core.principals
    (row,) = map(SessionNow._make, core.shard.sessions_of(number))
    assert (row.handle, row.ends_at_ns) == (client.handle, 0)
    client.drop()
    (row,) = map(SessionNow._make, core.shard.sessions_of(number))
    assert (row.handle, row.ends_at_ns, row.session_expiry_interval_s) == (0, WALL_NS + 600 * SECOND_NS, 600)


def test_a_session_is_ended_with_its_connection(core: Core) -> None:
    client = core.keep("c")
    client.subscribe("t")
    number = core.principals
    assert core.shard.end_session(number, b"c", core.now_ns)
    core.run()
    client.closed_with(0x98)
    assert not core.shard.end_session(number, b"c", core.now_ns)
    assert core.shard.sessions_of(number) == []
    core.keep("c", present=False)


def test_a_session_whose_client_is_away_is_ended(core: Core) -> None:
    client = core.keep("c")
    client.subscribe("t", qos=1)
    client.drop()
    core.publish("t", b"x", qos=1)
    assert core.shard.end_session(core.principals, b"c", core.now_ns)
    core.run()
    core.keep("c", present=False).expect()
