"""Wills: when they are published, when not, with whose rights, how long they may wait (sections 3.1.2.5, 3.1.3.2)."""

from __future__ import annotations

from typing import Any

import pytest

from broker.reasons import DropReason
from broker.wire import Connack, Disconnect, Publish, Will
from tests.support.core import Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])


@pytest.fixture
def watcher(core: Core) -> Client:
    found = core.connect("watcher")
    found.subscribe("#", qos=2)
    return found


def will(payload: bytes = b"gone", qos: int = 0, delay_s: int = 0, **properties: Any) -> Will:
    return Will("w", payload, qos, properties={**({"will_delay_interval": delay_s} if delay_s else {}), **properties})


@pytest.mark.clause(
    "v5:MQTT-3.1.2-7", "v5:MQTT-3.1.2-8", "v311:MQTT-3.1.2-7", "v311:MQTT-3.1.2-8", "v311:MQTT-3.1.2-9",
    "v5:MQTT-3.1.2-9", "v311:MQTT-3.1.2-16",
)  # fmt: skip
@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_lost_connection_publishes_the_will(any_core: Core, version: int, qos: int) -> None:
    watcher = any_core.connect("watcher")
    watcher.subscribe("#", qos=2)
    client = any_core.connect("c", version, will=will(qos=qos))
    watcher.expect()
    client.drop()
    (found,) = watcher.publishes()
    assert (found.topic_name, found.payload, found.qos, found.retain) == ("w", b"gone", qos, False)


@pytest.mark.clause("v5:MQTT-3.1.2-10", "v5:MQTT-3.14.4-3", "v311:MQTT-3.1.2-10", "v311:MQTT-3.14.4-3")
@VERSIONS
def test_a_farewell_takes_the_will_away(core: Core, watcher: Client, version: int) -> None:
    core.connect("c", version, will=will()).send(Disconnect())
    watcher.expect()


@pytest.mark.clause("v5:MQTT-3.1.2-8")
@pytest.mark.parametrize("reason_code", [0x04, 0x80, 0x98])
def test_a_farewell_with_a_reason_leaves_the_will(core: Core, watcher: Client, reason_code: int) -> None:
    core.connect("c", will=will()).send(Disconnect(reason_code))
    assert watcher.payloads() == [b"gone"]


@pytest.mark.clause("v5:MQTT-3.1.2-8", "v311:MQTT-3.1.2-8")
@VERSIONS
def test_silence_and_breaches_publish_the_will(core: Core, watcher: Client, version: int) -> None:
    core.connect("c", version, will=will(b"silent"), keep_alive_s=10)
    core.wait(16)
    core.connect("d", version, will=will(b"broken")).send(b"\x00\x00")
    assert watcher.payloads() == [b"silent", b"broken"]


@VERSIONS
def test_a_takeover_publishes_the_will_of_the_older_one(core: Core, watcher: Client, version: int) -> None:
    core.connect("c", version, will=will(b"first"))
    core.connect("c", version, will=will(b"second"))
    assert watcher.payloads() == [b"first"]


def test_the_properties_of_a_will_are_its_messages_own(core: Core, watcher: Client) -> None:
    properties = {
        "content_type": "text/plain", "user_property": (("a", "b"), ("a", "c")), "response_topic": "r",
        "correlation_data": b"\x00", "payload_format_indicator": 1,
    }  # fmt: skip
    core.connect("c", will=will(message_expiry_interval=50, **properties)).drop()
    (found,) = watcher.publishes()
    assert found.properties == {**properties, "message_expiry_interval": 50}


def test_a_wills_expiry_begins_when_it_is_published(core: Core) -> None:
    away = core.keep("away")
    away.subscribe("w", qos=1)
    away.drop()
    core.keep("c", will=will(qos=1, delay_s=30, message_expiry_interval=20)).drop()
    core.wait(31)
    core.wait(9)
    (found,) = core.resume("away").publishes()
    assert found.properties["message_expiry_interval"] == 11


# ---------------------------------------------------------------- delay


@pytest.mark.clause("v5:MQTT-3.1.3-9", "v5:MQTT-3.1.2-8")
@pytest.mark.parametrize("reason", [None, 0x04])
def test_a_delayed_will_waits(core: Core, watcher: Client, reason: int | None) -> None:
    client = core.keep("c", will=will(delay_s=30))
    if reason is None:
        client.drop()
    else:
        client.send(Disconnect(reason))
    core.wait(29)
    watcher.expect()
    core.wait(2)
    assert watcher.payloads() == [b"gone"]
    core.wait(3_000)
    watcher.expect()


@pytest.mark.clause("v5:MQTT-3.1.3-9")
def test_who_is_back_in_time_takes_the_will_back(core: Core, watcher: Client) -> None:
    core.keep("c", will=will(delay_s=30)).drop()
    core.wait(29)
    client = core.resume("c")
    core.wait(100)
    watcher.expect()
    client.drop()  # its newer CONNECT left none
    core.wait(3_000)
    watcher.expect()


def test_a_takeover_in_time_takes_the_will_back(core: Core, watcher: Client) -> None:
    core.keep("c", will=will(b"1", delay_s=30))
    core.resume("c", will=will(b"2", delay_s=30)).drop()
    core.wait(31)
    assert watcher.payloads() == [b"2"]


@pytest.mark.clause("v5:MQTT-3.1.2-8")
def test_the_end_of_the_session_publishes_a_will_that_waits(core: Core, watcher: Client) -> None:
    core.keep("c", will=will(b"expired", delay_s=1000)).drop()
    core.wait(601)
    assert watcher.payloads() == [b"expired"]
    core.keep("c", will=will(b"clean start", delay_s=100)).drop()
    core.connect("c", clean_start=True)
    assert watcher.payloads() == [b"clean start"]
    core.connect("d", will=will(b"not kept", delay_s=100)).drop()
    assert watcher.payloads() == [b"not kept"]


def test_a_delay_longer_than_allowed_is_shortened() -> None:
    core = Core(will_delay_maximum_s=10)
    core.grant()
    watcher = core.connect("watcher")
    watcher.subscribe("#")
    core.keep("c", will=will(delay_s=100)).drop()
    core.wait(11)
    assert watcher.payloads() == [b"gone"]
    core.end()


# ---------------------------------------------------------------- rights and limits


@VERSIONS
def test_a_will_without_the_right_to_its_topic_refuses_the_connect(version: int) -> None:
    core = Core()
    core.grant(publish=("yes",))
    core.connecting("c", version, will=will()).closed_with(0x87 if version == 5 else 5)
    core.connecting("c", version, will=Will("$SYS/x", b"")).closed_with(0x87 if version == 5 else 5)
    core.connect("c", version, will=Will("yes", b"")).drop()
    core.end()


@pytest.mark.clause("v5:MQTT-3.1.3-11", "v311:MQTT-3.1.3-10")
@VERSIONS
@pytest.mark.parametrize("topic_name", ["", "a/+", "#", "/" * 200])
def test_a_will_for_no_topic_name_refuses_the_connect(core: Core, version: int, topic_name: str) -> None:
    client = core.connecting("c", version, will=Will(topic_name, b""))
    if version == 5:
        client.closed_with(0x90)
    else:
        assert not client.is_open
        client.expect()


def test_a_will_over_the_largest_payload_refuses_the_connect() -> None:
    core = Core(maximum_payload_bytes=10)
    core.grant()
    core.connect("c", will=will(b"." * 10)).drop()
    core.connecting("c", will=will(b"." * 11)).closed_with(0x95)
    core.end()


def test_a_will_is_judged_again_when_it_is_published(core: Core) -> None:
    watcher = core.connect("watcher")
    watcher.subscribe("#")
    handle = core.connecting("c", user_name="stranger", will=will(delay_s=10), clean_start=False,
                             properties={"session_expiry_interval": 100}).handle  # fmt: skip
    core.admit(handle, publish=("w",))
    core.shard.close_connection(handle)
    core.run()
    second = core.connecting("d", user_name="stranger")
    core.admit(second.handle, publish=("other",))  # the same principal, with fewer rights
    core.wait(11)
    watcher.expect()
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 1}


def test_wills_of_a_mass_departure_go_in_slices_and_in_order(core: Core) -> None:
    watcher = core.connect("watcher")
    watcher.subscribe("#", qos=0)
    clients = [core.connect(f"c{number}", will=will(b"%d" % number)) for number in range(300)]
    for one in clients:
        core.shard.close_connection(one.handle)
    core.deliveries = 8
    slices = 0
    while core.slice():
        slices += 1
    assert slices > 20
    assert watcher.payloads() == [b"%d" % number for number in range(300)]


def test_a_refused_connect_leaves_no_will(core: Core, watcher: Client) -> None:
    client = core.connecting("c", user_name="stranger", will=will())
    core.refuse(core.asked[0][0])
    client.expect(Connack(reason_code=0x87))
    core.connecting("d", user_name="stranger", will=will()).drop()
    watcher.expect()


def test_a_will_reaches_its_own_session_unless_it_is_not_local(core: Core) -> None:
    client = core.keep("c", will=will(qos=1))
    client.subscribe("w", qos=1)
    client.drop()
    (found,) = core.resume("c").publishes()
    assert found == Publish("w", b"gone", 1, packet_id=found.packet_id)
