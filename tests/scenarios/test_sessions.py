"""Sessions that outlive their connection: what is kept, sent again, when it ends (sections 3.1.2, 4.1, 4.4, 4.6)."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason
from broker.wire import Connack, Disconnect, Pingresp, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.core import Client, Core, credential

VERSIONS = pytest.mark.parametrize("version", [4, 5])


def fill(core: Core, count: int, qos: int = 1, first: int = 0) -> list[bytes]:
    for number in range(first, first + count):
        core.publish("t", b"%d" % number, qos)
    return [b"%d" % number for number in range(first, first + count)]


# ---------------------------------------------------------------- what is kept


@pytest.mark.clause(
    "v5:MQTT-3.1.2-5", "v5:MQTT-3.2.2-2", "v5:MQTT-4.1.0-1", "v5:MQTT-3.1.2-23", "v311:MQTT-3.1.2-4",
    "v311:MQTT-3.1.2-5", "v311:MQTT-3.2.2-2", "v311:MQTT-4.1.0-1",
)  # fmt: skip
@VERSIONS
def test_subscriptions_and_messages_wait_for_the_client(any_core: Core, version: int) -> None:
    client = any_core.keep("c", version)
    client.subscribe("t", qos=1)
    client.drop()
    sent = fill(any_core, 5)
    client = any_core.resume("c", version)
    assert client.payloads() == sent
    any_core.publish("t", b"live", 1)
    assert client.payloads() == [b"live"]


@pytest.mark.clause("v5:MQTT-3.1.2-4", "v311:MQTT-3.1.2-6", "v5:MQTT-3.2.2-3")
@VERSIONS
def test_a_clean_start_forgets_the_session(core: Core, version: int) -> None:
    client = core.keep("c", version)
    client.subscribe("t", qos=1)
    client.drop()
    fill(core, 5)
    client = core.connecting("c", version, clean_start=True)
    assert not client.pick(Connack).session_present
    core.publish("t", b"x", 1)
    client.expect()
    assert core.all_drops() == {DropReason.SESSION_ENDED: 5}


@pytest.mark.clause("v5:MQTT-3.1.2-23", "v311:MQTT-3.1.2-6")
@VERSIONS
def test_a_session_without_a_lifetime_ends_with_its_connection(core: Core, version: int) -> None:
    client = core.connect("c", version)
    client.subscribe("t", qos=1)
    client.drop()
    assert core.shard.counters()["sessions"] == 0
    assert core.shard.counters()["subscriptions"] == 0
    client = core.connecting("c", version, clean_start=False)
    assert not client.pick(Connack).session_present


@VERSIONS
def test_qos_0_does_not_wait_and_is_counted(core: Core, version: int) -> None:
    client = core.keep("c", version)
    client.subscribe("t", qos=1)
    client.drop()
    fill(core, 3, qos=0)
    client = core.resume("c", version)
    client.expect()
    assert core.all_drops() == {DropReason.CLIENT_AWAY: 3}


def test_a_session_may_go_on_in_another_version(core: Core) -> None:
    client = core.keep("c", 4)
    client.subscribe("t", qos=2)
    client.drop()
    core.publish("t", b"1", 2)
    client = core.resume("c", 5)
    (delivery,) = client.publishes()
    client.drop()
    client = core.resume("c", 4)
    assert client.publishes() == [Publish("t", b"1", 2, dup=True, packet_id=delivery.packet_id)]


@pytest.mark.clause("v5:MQTT-3.1.2-23")
@pytest.mark.parametrize(("waited", "present"), [(0, True), (599, True), (601, False)])
def test_a_session_ends_when_its_time_is_up(core: Core, waited: float, present: bool) -> None:
    client = core.keep("c")
    client.subscribe("t", qos=1)
    client.drop()
    core.wait(waited)
    answer = core.connecting("c", clean_start=False).pick(Connack)
    assert answer.session_present == present
    assert core.shard.counters()["subscriptions"] == present


def test_the_time_begins_anew_with_every_departure(core: Core) -> None:
    core.keep("c").drop()
    for _ in range(4):
        core.wait(400)
        core.resume("c").drop()
    core.wait(601)
    assert core.shard.counters()["sessions"] == 0


def test_a_session_without_an_end_has_no_timer() -> None:
    core = Core(session_expiry_maximum_s=0xFFFF_FFFF)
    core.grant()
    core.keep("c", properties={"session_expiry_interval": 0xFFFF_FFFF}).drop()
    assert core.shard.counters()["timers"] == 0
    core.wait(10**9)
    core.resume("c", properties={"session_expiry_interval": 1}).drop()
    core.limits["session_expiry_maximum_s"] = 10
    core.end()


@pytest.mark.clause("v5:MQTT-3.14.2-2")
def test_a_disconnect_may_change_how_long(core: Core) -> None:
    client = core.keep("c")
    client.send(Disconnect(0, {"session_expiry_interval": 20}))
    assert not client.is_open
    core.wait(21)
    assert core.shard.counters()["sessions"] == 0
    client = core.keep("c")
    client.send(Disconnect(0, {"session_expiry_interval": 0}))
    assert core.shard.counters()["sessions"] == 0


@pytest.mark.clause("v5:MQTT-3.14.2-2")
def test_a_disconnect_cannot_keep_what_was_not_to_be_kept(core: Core) -> None:
    client = core.connect("c")
    client.send(Disconnect(0, {"session_expiry_interval": 20}))
    client.closed_with(0x82)
    client = core.connect("c")
    client.send(Disconnect(0, {"session_expiry_interval": 0}))
    client.closed_with(None)


# ---------------------------------------------------------------- what is sent again


@pytest.mark.clause(
    "v5:MQTT-4.4.0-1", "v5:MQTT-4.6.0-1", "v5:MQTT-3.3.1-1", "v311:MQTT-4.4.0-1", "v311:MQTT-4.6.0-1",
    "v311:MQTT-3.3.1-1", "v311:MQTT-3.1.2-5",
)  # fmt: skip
@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_not_acknowledged_comes_again_in_its_order(core: Core, version: int, qos: int) -> None:
    client = core.keep("c", version)
    client.subscribe("t", qos=qos)
    fill(core, 5, qos)
    sent = client.publishes()
    client.send(Puback(sent[1].packet_id) if qos == 1 else Pubrec(sent[1].packet_id))
    client.received()
    if qos == 2:
        client.send(Pubcomp(sent[1].packet_id))
    client.drop()
    client = core.resume("c", version)
    again = client.publishes()
    assert again == [
        Publish("t", one.payload, qos, dup=True, packet_id=one.packet_id) for one in sent if one != sent[1]
    ]
    for one in again:
        if qos == 1:
            client.acknowledge(one.packet_id)
        else:
            client.take_qos_2(one)
    client.drop()
    core.resume("c", version).expect()
    assert core.shard.counters()["messages_kept"] == 0


@pytest.mark.clause("v5:MQTT-4.3.3-6", "v5:MQTT-4.6.0-4", "v311:MQTT-4.6.0-4")
@VERSIONS
def test_a_release_is_sent_again_and_never_the_message(core: Core, version: int) -> None:
    client = core.keep("c", version)
    client.subscribe("t", qos=2)
    fill(core, 3, 2)
    sent = client.publishes()
    for one in (sent[2], sent[0]):
        client.send(Pubrec(one.packet_id))
        client.expect(Pubrel(one.packet_id))
    client.drop()
    client = core.resume("c", version)
    found = client.received()
    assert [one for one in found if isinstance(one, Pubrel)] == [Pubrel(sent[2].packet_id), Pubrel(sent[0].packet_id)]
    assert [one.payload for one in found if isinstance(one, Publish)] == [b"1"]
    for one in (sent[2], sent[0]):
        client.send(Pubcomp(one.packet_id))
    assert client.described["outbound_inflight"] == 1


@VERSIONS
def test_what_waits_follows_what_was_sent(version: int) -> None:
    core = Core(outbound_inflight_maximum=3)
    core.grant()
    client = core.keep("c", version)
    client.subscribe("t", qos=1)
    sent = fill(core, 3)
    assert client.payloads() == sent
    queued = fill(core, 3, first=3)
    client.drop()
    queued += fill(core, 3, first=6)
    client = core.resume("c", version)
    again = client.publishes()
    assert [one.payload for one in again] == sent
    assert all(one.dup for one in again)
    client.acknowledge(*(one.packet_id for one in again))
    later = client.publishes()
    assert [one.payload for one in later] == queued[:3]
    assert not any(one.dup for one in later)
    core.end()


@pytest.mark.clause("v5:MQTT-3.3.4-7", "v5:MQTT-4.9.0-1")
def test_a_smaller_receive_maximum_holds_for_what_is_sent_again(core: Core) -> None:
    client = core.keep("c")
    client.subscribe("t", qos=2)
    sent = fill(core, 6, 2)
    first = client.publishes()
    client.send(Pubrec(first[5].packet_id))
    client.received()
    client.drop()
    client = core.resume("c", properties={"receive_maximum": 2})
    payloads: list[bytes] = []
    for _ in range(20):
        found = client.received()
        deliveries = [one for one in found if isinstance(one, Publish)]
        assert client.described["outbound_inflight"] <= 6
        assert len(deliveries) <= 2
        payloads += [one.payload for one in deliveries]
        for one in found:
            if isinstance(one, Publish):
                client.send(Pubrec(one.packet_id))
            elif isinstance(one, Pubrel):
                client.send(Pubcomp(one.packet_id))
    assert payloads == sent[:5]
    assert client.described["outbound_inflight"] == 0
    core.publish("t", b"new", 2)
    core.publish("t", b"new", 2)
    core.publish("t", b"new", 2)
    assert client.payloads() == [b"new"] * 2


def test_an_acknowledgement_before_it_was_sent_again_ends_it(core: Core) -> None:
    client = core.keep("c")
    client.subscribe("t", qos=1)
    fill(core, 4)
    sent = client.publishes()
    client.drop()
    client = core.resume("c", properties={"receive_maximum": 1})
    (first,) = client.publishes()
    client.acknowledge(sent[2].packet_id)  # of the earlier connection: it frees no quota of this one
    client.expect()
    client.acknowledge(first.packet_id)
    (second,) = client.publishes()
    client.acknowledge(second.packet_id)
    assert client.payloads() == [b"3"]


def test_what_no_longer_fits_is_dropped_and_nobody_waits_for_it(core: Core) -> None:
    client = core.keep("c")
    client.subscribe("t", qos=1)
    core.publish("t", b"." * 200, 1)
    core.publish("t", b"small", 1)
    client.received()
    client.drop()
    client = core.resume("c", properties={"maximum_packet_size": 100})
    assert client.payloads() == [b"small"]
    assert core.all_drops() == {DropReason.PACKET_TOO_LARGE: 1}
    assert client.described["outbound_inflight"] == 1


@pytest.mark.clause("v5:MQTT-3.3.4-3", "v5:MQTT-3.3.2-6")
def test_identifiers_and_expiry_go_with_what_is_sent_again(core: Core) -> None:
    client, publisher = core.keep("c"), core.connect("p")
    client.subscribe("t", qos=1, identifier=5)
    publisher.publish("t", b"x", 1, properties={"message_expiry_interval": 100, "user_property": (("a", "b"),)})
    (sent,) = client.publishes()
    client.drop()
    core.wait(30)
    (again,) = core.resume("c").publishes()
    assert again.properties == {**sent.properties, "message_expiry_interval": 70}
    assert again.properties["subscription_identifier"] == (5,)


@pytest.mark.clause("v5:MQTT-3.3.2-5", "v5:MQTT-3.3.2-6")
def test_what_expires_while_the_client_is_away_is_dropped(core: Core) -> None:
    client, publisher = core.keep("c"), core.connect("p")
    client.subscribe("t", qos=1)
    client.drop()
    publisher.publish("t", b"soon", 1, properties={"message_expiry_interval": 10})
    publisher.publish("t", b"later", 1, properties={"message_expiry_interval": 100})
    core.wait(20)
    (found,) = core.resume("c").publishes()
    assert (found.payload, found.properties["message_expiry_interval"]) == (b"later", 80)
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: 1}


@VERSIONS
def test_identifiers_taken_before_the_break_are_not_taken_again(core: Core, version: int) -> None:
    client = core.keep("c", version)
    client.subscribe("t", qos=1)
    fill(core, 10)
    before = {one.packet_id for one in client.publishes()}
    client.drop()
    fill(core, 10, first=10)
    found = core.resume("c", version).publishes()
    assert {one.packet_id for one in found if one.dup} == before
    assert len({one.packet_id for one in found}) == 20


# ---------------------------------------------------------------- inbound QoS 2


@pytest.mark.clause("v5:MQTT-4.3.3-10", "v5:MQTT-4.1.0-1", "v311:MQTT-4.3.3-2", "v311:MQTT-4.4.0-1")
@VERSIONS
def test_an_identifier_that_was_received_is_remembered(core: Core, version: int) -> None:
    watcher, client = core.connect("w"), core.keep("c", version)
    watcher.subscribe("t")
    client.publish("t", b"x", 2, packet_id=3)
    client.drop()
    client = core.resume("c", version)
    client.publish("t", b"x", 2, packet_id=3, dup=True)
    client.expect(Pubrec(3))
    assert client.release(3) == 0
    assert watcher.payloads() == [b"x"]


@VERSIONS
def test_a_released_identifier_is_forgotten_across_connections(core: Core, version: int) -> None:
    client = core.keep("c", version)
    client.publish("t", b"x", 2, packet_id=3)
    client.drop()
    client = core.resume("c", version)
    assert client.release(3) == 0
    assert client.release(3) == (0x92 if version == 5 else 0)


# ---------------------------------------------------------------- takeover


@pytest.mark.clause("v5:MQTT-3.1.4-3", "v311:MQTT-3.1.4-2", "v5:MQTT-3.1.2-5")
@VERSIONS
def test_a_takeover_goes_on_with_the_session(core: Core, version: int) -> None:
    first = core.keep("c", version)
    first.subscribe("t", qos=2)
    fill(core, 3, 2)
    sent = first.publishes()
    second = core.resume("c", version)
    first.closed_with(0x8E if version == 5 else None)
    assert second.publishes() == [Publish("t", one.payload, 2, dup=True, packet_id=one.packet_id) for one in sent]
    assert core.shard.counters()["sessions"] == 1


@VERSIONS
def test_a_takeover_in_the_middle_of_an_exchange_changes_nothing_of_it(core: Core, version: int) -> None:
    watcher = core.connect("w")
    watcher.subscribe("in")
    first = core.keep("c", version)
    first.subscribe("out", qos=2)
    first.publish("in", b"x", 2, packet_id=1)
    core.publish("out", b"y", 2)
    (delivery,) = [one for one in first.received() if isinstance(one, Publish)]
    first.send(Pubrec(delivery.packet_id))
    second = core.resume("c", version)
    second.expect(Pubrel(delivery.packet_id))
    second.publish("in", b"x", 2, packet_id=1, dup=True)
    second.expect(Pubrec(1))
    assert second.release(1) == 0
    assert watcher.payloads() == [b"x"]


def test_takeovers_in_a_row_lose_nothing(core: Core) -> None:
    client = core.keep("c")
    client.subscribe("t", qos=1)
    for number in range(50):
        core.publish("t", b"%d" % number, 1)
        core.wait(2)
        client = core.resume("c")
    assert client.payloads() == [b"%d" % number for number in range(50)]
    assert core.all_drops() == {}


def test_a_takeover_of_a_session_that_is_not_kept_finds_nothing(core: Core) -> None:
    first = core.connect("c")
    first.subscribe("t")
    second = core.connecting("c", clean_start=False)
    assert not second.pick(Connack).session_present
    first.closed_with(0x8E)


def test_a_connection_lost_in_the_same_round_is_resumed(core: Core) -> None:
    client = core.keep("c")
    client.subscribe("t", qos=1)
    core.shard.close_connection(client.handle)  # no slice between the two
    second = core.connecting("c", clean_start=False, run=False)
    core.run()
    assert second.pick(Connack).session_present


@VERSIONS
def test_two_with_one_identifier_change_places_once_a_second(core: Core, version: int) -> None:
    core.keep("c", version).subscribe("t", qos=1)
    places = 0
    kept = {"properties": {"session_expiry_interval": 600}} if version == 5 else {}
    waiting = [core.connecting("c", version, clean_start=False, **kept)]
    for _ in range(100):  # ten seconds, each of the two back as soon as it is sent away
        core.wait(0.1)
        waiting = [one for one in waiting if one.is_open]
        while len(waiting) < 2:
            waiting.append(core.connecting("c", version, clean_start=False, **kept))
            places += 1
    assert 8 <= places <= 13
    core.wait(5)
    assert [one.is_open for one in waiting].count(True) == 1
    assert core.shard.counters()["sessions"] == 1
    assert core.shard.counters()["subscriptions"] == 1


def test_a_takeover_by_whoever_lost_his_connection_waits_for_nothing(core: Core) -> None:
    first = core.keep("c")
    second = core.resume("c")
    first.closed_with(0x8E)
    core.wait(1.5)
    core.resume("c")
    second.closed_with(0x8E)


def test_who_waits_to_take_over_may_go_or_lose_his_credential(core: Core) -> None:
    core.keep("c")
    core.resume("c")
    gone, revoked, late = (core.connecting("c", clean_start=False) for _ in range(3))
    gone.expect()
    gone.drop()
    late.feed(b"\xc0\x00")  # what follows its CONNECT waits with it
    core.shard.remove_grant(credential("user", b"pw"))
    core.wait(1.1)
    assert len(core.asked) == 2
    core.refuse(revoked.handle)
    revoked.closed_with(0x87)
    core.admit(late.handle, principal_id=1)
    assert [type(one) for one in late.received()] == [Connack, Pingresp]


# ---------------------------------------------------------------- ends


def test_a_large_session_ends_in_slices(core: Core) -> None:
    client = core.keep("c")
    for number in range(5_000):
        assert core.shard.subscribe(client.handle, b"f/%d/+/#" % number, 1)
    core.deliveries = 64
    client.send(Disconnect(0, {"session_expiry_interval": 0}), run=False)
    slices = 0
    while core.slice():
        slices += 1
    assert slices > 20
    assert core.shard.counters()["subscriptions"] == 0


def test_a_session_that_is_ending_takes_nothing_any_more(core: Core) -> None:
    client, publisher = core.keep("c"), core.connect("p")
    for number in range(500):
        core.shard.subscribe(client.handle, b"f/%d/#" % number, 1)
    client.subscribe("#", qos=1)
    core.deliveries = 1
    client.send(Disconnect(0, {"session_expiry_interval": 0}), run=False)
    core.slice()
    second = core.connecting("c", clean_start=False, run=False)
    publisher.publish("f/3/x", b"x", 1, run=False)
    core.run()
    assert not second.pick(Connack).session_present
    second.expect()
    core.end()


def test_many_sessions_that_go_at_once_are_decided_about_in_slices(core: Core) -> None:
    clients = [core.keep(f"c{number}") for number in range(200)]
    for one in clients:
        core.shard.close_connection(one.handle)
    core.deliveries = 10
    slices = 1
    while core.slice():
        slices += 1
    assert slices >= 10
    assert core.shard.counters()["sessions"] == 200
    assert core.shard.counters()["timers"] == 200


def test_fleets_of_sessions_with_deadlines_are_looked_at_when_they_are_due(core: Core) -> None:
    for number in range(1000):
        core.keep(f"c{number}").drop()
    assert core.shard.counters()["timers"] == 1000
    due = core.shard.next_deadline_ns()
    assert due is not None
    assert due > core.now_ns + 100 * 10**9, "nothing wakes the loop before a deadline comes near"
    core.wait(601)
    assert core.shard.counters()["sessions"] == 0


@pytest.fixture
def quiet(core: Core) -> Client:
    return core.connect("quiet")


def test_counting_comes_back_to_nothing(core: Core, quiet: Client) -> None:
    for version in (4, 5):
        client = core.keep(f"c{version}", version)
        client.subscribe("t", qos=2)
        fill(core, 3, 2)
        client.drop()
        fill(core, 3, 1)
        client = core.connect(f"c{version}", version)
        client.drop()
    quiet.expect()
    assert core.shard.counters()["messages_kept"] == 0
    assert core.shard.counters()["sessions"] == 1
