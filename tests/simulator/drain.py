"""How a run comes to rest: everybody is back, everything has been said, and the books are compared.

Here belong the steps of that. Not here: what is compared (``ledger``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulator import actions
from tests.simulator.moment import SECOND_NS
from tests.simulator.profile import UNLIMITED
from tests.simulator.topics import KEPT, PROBES, TOPICS, WILLS

if TYPE_CHECKING:
    from tests.simulator.world import World

ROUNDS = 400


def drain(world: World) -> None:
    """Come to rest, probe, compare, and forget what is over."""
    world.disk.become("ok")
    for link in list(world.links):
        if world.clients[link.client].link is not link:
            world.cut(link)
    if world.chance.below(2):
        wait_for_wills(world)
    gather(world)
    wait_for_wills(world)
    gather(world)
    probe(world)
    settle(world)
    world.ledger.committed()
    world.ledger.missing(world.dropped)
    world.ledger.settled()
    world.drops = {client.number: -world.life.drops(client.number) for client in world.clients}


def gather(world: World) -> None:
    """Have everybody connected, those too whose connection turns out to be gone."""
    settle(world)
    while away := [client for client in world.clients[:-1] if client.link is None]:
        for client in away:
            actions.connect(world, client, calm=True)
        settle(world)


def settle(world: World) -> None:
    """Let everything arrive, be answered and be committed."""
    for _ in range(ROUNDS):
        if not once(world):
            links = [client.link for client in world.clients if client.link is not None]
            if all(link.accepted and not link.up for link in links) and world.life.is_written:
                return
            # Who has just taken over waits for a second, who was refused is not read for one, and a batch that the disk
            # refused as it became well is submitted again at the next look.
            world.advance(1.1)
    raise AssertionError("the run never comes to rest")


def once(world: World) -> bool:
    """One round of everything; tells whether anything happened."""
    world.moment.t += 1
    busy = False
    for link in list(world.links):
        if link.up:
            before = link.fed
            world.feed(link, len(link.up))
            busy |= link.fed != before
    busy |= world.work(UNLIMITED)
    while world.disk.step():
        busy = True
    world.scan()
    world.ledger.committed()
    for client in world.clients:
        if client.link is None:
            continue
        before = client.received
        link, accepted = client.link, client.link.accepted
        world.read(client, -1)
        busy |= client.received != before or client.link is not link or link.accepted != accepted
        busy |= client.acknowledge(1000)
    return busy


def wait_for_wills(world: World) -> None:
    """Let the wills that wait be published, from deadline to deadline."""
    settle(world)
    while (due_ns := world.ledger.wills.latest_ns()) and due_ns + 2 * SECOND_NS > world.moment.now_ns:
        world.advance(min(10.0, (due_ns - world.moment.now_ns) / SECOND_NS + 3))
        settle(world)


def probe(world: World) -> None:
    """Ask for everything retained, and publish to every topic, so that every subscription shows itself."""
    prober = world.clients[-1]
    prober.wants_clean = True
    prober.retained_seen.clear()
    link = world.open(prober, 5)
    link.clean = True
    prober.connect(link, 0, 0, None)
    settle(world)
    prober.subscribe([(one, 0, False, 0) for one in PROBES])
    settle(world)
    for topic in KEPT + WILLS:
        world.ledger.retained.observed(topic, prober.retained_seen.get(topic))
    for number, topic in enumerate(TOPICS):
        message = world.ledger.message(prober.number, topic, 1 + number % 2, retain=False)
        prober.publish(message, actions.payload_of(message, 0), b"")
        settle(world)
    prober.leave(0, None)
    settle(world)
