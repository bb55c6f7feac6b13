"""Attacks on what outlives a connection: kept sessions and takeovers. Memory stays flat, others notice nothing."""

from __future__ import annotations

import selectors
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Login, Served
from tests.integration.test_attacks_floods import capabilities
from tests.integration.wire import CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5, V311, Client

Serve = Callable[..., Served]
MIB = 1024 * 1024
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
HOUR = struct.pack("!BI", 0x11, 3600)


def connect_bytes(
    version: int,
    login: Login,
    client_id: str = "",
    *,
    clean_start: bool = False,
    raw_properties: bytes | None = None,
    will: tuple[str, bytes] | None = None,
    will_properties: bytes = b"",
    will_flags: int = 0,
) -> bytes:
    """A CONNECT whose session is kept for an hour unless the properties say otherwise, with a will if there is one."""
    flags = 0xC0 | (2 if clean_start else 0) | (4 | will_flags if will else 0)
    own = HOUR if raw_properties is None else raw_properties
    body = wire.binary("MQTT") + bytes([version, flags, 0, 0]) + wire.properties(version, own)
    body += wire.binary(client_id or login.device_id)
    if will:
        body += wire.properties(version, will_properties) + wire.binary(will[0]) + wire.binary(will[1])
    return wire.packet(0x10, body + wire.binary(login.username) + wire.binary(login.password))


def enter(served: Served, version: int, login: Login, client_id: str = "", **more: object) -> tuple[Client, bool]:
    """A client that was let in, and whether its session was there."""
    client = Client(served.port(), version)
    client.send(connect_bytes(version, login, client_id, **more))  # type: ignore[arg-type]
    answer = client.expect(CONNACK)
    assert answer.body[1] == 0, answer
    return client, bool(answer.body[0])


def application_of(served: Served) -> Login:
    return Login("", "apikey", served.api_key)


def acknowledgement(kind: int, packet_id: int) -> bytes:
    return wire.packet(kind << 4 | (2 if kind == PUBREL else 0), struct.pack("!H", packet_id))


def qos_of(one: wire.Packet) -> int:
    return one.flags >> 1 & 3


@pytest.fixture
def writer(served: Served) -> Iterator[Client]:
    """An application that publishes."""
    with Client(served.port(), V5) as one:
        yield one.login("apikey", served.api_key, f"writer-{time.monotonic_ns()}")


# ---------------------------------------------------------------- what is kept


@VERSIONS
def test_whoever_is_killed_with_unacknowledged_messages_gets_them_again_and_then_what_waited(
    served: Served, device: Login, writer: Client, version: int
) -> None:
    topic_name = device.topic("commands")
    client, _ = enter(served, version, device)
    assert client.subscribe(topic_name, options=2) == [2]
    for number in range(10):
        first = 0x32 if number % 2 else 0x34
        writer.send(wire.publish(V5, topic_name, b"%d" % number, number + 1, first_byte=first))
    # What has QoS 2 waits until its identifier is on disk: what has QoS 1 may come before it.
    before = sorted((client.expect(PUBLISH) for _ in range(10)), key=lambda one: int(one.payload(version)))
    client.send(acknowledgement(PUBREC, before[0].packet_id) + acknowledgement(PUBACK, before[1].packet_id))
    assert client.expect(PUBREL).packet_id == before[0].packet_id
    client.close()
    for number in range(10, 15):
        writer.send(wire.publish(V5, topic_name, b"%d" % number, number + 1))
    writer.send(b"\xc0\x00")
    while writer.read_kind() != wire.PINGRESP:
        pass
    again: list[wire.Packet | None] = []
    for _ in range(3):  # and killed again and again before it says anything
        client, present = enter(served, version, device)
        assert present
        again = [client.read() for _ in range(14)]
        client.close()
    found = [one for one in again if one is not None]
    assert [one.packet_id for one in found if one.kind == PUBREL] == [before[0].packet_id]
    messages = [one for one in found if one.kind == PUBLISH]
    assert [int(one.payload(version)) for one in messages] == list(range(2, 15))
    assert [one.packet_id for one in messages[:8]] == [one.packet_id for one in before[2:]]
    assert all(one.flags & 8 for one in messages), "sent for the second time"


@VERSIONS
def test_a_breach_of_the_protocol_does_not_cost_the_session(
    served: Served, device: Login, writer: Client, version: int
) -> None:
    topic_name = device.topic("commands")
    client, _ = enter(served, version, device)
    assert client.subscribe(topic_name) == [1]
    for number, garbage in enumerate([b"\x00\x00", b"\x32\xff\xff\xff\xff\x7f", b"\x30\x02\x00\x05", b"\x62\x00"]):
        client.send(garbage)
        while client.read() is not None:
            pass
        client.close()
        assert writer.publish_qos1(topic_name, b"%d" % number) == 0
        client, present = enter(served, version, device)
        assert present
        arrived = client.expect(PUBLISH)
        assert arrived.payload(version) == b"%d" % number
        client.send(wire.puback(arrived.packet_id))
    client.close()


@VERSIONS
def test_another_device_with_the_same_identifier_finds_no_session_and_takes_nothing(
    served: Served, device: Login, writer: Client, version: int
) -> None:
    client, _ = enter(served, version, device, "shared-name")
    assert client.subscribe(device.topic("commands")) == [1]
    client.close()
    assert writer.publish_qos1(device.topic("commands"), b"private") == 0
    for clean_start in (False, True):
        other, present = enter(served, version, served.register(), "shared-name", clean_start=clean_start)
        assert not present
        other.ping()
        other.close()
    client, present = enter(served, version, device, "shared-name")
    assert present
    assert client.expect(PUBLISH).payload(version) == b"private"
    client.close()


@VERSIONS
def test_a_flood_for_clients_that_are_away_costs_their_queues_and_no_more(serve: Serve, version: int) -> None:
    broker = serve(environment=capabilities(queue_maximum_bytes=MIB))
    devices = [broker.register() for _ in range(4)]
    for device in devices:
        client, _ = enter(broker, version, device)
        assert client.subscribe(device.topic("commands")) == [1]
        client.close()
    with Neighbour(broker), Client(broker.port(), V5) as writer:
        writer.login("apikey", broker.api_key, "flood")
        before = broker.rss_bytes()
        for number in range(200):
            for device in devices:
                assert writer.publish_qos1(device.topic("commands"), struct.pack("!I", number) + bytes(50_000)) == 0
        assert broker.rss_bytes() - before < 4 * MIB + 16 * MIB
    for device in devices:
        client, present = enter(broker, version, device)
        assert present
        numbers: list[int] = []
        quiet = 0
        while quiet < 5:  # what is on disk comes in pages
            client.send(b"\xc0\x00")
            quiet += 1
            while (one := client.read()) is not None and one.kind == PUBLISH:
                numbers += struct.unpack("!I", one.payload(version)[:4])
                quiet = 0
            time.sleep(0.1)
        assert numbers == list(range(len(numbers))), "the oldest, in their order"
        assert 10 < len(numbers) < 22
        client.close()


@VERSIONS
def test_a_client_that_reads_and_never_acknowledges_costs_its_queue_and_no_more(serve: Serve, version: int) -> None:
    broker = serve(environment=capabilities(queue_maximum_bytes=2 * MIB))
    device = broker.register()
    client, _ = enter(broker, version, device)
    assert client.subscribe(device.topic("commands")) == [1]
    with Neighbour(broker), Client(broker.port(), V5) as writer:
        writer.login("apikey", broker.api_key, "flood")
        before = broker.rss_bytes()
        got = 0
        for _ in range(300):
            assert writer.publish_qos1(device.topic("commands"), bytes(100_000)) == 0
            client.send(b"\xc0\x00")
            while (one := client.read()) is not None and one.kind == PUBLISH:
                got += 1
        assert 10 < got < 25
        assert broker.rss_bytes() - before < 2 * MIB + 16 * MIB
    client.close()


# ---------------------------------------------------------------- takeovers


@VERSIONS
def test_two_devices_with_one_identity_lose_no_message_and_disturb_nobody(
    served: Served, device: Login, writer: Client, version: int
) -> None:
    topic_name = device.topic("commands")
    first, _ = enter(served, version, device)
    assert first.subscribe(topic_name) == [1]
    first.close()
    ends = threading.Event()
    seen: list[int] = []
    entered = [0]

    def fight() -> None:
        while not ends.is_set():
            with Client(served.port(), version) as client:
                client.send(connect_bytes(version, device))
                try:
                    while not ends.is_set() and (one := client.read()) is not None:
                        entered[0] += one.kind == CONNACK
                        if one.kind == PUBLISH:
                            seen.append(int(one.payload(version)))
                            client.send(wire.puback(one.packet_id))
                except OSError:
                    pass

    fighters = [threading.Thread(target=fight) for _ in range(2)]
    with Neighbour(served):
        before = served.rss_bytes()
        for one in fighters:
            one.start()
        for number in range(400):
            assert writer.publish_qos1(topic_name, b"%d" % number) == 0
            time.sleep(0.01)
        until = time.monotonic() + 30
        while len(set(seen)) < 400 and time.monotonic() < until:
            time.sleep(0.05)
        ends.set()
        writer.publish_qos1(topic_name, b"400")  # wakes whoever reads
        for one in fighters:
            one.join(20)
        assert served.rss_bytes() - before < 16 * MIB
    assert set(range(400)) <= set(seen)
    assert entered[0] < 60, "they change places about once a second"


@VERSIONS
def test_a_crowd_that_takes_over_one_session_leaves_it_whole(
    served: Served, device: Login, writer: Client, version: int
) -> None:
    topic_name = device.topic("commands")
    first, _ = enter(served, version, device)
    assert first.subscribe(topic_name) == [1]
    with Neighbour(served), ExitStack() as stack:
        before, descriptors = served.rss_bytes(), served.descriptors()
        crowd = [stack.enter_context(Client(served.port(), version)) for _ in range(500)]
        for one in crowd:
            one.send(connect_bytes(version, device))
        assert writer.publish_qos1(topic_name, b"for one of them") == 0
        last, heard = the_last_of(crowd)
        assert b"for one of them" in heard, "whoever they were, the last one has the session and its message"
        last.ping()
        assert served.rss_bytes() - before < 16 * MIB
        stack.close()
        first.close()
        until = time.monotonic() + 10
        while served.descriptors() > descriptors and time.monotonic() < until:
            time.sleep(0.02)
        assert served.descriptors() <= descriptors


def the_last_of(crowd: list[Client]) -> tuple[Client, bytes]:
    """Wait until all but one are closed; gives that one and what it has received."""
    with selectors.DefaultSelector() as selector:
        for one in crowd:
            selector.register(one.socket, selectors.EVENT_READ, (one, bytearray()))
        until = time.monotonic() + 30
        while len(selector.get_map()) > 1 and time.monotonic() < until:
            for key, _ in selector.select(0.5):
                data = b""
                with suppress(ConnectionResetError):
                    data = key.data[0].socket.recv(65_536)
                key.data[1].extend(data)
                if not data:
                    selector.unregister(key.fileobj)
        ((last, heard),) = [key.data for key in selector.get_map().values()]
        while b"for one of them" not in heard:
            heard += last.socket.recv(65_536)
        return last, bytes(heard)


@VERSIONS
def test_an_exchange_of_qos_2_goes_on_through_takeovers_and_is_delivered_once(
    served: Served, device: Login, version: int
) -> None:
    topic_name = device.topic("telemetry")
    with Client(served.port(), V5) as application:
        application.login("apikey", served.api_key, "exactly-once-" + device.device_id)
        assert application.subscribe(topic_name) == [1]
        client, _ = enter(served, version, device)
        client.send(wire.publish(version, topic_name, b"once", 7, first_byte=0x34))
        assert client.expect(PUBREC).packet_id == 7
        for _ in range(2):
            older = client
            client, present = enter(served, version, device)
            assert present
            while older.read() is not None:
                pass
            older.close()
            client.send(wire.publish(version, topic_name, b"once", 7, first_byte=0x3C))
            assert client.expect(PUBREC).packet_id == 7
        client.send(acknowledgement(PUBREL, 7))
        completed = client.expect(PUBCOMP)
        assert (completed.packet_id, completed.body[2:3]) in [(7, b""), (7, b"\x00")]
        client.send(wire.publish(version, topic_name, b"twice", 7, first_byte=0x34))
        assert client.expect(PUBREC).packet_id == 7
        for expected in (b"once", b"twice"):
            arrived = application.expect(PUBLISH)
            assert arrived.payload(V5) == expected
            application.send(wire.puback(arrived.packet_id))
        application.ping()
        client.close()
