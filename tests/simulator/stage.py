"""Runs that a test leads by the hand: clients that connect, publish and are answered, one step at a time.

Here belong steps that several tests of the ledger take. Not here: what they show.
"""

from __future__ import annotations

from tests.simulator.client import Client
from tests.simulator.facts import Message
from tests.simulator.network import Link
from tests.simulator.profile import UNLIMITED
from tests.simulator.world import World

EXPIRY_S = 100_000


def made(clients: int = 3) -> World:
    """A run with so many clients or more, in which receivers may have many messages in flight."""
    worlds = (World(seed, level="synced") for seed in range(1, 100))
    return next(
        one for one in worlds
        if one.profile.limits["outbound_inflight_maximum"] == 1000 and len(one.clients) >= clients
    )  # fmt: skip


def connecting(world: World, number: int, expiry_s: int = EXPIRY_S) -> tuple[Client, Link]:
    """A client that has sent its CONNECT, and asks for a session that is kept."""
    client = world.clients[number]
    link = world.open(client, 5)
    link.expiry_s = expiry_s
    client.connect(link, 0, 0, None)
    return client, link


def connected(world: World, number: int, expiry_s: int = EXPIRY_S) -> tuple[Client, Link]:
    """The same, and it was answered."""
    client, link = connecting(world, number, expiry_s)
    exchange(world, client)
    return client, link


def commit(world: World) -> None:
    """The broker works until nothing is left to do, and all of it is on disk."""
    while world.work(UNLIMITED) or world.disk.step():
        pass


def crash(world: World, down_s: float = 0) -> None:
    """The process dies and another one starts, so much later; nothing more arrives anywhere."""
    world.moment.t += 1
    world.moment.crashed_committed_t = world.moment.committed_t
    world.ledger.crashed(world.links)
    for client in world.clients:
        client.lost()
    world.links.clear()
    world.advance(down_s)
    world.start()
    world.ledger.restarted()


def exchange(world: World, client: Client) -> None:
    """All that the client has sent arrives, everything is committed, and it reads."""
    assert client.link is not None
    world.moment.t += 1
    world.feed(client.link, len(client.link.up))
    commit(world)
    world.read(client, -1)


def published(world: World, client: Client, topic: str, qos: int) -> Message:
    """A message on its way."""
    message = world.ledger.message(client.number, topic, qos, retain=False)
    client.publish(message, message.number.to_bytes(8, "big"), b"")
    return message
