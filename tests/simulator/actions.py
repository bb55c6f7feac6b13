"""What clients do of their own accord, one thing at a time.

Here belongs the choice among what the standard allows a client to do now. Not here: bytes (``client``), the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulator.client import NUMBER_BYTES, Client
from tests.simulator.facts import NEVER, Message
from tests.simulator.network import Link
from tests.simulator.topics import FILTERS, GROUPS, KEPT, PLAIN, SHARED, WILLS

if TYPE_CHECKING:
    from tests.simulator.world import World

EXPIRY_PROPERTY = 0x02
FOREVER_S = 0xFFFF_FFFF
PADDING = bytes(range(256)) * 12


def payload_of(message: Message, padding: int) -> bytes:
    """The number that a message is known by, and some bytes more."""
    return message.number.to_bytes(NUMBER_BYTES, "big") + PADDING[:padding]


def connect(world: World, client: Client, *, calm: bool = False) -> None:
    """Connect, with or without a session, with or without a will; ``calm``: to stay, and to keep what there is."""
    chance, profile = world.chance, world.profile
    version = 4 if chance.below(3) == 0 else 5
    link = world.open(client, version)
    link.clean = client.wants_clean or (not calm and chance.below(10) == 0)
    if version == 5:
        link.expiry_s = 100_000 if calm else chance.pick(profile.expiries_s)
    else:
        link.expiry_s = 0 if link.clean else FOREVER_S
    will: Any = None
    if not calm and chance.below(3) == 0:
        message = world.ledger.message(client.number, chance.pick(WILLS), chance.below(3), retain=chance.below(5) == 0)
        delay_s = chance.pick(profile.delays_s) if version == 5 else 0
        will = message, delay_s, payload_of(message, 0)
    client.receive_maximum = 65_535 if calm or chance.below(3) else 1 + chance.below(3)
    keep_alive_s = 0 if calm else chance.pick((0, 0, 10, 600))
    world.note("connect", client.number, link, version, link.clean, link.expiry_s, will and will[:2])
    client.connect(link, chance.below(2), keep_alive_s, will)


def publish(world: World, client: Client) -> None:
    """Send one message."""
    chance = world.chance
    qos = (0, 1, 1, 2, 2)[chance.below(5)]
    if qos and len(client.outgoing) >= client.window:
        return
    assert client.link is not None
    topic = chance.pick(chance.pick((PLAIN, PLAIN, KEPT, SHARED)))
    retain = topic in KEPT and chance.below(5) < 3
    clear = retain and chance.below(3) == 0
    message = world.ledger.message(client.number, topic, qos, retain=retain, clear=clear)
    properties = b""
    if client.link.version == 5 and not retain and chance.below(20) == 0:
        expiry_s = chance.pick((1, 60))
        world.ledger.expires(message, expiry_s)
        properties = bytes((EXPIRY_PROPERTY,)) + expiry_s.to_bytes(4, "big")
    padding = 2500 if chance.below(100) == 0 else chance.below(40)
    world.note("publish", client.number, message, retain, clear)
    client.publish(message, b"" if clear else payload_of(message, padding), properties)


def subscribe(world: World, client: Client) -> None:
    """Subscribe to a filter or two."""
    chance = world.chance
    assert client.link is not None
    filters = dict.fromkeys(chance.pick(chance.pick((FILTERS, FILTERS, GROUPS))) for _ in range(1 + chance.below(2)))
    five = client.link.version == 5
    identifier = 1 + chance.below(200) if five and chance.below(4) == 0 else 0
    qos = chance.pick((1, 2, 1, 2, 0))
    wanted = [(one, qos, five and one[0] != "$" and chance.below(30) == 0, identifier) for one in filters]
    world.note("subscribe", client.number, wanted)
    client.subscribe(wanted)


def unsubscribe(world: World, client: Client) -> None:
    """End a subscription, mostly one that exists."""
    chance = world.chance
    assert client.link is not None
    assert client.link.session is not None
    there = list(client.link.session.subs)
    filters = [chance.pick(there) if there else chance.pick(FILTERS)]
    world.note("unsubscribe", client.number, filters)
    client.unsubscribe(filters)


def leave(world: World, client: Client) -> None:
    """Say goodbye: with or without the will, sometimes with another expiry interval."""
    chance = world.chance
    link = client.link
    assert link is not None
    expiry_s = None
    reason_code = 0
    if link.version == 5:
        if link.expiry_s and chance.below(3) == 0:
            expiry_s = chance.pick(world.profile.expiries_s)
        reason_code = 4 if link.will is not None and chance.below(3) == 0 else 0
    world.note("leave", client.number, reason_code, expiry_s)
    client.leave(reason_code, expiry_s)


def act(world: World) -> None:
    """One client does one thing."""
    chance = world.chance
    client = world.clients[chance.below(world.crowd)]
    link = client.link
    if link is None:
        if chance.below(3) == 0:
            connect(world, client)
        return
    if not link.accepted:
        if chance.below(12) == 0:
            lose(world, client)
        return
    luck = chance.below(64)
    if luck < 30:
        if not client.acknowledge(1 + chance.below(8)) or luck < 10:
            publish(world, client)
    elif luck < 50:
        publish(world, client)
    elif luck < 57:
        if client.asked is None:
            (unsubscribe if chance.below(5) == 0 else subscribe)(world, client)
    elif luck < 60:
        lose(world, client)
    elif luck < 61:
        leave(world, client)
    elif luck < 62:
        connect(world, client)  # while the older connection is still there: a takeover
    else:
        link.send(b"\xc0\x00")


def lose(world: World, client: Client) -> None:
    """The connection breaks: for both at any byte, or the broker does not notice yet."""
    chance = world.chance
    link = client.link
    assert link is not None
    client.lost()
    silent = chance.below(3) == 0
    world.note("lose", client.number, link, "silently" if silent else "")
    if not silent:
        world.cut(link)


def leftovers(link: Link) -> bool:
    """Whether a connection that its client has left still has something to say."""
    return bool(link.up) and link.farewell_t == NEVER
