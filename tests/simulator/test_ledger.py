"""What the ledger may take for known, and what it may not: a false alarm is a bug of its own."""

from __future__ import annotations

import pytest

from broker._core.packets import encode
from broker.wire import Unsubscribe
from tests.simulator.client import Client
from tests.simulator.drain import settle
from tests.simulator.facts import MAYBE, NEVER, NO, Broken, Message
from tests.simulator.moment import SECOND_NS
from tests.simulator.packets import PUBACK, ack
from tests.simulator.profile import UNLIMITED
from tests.simulator.stage import commit, connected, connecting, crash, exchange, made, published
from tests.simulator.world import World


def test_an_acknowledgement_behind_a_barrier_is_taken_when_it_had_its_turn() -> None:
    world = made()
    publisher, busy = connected(world, 0)
    receiver, link = connected(world, 1)
    receiver.subscribe([("a", 1, False, 0)])
    exchange(world, receiver)
    message = published(world, publisher, "a", 1)
    exchange(world, publisher)
    world.read(receiver, -1)
    assert link.session is not None
    (delivery,) = message.seen[link.session]
    for _ in range(8):
        published(world, publisher, "b", 0)
    world.moment.t += 1
    world.life.shard.feed(busy.handle, bytes(busy.up), world.moment.now_ns, 1)
    busy.up.clear()
    link.send(encode(Unsubscribe(9, ("nowhere",)), 5))
    link.waiting.append((link.send(ack(PUBACK, 1)), delivery))
    world.feed(link, len(link.up))
    world.work(1)  # the UNSUBSCRIBE is answered
    world.moment.t += 1
    world.work(1)  # and what stands behind it is not parsed yet: it is others' turn
    described = world.life.shard.describe(link.handle)
    assert described is not None
    assert described["outbound_inflight"] == 1
    assert delivery.acked_t == NEVER
    exchange(world, publisher)
    assert delivery.acked_t == world.moment.t


def test_an_acknowledgement_behind_a_barrier_that_was_behind_another_is_not_taken_with_the_first() -> None:
    world = made()
    publisher, _ = connected(world, 0)
    receiver, link = connected(world, 1)
    receiver.subscribe([("a", 1, False, 0)])
    exchange(world, receiver)
    message = published(world, publisher, "a", 1)
    exchange(world, publisher)
    world.read(receiver, -1)
    assert link.session is not None
    (delivery,) = message.seen[link.session]
    for packet_id in (9, 10):
        link.send(encode(Unsubscribe(packet_id, ("nowhere",)), 5))
    link.waiting.append((link.send(ack(PUBACK, 1)), delivery))
    world.moment.t += 1
    world.feed(link, len(link.up))
    for _ in range(2):  # in the second turn the second one is reached and answered, and what follows it is not parsed
        world.moment.t += 1
        world.work(UNLIMITED)
    described = world.life.shard.describe(link.handle)
    assert described is not None
    assert described["outbound_inflight"] == 1
    assert delivery.acked_t == NEVER
    world.moment.t += 1
    world.work(UNLIMITED)
    assert delivery.acked_t == world.moment.t


def sent_in_order(world: World, publisher: Client, *, refuse_first: bool) -> tuple[Message, Message]:
    """Two messages of QoS 2 whose receipts nobody reads; the second one is taken in any case."""
    assert publisher.link is not None
    found = []
    for refuse in (refuse_first, False):
        world.disk.become("full" if refuse else "ok")
        found.append(published(world, publisher, "a", 2))
        world.moment.t += 1
        world.feed(publisher.link, len(publisher.link.up))
    world.cut(publisher.link)
    publisher.lost()
    return found[0], found[1]


def test_what_was_refused_unheard_is_new_when_it_is_sent_again() -> None:
    world = made()
    publisher, _ = connected(world, 0)
    receiver, _ = connected(world, 1)
    receiver.subscribe([("a", 2, False, 0)])
    exchange(world, receiver)
    first, second = sent_in_order(world, publisher, refuse_first=True)
    publisher, _ = connected(world, 0)
    exchange(world, publisher)  # both are sent again, and the second one is known
    world.read(receiver, -1)
    assert [one.message for one in receiver.incoming.values()] == [second, first]


def test_what_was_not_refused_keeps_its_place_when_it_is_sent_again() -> None:
    world = made()
    publisher, _ = connected(world, 0)
    receiver, link = connected(world, 1)
    receiver.subscribe([("a", 2, False, 0)])
    exchange(world, receiver)
    first, second = sent_in_order(world, publisher, refuse_first=False)
    publisher, _ = connected(world, 0)
    deliveries = world.ledger.deliveries
    deliveries.arrived(link, second.number, "a", 2, dup=False, retained=False, identifiers=())
    with pytest.raises(Broken, match="order"):
        deliveries.arrived(link, first.number, "a", 2, dup=False, retained=False, identifiers=())


def test_a_session_may_go_on_by_a_connect_that_was_not_answered_before_the_crash() -> None:
    world = made()
    client, _ = connected(world, 0, expiry_s=5)
    client.subscribe([("a", 1, False, 0)])
    exchange(world, client)
    crash(world)
    client, link = connecting(world, 0)
    world.feed(link, len(link.up))
    commit(world)
    world.advance(40)  # longer than the session would have lasted
    commit(world)
    crash(world)
    client, link = connected(world, 0)
    assert link.session is not None
    assert list(link.session.subs) == ["a"]


def test_a_run_is_not_at_rest_while_a_batch_waits_for_another_look_at_the_disk() -> None:
    world = made()
    publisher, link = connected(world, 0)
    message = published(world, publisher, "a", 2)
    world.feed(link, len(link.up))
    world.work(UNLIMITED)
    world.disk.become("failed")
    world.disk.begin()
    world.disk.end()
    world.disk.become("ok")  # and only then the journal learns that its batch was refused
    settle(world)
    assert world.life.is_written
    assert message.acked


def test_who_was_lost_before_the_wall_clock_was_set_may_be_recorded_by_the_new_one() -> None:
    world = made()
    client, link = connected(world, 0, expiry_s=300)
    world.cut(link)
    client.lost()
    world.moment.skew_ns -= 400 * SECOND_NS
    world.ledger.clock_set()
    world.life.clock()
    commit(world)  # and it is away since now
    crash(world, down_s=301)
    _, link = connected(world, 0)  # it has expired
    assert link.accepted


def test_what_ended_unrecorded_is_undecided_until_the_next_life() -> None:
    world = made()
    client, _ = connected(world, 0, expiry_s=5)
    client.subscribe([("a", 1, False, 0)])
    exchange(world, client)
    crash(world)
    world.moment.t += 1
    world.advance(40)
    world.work(UNLIMITED, write=False)  # it ends, in memory alone
    connecting(world, 0)
    session = world.ledger.sessions.current[0]
    assert session.alive == NO
    crash(world)
    assert session.alive != NO
    client, link = connected(world, 0)
    assert link.session is session
    assert list(session.subs) == ["a"]


def left_and_asked_again(world: World, expiry_s: int) -> None:
    """A client that has left with this expiry and is resuming; both arrive before anything of it is noticed."""
    client, link = connected(world, 0)
    client.subscribe([("a", 1, False, 0)])
    exchange(world, client)
    client.leave(0, expiry_s)
    client, again = connecting(world, 0)
    for one in (link, again):
        world.moment.t += 1
        world.feed(one, len(one.up))
    world.moment.t += 1
    commit(world)
    world.scan()
    client.lost()
    world.cut(again)  # its CONNACK was not read
    commit(world)
    world.moment.t += 1
    world.advance(400)
    commit(world)


def test_a_connect_that_was_taken_before_a_farewell_was_noticed_may_have_made_the_session_last() -> None:
    world = made()
    left_and_asked_again(world, expiry_s=5)
    session = world.ledger.sessions.of(0)
    assert session is not None
    assert session.alive == MAYBE
    _, link = connected(world, 0)
    assert link.session is session
    assert list(session.subs) == ["a"]


def test_a_session_that_ended_with_its_farewell_is_not_resumed() -> None:
    world = made()
    left_and_asked_again(world, expiry_s=0)
    session = world.ledger.sessions.of(0)
    assert session is not None
    assert session.alive == NO
    _, link = connected(world, 0)
    assert link.session is not session


def test_an_expiry_that_was_never_written_over_counts_after_two_changes_that_were_not_recorded() -> None:
    world = made()
    client, link = connected(world, 0)
    world.moment.t += 1
    world.disk.become("failed")
    client.leave(0, 300)
    world.feed(link, len(link.up))
    commit(world)
    world.scan()
    _, link = connected(world, 0, expiry_s=5)
    assert link.unpromised
    crash(world)
    world.moment.t += 1
    world.advance(5000)
    commit(world)
    session = world.ledger.sessions.current[0]
    _, link = connected(world, 0)
    assert link.session is session
