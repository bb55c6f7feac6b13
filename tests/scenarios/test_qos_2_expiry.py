"""A Message Expiry Interval ends what waits, never an exchange that has begun (sections 3.3.2.3.3 and 4.3.3)."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason
from broker.wire import Pubcomp, Publish, Pubrec, Pubrel
from tests.support.core import Core

EXPIRY_S = 5
KEPT = {"session_expiry_interval": 1000}
EXPIRING = {"message_expiry_interval": EXPIRY_S}


@pytest.mark.clause("v5:MQTT-4.3.3-13", "v5:MQTT-4.3.3-10")
def test_a_message_that_came_in_is_completed_after_its_expiry(core: Core) -> None:
    client, watcher = core.connect("c"), core.connect("w")
    watcher.subscribe("t")
    client.publish("t", b"x", 2, packet_id=7, properties=EXPIRING)
    client.expect(Pubrec(7))
    core.wait(EXPIRY_S + 1)
    client.publish("t", b"x", 2, packet_id=7, dup=True, properties=EXPIRING)
    client.send(Pubrel(7))
    client.expect(Pubrec(7), Pubcomp(7))
    assert watcher.payloads() == [b"x"]
    core.end()


@pytest.mark.clause("v5:MQTT-4.3.3-7", "v5:MQTT-4.3.3-5")
def test_a_message_that_went_out_is_released_after_its_expiry(core: Core) -> None:
    client, source = core.connect("c"), core.connect("s")
    client.subscribe("t", qos=2)
    source.publish("t", b"x", 2, properties=EXPIRING)
    (delivery,) = client.publishes()
    core.wait(EXPIRY_S + 1)
    client.send(Pubrec(delivery.packet_id))
    client.expect(Pubrel(delivery.packet_id))
    client.send(Pubcomp(delivery.packet_id))
    assert core.all_drops() == {}
    core.end()


@pytest.mark.clause("v5:MQTT-4.3.3-7", "v5:MQTT-4.3.3-3", "v5:MQTT-4.4.0-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_went_out_is_sent_again_after_its_expiry(core: Core, qos: int) -> None:
    client, source = core.connect("c", properties=KEPT), core.connect("s")
    client.subscribe("t", qos=qos)
    source.publish("t", b"x", qos, properties=EXPIRING)
    (delivery,) = client.publishes()
    client.drop()
    core.wait(EXPIRY_S + 1)
    again = core.connect("c", clean_start=False, properties=KEPT)
    (found,) = again.publishes()
    assert (found.packet_id, found.dup, found.payload, found.qos) == (delivery.packet_id, True, b"x", qos)
    core.end()


@pytest.mark.clause("v5:MQTT-3.3.2-5", "v5:MQTT-3.3.2-6")
def test_a_message_that_was_never_sent_expires(core: Core) -> None:
    client, source = core.connect("c", properties={"receive_maximum": 1}), core.connect("s")
    client.subscribe("t", qos=2)
    for payload in (b"1", b"2"):
        source.publish("t", payload, 2, properties=EXPIRING)
    source.publish("t", b"3", 2, properties={"message_expiry_interval": 100})
    core.wait(EXPIRY_S + 1)
    client.send(Pubrec(1), Pubcomp(1))
    first, release, third = client.received()
    assert isinstance(first, Publish)
    assert release == Pubrel(1)
    assert isinstance(third, Publish)
    assert (first.payload, third.payload) == (b"1", b"3")
    assert third.properties["message_expiry_interval"] == 100 - EXPIRY_S - 1
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: 1}
    core.end()
