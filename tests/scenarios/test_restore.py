"""After a crash: sessions, subscriptions and deliveries are as they were promised, whatever was under way."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason, ReasonCode
from broker.wire import Puback, Pubcomp, Publish, Pubrec, Pubrel, Subscription, Will
from tests.support.core import SYNCED, Client, Core, credential
from tests.support.kept import drain, fill, nothing_left, payloads, subscriber, synced

VERSIONS = pytest.mark.parametrize("version", [4, 5])


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


# ---------------------------------------------------------------- in flight


@VERSIONS
@pytest.mark.clause("v5:MQTT-4.4.0-1", "v311:MQTT-4.4.0-1")
def test_what_was_sent_with_qos_1_and_not_acknowledged_comes_again_with_its_identifier(version: int) -> None:
    core = synced()
    client = subscriber(core, version)
    fill(core, 3)
    first = client.publishes()
    client.send(Puback(first[1].packet_id))
    core = core.crash()
    again = core.resume("s", version, user_name="durable").publishes()
    assert [(one.payload, one.packet_id, one.dup) for one in again] == [
        (first[0].payload, first[0].packet_id, True),
        (first[2].payload, first[2].packet_id, True),
    ]
    core.end()


@VERSIONS
@pytest.mark.clause("v5:MQTT-4.3.3-6", "v311:MQTT-4.4.0-1")
def test_a_delivery_of_qos_2_goes_on_where_it_was(version: int) -> None:
    core = synced()
    client = subscriber(core, version, 2)
    fill(core, 3, 2)
    first = client.publishes()
    client.send(Pubrec(first[0].packet_id))
    client.expect(Pubrel(first[0].packet_id))
    core = core.crash()
    client = core.resume("s", version, user_name="durable")
    found = client.received()
    assert [one for one in found if isinstance(one, Pubrel)] == [Pubrel(first[0].packet_id)]
    again = [one for one in found if isinstance(one, Publish)]
    assert [(one.payload, one.packet_id, one.dup) for one in again] == [
        (one.payload, one.packet_id, True) for one in first[1:]
    ]
    client.send(Pubcomp(first[0].packet_id))
    for one in again:
        client.take_qos_2(one)
    core = core.crash()
    core.resume("s", version, user_name="durable").expect()
    nothing_left(core)


@VERSIONS
@pytest.mark.clause("v5:MQTT-2.2.1-4", "v311:MQTT-2.3.1-4")
def test_no_identifier_that_is_in_flight_is_given_again_after_a_crash(version: int) -> None:
    core = synced()
    client = subscriber(core, version, 2)
    fill(core, 4, 2)
    held = {one.packet_id for one in client.publishes()}
    core = core.crash()
    client = core.resume("s", version, user_name="durable")
    client.received()
    fill(core, 10, 2)
    assert held.isdisjoint(one.packet_id for one in client.publishes())
    core.end()


@VERSIONS
@pytest.mark.clause("v5:MQTT-4.3.3-10", "v311:MQTT-4.3.3-2")
def test_a_publish_of_qos_2_that_was_taken_is_not_routed_again_after_a_crash(version: int) -> None:
    core = synced()
    subscriber(core, qos=2).drop()
    publisher = core.keep("p", version, user_name="durable")
    publisher.publish("t/1", b"once", 2, packet_id=7)
    publisher.expect(Pubrec(7))
    core = core.crash()
    publisher = core.resume("p", version, user_name="durable")
    publisher.publish("t/1", b"once", 2, packet_id=7, dup=True)
    publisher.expect(Pubrec(7))
    assert publisher.release(7) == 0
    core = core.crash()
    publisher = core.resume("p", version, user_name="durable")
    publisher.publish("t/1", b"another", 2, packet_id=7)
    publisher.expect(Pubrec(7))
    assert drain(core.resume("s", user_name="durable")) == [b"once", b"another"]
    core.end()


def test_what_was_sent_from_the_queue_is_in_flight_after_a_crash() -> None:
    core = synced()
    subscriber(core, 5).drop()
    fill(core, 10)
    client = core.resume("s", user_name="durable", properties={"receive_maximum": 4})
    sent = client.publishes()
    assert [one.payload for one in sent] == payloads(0, 4)
    client.send(Puback(sent[0].packet_id))
    assert client.payloads() == payloads(4, 5)
    core = core.crash()
    client = core.resume("s", user_name="durable")
    again = client.publishes()
    assert [one.payload for one in again] == payloads(1, 10)
    assert [one.packet_id for one in again[:3]] == [one.packet_id for one in sent[1:]]
    assert [one.dup for one in again] == [True] * 4 + [False] * 5
    core.end()


# ---------------------------------------------------------------- sessions


@pytest.mark.clause("v5:MQTT-3.1.2-23")
def test_a_session_expires_by_the_wall_clock_from_when_its_client_went() -> None:
    core = synced()
    subscriber(core).drop()
    fill(core, 1)
    core.wait(300)
    core = core.crash(down_s=200)
    core.wait(99)
    assert core.shard.counters()["sessions"] == 1
    core.wait(2)
    assert core.shard.counters()["sessions"] == 0
    nothing_left(core)


@pytest.mark.clause("v5:MQTT-3.1.2-23")
def test_who_comes_back_too_late_after_a_restart_does_not_find_a_session_with_a_gap() -> None:
    core = synced()
    subscriber(core).drop()
    core.hold()
    core.wait(601)  # it has ended, and no disk knows
    publisher = core.connect("p", user_name="plain")
    publisher.publish("t/x", b"x", 2)
    publisher.expect(Pubrec(1, ReasonCode.NO_MATCHING_SUBSCRIBERS))
    core = core.crash()
    late = core.keep("s", user_name="durable")  # Session Present is 0
    assert late.described["subscriptions"] == 0
    late.drop()
    core = core.crash()
    core.resume("s", user_name="durable")
    nothing_left(core)


def test_who_was_connected_at_the_crash_is_away_from_the_restart_on_whatever_follows() -> None:
    core = synced()
    subscriber(core)
    core.wait(1000)
    core = core.crash(down_s=1000)
    core.run()  # its departure is recorded
    core = core.crash(down_s=599)
    assert core.shard.counters()["sessions"] == 1
    core = core.crash(down_s=2)
    core.wait(0.1)
    assert core.shard.counters()["sessions"] == 0
    nothing_left(core)


def test_a_session_that_ended_does_not_come_back() -> None:
    core = synced()
    subscriber(core).drop()
    fill(core, 3)
    core.connect("s", user_name="durable").drop()  # with a clean start
    core = core.crash()
    assert core.shard.counters()["sessions"] == 0
    nothing_left(core)


def test_a_session_of_a_principal_that_is_no_more_ends_at_the_start() -> None:
    core = synced()
    subscriber(core).drop()
    fill(core, 3)
    core.granted = core.granted[1:]
    core = core.crash(known=lambda _: False)
    assert core.shard.counters()["sessions"] == 0
    nothing_left(core)


def test_a_session_of_a_principal_without_a_grant_waits_for_it() -> None:
    core = synced()
    subscriber(core).drop()
    fill(core, 3)
    kept = core.granted
    core.granted = core.granted[1:]
    core = core.crash(known=lambda _: True)
    core.granted = kept
    core = core.crash(known=lambda _: False)
    assert drain(core.resume("s", user_name="durable")) == payloads(0, 3)
    nothing_left(core)


def test_rights_that_have_gone_are_judged_when_messages_are_read() -> None:
    core = Core()
    core.grant("durable", synced=True)
    core.grant("plain")
    subscriber(core).drop()
    core.keep("u", user_name="durable").subscribe("u/#", qos=1)
    fill(core, 3)
    (grant, options) = core.granted[0]
    core.granted[0] = ((*grant[:-1], ("u/#",)), options)
    core = core.crash()
    assert core.shard.counters()["subscriptions"] == 1
    assert drain(core.resume("s", user_name="durable")) == []
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 3}
    nothing_left(core)


@VERSIONS
def test_a_takeover_after_a_crash_goes_on_with_the_same_session(version: int) -> None:
    core = synced()
    subscriber(core, version).drop()
    fill(core, 5)
    core = core.crash()
    first = core.resume("s", version, user_name="durable")
    assert len(first.publishes()) == 5
    second = core.resume("s", version, user_name="durable")
    assert drain(second) == payloads(0, 5)
    nothing_left(core)


def test_options_of_subscriptions_are_those_of_before() -> None:
    core = synced()
    client = core.keep("s", user_name="durable")
    client.subscribe(Subscription("t/#", 1, no_local=True, retain_as_published=True), identifier=9)
    client.drop()
    core = core.crash()
    client = core.resume("s", user_name="durable")
    client.publish("t/1", b"own", 1)
    assert client.pick(Puback).reason_code == 0x10
    client.expect()
    core.connect("p", user_name="plain").publish("t/1", b"other", 1, retain=True)
    (found,) = client.publishes()
    assert (found.payload, found.qos, found.retain, found.properties) == (
        b"other", 1, True, {"subscription_identifier": (9,)},
    )  # fmt: skip
    core.end()


def test_identifiers_and_properties_of_what_is_queued_come_with_it() -> None:
    core = synced()
    client = core.keep("s", user_name="durable")
    client.subscribe("t/#", qos=1, identifier=7)
    client.subscribe("t/+", qos=1, identifier=8)
    client.drop()
    sent = {"user_property": (("a", "b"),), "message_expiry_interval": 100, "content_type": "x"}
    core.connect("p", user_name="plain").publish("t/1", b"1", 1, properties=sent)
    core.wait(10)
    core = core.crash(down_s=20)
    (found,) = core.resume("s", user_name="durable").publishes()
    identifiers = found.properties.pop("subscription_identifier")
    assert sorted(identifiers) == [7, 8]
    assert found.properties == {**sent, "message_expiry_interval": 70}
    core.end()


def test_a_message_that_expired_on_the_disk_is_not_delivered() -> None:
    core = synced()
    subscriber(core).drop()
    core.connect("p", user_name="plain").publish("t/1", b"1", 1, properties={"message_expiry_interval": 100})
    fill(core, 1)
    core = core.crash(down_s=101)
    assert drain(core.resume("s", user_name="durable")) == payloads(0, 1)
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: 1}
    nothing_left(core)


# ---------------------------------------------------------------- shared groups


@pytest.mark.clause("v5:MQTT-3.3.2-6")
def test_a_clock_that_was_set_back_makes_no_message_last_longer_than_it_may() -> None:
    core = synced()
    subscriber(core).drop()
    core.connect("p", user_name="plain").publish("t/x", b"", 1, properties={"message_expiry_interval": 50})
    core = core.crash(down_s=-3600)
    (delivery,) = core.resume("s", user_name="durable").publishes()
    assert delivery.properties == {"message_expiry_interval": 50}
    core.end()


def shared(core: Core, client_id: str) -> Client:
    client = core.keep(client_id, user_name="durable")
    client.subscribe("$share/g/t/#", qos=1)
    return client


def test_what_an_ending_session_has_on_disk_is_handed_over() -> None:
    core = synced()
    shared(core, "a").drop()
    fill(core, 5)
    core = core.crash()
    other = core.keep("b", user_name="durable")
    other.subscribe("$share/g/t/#", qos=1)
    core.wait(601)  # the first one expires
    assert sorted(drain(other)) == payloads(0, 5)
    assert core.all_drops() == {}
    nothing_left(core)


def test_a_session_that_ends_while_it_hands_over_goes_on_after_a_crash() -> None:
    core = synced()
    shared(core, "a").drop()
    fill(core, 5)
    core = core.crash()
    shared(core, "b").drop()
    core.hold()  # reads and commits wait
    core.connecting("a", user_name="durable")
    core.seal()
    core.store.commit()  # that it ends is on disk, and what it handed over is not
    core = core.crash()
    core.run()
    assert sorted(drain(core.resume("b", user_name="durable"))) == payloads(0, 5)
    core.end()


@pytest.mark.parametrize("fold", [1, 1 << 40])
@pytest.mark.parametrize("qos", [1, 2])
def test_two_deliveries_of_one_message_to_one_session_are_told_apart(qos: int, fold: int) -> None:
    core = synced()
    core.shard.set_fold(fold)
    client = core.keep("a", user_name="durable")
    client.subscribe("$share/g/t/#", "$share/h/t/+", "t/x", qos=qos)
    fill(core, 2, qos)
    first = client.publishes()
    assert [one.payload for one in first] == [b"0"] * 3 + [b"1"] * 3
    done = first[1]
    if qos == 1:
        client.send(Puback(done.packet_id))
    else:
        client.take_qos_2(done)
    core = core.crash()
    core.shard.set_fold(fold)
    again = core.resume("a", user_name="durable").publishes()
    assert [(one.packet_id, one.payload) for one in again] == [
        (one.packet_id, one.payload) for one in first if one is not done
    ]
    core = core.crash()
    assert drain(core.resume("a", user_name="durable")) == [b"0"] * 2 + [b"1"] * 3
    nothing_left(core)


# ---------------------------------------------------------------- the disk


def test_a_chunk_that_cannot_be_read_now_is_asked_for_again() -> None:
    core = synced()
    subscriber(core).drop()
    fill(core, 3)
    core = core.crash()
    core.hold()
    client = core.connecting("s", user_name="durable", clean_start=False, properties={"session_expiry_interval": 600})
    for _ in range(3):
        assert core.store.reads_waiting == 1
        core.fail_read()
        core.run()
    core.release()
    assert drain(client) == payloads(0, 3)
    core.end()


def test_a_chunk_that_is_damaged_costs_its_own_deliveries_and_no_more() -> None:
    core = synced()
    subscriber(core).drop()
    fill(core, 3)
    core = core.crash()
    (_, _), (key, value), (_, _) = core.store.load("messages")
    core.store.submit(0, [("messages", key, value[:-1] + b"?")], lambda *_: None)
    core.store.answer()
    assert drain(core.resume("s", user_name="durable")) == [b"0", b"2"]
    assert core.all_drops() == {DropReason.LOST: 1}
    nothing_left(core)


def test_a_chunk_that_has_gone_costs_its_own_deliveries_and_no_more() -> None:
    core = synced()
    subscriber(core).drop()
    fill(core, 3)
    core = core.crash()
    core.store.submit(0, [("messages", core.store.load("messages")[1][0], None)], lambda *_: None)
    core.store.answer()
    assert drain(core.resume("s", user_name="durable")) == [b"0", b"2"]
    assert core.all_drops() == {DropReason.LOST: 1}
    nothing_left(core)


def test_records_that_are_none_are_left_out_and_counted() -> None:
    core = synced()
    subscriber(core).drop()
    fill(core, 2)
    for table in ("sessions", "subscriptions", "flows", "messages", "ops"):
        core.store.submit(0, [(table, b"\0\0\0\0\0\0\0\x99", b"nonsense" * 9), (table, b"x", b"")], lambda *_: None)
    core.store.answer()
    core = core.crash()
    assert core.left_out == dict.fromkeys(("sessions", "subscriptions", "flows", "messages", "ops"), 2)
    assert drain(core.resume("s", user_name="durable")) == payloads(0, 2)
    core.end()


# ---------------------------------------------------------------- memory


def test_what_is_queued_for_who_is_away_is_on_disk_alone() -> None:
    core = synced()
    client = subscriber(core)
    client.reads = False
    client.drop()
    fill(core, 100)
    assert core.shard.counters()["messages_kept"] == 0
    client = core.resume("s", user_name="durable", properties={"receive_maximum": 1})
    assert len(client.publishes()) == 1
    assert core.shard.counters()["messages_kept"] > 0
    client.drop()
    assert core.shard.counters()["messages_kept"] == 0
    assert drain(core.resume("s", user_name="durable")) == payloads(0, 100)
    nothing_left(core)


def test_a_queue_larger_than_a_page_comes_in_order() -> None:
    core = synced(queue_messages_maximum=5000, queue_maximum_bytes=1 << 30)
    subscriber(core).drop()
    core.hold()
    publisher = core.connect("p", user_name="plain")
    for number in range(3000):  # in few batches
        publisher.publish("t/x", b"%d" % number, 1, run=number % 1000 == 0)
    core.release()
    core = core.crash()
    assert drain(core.resume("s", user_name="durable")) == payloads(0, 3000)
    nothing_left(core)


# ---------------------------------------------------------------- ops, folded


@pytest.mark.parametrize("qos", [1, 2])
def test_ops_do_not_grow_and_what_they_said_stays_said(qos: int) -> None:
    core = synced()
    core.shard.set_fold(200)
    client = subscriber(core, 5, qos)
    other = subscriber(core, 5, qos, "other", properties={"receive_maximum": 5})
    other.reads = False
    got: list[bytes] = []
    for number in range(60):
        fill(core, 1, qos, number)
        got += drain(client)
    assert got == payloads(0, 60)
    ops = core.shard.journal()["ops_bytes"]
    assert ops < 2000, ops
    assert len(core.store.load("ops")) < 20
    for _ in range(2):
        core = core.crash()
        core.shard.set_fold(200)
        core.resume("s", user_name="durable").expect()
    assert drain(core.resume("other", user_name="durable")) == payloads(0, 60)
    core.resume("s", user_name="durable").expect()
    nothing_left(core)


def test_inbound_identifiers_are_folded_too() -> None:
    core = synced()
    core.shard.set_fold(100)
    publisher = core.keep("p", user_name="durable")
    for packet_id in range(1, 30):
        publisher.publish("nobody", b"", 2, packet_id=packet_id)
        if packet_id % 3:
            publisher.received()
            publisher.release(packet_id)
    assert core.store.load("flows") != []
    core = core.crash()
    publisher = core.resume("p", user_name="durable")
    assert publisher.described["inbound_qos2_ids"] == 9
    core.end()


# ---------------------------------------------------------------- chunks, written again


def tell(core: Core, *names: str) -> list[Client]:
    found = [subscriber(core, client_id=name) for name in names]
    for client in found:
        client.drop()
    return found


def stored(core: Core) -> int:
    return sum(len(value) for _, value in core.store.load("messages"))


def test_one_slow_session_does_not_keep_on_disk_what_others_have_taken() -> None:
    core = synced()
    tell(core, "slow", "a", "b", "c", "d", "e")
    core.hold()
    publisher = core.connect("p", user_name="plain")
    for number in range(40):
        publisher.publish("t/x", b"%d" % number + bytes(100), 1)
    publisher.unsubscribe("t/x")
    core.release()
    fill(core, 20)  # later ones: the first chunks are not young any more
    before = stored(core)
    for name in ("a", "b", "c", "d", "e"):
        assert len(drain(core.resume(name, user_name="durable"))) == 60
    for _ in range(30):
        core.wait(0.2)
        core.publish("elsewhere", b"", 1)
        core.keep(f"noise {_}", user_name="durable").drop()  # a batch
    assert stored(core) < before * 0.85
    core = core.crash()
    assert core.left_out == {}
    assert len(drain(core.resume("slow", user_name="durable"))) == 60
    core.end()


def test_what_has_expired_leaves_the_disk_though_nobody_comes_for_it() -> None:
    core = synced()
    core.shard.set_merging(1000, 8)
    tell(core, "a", "b")
    publisher = core.connect("p", user_name="plain")
    for number in range(30):
        fields = {"properties": {"message_expiry_interval": 50}} if number % 3 else {}
        publisher.publish("t/x", b"%d" % number, 1, **fields)
    core = core.crash()
    core.shard.set_merging(1000, 8)
    core.wait(60)
    for number in range(20):
        core.keep(f"noise {number}", user_name="durable").drop()
        core.wait(0.2)
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 40
    assert len(core.store.load("messages")) == 10
    assert core.shard.journal()["deliveries"] == 20
    expected = [b"%d" % number for number in range(30) if number % 3 == 0]
    assert drain(core.resume("a", user_name="durable")) == expected
    core = core.crash()
    assert drain(core.resume("b", user_name="durable")) == expected
    nothing_left(core)


def test_of_one_chunk_what_has_expired_goes_and_the_rest_stays_in_order() -> None:
    core = synced()
    tell(core, "a")
    publisher = core.connect("p", user_name="plain")
    core.hold()
    core.connecting(
        "first", user_name="durable", clean_start=False
    )  # its batch is under way: the following gather in one
    for number in range(30):
        fields = {"properties": {"message_expiry_interval": 50}} if number % 3 else {}
        publisher.publish("t/x", b"%d" % number, 1, **fields)
    core.release()
    assert len(core.store.load("messages")) <= 2
    before = stored(core)
    core = core.crash(down_s=60)
    for number in range(5):
        core.keep(f"noise {number}", user_name="durable").drop()
        core.wait(0.2)
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 20
    assert stored(core) < before / 2
    core = core.crash()
    assert core.left_out == {}
    expected = [b"%d" % number for number in range(30) if number % 3 == 0]
    assert drain(core.resume("a", user_name="durable")) == expected
    core.end()


@pytest.mark.parametrize("is_away", [False, True], ids=["there", "away"])
def test_rights_that_end_in_the_middle_of_a_queue_take_nothing_else_from_the_disk(is_away: bool) -> None:
    core = synced()
    core.shard.set_merging(1000, 8)
    number = core.grant("u", synced=True, subscribe=("t/#", "b"))
    slow = core.keep("slow", user_name="u", properties={"receive_maximum": 1})
    slow.subscribe("t/#", "b", qos=1)
    if is_away:
        slow.drop()
    tell(core, "a", "b", "c", "d", "e")
    publisher = core.connect("p", user_name="plain")
    core.in_flight = True  # a batch is under way: the following gather in one chunk
    for payload in payloads(0, 9):
        publisher.publish("t/x", payload + bytes(1000), 1)
    publisher.publish("b", b"not any more" + bytes(1000), 1)
    core.in_flight = False
    core.run()
    fill(core, 20)  # later ones: the first chunk is not young any more
    core.granted = [grant for grant in core.granted if grant[0][2] != number]
    core._put_grant(credential("u", b"pw"), 1, number, "u", "", ("#",), ("t/#",), durability=SYNCED)
    if is_away:
        core.resume("slow", user_name="u", properties={"receive_maximum": 1})
    assert core.drops(DropReason.NOT_AUTHORIZED) == 1
    first, _ = core.store.load("messages")[0]
    for name in ("a", "b", "c", "d", "e"):
        drain(core.resume(name, user_name="durable"))
    for number in range(30):
        core.keep(f"noise {number}", user_name="durable").drop()  # a batch
        core.wait(0.2)
    assert 9000 < len(dict(core.store.load("messages"))[first]) < 10_000  # it was written again, without the last one
    core = core.crash()
    assert [one.rstrip(bytes(1)) for one in drain(core.resume("slow", user_name="u"))[:9]] == payloads(0, 9)
    core.end()


def test_what_expired_in_the_memory_of_a_slow_client_leaves_the_disk_when_it_has_gone() -> None:
    core = synced()
    slow = core.keep("slow", user_name="durable", properties={"receive_maximum": 1})
    slow.subscribe("t/#", qos=1)
    publisher = core.connect("p", user_name="plain")
    for payload in payloads(0, 10):
        publisher.publish("t/x", payload, 1, properties={"message_expiry_interval": 50})
    core.wait(60)
    for number in range(20):
        core.keep(f"noise {number}", user_name="durable").drop()
        core.wait(0.2)
    assert core.shard.journal()["deliveries"] == 10  # what is in memory is looked at when it is sent
    slow.drop()
    for number in range(20):
        core.keep(f"noise {number}", user_name="durable", present=True).drop()
        core.wait(0.2)
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 9
    assert core.shard.journal()["deliveries"] == 1  # the one that has been sent
    core.end()


def test_a_large_batch_is_written_in_chunks_that_can_be_read_one_by_one() -> None:
    core = synced()
    tell(core, "a", "b")
    publisher = core.connect("p", user_name="plain")
    core.in_flight = True  # a batch is under way: the following gather in the next one
    sent = [b"%d" % number + bytes(number * 1500) for number in range(60)]
    for number, payload in enumerate(sent):
        publisher.publish("t/x", payload, 1)
        if number == 30:
            publisher.publish("t/x", bytes(700_000), 1)  # larger than a chunk is: one of its own
    core.in_flight = False
    core.run()
    chunks = core.store.load("messages")
    assert len(chunks) >= 7
    assert sorted(len(value) for _, value in chunks)[-2] <= 512 * 1024
    assert core.shard.journal()["chunks"] == len(chunks)
    assert core.shard.journal()["chunk_bytes"] == stored(core)
    expected = [*sent[:31], bytes(700_000), *sent[31:]]
    assert drain(core.resume("a", user_name="durable")) == expected
    core = core.crash()
    assert core.left_out == {}
    assert drain(core.resume("b", user_name="durable")) == expected
    nothing_left(core)


def test_a_chunk_of_which_little_is_left_is_written_again_though_few_have_followed_it() -> None:
    core = synced()
    tell(core, "slow", "a", "b", "c", "d", "e")
    publisher = core.connect("p", user_name="plain")
    core.in_flight = True
    for number in range(40):
        publisher.publish("t/x", b"%d" % number + bytes(100), 1)
    core.in_flight = False
    core.run()
    before = stored(core)
    for name in ("a", "b", "c", "d", "e"):
        drain(core.resume(name, user_name="durable"))
    for number in range(20):
        core.keep(f"noise {number}", user_name="durable").drop()  # a batch
        core.wait(0.2)
    assert stored(core) < before * 0.85
    core.end()


def test_what_was_passed_by_a_later_message_stays_when_its_chunk_is_written_again() -> None:
    # A fan-out in slices: a message that came later was sent before this one was offered, and then their client left.
    core = synced(deliveries=1)
    tell(core, "first", "second")
    client = core.resume("second", user_name="durable")
    client.subscribe("u", qos=1)
    slow, quick = core.connect("slow", user_name="plain"), core.connect("quick", user_name="plain")
    core.hold()
    core.connecting("batch", user_name="durable", clean_start=False)  # under way: the following gather in one
    slow.publish("t/x", b"passed", 1, run=False)
    quick.publish("u", b"later", 1, run=False)
    assert client.payloads() == [b"later"]
    core.shard.close_connection(client.handle)
    quick.publish("u", b"expires", 1, properties={"message_expiry_interval": 50})
    core.release()
    core = core.crash(down_s=60)
    for number in range(5):
        core.keep(f"noise {number}", user_name="durable").drop()
        core.wait(0.2)
    assert core.drops(DropReason.MESSAGE_EXPIRED) == 1
    assert sorted(drain(core.resume("second", user_name="durable"))) == [b"later", b"passed"]
    assert drain(core.resume("first", user_name="durable")) == [b"passed"]
    nothing_left(core)
