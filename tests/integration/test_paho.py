"""paho-mqtt against the broker: the library that most devices and back ends use."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.integration.served import Login, Served
from tests.support.paho import leave, stop

MIB = 1024 * 1024
WAIT_S = 20.0
V311, V5 = paho.MQTTv311, paho.MQTTv5
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])


def connect_options(version: int, keep_s: int) -> dict[str, Any]:
    """What 5.0 says in its CONNECT about its session."""
    if version != V5:
        return {}
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = keep_s
    return {"clean_start": keep_s == 0, "properties": properties}


class PahoClient:
    """paho's client with a thread, and what happens to it as queues. ``keep_s`` is how long its session is kept."""

    def __init__(
        self,
        served: Served,
        version: int,
        username: str,
        password: str,
        client_id: str,
        *,
        keep_s: int = 0,
        will: tuple[str, bytes, int, bool] | None = None,
        manual_ack: bool = False,
    ) -> None:
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.connected: queue.Queue[Any] = queue.Queue()
        self.ends: queue.Queue[Any] = queue.Queue()
        self._subscribed: queue.Queue[list[Any]] = queue.Queue()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=keep_s == 0 if version == V311 else None,
            protocol=paho.MQTTProtocolVersion(version),
            manual_ack=manual_ack,
        )
        if will is not None:
            self.client.will_set(*will)
        self.session_present = False
        self.client.username_pw_set(username, password)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda client, data, flags, reason, properties: self.ends.put(reason)
        self.client.on_message = lambda client, data, message: self.messages.put(message)
        self.client.on_subscribe = lambda client, data, mid, reasons, properties: self._subscribed.put(reasons)
        self.client.connect("127.0.0.1", served.port(), 60, **connect_options(version, keep_s))
        self.client.loop_start()
        self.connack = self.connected.get(timeout=WAIT_S)

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.session_present = flags.session_present
        self.connected.put((reason, properties))

    def subscribe(self, *arguments: Any, **more: Any) -> list[int]:
        self.client.subscribe(*arguments, **more)
        return [reason.value for reason in self._subscribed.get(timeout=WAIT_S)]

    def publish(self, topic_name: str, payload: bytes, qos: int = 1, properties: Properties | None = None) -> None:
        self.client.publish(topic_name, payload, qos, properties=properties).wait_for_publish(WAIT_S)

    def next_message(self) -> paho.MQTTMessage:
        return self.messages.get(timeout=WAIT_S)

    def end(self) -> None:
        leave(self.client)

    def kill(self) -> None:
        """Its network is gone, and it does not come back by itself."""
        self.client.reconnect_delay_set(60, 60)
        one = self.client.socket()
        assert one is not None
        one.shutdown(socket.SHUT_RDWR)
        self.ends.get(timeout=WAIT_S)
        stop(self.client)


Connect = Callable[..., PahoClient]


@pytest.fixture
def open_client(served: Served) -> Iterator[Connect]:
    """Connect clients; all end with the test."""
    opened: list[PahoClient] = []

    def connect(version: int, login: Login | None = None, client_id: str | None = None, **more: Any) -> PahoClient:
        name = client_id or (login.device_id if login else f"paho-{len(opened)}")
        username, password = (login.username, login.password) if login else ("apikey", served.api_key)
        opened.append(PahoClient(served, version, username, password, name, **more))
        return opened[-1]

    yield connect
    for one in opened:
        one.end()


@pytest.mark.clause("v311:MQTT-7.0.0-2")
@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_thousands_of_messages_arrive_once_and_in_order(
    open_client: Connect, device: Login, version: int, qos: int
) -> None:
    application, sensor = open_client(version), open_client(version)  # devices have a rate
    assert application.subscribe("devices/+/telemetry", qos) == [qos]
    for number in range(3000):
        sensor.client.publish(device.topic("telemetry"), b"%d" % number, qos)
    arrived = [application.next_message() for _ in range(3000)]
    assert [int(message.payload) for message in arrived] == list(range(3000))
    assert {message.qos for message in arrived} == {qos}
    assert not any(message.dup or message.retain for message in arrived)
    assert application.messages.empty()


@VERSIONS
@pytest.mark.parametrize(
    ("published", "granted", "delivered"), [(0, 1, 0), (1, 0, 0), (1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2)]
)
def test_the_lower_of_two_qos_delivers(
    open_client: Connect, device: Login, version: int, published: int, granted: int, delivered: int
) -> None:
    application, sensor = open_client(version), open_client(version, device)
    assert application.subscribe(device.topic("telemetry"), granted) == [granted]
    sensor.publish(device.topic("telemetry"), b"x", published)
    assert application.next_message().qos == delivered


@pytest.mark.parametrize(("sender", "receiver"), [(V311, V5), (V5, V311), (V5, V5), (V311, V311)])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, MIB - 1, MIB])
def test_payloads_cross_versions_unchanged(
    open_client: Connect, device: Login, sender: int, receiver: int, size: int
) -> None:
    application, sensor = open_client(receiver), open_client(sender, device)
    application.subscribe(device.topic("telemetry"), 1)
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    sensor.publish(device.topic("telemetry"), payload)
    assert application.next_message().payload == payload


def test_a_payload_over_the_plan_ends_311_and_is_refused_to_5(open_client: Connect, device: Login) -> None:
    application = open_client(V5)
    application.subscribe(device.topic("telemetry"), 1)
    reasons: queue.Queue[Any] = queue.Queue()
    modern = open_client(V5, device)
    modern.client.on_publish = lambda client, data, mid, reason, properties: reasons.put(reason)
    modern.client.publish(device.topic("telemetry"), bytes(MIB + 1), 1)
    assert reasons.get(timeout=WAIT_S).value == 0x97
    old = open_client(V311, device, "old")
    old.client.publish(device.topic("telemetry"), bytes(MIB + 1), 1)
    old.ends.get(timeout=WAIT_S)
    modern.publish(device.topic("telemetry"), b"small")
    assert application.next_message().payload == b"small"


def test_all_properties_of_a_message_are_forwarded_unchanged(open_client: Connect, device: Login) -> None:
    application, sensor = open_client(V5), open_client(V5, device)
    application.subscribe(device.topic("telemetry"), 1)
    given = Properties(PacketTypes.PUBLISH)
    given.ContentType = "application/json"
    given.CorrelationData = bytes(range(256))
    given.ResponseTopic = "replies/here"
    given.PayloadFormatIndicator = 1
    given.MessageExpiryInterval = 3600
    given.UserProperty = [("b", "2"), ("a", "1"), ("b", ""), ("", "ü")]
    sensor.publish(device.topic("telemetry"), b"{}", 1, given)
    found = application.next_message().properties
    assert found is not None
    assert found.ContentType == "application/json"
    assert found.CorrelationData == bytes(range(256))
    assert found.ResponseTopic == "replies/here"
    assert found.PayloadFormatIndicator == 1
    assert 3590 <= found.MessageExpiryInterval <= 3600
    assert found.UserProperty == [("b", "2"), ("a", "1"), ("b", ""), ("", "ü")]


def test_properties_are_left_out_for_311(open_client: Connect, device: Login) -> None:
    application, sensor = open_client(V311), open_client(V5, device)
    application.subscribe(device.topic("telemetry"), 1)
    given = Properties(PacketTypes.PUBLISH)
    given.UserProperty = [("k", "v")]
    sensor.publish(device.topic("telemetry"), b"plain", 1, given)
    assert application.next_message().payload == b"plain"


def test_no_local_keeps_ones_own_messages_away(open_client: Connect) -> None:
    own, other = open_client(V5), open_client(V5)
    assert own.subscribe("chat", options=SubscribeOptions(1, noLocal=True)) == [1]
    own.publish("chat", b"mine")
    other.publish("chat", b"theirs")
    assert own.next_message().payload == b"theirs"
    assert own.messages.empty()


def test_subscription_identifiers_of_all_that_match_come_with_one_message(open_client: Connect) -> None:
    client = open_client(V5)
    for number, topic_filter in ((7, "plant/#"), (268_435_455, "plant/+/heat"), (9, "plant/1/cold")):
        given = Properties(PacketTypes.SUBSCRIBE)
        given.SubscriptionIdentifier = number
        assert client.subscribe(topic_filter, options=SubscribeOptions(1), properties=given) == [1]
    client.publish("plant/1/heat", b"x")
    found = client.next_message().properties
    assert found is not None
    assert sorted(found.SubscriptionIdentifier) == [7, 268_435_455]
    assert client.messages.empty()


def test_retain_as_published_or_not_a_new_message_of_a_subscriber_has_no_retain(open_client: Connect) -> None:
    client = open_client(V5)
    assert client.subscribe("plain", options=SubscribeOptions(1, retainAsPublished=True)) == [1]
    client.publish("plain", b"x")
    assert client.next_message().retain is False


def test_connack_of_5_announces_what_is_enforced(open_client: Connect, device: Login) -> None:
    reason, properties = open_client(V5, device).connack
    assert reason.value == 0
    assert properties.ReceiveMaximum == 256
    assert properties.TopicAliasMaximum == 16
    assert not hasattr(properties, "MaximumQoS"), "left out where it is 2"
    assert getattr(properties, "RetainAvailable", 1) == 1
    assert properties.MaximumPacketSize == MIB + 128 * 1024


@VERSIONS
def test_a_session_taken_over_ends_the_older_connection(open_client: Connect, device: Login, version: int) -> None:
    older = open_client(version, device)
    older.client.reconnect_delay_set(60, 60)
    open_client(version, device)
    reason = older.ends.get(timeout=WAIT_S)
    if version == V5:
        assert reason.value == 0x8E


@VERSIONS
def test_unsubscribing_ends_deliveries(open_client: Connect, version: int) -> None:
    client = open_client(version)
    client.subscribe([("a/b", 1), ("a/c", 1)])
    gone = threading.Event()
    client.client.on_unsubscribe = lambda *arguments: gone.set()
    client.client.unsubscribe("a/b")
    assert gone.wait(WAIT_S)
    client.publish("a/b", b"not wanted")
    client.publish("a/c", b"wanted")
    assert client.next_message().payload == b"wanted"


def test_two_accounts_with_the_same_topics_never_meet(served: Served, open_client: Connect, device: Login) -> None:
    created = served.cli("accounts", "create", "neighbours")
    assert created.returncode == 0, created.stderr
    key = served.new_key("backend", "neighbours")
    spy = PahoClient(served, V5, "apikey", key, "spy")
    try:
        assert spy.subscribe([("#", 1), ("devices/+/telemetry", 1)]) == [1, 1]
        ours = open_client(V5)
        assert ours.subscribe(device.topic("telemetry/#"), 1) == [1]  # others have left retained messages elsewhere
        open_client(V5, device).publish(device.topic("telemetry"), b"private")
        assert ours.next_message().payload == b"private"
        spy.publish(device.topic("telemetry"), b"their own")
        assert spy.next_message().payload == b"their own"
        assert spy.messages.empty()
        assert ours.messages.empty()
    finally:
        spy.end()
