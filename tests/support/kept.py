"""Sessions on disk in scenarios: clients that queue, what is published for them, and what they are sent.

Belongs here: what several scenarios of durable queues share. Not here: the core that they run in (``core``).
"""

from __future__ import annotations

from broker.wire import Connack, Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.core import Client, Core


def synced(**options: int) -> Core:
    core = Core(**options)
    core.grant("durable", synced=True)
    core.grant("plain")
    return core


def subscriber(core: Core, version: int = 5, qos: int = 1, client_id: str = "s", **fields: object) -> Client:
    client = core.keep(client_id, version, user_name="durable", **fields)
    client.subscribe("t/#", qos=qos)
    return client


def fill(core: Core, count: int, qos: int = 1, first: int = 0) -> None:
    """Publish ``count`` messages, one batch each."""
    publisher = core.connect("p", user_name="plain")
    for number in range(first, first + count):
        publisher.publish("t/x", b"%d" % number, qos)
    publisher.send(Disconnect())


def payloads(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]


def drain(client: Client) -> list[bytes]:
    """Acknowledge everything that comes, until nothing more does."""
    found: list[bytes] = []
    while packets := client.received():
        for packet in packets:
            if isinstance(packet, Publish):
                found.append(packet.payload)
                client.send(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))
            elif isinstance(packet, Pubrel):
                client.send(Pubcomp(packet.packet_id))
            else:
                assert isinstance(packet, Connack), packet
    return found


def nothing_left(core: Core) -> None:
    """All ends: the disk holds nothing of sessions any more."""
    core.end()
    for table in ("sessions", "subscriptions", "flows", "messages", "wills"):
        assert core.store.load(table) == [], table
