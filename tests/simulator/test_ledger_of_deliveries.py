"""What the ledger may ask of shared groups, of repetitions and of what is retained."""

from __future__ import annotations

import pytest

from tests.simulator.client import Client
from tests.simulator.facts import Broken, Message
from tests.simulator.network import Link
from tests.simulator.stage import commit, connected, connecting, crash, exchange, made, published
from tests.simulator.world import World

GROUP = "$share/g/s/1"


def member(world: World, number: int, qos: int, expiry_s: int = 100_000) -> Client:
    """A client that is a member of the group."""
    client, _ = connected(world, number, expiry_s)
    client.subscribe([(GROUP, qos, False, 0)])
    exchange(world, client)
    return client


def missed(world: World) -> None:
    """What was promised and did not arrive."""
    world.ledger.missing(world.dropped)


def lost(world: World, client: Client) -> None:
    """Its connection breaks, on both sides."""
    assert client.link is not None
    link = client.link
    client.lost()
    world.cut(link)
    commit(world)


def ended(world: World, client: Client) -> None:
    """It leaves, and its session ends."""
    assert client.link is not None
    link = client.link
    world.moment.t += 1
    client.leave(0, 0)
    world.feed(link, len(link.up))
    world.scan()
    commit(world)


# ------------------------------------------------------------ shared groups


def test_a_member_whose_client_has_begun_anew_may_be_handed_what_nobody_will_read() -> None:
    world = made()
    member(world, 1, 0, expiry_s=0).lost()  # and the broker does not know
    connecting(world, 1)  # which it does not know either
    publisher = member(world, 0, 1)
    message = published(world, publisher, "s/1", 1)
    exchange(world, publisher)
    assert message.acked
    assert message not in world.ledger.deliveries.groups_owed


def test_who_has_begun_anew_is_owed_nothing_by_the_connection_that_was_left() -> None:
    world = made()
    client, link = connected(world, 1, expiry_s=0)
    client.subscribe([("a", 1, False, 0)])
    exchange(world, client)
    client.lost()
    connecting(world, 1)
    publisher, _ = connected(world, 0)
    published(world, publisher, "a", 1)
    exchange(world, publisher)
    assert link.session is not None
    assert not link.session.must


def test_a_member_whose_connection_the_broker_knows_to_be_gone_is_no_excuse() -> None:
    world = made()
    lost(world, member(world, 1, 0, expiry_s=0))
    connecting(world, 1)
    publisher = member(world, 0, 1)
    message = published(world, publisher, "s/1", 1)
    assert publisher.link is not None
    world.moment.t += 1
    world.ledger.acked(message)  # before it has arrived anywhere
    with pytest.raises(Broken, match="reached nobody"):
        missed(world)


def handed_over(world: World, later_qos: int) -> Message:
    """A message whose receiver's session ends, while the other member is away with a subscription of this QoS."""
    other = member(world, 1, 1)
    receiver = member(world, 2, 1)
    lost(world, other)
    publisher, _ = connected(world, 0)
    message = published(world, publisher, "s/1", 1)
    exchange(world, publisher)
    other, _ = connected(world, 1)
    other.subscribe([(GROUP, later_qos, False, 0)])
    exchange(world, other)
    lost(world, other)
    ended(world, receiver)
    return message


def passed_on(world: World, qos: int, *, unanswered: bool = False) -> tuple[Message, Client]:
    """A message whose receiver's session has ended, handed to a member that came later with this QoS; one is away."""
    away = member(world, 1, 1)
    lost(world, away)
    receiver = member(world, 2, 1)
    publisher, _ = connected(world, 0)
    message = published(world, publisher, "s/1", 1)
    exchange(world, publisher)
    later = member(world, 3, qos)
    if unanswered:
        lost(world, later)
        world.ledger.sessions.weak_t.clear()  # it is the next connection that is to be looked at
        _, link = connecting(world, 3)
        world.feed(link, len(link.up))
        commit(world)
    ended(world, receiver)
    return message, later


def test_a_group_may_lose_what_only_a_member_that_is_away_with_qos_0_could_be_handed() -> None:
    world = made()
    message = handed_over(world, later_qos=0)
    assert message in world.ledger.deliveries.groups_owed
    missed(world)


def test_a_group_may_not_lose_what_a_member_that_is_away_with_qos_1_is_handed() -> None:
    world = made()
    message = handed_over(world, later_qos=1)
    with pytest.raises(Broken, match="reached nobody"):
        missed(world)
    client, _ = connected(world, 1)
    world.read(client, -1)
    assert message not in world.ledger.deliveries.groups_owed


@pytest.mark.parametrize("unanswered", [False, True])
@pytest.mark.parametrize("how", ["cut", "crash"])
def test_a_group_may_lose_what_was_handed_over_with_qos_0_to_a_connection_that_broke(
    how: str, unanswered: bool
) -> None:
    world = made(4)
    message, later = passed_on(world, qos=0, unanswered=unanswered)
    with pytest.raises(Broken, match="reached nobody"):
        missed(world)  # while it is there, it has to come
    if how == "cut":
        lost(world, later)
    else:
        crash(world)
    missed(world)
    assert message.acked


def test_a_group_may_not_lose_what_was_handed_over_with_qos_1_to_a_connection_that_broke() -> None:
    world = made(4)
    message, later = passed_on(world, qos=1)
    lost(world, later)
    with pytest.raises(Broken, match="reached nobody"):
        missed(world)
    later, _ = connected(world, later.number)
    world.read(later, -1)
    assert message not in world.ledger.deliveries.groups_owed


# ------------------------------------------------------------ repetitions


def arrives(world: World, link: Link, message: Message, *, dup: bool) -> None:
    """A message of QoS 1 reaches a client."""
    world.ledger.deliveries.arrived(link, message.number, "a", 1, dup=dup, retained=False, identifiers=())


def test_a_repetition_with_dup_leaves_one_without_to_what_arrived_before_the_crash() -> None:
    world = made()
    receiver, link = connected(world, 1)
    receiver.subscribe([("a", 1, False, 0)])
    exchange(world, receiver)
    publisher, _ = connected(world, 0)
    message = published(world, publisher, "a", 1)
    message.sends = 2
    for _ in range(2):
        arrives(world, link, message, dup=False)
    crash(world)
    _, link = connected(world, 1)
    arrives(world, link, message, dup=False)  # the first one again
    world.cut(link)
    receiver.lost()
    _, link = connected(world, 1)
    arrives(world, link, message, dup=True)  # and again: it is known to have been sent in this life
    arrives(world, link, message, dup=False)  # the second one
    with pytest.raises(Broken, match="again without cause"):
        arrives(world, link, message, dup=False)


# ------------------------------------------------------------ what is retained


def kept(world: World, client: Client, qos: int) -> Message:
    """A message to be retained, on its way."""
    message = world.ledger.message(client.number, "r/1", qos, retain=True)
    client.publish(message, message.number.to_bytes(8, "big"), b"")
    return message


def test_an_acknowledgement_says_nothing_of_what_was_sent_after_its_message() -> None:
    world = made()
    one, _ = connected(world, 0)
    other, _ = connected(world, 1)
    first, second = kept(world, one, 1), kept(world, one, 0)
    world.ledger.acked(first)
    world.moment.t += 1
    third = kept(world, other, 1)
    world.ledger.acked(third)
    world.ledger.retained.observed("r/1", second.number)  # it came last


def test_an_acknowledgement_settles_what_was_sent_before_its_message() -> None:
    world = made()
    one, _ = connected(world, 0)
    other, _ = connected(world, 1)
    first, second = kept(world, one, 0), kept(world, one, 1)
    world.ledger.acked(second)
    world.moment.t += 1
    third = kept(world, other, 1)
    world.ledger.acked(third)
    with pytest.raises(Broken, match="it may have"):
        world.ledger.retained.observed("r/1", first.number)


def test_an_acknowledgement_that_is_read_after_the_end_says_nothing_of_its_connections_will() -> None:
    world = made()
    client = world.clients[0]
    link = world.open(client, 5)
    link.expiry_s = 100_000
    will = world.ledger.message(0, "r/1", 0, retain=True)
    client.connect(link, 0, 0, (will, 100, will.number.to_bytes(8, "big")))
    exchange(world, client)
    message = published(world, client, "a", 1)
    retained = kept(world, client, 1)
    world.moment.t += 1
    world.feed(link, len(link.up))
    commit(world)
    world.cut(link)
    world.read(client, -1)  # the acknowledgements were on their way
    assert message.acked
    assert retained.acked
    client.lost()
    world.moment.t += 1
    world.ledger.acked(kept(world, connected(world, 1)[0], 1))
    world.ledger.retained.observed("r/1", will.number)  # it was due later than all of them
