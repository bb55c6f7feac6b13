"""Promises wait for the store: a PUBACK leaves when what it promises is durable, and never before.

What is published on `t` and `u` is kept for a session whose client is away.
"""

from __future__ import annotations

import pytest

from broker.storage.tables import MESSAGES
from broker.wire import (
    Connack,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
)
from tests.support.core import Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])


def synced(**options: int) -> Core:
    core = Core(**options)
    core.grant("durable", synced=True)
    core.grant("plain")
    core.sink("t", "u", user_name="durable")
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
    assert core.store.load(MESSAGES) == []
    core.release()
    publisher.expect(Puback(1))
    ((_, chunk),) = core.store.load(MESSAGES)
    assert b"tpayload" in chunk
    core.end()


@VERSIONS
def test_what_a_crash_loses_was_never_acknowledged(version: int) -> None:
    core = synced()
    publisher = core.connect("p", version, user_name="durable")
    core.hold()
    publisher.publish("t", b"", 1)
    assert core.store.lose().load(MESSAGES) == []
    publisher.expect()


def test_what_nobody_keeps_on_disk_waits_for_nothing() -> None:
    core = synced()
    publisher = core.connect("p", user_name="durable")
    core.connect("s", user_name="plain").subscribe("live", qos=1)
    core.keep("k", user_name="plain").subscribe("live", qos=1)  # of a level at which nothing is written
    core.hold()
    publisher.publish("live", b"", 1)
    publisher.expect(Puback(1))
    assert core.store.waiting == 0
    core.end()


def test_a_publisher_whose_level_is_memory_waits_for_nothing_and_what_it_sends_is_written_all_the_same() -> None:
    core = synced()
    publisher = core.connect("p", user_name="plain")
    core.hold()
    publisher.publish("t", b"payload", 1)
    publisher.expect(Puback(1))
    core.release()
    assert len(core.store.load(MESSAGES)) == 1
    core.end()


def test_what_all_have_acknowledged_is_acknowledged_before_its_ticket_and_never_written() -> None:
    core = synced()
    publisher, subscriber = core.connect("p", user_name="durable"), core.keep("s", user_name="durable")
    subscriber.subscribe("live", qos=1)
    core.hold()
    core.in_flight = True  # a batch is under way, for a long time
    publisher.publish("live", b"1", 1)
    publisher.publish("live", b"2", 1)
    publisher.expect()
    one, other = subscriber.publishes()
    subscriber.acknowledge(other.packet_id)
    publisher.expect()  # promises leave in their order
    subscriber.acknowledge(one.packet_id)
    publisher.expect(Puback(1), Puback(2))
    core.in_flight = False
    core.release()
    assert core.store.load(MESSAGES) == []
    core.end()


def test_a_disk_that_takes_nothing_refuses_before_anything_is_routed() -> None:
    core = synced()
    publisher, live = core.connect("p", user_name="durable"), core.connect("l", user_name="plain")
    old = core.connect("o", 4, user_name="durable")
    live.subscribe("#", qos=2)
    core.shard.set_refusing(True)
    for qos in (1, 2):
        publisher.publish("t", b"", qos)
        assert publisher.pick(Puback if qos == 1 else Pubrec).reason_code == 0x97
    publisher.publish("kept", b"", 1, retain=True)
    assert publisher.pick(Puback).reason_code == 0x97
    live.expect()
    publisher.publish("t", b"qos 0")
    publisher.publish("live", b"needs no disk", 1)
    publisher.expect(Puback(4))
    assert live.payloads() == [b"qos 0", b"needs no disk"]
    old.publish("t", b"", 1)
    assert old.closed_with(None) == []
    core.shard.set_refusing(False)
    publisher.publish("t", b"again", 1)
    publisher.expect(Puback(5))
    core.end()


@VERSIONS
def test_a_disk_that_takes_nothing_makes_no_new_session_and_lets_old_ones_in(version: int) -> None:
    core = synced()
    core.keep("old", version, user_name="durable").drop()
    core.shard.set_refusing(True)
    assert (
        core.connecting(
            "new",
            version,
            user_name="durable",
            clean_start=False,
            properties={"session_expiry_interval": 60} if version == 5 else {},
        ).closed_with(0x88 if version == 5 else 3)
        == []
    )
    core.resume("old", version, user_name="durable")
    core.connect("clean", version, user_name="durable")
    core.shard.set_refusing(False)
    core.end()


@VERSIONS
def test_a_kept_session_is_promised_when_it_is_on_disk(version: int) -> None:
    core = synced()
    core.hold()
    client = core.connecting(
        "c",
        version,
        user_name="durable",
        clean_start=False,
        properties={"session_expiry_interval": 60} if version == 5 else {},
    )
    core.publish("x", b"")
    client.expect()
    core.release()
    assert client.pick(Connack).reason_code == 0
    client.subscribe("x", qos=1)
    core.hold()
    client.send(Subscribe(2, (Subscription("y"),)))
    core.publish("x", b"live")
    client.expect(Publish("x", b"live"))
    core.release()
    client.expect(Suback(2, (0,)))
    core.end()


@pytest.mark.clause("v5:MQTT-3.1.2-4")
@VERSIONS
def test_the_end_of_a_kept_session_is_promised_when_it_is_on_disk(version: int) -> None:
    core = synced()
    core.keep("c", version, user_name="durable").drop()
    core.hold()
    client = core.connecting("c", version, user_name="durable", clean_start=True)
    client.expect()
    core.release()
    assert not client.pick(Connack).session_present
    again = core.connecting("c", version, user_name="durable", clean_start=True)
    again.pick(Connack)  # nothing on disk has ended
    core.end()


def test_a_client_whose_connack_waits_is_closed_without_a_word() -> None:
    core = synced()
    core.hold()
    client = core.connecting("c", user_name="durable", clean_start=False, properties={"session_expiry_interval": 60})
    core.shard.fail_connection(client.handle, 0x8B)
    core.run()
    assert client.closed_with(None) == []
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
        expected.append(Puback(packet_id))
    publisher.send(Subscribe(11, (Subscription("x"),)))
    publisher.expect()
    core.release()
    publisher.expect(*expected, Suback(11, (0,)))
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
    publisher.expect(Puback(1), Puback(2), Suback(9, (0,)), Puback(3))
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
    client.expect(Puback(1), *(Suback(one + 1, (0,)) for one in range(10)))
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


def test_a_shutdown_with_promises_that_wait_leaves_nothing() -> None:
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


def test_a_receipt_whose_message_needs_no_disk_any_more_leaves_without_a_batch() -> None:
    core = synced()
    publisher, subscriber = core.connect("p", user_name="durable"), core.keep("s", user_name="durable")
    subscriber.subscribe("live", qos=1)
    core.hold()
    core.in_flight = True  # a batch is under way
    publisher.publish("live", b"x", 2)
    (delivery,) = subscriber.publishes()
    subscriber.acknowledge(delivery.packet_id)
    publisher.expect()
    core.in_flight = False
    core.release()
    publisher.expect(Pubrec(1))
    core.end()


def test_what_is_retained_is_acknowledged_when_it_is_on_disk_whoever_has_acknowledged_it() -> None:
    core = synced()
    publisher, subscriber = core.connect("p", user_name="durable"), core.keep("s", user_name="durable")
    subscriber.subscribe("live", qos=1)
    core.hold()
    core.in_flight = True
    publisher.publish("live", b"x", 1, retain=True)
    (delivery,) = subscriber.publishes()
    subscriber.acknowledge(delivery.packet_id)
    publisher.expect()
    core.in_flight = False
    core.release()
    publisher.expect(Puback(1))
    core.end()


def test_a_message_of_qos_2_is_acknowledged_when_the_receipt_of_who_took_it_is_on_disk() -> None:
    core = synced()
    publisher, subscriber = core.connect("p", user_name="durable"), core.keep("s", user_name="durable")
    subscriber.subscribe("live", qos=2)
    publisher.publish("live", b"first", 2)
    publisher.expect(Pubrec(1))
    (first,) = subscriber.publishes()
    core.hold()
    publisher.publish("live", b"x", 2)
    core.run()
    subscriber.expect()  # a PUBLISH of QoS 2 leaves when its identifier is on disk
    subscriber.send(Pubrec(first.packet_id))
    subscriber.expect()  # and a PUBREL when its PUBREC is
    core.release()
    assert {type(one) for one in subscriber.received()} == {Publish, Pubrel}
    publisher.expect(Pubrec(2))
    core.end()


@pytest.mark.parametrize("size", [100, 8_000, 100_000])
def test_promises_outlive_their_messages(size: int) -> None:
    core = synced()
    receiver = core.keep("s", user_name="durable")
    receiver.subscribe("online", qos=2)
    publisher = core.connect("p", user_name="durable")
    payloads = [bytes([65 + number]) * size for number in range(10)]
    core.hold()
    for payload in payloads:
        publisher.publish("t", payload, 1)  # for one who is away: only the disk has it after the commit
        publisher.publish("online", payload, 2)  # waits for the commit, and is written where the other was
    core.release()
    assert [one.payload for one in receiver.publishes()] == payloads
    core.end()
