"""A fan-out in slices to sessions on disk: what was recorded for a session before its turn is what it gets, once."""

from __future__ import annotations

import pytest

from broker.wire import Publish, Suback, Subscribe, Subscription, Unsuback, Unsubscribe
from tests.support.core import Client, Core


def under_way(qos: int, left: int) -> tuple[Core, Client, list[Client]]:
    """A message whose rest is recorded, a client that subscribes to it twice and has not had its turn, and others."""
    core = Core(deliveries=1)
    core.grant(synced=True)
    publisher = core.connect("p")
    before, client, after = core.keep("before"), core.keep("client"), core.keep("after")
    for one in (before, client, after):
        one.subscribe("t", qos=qos)
    client.subscribe("+", qos=left)
    publisher.publish("t", b"x", qos, run=False)
    return core, client, [before, after]


def comes_once(core: Core, client: Client, qos: int) -> None:
    """It comes with this QoS, over a crash again until it is acknowledged, and then no more."""
    (delivery,) = client.publishes()
    assert (delivery.payload, delivery.qos) == (b"x", qos)
    client.drop()
    core = core.crash()
    client = core.resume("client")
    assert client.publishes() == [Publish("t", b"x", qos, packet_id=delivery.packet_id, dup=True)]
    if qos == 1:
        client.acknowledge(delivery.packet_id)
    else:
        client.take_qos_2(delivery)
    core = core.crash()
    core.resume("client").expect()
    core.end()


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("left", [0, 1])
def test_what_was_recorded_stands_though_one_of_its_subscriptions_is_lost_between_slices(qos: int, left: int) -> None:
    core, client, _ = under_way(qos, left)
    client.send(Unsubscribe(1, ("t",)), run=False)
    core.engine.answer(core.shard.take_rare())
    core.run()
    client.pick(Unsuback)
    comes_once(core, client, qos)


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_recorded_stands_though_its_subscriptions_become_weaker_between_slices(qos: int) -> None:
    core, client, _ = under_way(qos, 0)
    client.send(Subscribe(1, (Subscription("t", 0),)), run=False)
    core.engine.answer(core.shard.take_rare())
    core.run()
    client.pick(Suback)
    comes_once(core, client, qos)


def test_what_nobody_wants_any_more_is_not_waited_for_by_the_record() -> None:
    core, client, others = under_way(2, 1)
    client.send(Unsubscribe(1, ("t", "+")), run=False)
    core.engine.answer(core.shard.take_rare())
    core.run()
    client.pick(Unsuback)
    client.expect()
    for one in others:
        one.take_qos_2(*one.publishes())
    assert core.store.load("messages") == []
    core = core.crash()
    core.resume("client").expect()
    core.end()
