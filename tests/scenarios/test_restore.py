"""After a crash: sessions, subscriptions and deliveries are as they were promised, whatever was under way."""

from __future__ import annotations

import pytest

from broker.wire import Connack, Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel, Will
from tests.support.core import Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])


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


@VERSIONS
@pytest.mark.clause("v5:MQTT-4.1.0-1", "v311:MQTT-4.1.0-1")
def test_a_session_and_its_subscriptions_outlive_a_crash(version: int) -> None:
    core = synced()
    subscriber(core, version)
    core = core.crash()
    assert core.left_out == {}
    client = core.resume("s", version, user_name="durable")
    core.publish("t/x", b"1", 1)
    assert drain(client) == [b"1"]
    nothing_left(core)


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_queued_comes_in_order_after_a_crash(version: int, qos: int) -> None:
    core = synced()
    subscriber(core, version, qos).drop()
    fill(core, 50, qos)
    core = core.crash()
    client = core.resume("s", version, user_name="durable")
    assert drain(client) == payloads(0, 50)
    assert core.all_drops() == {}
    core = core.crash()
    client = core.resume("s", version, user_name="durable")
    assert drain(client) == []
    nothing_left(core)


def test_what_was_not_committed_is_not_there() -> None:
    core = synced()
    subscriber(core).drop()
    publisher = core.connect("p", user_name="durable")
    core.hold()
    publisher.publish("t/x", b"lost", 1)
    publisher.expect()  # and nobody was told that it is kept
    core = core.crash()
    assert drain(core.resume("s", user_name="durable")) == []
    nothing_left(core)


@VERSIONS
def test_a_queue_survives_several_crashes_in_a_row(version: int) -> None:
    core = synced()
    subscriber(core, version).drop()
    for round_ in range(5):
        fill(core, 3, first=3 * round_)
        core = core.crash()
    assert drain(core.resume("s", version, user_name="durable")) == payloads(0, 15)
    nothing_left(core)


@VERSIONS
def test_each_start_begins_the_grace_period_of_who_was_lost_anew(version: int) -> None:
    core = synced()
    for client_id in ("returns", "stays away"):
        core.keep(client_id, version, user_name="durable", will=Will("w", client_id.encode(), 0))
    core = core.crash(grace_s=30)
    core.wait(20)
    core = core.crash(grace_s=30)  # a second one, before anybody could come back
    watcher = core.connect("watcher", user_name="plain")
    watcher.subscribe("w")
    core.wait(20)
    watcher.expect()
    core.resume("returns", version, user_name="durable")
    core.wait(11)
    assert [one.payload for one in watcher.publishes()] == [b"stays away"]
    nothing_left(core)
