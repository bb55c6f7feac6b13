"""paho-mqtt and what outlives a connection: sessions, wills, retained messages, shared subscriptions."""

from __future__ import annotations

import queue
import time
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.integration.served import Login, Served
from tests.integration.test_paho import V5, VERSIONS, Connect, PahoClient, open_client

__all__ = ["open_client"]
QOS = pytest.mark.parametrize("qos", [1, 2])


def payloads(client: PahoClient, count: int) -> list[int]:
    return [int(client.next_message().payload) for _ in range(count)]


def nothing_more(client: PahoClient, topic_name: str) -> None:
    """What it publishes to itself is the next message it gets."""
    client.publish(topic_name, b"9999")
    assert client.next_message().payload == b"9999"


# ---------------------------------------------------------------- sessions


@VERSIONS
@QOS
def test_what_was_published_while_a_client_was_away_arrives_in_order(
    open_client: Connect, device: Login, version: int, qos: int
) -> None:
    application = open_client(version)
    sensor = open_client(version, device, keep_s=3600)
    assert sensor.subscribe(device.topic("commands"), qos) == [qos]
    sensor.kill()
    for number in range(50):
        application.publish(device.topic("commands"), b"%d" % number, qos)
    sensor = open_client(version, device, keep_s=3600)
    assert sensor.session_present
    assert payloads(sensor, 50) == list(range(50))
    application.publish(device.topic("commands"), b"50", qos)
    assert payloads(sensor, 1) == [50]


@VERSIONS
def test_whoever_is_killed_before_it_acknowledges_gets_it_again(
    open_client: Connect, device: Login, version: int
) -> None:
    application = open_client(version)
    sensor = open_client(version, device, keep_s=3600, manual_ack=True)
    assert sensor.subscribe(device.topic("commands"), 1) == [1]
    for number in range(10):
        application.publish(device.topic("commands"), b"%d" % number)
    first = [sensor.next_message() for _ in range(10)]
    assert not any(one.dup for one in first)
    sensor.kill()
    sensor = open_client(version, device, keep_s=3600)
    again = [sensor.next_message() for _ in range(10)]
    assert [(one.mid, one.payload) for one in again] == [(one.mid, one.payload) for one in first]
    assert all(one.dup for one in again)
    sensor.subscribe(device.topic("commands"), 1)  # when this is answered, paho has sent its last PUBACK
    sensor.end()
    sensor = open_client(version, device, keep_s=3600)
    application.publish(device.topic("commands"), b"10")
    assert payloads(sensor, 1) == [10]


@VERSIONS
def test_a_clean_start_begins_with_nothing(open_client: Connect, device: Login, version: int) -> None:
    application = open_client(version)
    sensor = open_client(version, device, keep_s=3600)
    sensor.subscribe(device.topic("commands"), 1)
    sensor.kill()
    application.publish(device.topic("commands"), b"1")
    sensor = open_client(version, device)
    assert not sensor.session_present
    sensor.subscribe(device.topic("commands"), 1)
    application.publish(device.topic("commands"), b"2")
    assert payloads(sensor, 1) == [2]


@VERSIONS
def test_the_session_goes_on_with_whoever_takes_it_over(open_client: Connect, device: Login, version: int) -> None:
    application = open_client(version)
    older = open_client(version, device, keep_s=3600)
    older.client.reconnect_delay_set(60, 60)
    older.subscribe(device.topic("commands"), 2)
    newer = open_client(version, device, keep_s=3600)
    assert newer.session_present
    reason = older.ends.get(timeout=20)
    assert version != V5 or reason.value == 0x8E
    application.publish(device.topic("commands"), b"7", 2)
    assert payloads(newer, 1) == [7]
    assert older.messages.empty()


def test_a_session_ends_when_its_time_is_up_and_a_message_when_its_own_is(open_client: Connect) -> None:
    application, name = open_client(V5), f"short-{time.monotonic_ns()}"
    client = open_client(V5, client_id=name, keep_s=3600)
    client.subscribe(name, 1)
    client.kill()
    expiry = Properties(PacketTypes.PUBLISH)
    expiry.MessageExpiryInterval = 1
    application.publish(name, b"1", properties=expiry)
    expiry.MessageExpiryInterval = 0xFFFF_FFFE
    application.publish(name, b"2", properties=expiry)
    time.sleep(1.5)
    client = open_client(V5, client_id=name, keep_s=1)
    assert payloads(client, 1) == [2]
    client.kill()
    time.sleep(1.5)
    client = open_client(V5, client_id=name, keep_s=1)
    assert not client.session_present


# ---------------------------------------------------------------- wills


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_lost_device_leaves_its_will_and_one_that_says_goodbye_does_not(
    open_client: Connect, device: Login, version: int, qos: int
) -> None:
    topic_name = device.topic("status")
    application = open_client(version)
    application.subscribe(topic_name, qos)
    open_client(version, device, will=(topic_name, b"0", qos, False)).end()
    open_client(version, device, will=(topic_name, b"1", qos, False)).kill()
    found = application.next_message()
    assert (found.payload, found.qos, found.retain) == (b"1", qos, False)
    nothing_more(application, topic_name)


def test_a_goodbye_with_will_leaves_it(open_client: Connect, device: Login) -> None:
    topic_name = device.topic("status")
    application = open_client(V5)
    application.subscribe(topic_name, 1)
    sensor = open_client(V5, device, will=(topic_name, b"1", 1, True))
    sensor.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    assert payloads(application, 1) == [1]
    late = open_client(V5)
    late.subscribe(topic_name, 1)
    assert late.next_message().retain


# ---------------------------------------------------------------- retained messages


@VERSIONS
def test_the_last_value_greets_whoever_comes_later_until_it_is_cleared(
    open_client: Connect, device: Login, version: int
) -> None:
    sensor, topic_name = open_client(version, device), device.topic("status")
    for number in range(3):
        sensor.client.publish(topic_name, b"%d" % number, 1, retain=True).wait_for_publish(20)
    late = open_client(version)
    late.subscribe(device.topic("status/#"), 1)
    found = late.next_message()
    assert (found.payload, found.retain, found.topic) == (b"2", True, topic_name)
    sensor.client.publish(topic_name, b"", 1, retain=True).wait_for_publish(20)
    assert late.next_message().payload == b""
    later = open_client(version)
    later.subscribe(device.topic("status/#"), 1)
    nothing_more(later, topic_name)


@pytest.mark.parametrize(("handling", "first", "second"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling_says_when_it_is_sent(
    open_client: Connect, device: Login, handling: int, first: int, second: int
) -> None:
    topic_name = device.topic("status")
    open_client(V5, device).client.publish(topic_name, b"1", 1, retain=True).wait_for_publish(20)
    client = open_client(V5)
    for expected in (first, second):
        assert client.subscribe(topic_name, options=SubscribeOptions(1, retainHandling=handling)) == [1]
        assert payloads(client, expected) == [1] * expected
    nothing_more(client, topic_name)


# ---------------------------------------------------------------- shared subscriptions


@VERSIONS
@QOS
def test_workers_share_the_work_and_what_a_lost_one_had_is_done_by_another(
    open_client: Connect, served: Served, version: int, qos: int
) -> None:
    topic_name = f"work/{time.monotonic_ns()}"
    workers = [open_client(version, client_id=f"{topic_name}/{number}") for number in range(3)]
    for one in workers:
        assert one.subscribe(f"$share/workers/{topic_name}", qos) == [qos]
    lazy = PahoClient(served, version, "apikey", served.api_key, f"{topic_name}/lazy", manual_ack=True)
    assert lazy.subscribe(f"$share/workers/{topic_name}", 1) == [1]
    boss = open_client(version)
    for number in range(40):
        boss.publish(topic_name, b"%d" % number, qos)
    had: list[Any] = [lazy.next_message() for _ in range(10)]
    lazy.kill()
    done: list[int] = []
    until = time.monotonic() + 30
    while len(done) < 40 and time.monotonic() < until:
        for one in workers:
            try:
                done.append(int(one.messages.get(timeout=0.05).payload))
            except queue.Empty:
                continue
    assert sorted(done) == list(range(40)), f"the lost one had {[one.payload for one in had]}"
