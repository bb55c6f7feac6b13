"""Attacks by those who may be here: a device or an application that breaks the protocol or asks for too much.

Each test has a neighbour who must notice nothing. Here belongs what one connection can say; floods are in
``test_attacks_floods``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Login, Served
from tests.integration.wire import PUBACK, PUBLISH, SUBACK, V5, V311, Client

MIB = 1024 * 1024
PAYLOAD_MAXIMUM = MIB
TOO_LONG = b"\xff\xff\xff\x7f"


@pytest.fixture(autouse=True)
def neighbour(served: Served) -> Iterator[Neighbour]:
    with Neighbour(served) as one:
        yield one


@pytest.fixture(params=[V311, V5], ids=["3.1.1", "5.0"])
def client(request: pytest.FixtureRequest, served: Served, device: Login) -> Iterator[Client]:
    """A device that is logged in."""
    with Client(served.port(), request.param) as one:
        yield one.login(device.username, device.password, device.device_id)


@pytest.fixture(params=[V311, V5], ids=["3.1.1", "5.0"])
def application(request: pytest.FixtureRequest, served: Served, device: Login) -> Iterator[Client]:
    with Client(served.port(), request.param) as one:
        yield one.login("apikey", served.api_key, "application-" + device.device_id)


def expect_failed(client: Client, reason_code: int) -> None:
    """Demand the end; 5.0 is told why, 3.1.1 has no words for it."""
    client.expect_closed(reason_code if client.version == V5 else None)


Make = Callable[[int], bytes]


def fixed(data: bytes) -> Make:
    return lambda version: data


def of_publish(first_byte: int, topic_name: str | bytes = "a", packet_id: int = 1) -> Make:
    return lambda version: wire.publish(version, topic_name, b"x", packet_id, first_byte=first_byte)


@pytest.mark.parametrize(
    ("make", "reason_code"),
    [
        pytest.param(lambda version: wire.connect(version, "again", "u", "p"), 0x82, id="second-connect"),
        pytest.param(fixed(b"\x20\x02\x00\x00"), 0x82, id="connack"),
        pytest.param(fixed(b"\x90\x03\x00\x01\x00"), 0x82, id="suback"),
        pytest.param(fixed(b"\xb0\x02\x00\x01"), 0x82, id="unsuback"),
        pytest.param(fixed(b"\xd0\x00"), 0x82, id="pingresp"),
        pytest.param(fixed(b"\x00\x00"), 0x81, id="type-0"),
        pytest.param(fixed(b"\x0f\x00"), 0x81, id="type-0-with-flags"),
        pytest.param(fixed(b"\xf0\x00"), 0x82, id="auth-unasked"),
        pytest.param(fixed(b"\x80\x05\x00\x01\x00\x00\x00"), 0x81, id="subscribe-flags-0"),
        pytest.param(fixed(b"\x8a\x05\x00\x01\x00\x00\x00"), 0x81, id="subscribe-flags-a"),
        pytest.param(fixed(b"\xa0\x04\x00\x01\x00\x00"), 0x81, id="unsubscribe-flags-0"),
        pytest.param(fixed(b"\x60\x02\x00\x01"), 0x81, id="pubrel-flags-0"),
        pytest.param(fixed(b"\x41\x02\x00\x01"), 0x81, id="puback-flags-1"),
        pytest.param(fixed(b"\xc1\x00"), 0x81, id="pingreq-flags-1"),
        pytest.param(fixed(b"\xe1\x00"), 0x81, id="disconnect-flags-1"),
        pytest.param(fixed(b"\xc0\x01\x00"), 0x81, id="pingreq-with-body"),
        pytest.param(fixed(b"\xc0\x80\x00"), 0x81, id="length-not-shortest"),
        pytest.param(fixed(b"\xc0\x80\x80\x80\x80\x00"), 0x81, id="length-of-five-bytes"),
        pytest.param(of_publish(0x36), 0x81, id="qos-3"),
        pytest.param(of_publish(0x38), 0x82, id="dup-with-qos-0"),
        pytest.param(of_publish(0x32, packet_id=0), 0x82, id="packet-id-0"),
        pytest.param(of_publish(0x32, b"a\x00b"), 0x81, id="nul-in-topic"),
        pytest.param(of_publish(0x32, b"\xed\xa0\x80"), 0x81, id="surrogate-in-topic"),
        pytest.param(of_publish(0x32, b"\xff"), 0x81, id="topic-is-no-utf8"),
        pytest.param(of_publish(0x32, "devices/+/x"), 0x90, id="plus-in-topic"),
        pytest.param(of_publish(0x32, "#"), 0x90, id="hash-in-topic"),
        pytest.param(of_publish(0x32, "/" * 32_767), 0x90, id="32768-levels"),
        pytest.param(of_publish(0x32, ""), 0x82, id="empty-topic"),
        pytest.param(fixed(b"\x32\x03\x00\xff\x61"), 0x81, id="topic-longer-than-packet"),
        pytest.param(fixed(b"\x30\x00"), 0x81, id="publish-without-body"),
        pytest.param(fixed(b"\x40\x01\x00"), 0x81, id="puback-too-short"),
        pytest.param(fixed(b"\x82\x02\x00\x01"), 0x81, id="subscribe-cut-short"),
        pytest.param(lambda version: wire.subscribe(version, 1, []), 0x82, id="subscribe-without-filter"),
        pytest.param(lambda version: wire.subscribe(version, 0, ["a"]), 0x82, id="subscribe-packet-id-0"),
        pytest.param(lambda version: wire.subscribe(version, 1, ["a"], options=3), 0x82, id="subscribe-qos-3"),
        pytest.param(lambda version: wire.subscribe(version, 1, ["a"], options=0xC0), 0x81, id="reserved-options"),
        pytest.param(lambda version: wire.subscribe(version, 1, [b"\xff"]), 0x81, id="filter-is-no-utf8"),
        pytest.param(lambda version: wire.unsubscribe(version, 1, []), 0x82, id="unsubscribe-without-filter"),
        *[
            pytest.param(fixed(bytes([first]) + TOO_LONG), 0x95, id=f"256-mib-{first:02x}")
            for first in (0x30, 0x82, 0xC0)
        ],
    ],
)
def test_a_breach_of_the_protocol_ends_the_connection_with_its_reason(
    client: Client, make: Make, reason_code: int
) -> None:
    if client.version == V311 and reason_code == 0x82 and make(V311) == b"\xf0\x00":
        reason_code = 0x81
    client.send(make(client.version))
    expect_failed(client, reason_code)


@pytest.mark.parametrize(
    ("raw", "reason_code"),
    [
        (b"\x23\x00\x11", 0x94),  # an alias above the maximum of 16
        (b"\x23\x00\x00", 0x94),
        (b"\x01\x00\x01\x00", 0x82),  # one property twice
        (b"\x21\x00\x01", 0x81),  # a property of another packet
        (b"\x7f\x00", 0x81),  # an unknown one
        (b"\x0b\x01", 0x82),  # a subscription identifier, which only the server may send
        (b"\x02\x00\x00", 0x81),  # cut short
        (b"\x08" + wire.binary("a/+"), 0x82),  # a response topic with a wildcard
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else None,
)
def test_a_bad_property_of_publish_ends_the_connection_with_its_reason(
    served: Served, device: Login, raw: bytes, reason_code: int
) -> None:
    with Client(served.port(), V5) as client:
        client.login(device.username, device.password)
        client.send(wire.publish(V5, device.topic("telemetry"), b"x", 1, raw_properties=raw))
        client.expect_closed(reason_code)


def test_subscription_identifier_0_is_a_protocol_error(served: Served, device: Login) -> None:
    with Client(served.port(), V5) as client:
        client.login(device.username, device.password)
        client.send(wire.subscribe(V5, 1, [device.topic("commands")], raw_properties=b"\x0b\x00"))
        client.expect_closed(0x82)


def test_a_property_length_past_the_packets_end_is_malformed(served: Served, device: Login) -> None:
    with Client(served.port(), V5) as client:
        client.login(device.username, device.password)
        body = wire.binary("a") + b"\x00\x01" + wire.varint(200) + b"x"
        client.send(wire.packet(0x32, body))
        client.expect_closed(0x81)


@pytest.mark.parametrize("place", ["$SYS/broker", "$share/g/a", "$CONTROL/x", "$", "$x"])
def test_nobody_publishes_to_topics_that_begin_with_a_dollar(client: Client, application: Client, place: str) -> None:
    for one in (client, application):
        one.send(wire.publish(one.version, place, b"x"))  # QoS 0: dropped in silence
        one.ping()
        if one.version == V5:
            assert one.publish_qos1(place, b"x") == 0x87
            one.ping()
        else:
            one.send(wire.publish(V311, place, b"x", 1))
            one.expect_closed()


@pytest.mark.parametrize(
    "place", ["telemetry", "devices/telemetry", "devices/{other}/telemetry", "devices/{own}/commands"]
)
def test_a_device_publishes_nowhere_but_at_its_own_topics(
    served: Served, client: Client, device: Login, place: str
) -> None:
    other = served.register()
    topic_name = place.format(other=other.device_id, own=device.device_id)
    with Client(served.port(), V5) as watch:
        watch.login("apikey", served.api_key, "watch")
        assert watch.subscribe(topic_name) == [1]
        client.send(wire.publish(client.version, topic_name, b"forbidden"))
        client.ping()
        if client.version == V5:
            assert client.publish_qos1(topic_name, b"forbidden") == 0x87
        else:
            client.send(wire.publish(V311, topic_name, b"forbidden", 1))
            client.expect_closed()
        assert watch.publish_within(topic_name, b"allowed") == [b"allowed"]


@pytest.mark.parametrize("topic_filter", ["#", "+/+/+/#", "devices/#", "devices/+/commands", "+", "/#", "$SYS/#"])
def test_a_device_sees_nothing_but_its_own_commands(client: Client, topic_filter: str) -> None:
    assert client.subscribe(topic_filter) == [0x87 if client.version == V5 else 0x80]
    client.ping()


@pytest.mark.parametrize("topic_filter", ["a+", "a/b#", "#/b", "+a/b", "a/#/b", "/" * 200, "x" * 65_535, ""])
def test_what_is_no_filter_is_refused_alone(application: Client, topic_filter: str) -> None:
    if topic_filter == "x" * 65_535:
        topic_filter = "+" + "x" * 65_534
    codes = application.subscribe("good", topic_filter, "good/too")
    assert codes == [1, 0x8F if application.version == V5 else 0x80, 1]


@pytest.mark.parametrize("topic_filter", ["$share//f", "$share/g/", "$share/g+/f", "$share/#/f", "$share/g", "$share/"])
def test_a_shared_filter_without_its_parts_is_refused_by_itself(application: Client, topic_filter: str) -> None:
    codes = application.subscribe(topic_filter, "$share/g/f")
    assert codes == [0x8F if application.version == V5 else 0x80, 1]


def test_a_topic_of_65535_bytes_and_of_128_levels_is_carried(served: Served, application: Client) -> None:
    for topic_name in ("x" * 65_535, "/" * 127, "é" * 32_767):
        assert application.subscribe(topic_name) == [1]
        application.send(wire.publish(application.version, topic_name, b"x", 1))
        found = sorted((application.read() for _ in range(2)), key=lambda one: one.kind if one else 0)
        assert [one.kind for one in found if one] == [PUBLISH, PUBACK]
        assert found[0] is not None
        assert found[0].topic_name == topic_name
        application.send(wire.puback(found[0].packet_id))


def test_the_101st_subscription_of_a_device_is_refused_and_replacing_one_is_not(client: Client, device: Login) -> None:
    filters = [device.topic(f"commands/{number}") for number in range(101)]
    assert client.subscribe(*filters) == [1] * 100 + [0x97 if client.version == V5 else 0x80]
    assert client.subscribe(filters[0], options=0) == [0]
    client.send(wire.unsubscribe(client.version, 2, filters[:1]))
    client.expect(wire.UNSUBACK)
    assert client.subscribe(filters[100]) == [1]


def test_a_subscribe_of_65000_filters_ends_the_connection_before_it_costs_anything(
    served: Served, application: Client
) -> None:
    before = served.rss_bytes()
    for _ in range(3):
        with Client(served.port(), application.version) as one:
            one.login("apikey", served.api_key, "storm")
            one.send(wire.subscribe(one.version, 1, [f"storm/{number}" for number in range(65_000)]))
            expect_failed(one, 0x97)
    application.ping()
    assert served.rss_bytes() - before < 16 * MIB


def test_10000_overlapping_filters_bring_one_message_once_and_their_memory_back(served: Served) -> None:
    levels = ["devices", "storm", *"abcdefghijklm"]
    wild = ["/".join("+" if number >> at & 1 else level for at, level in enumerate(levels)) for number in range(10_000)]
    topic_name = "/".join(levels)
    with Client(served.port(), V5) as application:
        application.login("apikey", served.api_key, "overlap")
        for number in range(10):
            assert set(application.subscribe(*wild[number * 1000 : number * 1000 + 1000])) == {1}
        assert application.subscribe("one/too/many") == [0x97]
        assert application.publish_within(topic_name, b"once") == [b"once"]
        settled = served.rss_bytes()
    for _ in range(5):
        with Client(served.port(), V5) as application:
            application.login("apikey", served.api_key, "overlap")
            for number in range(10):
                application.subscribe(*wild[number * 1000 : number * 1000 + 1000])
    assert served.rss_bytes() - settled < 8 * MIB, "subscriptions give their memory back"


@pytest.mark.parametrize("size", [0, 1, PAYLOAD_MAXIMUM - 1, PAYLOAD_MAXIMUM])
def test_a_payload_up_to_the_maximum_arrives_as_it_was_sent(
    served: Served, client: Client, device: Login, size: int
) -> None:
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    for version in (V311, V5):
        with Client(served.port(), version) as application:
            application.login("apikey", served.api_key, "large")
            assert application.subscribe(device.topic("telemetry")) == [1]
            assert client.publish_qos1(device.topic("telemetry"), payload) == 0
            assert application.expect(PUBLISH).payload(version) == payload


def test_a_payload_over_the_maximum_is_refused_and_reaches_nobody(
    served: Served, client: Client, device: Login
) -> None:
    topic_name = device.topic("telemetry")
    with Client(served.port(), V5) as application:
        application.login("apikey", served.api_key, "larger")
        assert application.subscribe(topic_name) == [1]
        client.send(wire.publish(client.version, topic_name, bytes(PAYLOAD_MAXIMUM + 1)))
        client.ping()  # QoS 0: dropped
        if client.version == V5:
            assert client.publish_qos1(topic_name, bytes(PAYLOAD_MAXIMUM + 1)) == 0x97
        else:
            client.send(wire.publish(V311, topic_name, bytes(PAYLOAD_MAXIMUM + 1), 1))
            client.expect_closed()
        assert application.publish_within(topic_name, b"next") == [b"next"]


def test_a_packet_over_the_announced_maximum_is_refused_on_its_header(client: Client, device: Login) -> None:
    length = PAYLOAD_MAXIMUM + 128 * 1024
    client.send(b"\x30" + wire.varint(length))  # a packet of that size is a little longer than its length
    expect_failed(client, 0x95)


def test_many_packets_in_one_segment_are_answered_in_order(client: Client, device: Login) -> None:
    topic_name = device.topic("telemetry")
    burst = b"".join(wire.publish(client.version, topic_name, b"x", number) for number in range(1, 101))
    client.send(burst + wire.subscribe(client.version, 500, [device.topic("commands")]) + b"\xc0\x00")
    assert [client.expect(PUBACK).packet_id for _ in range(100)] == list(range(1, 101))
    assert client.expect(SUBACK).packet_id == 500
    client.expect(wire.PINGRESP)


def test_a_client_that_hears_its_own_large_messages_is_read_on_when_its_outbox_is_empty(served: Served) -> None:
    payload = bytes(PAYLOAD_MAXIMUM)
    for version in (V311, V5):
        with Client(served.port(), version) as application:
            application.login("apikey", served.api_key, "echo")
            assert application.subscribe("echo", options=0) == [0]
            for _ in range(5):
                application.send(wire.publish(version, "echo", payload, 1))
                kinds = {application.read_kind() for _ in range(2)}
                assert kinds == {PUBLISH, PUBACK}


def test_acknowledgements_of_what_was_never_sent_change_nothing(client: Client, device: Login) -> None:
    for number in (1, 2, 65_535):
        client.send(struct.pack("!BBH", 0x40, 2, number))
    client.send(struct.pack("!BBH", 0x62, 2, 9))  # PUBREL: answered, that the identifier is unknown
    assert client.expect(wire.PUBCOMP).packet_id == 9
    client.send(struct.pack("!BBH", 0x70, 2, 9))
    client.ping()


def test_packet_identifier_0_in_an_acknowledgement_is_refused_or_ignored(client: Client) -> None:
    client.send(b"\x40\x02\x00\x00" + b"\xc0\x00")
    found = client.read()
    assert found is None or found.kind in (wire.PINGRESP, wire.DISCONNECT)


@pytest.mark.clause("v5:MQTT-3.1.2-22", "v311:MQTT-3.1.2-24")
def test_a_client_silent_for_one_and_a_half_keep_alives_is_cut(served: Served, device: Login) -> None:
    for version in (V311, V5):
        with Client(served.port(), version) as client:
            client.login(device.username, device.password, "silent", keep_alive_s=1)
            client.expect_closed(0x8D if version == V5 else None)


@pytest.mark.clause("v5:MQTT-3.1.2-24", "v5:MQTT-3.1.2-25")
@pytest.mark.parametrize("options", [0, 1])
def test_a_client_gets_packets_up_to_its_maximum_and_none_above_it(served: Served, options: int) -> None:
    maximum = 100
    with Client(served.port(), V5) as small, Client(served.port(), V5) as writer:
        properties = b"\x27" + struct.pack("!I", maximum)
        small.send(wire.connect(V5, "small", "apikey", served.api_key, raw_properties=properties))
        small.expect(wire.CONNACK)
        assert small.subscribe("sized", options=options) == [options]
        writer.login("apikey", served.api_key, "sizes")
        room = maximum - len(wire.publish(V5, "sized", b"", options))
        for size in (room + 1, room, 10_000, 0):
            writer.publish_qos1("sized", bytes(size))
        assert [len(small.expect(PUBLISH).payload(V5)) for _ in range(2)] == [room, 0]
        small.ping()
