"""QoS 2 both ways: taken once, delivered once, and every exchange comes to its end (sections 4.3.3 and 4.4)."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason
from broker.wire import Connack, Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.core import Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])
ONCE = 2


@pytest.fixture
def watcher(core: Core) -> Client:
    found = core.connect("watcher")
    found.subscribe("#")
    return found


# ---------------------------------------------------------------- inbound


@pytest.mark.clause(
    "v5:MQTT-4.3.3-8",
    "v5:MQTT-4.3.3-11",
    "v311:MQTT-4.3.3-2",
    "v5:MQTT-3.3.4-1",
    "v311:MQTT-3.3.4-1",
    "v5:MQTT-4.3.3-1",
)
@VERSIONS
def test_a_publish_is_received_released_and_complete(any_core: Core, version: int) -> None:
    watcher, client = any_core.connect("w"), any_core.connect("c", version)
    watcher.subscribe("t")
    client.publish("t", b"x", ONCE, packet_id=7)
    client.expect(Pubrec(7))
    assert watcher.payloads() == [b"x"]
    client.send(Pubrel(7))
    client.expect(Pubcomp(7))


@pytest.mark.clause("v5:MQTT-4.3.3-10", "v311:MQTT-4.3.3-2", "v5:MQTT-4.3.3-9")
@VERSIONS
@pytest.mark.parametrize("dup", [False, True])
def test_a_repetition_before_the_release_is_acknowledged_and_not_delivered_again(
    core: Core, watcher: Client, version: int, dup: bool
) -> None:
    client = core.connect("c", version)
    for _ in range(3):
        client.publish("t", b"x", ONCE, packet_id=7, dup=dup)
        client.expect(Pubrec(7))
    assert watcher.payloads() == [b"x"]
    assert client.described["inbound_qos2_ids"] == 1


@pytest.mark.clause("v5:MQTT-4.3.3-12", "v311:MQTT-4.3.3-2")
@VERSIONS
def test_a_released_identifier_is_new_again(core: Core, watcher: Client, version: int) -> None:
    client = core.connect("c", version)
    for _ in range(3):
        client.publish("t", b"x", ONCE, packet_id=7)
        client.expect(Pubrec(7))
        assert client.release(7) == 0
    assert watcher.payloads() == [b"x"] * 3
    assert client.described["inbound_qos2_ids"] == 0


@pytest.mark.clause("v5:MQTT-4.3.3-11", "v311:MQTT-4.3.3-2")
@VERSIONS
def test_a_release_of_nothing_is_completed(core: Core, version: int) -> None:
    client = core.connect("c", version)
    assert client.release(9) == (0x92 if version == 5 else 0)


@VERSIONS
def test_identifiers_of_qos_1_and_2_are_of_one_sender_but_not_confused(
    core: Core, watcher: Client, version: int
) -> None:
    client = core.connect("c", version)
    client.publish("t", b"2", ONCE, packet_id=7)
    client.publish("t", b"1", 1, packet_id=7)  # QoS 1 has no state with the receiver
    client.expect(Pubrec(7), Puback(7))
    assert watcher.payloads() == [b"2", b"1"]


@pytest.mark.parametrize("order", [range(1, 200), range(199, 0, -1), range(8, 1600, 8)])
def test_any_identifiers_may_be_open_at_once(core: Core, watcher: Client, order: range) -> None:
    client = core.connect("c")
    for packet_id in order:
        client.publish("t", b"%d" % packet_id, ONCE, packet_id=packet_id)
    for packet_id in order:
        client.publish("t", b"again", ONCE, packet_id=packet_id, dup=True)
    assert watcher.payloads() == [b"%d" % one for one in order]
    client.received()
    for packet_id in list(order)[::3]:
        assert client.release(packet_id) == 0
    for packet_id in order:
        assert client.release(packet_id) == (0x92 if packet_id in list(order)[::3] else 0)
    assert client.described["inbound_qos2_ids"] == 0


@pytest.mark.clause("v5:MQTT-3.3.4-9")
def test_more_open_exchanges_than_the_receive_maximum_close(watcher: Client) -> None:
    core = Core(server_receive_maximum=3)
    core.grant()
    client = core.connect("c")
    for _ in range(3):
        client.publish("t", b"x", ONCE)
    client.publish("t", b"again", ONCE, packet_id=2, dup=True)  # one of the three
    assert [type(one) for one in client.received()] == [Pubrec] * 4
    assert client.release(1) == 0
    client.publish("t", b"x", ONCE, packet_id=1)
    client.pick(Pubrec)
    client.publish("t", b"x", ONCE, packet_id=4)
    client.closed_with(0x93)
    core.end()


def test_what_311_may_have_open_is_bounded_as_well() -> None:
    core = Core(unannounced_receive_maximum=50)
    core.grant()
    client = core.connect("c", 4)
    for _ in range(50):
        client.publish("t", b"x", ONCE)
    assert client.is_open
    client.publish("t", b"x", ONCE)
    client.closed_with(None)
    core.end()


@pytest.mark.clause("v5:MQTT-4.3.3-9", "v311:MQTT-3.3.5-2")
def test_what_is_refused_leaves_no_exchange_open() -> None:
    core = Core(maximum_payload_bytes=10)
    core.grant(publish=("yes",))
    client = core.connect("c")
    client.publish("no", b"x", ONCE, packet_id=1)
    client.publish("yes", b"x" * 11, ONCE, packet_id=1)
    client.expect(Pubrec(1, 0x87), Pubrec(1, 0x97))
    assert client.described["inbound_qos2_ids"] == 0
    old = core.connect("old", 4)
    old.publish("no", b"x", ONCE)
    old.closed_with(None)
    core.end()


@pytest.mark.clause("v5:MQTT-4.3.3-9")
def test_the_receipt_says_whether_anybody_got_it(core: Core) -> None:
    client = core.connect("c")
    client.publish("nobody", b"x", ONCE, packet_id=1)
    client.expect(Pubrec(1, 0x10))


def test_a_receipt_waits_for_its_ticket_and_a_repetition_is_answered_no_earlier() -> None:
    core = Core()
    core.grant(synced=True)
    core.sink("t")
    client = core.connect("c")
    core.hold()
    client.publish("t", b"x", ONCE, packet_id=1)
    client.publish("t", b"x", ONCE, packet_id=1, dup=True)
    client.expect()
    core.release()
    client.expect(Pubrec(1), Pubrec(1))
    assert client.release(1) == 0
    core.end()


@VERSIONS
def test_a_repetition_on_a_new_connection_is_not_acknowledged_before_the_first_one_is_kept(version: int) -> None:
    core = Core()
    core.grant(synced=True)
    client = core.keep("c", version)
    core.hold()
    client.publish("t", b"x", ONCE, packet_id=1)
    client.drop()
    again = core.connecting(
        "c", version, clean_start=False, properties={"session_expiry_interval": 600} if version == 5 else {}
    )
    again.publish("t", b"x", ONCE, packet_id=1, dup=True)
    again.expect()
    core.release()
    assert again.pick(Connack).session_present
    again.expect(Pubrec(1))
    assert again.release(1) == 0
    again.send(Disconnect() if version == 4 else Disconnect(properties={"session_expiry_interval": 0}))
    core.wait(10_000_000)
    core.end()


# ---------------------------------------------------------------- outbound


@pytest.mark.clause(
    "v5:MQTT-4.3.3-1", "v5:MQTT-4.3.3-2", "v5:MQTT-4.3.3-3", "v5:MQTT-4.3.3-4", "v5:MQTT-4.3.3-5", "v311:MQTT-4.3.3-1"
)
@VERSIONS
def test_a_delivery_goes_through_all_four_steps(any_core: Core, version: int) -> None:
    client = any_core.connect("c", version)
    client.subscribe("t", qos=ONCE)
    any_core.publish("t", b"x", ONCE)
    (delivery,) = client.publishes()
    assert delivery == Publish("t", b"x", ONCE, packet_id=delivery.packet_id)
    client.send(Pubrec(delivery.packet_id))
    client.expect(Pubrel(delivery.packet_id))
    assert client.described["outbound_inflight"] == 1
    client.send(Pubcomp(delivery.packet_id))
    client.expect()
    assert client.described["outbound_inflight"] == 0


@VERSIONS
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_lower_qos_counts(core: Core, version: int, published: int, granted: int) -> None:
    client = core.connect("c", version)
    client.subscribe("t", qos=granted)
    core.publish("t", b"x", published)
    assert [one.qos for one in client.publishes()] == [min(published, granted)]


@VERSIONS
def test_a_repeated_receipt_is_released_again(core: Core, version: int) -> None:
    client = core.connect("c", version)
    client.subscribe("t", qos=ONCE)
    core.publish("t", b"x", ONCE)
    (delivery,) = client.publishes()
    for _ in range(2):
        client.send(Pubrec(delivery.packet_id))
        client.expect(Pubrel(delivery.packet_id))
    client.send(Pubcomp(delivery.packet_id))
    assert client.described["outbound_inflight"] == 0


@VERSIONS
@pytest.mark.parametrize("answer", [Puback, Pubcomp])
def test_an_answer_that_is_not_due_is_a_breach(core: Core, version: int, answer: type[Puback | Pubcomp]) -> None:
    client = core.connect("c", version)
    client.subscribe("t", qos=ONCE)
    core.publish("t", b"x", ONCE)
    (delivery,) = client.publishes()
    client.send(answer(delivery.packet_id))
    client.closed_with(0x82 if version == 5 else None)


@pytest.mark.clause("v5:MQTT-4.9.0-2", "v5:MQTT-4.9.0-3", "v5:MQTT-3.3.4-7")
@VERSIONS
def test_quota_comes_back_with_the_last_step_and_not_before(version: int) -> None:
    core = Core(outbound_inflight_maximum=1)
    core.grant()
    client = core.connect("c", version)
    client.subscribe("t", qos=ONCE)
    core.publish("t", b"1", ONCE)
    core.publish("t", b"2", ONCE)
    (first,) = client.publishes()
    client.send(Pubrec(first.packet_id))
    client.expect(Pubrel(first.packet_id))
    client.send(Pubcomp(first.packet_id))
    assert client.payloads() == [b"2"]
    core.end()


@pytest.mark.clause("v5:MQTT-4.8.2-6", "v5:MQTT-4.3.3-4")
def test_a_refused_delivery_is_over_and_counted(core: Core) -> None:
    client = core.connect("c")
    client.subscribe("t", qos=ONCE)
    core.publish("t", b"x", ONCE)
    (delivery,) = client.publishes()
    client.send(Pubrec(delivery.packet_id, 0x99))
    client.expect()
    assert client.described["outbound_inflight"] == 0
    assert core.all_drops() == {DropReason.NEGATIVE_ACK: 1}


@VERSIONS
def test_stray_answers_free_nothing(core: Core, version: int) -> None:
    client = core.connect("c", version)
    client.send(Pubcomp(1), Puback(2))
    client.expect()
    client.send(Pubrec(3))
    client.expect(Pubrel(3, 0x92 if version == 5 else 0))
    if version == 5:
        client.send(Pubrec(4, 0x80))
        client.expect()
    assert client.is_open


@VERSIONS
def test_a_message_goes_through_the_broker_exactly_once(core: Core, version: int) -> None:
    publisher, subscriber = core.connect("p", version), core.connect("s", version)
    subscriber.subscribe("t", qos=ONCE)
    for number in range(300):
        packet_id = publisher.publish("t", b"%d" % number, ONCE)
        publisher.expect(Pubrec(packet_id))
        (delivery,) = subscriber.publishes()
        assert delivery.payload == b"%d" % number
        subscriber.take_qos_2(delivery)
        assert publisher.release(packet_id) == 0
    assert core.shard.counters()["messages_kept"] == 0
