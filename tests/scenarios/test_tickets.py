"""Promises wait for the store: a PUBACK leaves when what it promises is durable, and never before."""

from __future__ import annotations

import pytest

from broker.errors import StoreError
from broker.storage.tables import JOURNAL
from broker.wire import Connack, Disconnect, Pingreq, Pingresp, Puback, Publish, Suback, Subscribe, Subscription
from tests.support.core import Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])
NOT_KEPT = 0x83


def synced(**options: int) -> Core:
    core = Core(**options)
    core.grant("durable", synced=True)
    core.grant("plain")
    return core


@pytest.mark.clause("v5:MQTT-4.3.2-4", "v311:MQTT-4.3.2-2")
@VERSIONS
def test_a_puback_waits_for_its_ticket(version: int) -> None:
    core = synced()
    core.hold()
    publisher, subscriber = core.connect("p", version, user_name="durable"), core.connect("s", user_name="plain")
    subscriber.subscribe("t", qos=1)
    publisher.publish("t", b"1", 1)
    assert [one.payload for one in subscriber.publishes()] == [b"1"]  # its receiver keeps nothing: it leaves at once
    publisher.expect()
    assert publisher.described["promises_held"] == 1
    core.release()
    publisher.expect(Puback(1))
    core.end()


def test_what_is_acknowledged_is_in_the_store() -> None:
    core = synced()
    publisher = core.connect("p", user_name="durable")
    core.hold()
    publisher.publish("t", b"payload", 1)
    assert core.store.load(JOURNAL) == []
    core.release()
    publisher.expect(Puback(1, 0x10))
    ((_, batch),) = core.store.load(JOURNAL)
    assert batch[28:] == b"tpayload"
    assert batch[:3] == bytes((1, 1, 5))
    core.end()


def test_an_account_that_does_not_ask_for_it_waits_for_nothing() -> None:
    core = synced()
    core.hold()
    publisher = core.connect("p", user_name="plain")
    publisher.publish("t", b"", 1)
    publisher.expect(Puback(1, 0x10))
    core.end()


def test_qos_0_promises_nothing() -> None:
    core = synced()
    core.hold()
    core.connect("p", user_name="durable").publish("t")
    assert core.store.waiting == 0
    core.end()


@pytest.mark.clause("v311:MQTT-4.6.0-2", "v311:MQTT-4.6.0-6")
@VERSIONS
def test_promises_leave_in_the_order_in_which_they_were_made(version: int) -> None:
    core = synced()
    core.hold()
    publisher = core.connect("p", version, user_name="durable")
    expected = []
    for packet_id in (7, 3, 9, 1):
        publisher.publish("t", b"", 1, packet_id=packet_id)
        expected.append(Puback(packet_id, 0x10 if version == 5 else 0))
    publisher.send(Subscribe(11, (Subscription("x"),)))
    publisher.expect()
    core.release()
    publisher.expect(*expected, Suback(11, (0,)))
    core.end()


def test_several_tickets_are_answered_one_after_the_other() -> None:
    core = synced()
    core.hold()
    publisher = core.connect("p", user_name="durable")
    for _ in range(3):
        publisher.publish("t", b"", 1)
    assert core.store.waiting == 3
    assert core.shard.counters()["promises"] == 3
    core.shard.settle(1, True)
    publisher.expect(Puback(1, 0x10))
    core.shard.settle(2, True)
    publisher.expect(Puback(2, 0x10))
    with pytest.raises(ValueError):
        core.shard.settle(2, True)
    with pytest.raises(ValueError):
        core.shard.settle(4, True)
    core.shard.settle(3, True)
    publisher.expect(Puback(3, 0x10))
    core.store.lose()
    core.end()


def test_a_failed_commit_is_told_to_5() -> None:
    core = synced()
    publisher = core.connect("p", user_name="durable")
    core.store.fail(StoreError("no space"))
    publisher.publish("t", b"", 1)
    publisher.expect(Puback(1, NOT_KEPT))
    core.store.fail(None)
    publisher.publish("t", b"", 1)
    publisher.expect(Puback(2, 0x10))
    core.end()


@pytest.mark.clause("v311:MQTT-4.8.0-2")
def test_a_failed_commit_closes_311_without_an_acknowledgement() -> None:
    core = synced()
    publisher = core.connect("p", 4, user_name="durable")
    core.store.fail(StoreError("no space"))
    publisher.publish("t", b"", 1)
    assert publisher.closed_with(None) == []
    core.end()


def test_a_failed_commit_refuses_only_what_it_held() -> None:
    core = synced()
    core.hold()
    publisher = core.connect("p", user_name="durable")
    publisher.publish("t", b"", 1)
    publisher.publish("$x", b"", 1)
    publisher.send(Subscribe(9, (Subscription("x"),)))
    publisher.publish("t", b"", 1)
    publisher.expect()
    core.shard.settle(1, False)
    publisher.expect(Puback(1, NOT_KEPT), Puback(2, 0x87), Suback(9, (0,)))
    core.shard.settle(2, True)
    publisher.expect(Puback(3, 0x10))
    core.store.lose()
    core.end()


@pytest.mark.parametrize("sealed_after", [0, 1])
def test_a_fan_out_longer_than_its_ticket_learns_that_it_failed(sealed_after: int) -> None:
    core = synced(deliveries=1)
    core.hold()
    publisher = core.connect("p", user_name="durable")
    for number in range(4):
        core.connect(f"s{number}", user_name="plain").subscribe("t", qos=1)
    publisher.publish("t", b"", 1, run=False)
    for _ in range(1 + sealed_after):
        core.slice()
    core.shard.settle(1, False)
    core.run()
    publisher.expect(Puback(1, NOT_KEPT))
    core.store.lose()
    core.end()


def test_a_promise_that_waits_for_a_newer_ticket_is_refused_with_its_own() -> None:
    core = synced(deliveries=1)
    core.hold()
    slow, fast = core.connect("slow", user_name="durable"), core.connect("fast", user_name="durable")
    for number in range(4):
        core.connect(f"s{number}", user_name="plain").subscribe("t", qos=1)
    slow.publish("t", b"", 1, run=False)
    core.slice()  # ticket 1 is sealed, and the fan-out not at its end
    fast.publish("u", b"", 1)  # ticket 2
    core.run()
    core.shard.settle(1, False)
    core.shard.settle(2, True)
    slow.expect(Puback(1, NOT_KEPT))
    fast.expect(Puback(1, 0x10))
    core.store.lose()
    core.end()


@VERSIONS
def test_what_a_crash_loses_was_never_acknowledged(version: int) -> None:
    core = synced()
    core.hold()
    publisher = core.connect("p", version, user_name="durable")
    publisher.publish("t", b"", 1)
    after = core.store.lose()
    assert after.load(JOURNAL) == []
    core.release()
    publisher.expect()
    publisher.drop()
    core.store = after
    core.shard.settle(1, False)
    core.end()


@VERSIONS
def test_a_late_ticket_for_a_connection_that_is_gone_changes_nothing(version: int) -> None:
    core = synced()
    core.hold()
    publisher = core.connect("p", version, user_name="durable")
    publisher.publish("t", b"", 1)
    publisher.drop()
    successor = core.connect("p", version, user_name="durable")  # the same slot, another generation
    core.release()
    successor.expect()
    assert core.shard.counters()["promises"] == 0
    core.end()


def test_a_client_of_5_may_subscribe_although_all_its_publishes_wait() -> None:
    core = synced(server_receive_maximum=3)
    core.hold()
    publisher = core.connect("p", user_name="durable")
    publisher.publish("t", b"", 1)
    publisher.publish("t", b"", 1)
    publisher.send(Subscribe(9, (Subscription("x"),)))
    publisher.publish("t", b"", 1)
    assert publisher.is_open
    core.release()
    publisher.expect(Puback(1, 0x10), Puback(2, 0x10), Suback(9, (0,)), Puback(3, 0x10))
    core.end()


@pytest.mark.clause("v5:MQTT-3.3.4-7")
def test_more_unacknowledged_publishes_than_the_receive_maximum_close_5() -> None:
    core = synced(server_receive_maximum=3)
    core.hold()
    publisher = core.connecting("p", user_name="durable")
    assert publisher.pick(Connack).properties["receive_maximum"] == 3
    for _ in range(3):
        publisher.publish("t", b"", 1)
    assert publisher.is_open
    publisher.publish("t", b"", 1)
    publisher.closed_with(0x93)
    core.end()


def test_a_client_of_311_is_not_read_while_too_many_of_its_promises_wait() -> None:
    core = synced(server_receive_maximum=3)
    core.hold()
    publisher = core.connect("p", 4, user_name="durable")
    for _ in range(5):
        publisher.publish("t", b"", 1)
    assert core.shard.is_stopped(publisher.handle)
    assert publisher.described["promises_held"] == 3
    core.release()
    publisher.expect(*(Puback(one) for one in range(1, 6)))
    core.end()


@VERSIONS
def test_promised_answers_to_subscribe_do_not_pile_up_without_end(version: int) -> None:
    core = synced(server_receive_maximum=3)
    core.hold()
    client = core.connect("p", version, user_name="durable")
    client.publish("t", b"", 1)
    for number in range(10):
        client.send(Subscribe(number + 1, (Subscription("x"),)))
    assert core.shard.is_stopped(client.handle)
    assert client.described["promises_held"] <= 4
    core.release()
    client.expect(Puback(1, 0x10 if version == 5 else 0), *(Suback(one + 1, (0,)) for one in range(10)))
    core.end()


@VERSIONS
def test_other_answers_do_not_wait_for_a_ticket(version: int) -> None:
    core = synced()
    core.hold()
    client = core.connect("p", version, user_name="durable")
    client.publish("t", b"", 1)
    client.send(Pingreq())
    client.expect(Pingresp())
    core.end()


def test_one_clients_ticket_holds_no_other_client() -> None:
    core = synced()
    core.hold()
    one, other = core.connect("a", user_name="durable"), core.connect("b", user_name="plain")
    one.publish("t", b"", 1)
    other.publish("t", b"", 1)
    other.expect(Puback(1, 0x10))
    one.expect()
    core.end()


def test_a_shutdown_with_promises_in_the_ring_leaves_nothing() -> None:
    core = synced()
    core.hold()
    client = core.connect("p", user_name="durable")
    client.publish("t", b"", 1)
    client.send(Subscribe(1, (Subscription("x"),)))
    core.shard.fail_all(0x8B)
    core.run()
    client.expect(Disconnect(0x8B))
    del core


def test_a_publish_is_delivered_once_while_its_ticket_waits() -> None:
    core = synced()
    core.hold()
    client = core.connect("p", user_name="durable")
    client.subscribe("t", qos=0)
    client.publish("t", b"x", 1)
    client.expect(Publish("t", b"x"))
    core.release()
    client.expect(Puback(1))
    core.end()
