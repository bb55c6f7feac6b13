"""A fan-out that goes on in slices: it survives whatever happens between them, and its publisher waits for its end."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason
from broker.wire import Connect, Pingreq, Pingresp, Puback, Publish, Subscribe, Subscription, Unsubscribe
from tests.support.core import SECOND_NS, Client, Core

COUNT = 8


def sliced(**limits: int) -> tuple[Core, Client, list[Client]]:
    """A core that makes one delivery a slice, a publisher, and subscribers of topic t."""
    core = Core(deliveries=1, **limits)
    core.grant()
    publisher = core.connect("publisher")
    subscribers = [core.connect(f"s{number}", 4 + number % 2) for number in range(COUNT)]
    for one in subscribers:
        one.subscribe("t", qos=1)
    return core, publisher, subscribers


def got(subscribers: list[Client]) -> list[int]:
    return [len(one.publishes()) for one in subscribers]


@pytest.mark.parametrize("qos", [0, 1])
def test_every_slice_makes_one_delivery_and_the_acknowledgement_comes_last(qos: int) -> None:
    core, publisher, subscribers = sliced()
    publisher.publish("t", b"x", qos, run=False)
    core.exchange()
    total = sum(got(subscribers))
    assert total == 1
    while total < COUNT:
        publisher.expect()
        core.shard.run(core.now_ns, 1)
        core.exchange()
        assert sum(got(subscribers)) == 1
        total += 1
    core.run()
    publisher.expect(*([Puback(1)] if qos else []))
    assert sum(got(subscribers)) == 0
    core.end()


def test_a_wide_fan_out_begins_with_a_small_part_of_it_whatever_the_slice_allows() -> None:
    core = Core()
    core.grant()
    publisher = core.connect("publisher")
    subscribers = [core.connect(f"s{number}", 4 + number % 2) for number in range(1100)]
    for one in subscribers:
        one.subscribe("t")
    publisher.publish("t", b"x", run=False)
    core.exchange()
    assert sum(got(subscribers)) == 256
    core.run()
    assert sum(got(subscribers)) == 1100 - 256
    core.end()


def test_its_publisher_is_not_parsed_until_it_ends() -> None:
    core, publisher, subscribers = sliced()
    publisher.send(Publish("t", b"1", 1, packet_id=1), Pingreq(), Publish("t", b"2"), run=False)
    for _ in range(COUNT - 3):
        core.slice()
        publisher.expect()
        assert core.shard.is_stopped(publisher.handle)
    core.run()
    publisher.expect(Puback(1), Pingresp())
    for one in subscribers:
        assert one.payloads() == [b"1", b"2"]
    core.end()


def test_other_clients_are_served_meanwhile() -> None:
    core, publisher, subscribers = sliced()
    publisher.publish("t", b"x", run=False)
    subscribers[-1].send(Pingreq(), run=False)
    core.exchange()
    assert Pingresp() in subscribers[-1].received()
    core.run()
    core.end()


@pytest.mark.parametrize("slices", range(COUNT + 1))
@pytest.mark.parametrize("victim", [0, 1, COUNT // 2, COUNT - 1])
@pytest.mark.parametrize("how", ["unsubscribe", "close", "takeover", "disconnect"])
def test_it_survives_the_loss_of_any_receiver(slices: int, victim: int, how: str) -> None:
    core, publisher, subscribers = sliced()
    publisher.publish("t", b"x", 1, run=False)
    for _ in range(slices):
        core.slice()
    one = subscribers[victim]
    one.take()
    before = len(one.unread)
    if how == "unsubscribe":
        one.send(Unsubscribe(1, ("t",)), run=False)
        core.engine.answer(core.shard.take_rare())
    elif how == "close":
        core.shard.close_connection(one.handle)
    elif how == "disconnect":
        one.send(b"\xe0\x00", run=False)
    else:
        successor = core.open()
        successor.send(Connect(f"s{victim}", user_name="user", password=b"pw"), run=False)
    core.run()
    delivered = [sum(isinstance(packet, Publish) for packet in client.received()) for client in subscribers]
    assert delivered[victim] == before <= 1
    assert all(count == 1 for number, count in enumerate(delivered) if number != victim)
    publisher.expect(Puback(1))
    core.end()


@pytest.mark.parametrize("slices", range(COUNT + 1))
@pytest.mark.parametrize("how", ["close", "takeover", "revoke"])
def test_it_survives_the_loss_of_its_publisher(slices: int, how: str) -> None:
    core, publisher, subscribers = sliced()
    core.grant("second")
    if how == "revoke":
        publisher = core.connect("again", user_name="second")
    publisher.publish("t", b"x", 1, run=False)
    for _ in range(slices):
        core.slice()
    publisher.take()
    if how == "close":
        core.shard.close_connection(publisher.handle)
    elif how == "takeover":
        core.open().send(Connect("publisher", user_name="user", password=b"pw"), run=False)
    else:
        core.grant("second")
    core.run()
    assert got(subscribers) == [1] * COUNT  # what was accepted is routed
    assert sum(isinstance(one, Puback) for one in publisher.received()) == (slices >= COUNT - 1)
    core.end()


@pytest.mark.parametrize("slices", range(4))
def test_all_may_go_at_once(slices: int) -> None:
    core, publisher, _ = sliced()
    publisher.publish("t", b"x" * 5000, 1, run=False)
    for _ in range(slices):
        core.slice()
    core.shard.fail_all(0x8B)
    core.run()
    assert core.figures() == core.base


def test_a_shard_may_end_in_the_middle() -> None:
    core, publisher, _ = sliced()
    publisher.publish("t", b"x" * 5000, 1, run=False)
    core.slice()
    core.clients.clear()
    del core


def test_whoever_unsubscribes_and_subscribes_again_is_a_new_subscriber() -> None:
    core, publisher, subscribers = sliced()
    publisher.publish("t", b"x", run=False)
    for one in subscribers[1:]:
        one.send(Unsubscribe(1, ("t",)), Subscribe(2, (Subscription("t"),)), run=False)
        core.engine.answer(core.shard.take_rare())
    core.run()
    for one in subscribers:
        assert sum(isinstance(packet, Publish) for packet in one.received()) <= 1
    core.publish("t", b"y")
    assert got(subscribers) == [1] * COUNT
    core.end()


def test_overlapping_subscriptions_lost_between_slices_leave_the_others() -> None:
    core = Core(deliveries=1)
    core.grant()
    publisher = core.connect("p")
    first, client = core.connect("f"), core.connect("c")
    first.subscribe("t")
    client.subscribe("t", qos=1, identifier=1)
    client.subscribe("+", qos=0, identifier=2)
    client.subscribe("#", qos=0, identifier=3)
    publisher.publish("t", b"x", 1, run=False)
    core.exchange()
    assert first.payloads() + client.payloads() == [b"x"]
    client.send(Unsubscribe(1, ("t", "+")), run=False)
    core.engine.answer(core.shard.take_rare())
    core.run()
    found = [packet for packet in client.received() if isinstance(packet, Publish)]
    assert found == [Publish("t", b"x", 0, properties={"subscription_identifier": (3,)})]
    core.end()


def test_overlapping_subscriptions_are_merged_in_later_slices_too() -> None:
    core = Core(deliveries=1)
    core.grant()
    publisher = core.connect("p")
    clients = [core.connect(f"c{number}") for number in range(5)]
    for client in clients:
        client.subscribe("a/b", qos=1, identifier=1)
        client.subscribe("a/+", identifier=2)
        client.subscribe("#", qos=1, identifier=3)
    publisher.publish("a/b", b"x", 1)
    for client in clients:
        (delivery,) = client.publishes()
        assert delivery.qos == 1
        identifiers = delivery.properties["subscription_identifier"]
        assert isinstance(identifiers, tuple)
        assert sorted(identifiers) == [1, 2, 3]
    core.end()


def test_messages_of_one_publisher_keep_their_order_over_its_reconnection() -> None:
    core, publisher, subscribers = sliced()
    publisher.publish("t", b"1", 1, run=False)
    core.shard.close_connection(publisher.handle)
    subscribers[0].send(Unsubscribe(1, ("t",)), run=False)  # the last takes its place
    core.engine.answer(core.shard.take_rare())
    again = core.open()
    again.send(Connect("publisher", user_name="user", password=b"pw"), Publish("t", b"2", 1, packet_id=1), run=False)
    core.run()
    for one in subscribers[1:]:
        assert one.payloads() == [b"1", b"2"]
    core.end()


def test_messages_from_inside_keep_their_order() -> None:
    core = Core()
    core.grant()
    clients = [core.connect(f"c{number}") for number in range(1200)]
    for client in clients:
        client.subscribe("t")
    core.shard.publish(1, b"t", b"1", 0, core.now_ns)
    core.shard.close_connection(clients[0].handle)  # the last takes its place
    core.shard.publish(1, b"t", b"2", 0, core.now_ns)
    core.run()
    for client in clients[1:]:
        assert client.payloads() == [b"1", b"2"]
    core.end()


def test_a_message_that_expires_between_slices_is_dropped_and_counted() -> None:
    core, publisher, subscribers = sliced()
    publisher.publish("t", b"x", properties={"message_expiry_interval": 1}, run=False)
    core.now_ns += 2 * SECOND_NS
    core.run()
    assert sum(got(subscribers)) == 1
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: COUNT - 1}
    core.end()


def test_an_interval_goes_on_between_slices() -> None:
    core, publisher, subscribers = sliced()
    publisher.publish("t", b"x", properties={"message_expiry_interval": 10}, run=False)
    core.now_ns += 3 * SECOND_NS
    core.run()
    seen = [one.publishes()[0].properties.get("message_expiry_interval") for one in subscribers]
    assert sum(one in (7, None) for one in seen) == COUNT - 1 + (None in seen[:1])
    core.end()


def test_many_fan_outs_share_the_slices_in_turn() -> None:
    core, first, subscribers = sliced()
    others = [core.connect(f"p{number}") for number in range(5)]
    for number, one in enumerate([first, *others]):
        one.publish("t", b"%d" % number, 1, run=False)
    core.run()
    for one in subscribers:
        assert sorted(one.payloads()) == [b"%d" % number for number in range(6)]
    for one in [first, *others]:
        one.expect(Puback(1))
    core.end()
