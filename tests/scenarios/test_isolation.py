"""Law 11: one account can never see, slow, fill or block another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.core import Client, Core

CROWD = 400


@pytest.fixture
def busy() -> Iterator[tuple[Core, Client]]:
    """A core that makes fifty deliveries a slice, with a crowd of subscribers in account 1 and one in account 2."""
    core = Core(deliveries=50)
    core.grant("crowd")
    core.grant("other", account_id=2)
    for number in range(CROWD):
        core.connect(f"c{number}", user_name="crowd").subscribe("t")
    other = core.connect("other", user_name="other")
    other.subscribe("t")
    yield core, other
    core.end()


def crowd_of(core: Core) -> list[Client]:
    return [client for client in core.clients if client.described["client_id"].startswith("c")]


@pytest.mark.parametrize("orphaned", [False, True], ids=["publisher stays", "publisher goes"])
def test_a_fan_out_of_one_account_does_not_hold_back_another(busy: tuple[Core, Client], orphaned: bool) -> None:
    core, other = busy
    loud = core.connect("loud", user_name="crowd")
    quiet = core.connect("quiet", user_name="other")
    loud.publish("t", b"to the crowd", run=False)
    if orphaned:
        core.shard.close_connection(loud.handle)
    quiet.publish("t", b"to one", run=False)
    assert other.payloads() == [b"to one"]
    assert sum(bool(client.payloads()) for client in crowd_of(core)) < CROWD
    core.run()


def test_unfinished_fan_outs_of_two_accounts_go_on_in_turn(busy: tuple[Core, Client]) -> None:
    core, _ = busy
    for number in range(CROWD):
        core.connect(f"o{number}", user_name="other").subscribe("t")
    publishers = [core.connect(f"publisher {name}", user_name=name) for name in ("crowd", "other")]
    for publisher in publishers:
        publisher.publish("t", b"x", run=False)
    for _ in range(6):
        core.slice()
    reached = {"c": 0, "o": 0}
    for client in core.clients:
        kind = client.described["client_id"][0]
        if kind in reached:
            reached[kind] += len(client.payloads())
    assert min(reached.values()) >= 100, reached  # in turn: neither waits for the other's end
    assert max(reached.values()) < CROWD, reached
    core.run()


def test_the_order_of_one_account_is_kept_behind_its_unfinished_fan_out(busy: tuple[Core, Client]) -> None:
    core, _ = busy
    crowd = crowd_of(core)
    loud, again = (core.connect(name, user_name="crowd") for name in ("loud", "again"))
    loud.publish("t", b"first", run=False)
    core.shard.close_connection(loud.handle)
    again.publish("t", b"second", run=False)
    core.run()
    assert all(client.payloads() == [b"first", b"second"] for client in crowd)
