"""Which wills the ledger expects over a crash: all that a CONNACK promised, and no others."""

from __future__ import annotations

import pytest

from tests.simulator.client import Client
from tests.simulator.facts import Will
from tests.simulator.stage import commit, connected, crash, exchange, made
from tests.simulator.world import World

DELAY_S = 100


def let_in(world: World, qos: int, *, well_again: bool) -> tuple[Client, Will]:
    """A client that has asked to resume its session, with a will, while the disk took nothing, and has its CONNACK."""
    client, link = connected(world, 0)
    world.cut(link)
    client.lost()
    commit(world)
    world.moment.t += 1
    world.disk.become("full")
    link = world.open(client, 5)
    link.expiry_s = 100_000
    message = world.ledger.message(0, "w/1", qos, retain=False)
    client.connect(link, 0, 0, (message, DELAY_S, message.number.to_bytes(8, "big")))
    world.moment.t += 1
    if well_again:
        world.disk.become("ok")
    exchange(world, client)
    assert message.will is not None
    return client, message.will


@pytest.mark.parametrize("qos", [1, 2])
def test_a_will_of_qos_1_or_2_is_promised_though_the_disk_was_ill_when_it_was_asked_for(qos: int) -> None:
    world = made()
    _, will = let_in(world, qos, well_again=True)
    assert will.link.unpromised
    world.moment.t += 1
    world.disk.become("full")
    crash(world)
    assert will.state == Will.PENDING


@pytest.mark.parametrize("qos", [1, 2])
def test_nobody_is_let_in_with_a_will_of_qos_1_or_2_while_the_disk_takes_nothing(qos: int) -> None:
    world = made()
    client, will = let_in(world, qos, well_again=False)
    assert client.link is None
    assert will.state == Will.UNSURE


def test_a_will_of_qos_0_that_was_let_in_meanwhile_may_be_lost() -> None:
    world = made()
    _, will = let_in(world, 0, well_again=False)
    assert will.state == Will.ARMED
    crash(world)
    assert will.state == Will.UNSURE


def test_a_will_that_was_not_on_disk_when_its_client_went_may_be_lost() -> None:
    world = made()
    client, will = let_in(world, 0, well_again=False)
    world.cut(will.link)
    client.lost()
    commit(world)
    assert will.state == Will.PENDING
    crash(world)
    assert will.state == Will.UNSURE


def test_a_will_that_was_on_disk_when_its_client_went_is_promised() -> None:
    world = made()
    client, will = let_in(world, 1, well_again=True)
    world.cut(will.link)
    client.lost()
    commit(world)
    assert will.state == Will.PENDING
    crash(world)
    assert will.state == Will.PENDING


def test_a_late_connect_that_takes_a_session_over_and_is_cut_off_may_have_taken_its_will_back() -> None:
    world = made()
    client = world.clients[0]
    late = world.open(client, 5)
    late.expiry_s = 100_000
    client.connect(late, 0, 0, None)
    client.lost()
    link = world.open(client, 5)
    link.expiry_s = 100_000
    message = world.ledger.message(0, "w/1", 1, retain=False)
    client.connect(link, 0, 0, (message, DELAY_S, message.number.to_bytes(8, "big")))
    exchange(world, client)
    assert link.accepted
    assert message.will is not None
    world.moment.t += 1
    world.feed(late, len(late.up))
    world.cut(late)  # before it is noticed that the other one was closed for it
    commit(world)
    assert not link.is_open
    assert message.will.state == Will.UNSURE
