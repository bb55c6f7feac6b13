"""Attacks by number: sockets, packets, subscriptions, unread bytes. Memory stays flat, and others notice nothing."""

from __future__ import annotations

import resource
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from broker.testing import BrokerUnderTest
from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Login, Served
from tests.integration.wire import PUBACK, PUBLISH, V5, V311, Client

Serve = Callable[..., Served]
MIB = 1024 * 1024
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])


def capabilities(**values: float) -> dict[str, str]:
    return {f"IOT_BROKER_CAPABILITIES__{name.upper()}": str(value) for name, value in values.items()}


def sockets_allowed(wanted: int) -> int:
    """How many sockets this process may have open, up to what is wanted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(wanted, hard - 500)


@contextmanager
def many_sockets(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connect many times; closed with a reset, so that no port stays behind."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(wire.open_socket(port))
        yield opened
    finally:
        for one in opened:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()


def wait_until_closed(sockets: list[socket.socket], within_s: float) -> int:
    """Wait for the other side's end of each; gives how many never came. Nothing else may arrive."""
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            one.setblocking(False)
            selector.register(one, selectors.EVENT_READ)
        until = time.monotonic() + within_s
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(0.5):
                one = key.fileobj
                assert isinstance(one, socket.socket)
                with suppress(ConnectionResetError):
                    assert one.recv(1) == b""
                selector.unregister(one)
        return len(selector.get_map())


def eventually(true: Callable[[], bool], within_s: float = 10) -> bool:
    until = time.monotonic() + within_s
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()


def test_ten_thousand_sockets_that_say_nothing_are_closed_by_their_deadline(serve: Serve) -> None:
    count = sockets_allowed(10_000)
    limits = {"unauthenticated_connections_maximum": 20_000, "unauthenticated_connections_per_address_maximum": 20_000}
    broker = serve(environment=capabilities(connect_timeout_s=3, **limits))
    with Neighbour(broker):
        before_bytes, before_descriptors = broker.rss_bytes(), broker.descriptors()
        with many_sockets(broker.port(), count) as sockets:
            assert eventually(lambda: broker.descriptors() > before_descriptors + count // 2, 2)
            assert wait_until_closed(sockets, 30) == 0
            held = broker.rss_bytes() - before_bytes
        assert held < count * 1229 + 4 * MIB, f"{held / count:.0f} bytes for each"
        assert eventually(lambda: broker.descriptors() <= before_descriptors + 2)
        # And again: what the first ten thousand cost serves the second.
        after_bytes = broker.rss_bytes()
        with many_sockets(broker.port(), count) as sockets:
            assert wait_until_closed(sockets, 30) == 0
        assert broker.rss_bytes() - after_bytes < 4 * MIB
    assert len(broker.log.splitlines()) < 100, "a flood of clients is no flood of lines"


def test_sockets_over_the_limit_of_unproven_ones_are_closed_at_once_and_members_stay(serve: Serve) -> None:
    broker = serve(environment=capabilities(unauthenticated_connections_maximum=100))
    with Neighbour(broker):
        with many_sockets(broker.port(), 300) as sockets:
            assert wait_until_closed(sockets, 2) == 100
        device = broker.register()
        assert eventually(lambda: may_log_in(broker, device)), "there is room again"


def may_log_in(broker: Served, device: Login) -> bool:
    with Client(broker.port()) as client:
        client.send(wire.connect(V5, "again", device.username, device.password))
        answer = client.read()
        return answer is not None and answer.body[1] == 0


@pytest.mark.iot_broker(open=True, capabilities={"connections_maximum": 50})
def test_connections_over_the_limit_are_refused_and_room_is_given_back(iot_broker: BrokerUnderTest) -> None:
    with ExitStack() as stack:
        for number in range(50):
            stack.enter_context(Client(iot_broker.port)).login("anybody", "anything", f"{number}")
        with Client(iot_broker.port) as late:
            late.send(wire.connect(V5, "late"))
            late.expect_closed()
        assert iot_broker.publish("a", b"from inside", qos=1) == 0x10, "the process itself is never kept out"
    iot_broker.wait_until(lambda: not iot_broker.client_ids)
    with Client(iot_broker.port) as again:
        again.login("anybody", "anything")


def test_out_of_descriptors_it_neither_ends_nor_spins_and_accepts_again(serve: Serve) -> None:
    broker = serve(descriptors=120)
    device = broker.register()
    with Neighbour(broker):
        with many_sockets(broker.port(), 300):
            time.sleep(0.5)
            before = broker.cpu_s()
            time.sleep(1.0)
            assert broker.cpu_s() - before < 0.7, "the neighbour's messages, and no spinning"
        assert eventually(lambda: may_log_in(broker, device))
    assert broker.call("GET", "/devices").status_code == 200


def test_sockets_that_are_reset_while_the_broker_speaks_to_them_do_no_harm(served: Served) -> None:
    with Neighbour(served):
        before = served.descriptors()
        for _ in range(500):
            client = Client(served.port())
            client.send(wire.connect(V5, "gone", "nobody", "nothing") + b"\xc0\x00" * 100)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        assert eventually(lambda: served.descriptors() <= before)


def test_a_storm_of_reconnects_with_one_identifier_keeps_one_session(served: Served, device: Login) -> None:
    with Neighbour(served):
        before = served.descriptors()
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(served.port(), V5 if n % 2 else V311)) for n in range(300)]
            for client in clients:
                client.send(wire.connect(client.version, "one", device.username, device.password))
                client.send(wire.subscribe(client.version, 1, [device.topic("commands")]))
            for client in clients:
                assert client.expect(wire.CONNACK).body[1] == 0
            (survivor,) = [client for client in clients if lives_on(client)]  # who was heard last, whoever that is
            answer = served.call("POST", f"/devices/{device.device_id}/commands", {"payload": 1})
            assert answer.json()["state"] == "sent"
            survivor.expect(PUBLISH)
        assert eventually(lambda: served.descriptors() <= before)


def lives_on(client: Client) -> bool:
    """Whether it still is answered; what came before its end is read."""
    client.send(b"\xc0\x00")
    kind = client.read_kind()
    while kind not in {None, wire.PINGRESP}:
        kind = client.read_kind()
    return kind is not None


@VERSIONS
def test_a_flood_of_pings_is_answered_ping_for_ping(served: Served, version: int) -> None:
    with Neighbour(served), Client(served.port(), version) as client:
        client.login("apikey", served.api_key, "pinger")  # an application has no rate
        for _ in range(10):
            client.send(b"\xc0\x00" * 20_000)
            for _ in range(20_000):
                client.expect(wire.PINGRESP)


@VERSIONS
def test_pings_whose_answers_nobody_reads_stop_being_read(served: Served, version: int) -> None:
    with Neighbour(served):
        before = served.rss_bytes()
        client = Client(served.port(), version, receive_buffer_bytes=4096)
        client.login("apikey", served.api_key, "pinger")
        client.socket.setblocking(False)
        sent, until = 0, time.monotonic() + 20
        quiet_since = time.monotonic()
        while sent < 200 * MIB and time.monotonic() < until and time.monotonic() - quiet_since < 1:
            try:
                sent += client.socket.send(b"\xc0\x00" * 32_768)
                quiet_since = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 100 * MIB, "the broker reads on without an end"
        assert served.rss_bytes() - before < 16 * MIB
        client.close()


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1])
def test_a_reader_that_stops_reading_costs_its_budget_and_no_more(serve: Serve, version: int, qos: int) -> None:
    broker = serve(environment=capabilities(queue_maximum_bytes=4 * MIB, outbox_soft_limit_bytes=MIB))
    with Neighbour(broker), ExitStack() as stack:
        slow = stack.enter_context(Client(broker.port(), version, receive_buffer_bytes=4096))
        slow.login("apikey", broker.api_key, "slow")
        assert slow.subscribe("flood", options=qos) == [qos]
        healthy = stack.enter_context(Client(broker.port(), V5))
        healthy.login("apikey", broker.api_key, "healthy")
        assert healthy.subscribe("flood", options=1) == [1]
        writer = stack.enter_context(Client(broker.port(), V5)).login("apikey", broker.api_key, "writer")
        before = broker.rss_bytes()
        for number in range(400):  # forty megabytes
            payload = struct.pack("!I", number) + bytes(100_000)
            assert writer.publish_qos1("flood", payload) == 0
            arrived = healthy.expect(PUBLISH)
            assert arrived.payload(V5)[:4] == payload[:4]
            healthy.send(wire.puback(arrived.packet_id))
        assert broker.rss_bytes() - before < 24 * MIB, f"{(broker.rss_bytes() - before) // MIB} MiB"
        # What it has been sent is whole and in order; it goes on when it reads again.
        assert writer.publish_qos1("flood", b"last") == 0
        numbers = read_all(slow)
        assert numbers == sorted(set(numbers))
        assert 0 < len(numbers) < 400
        writer.publish_qos1("flood", struct.pack("!I", 1_000_000))
        assert read_all(slow)[-1] == 1_000_000


def read_all(client: Client) -> list[int]:
    """Read and acknowledge until nothing comes any more; gives the numbers of the messages."""
    numbers: list[int] = []
    while found := read_until_pong(client):
        for one in found:
            text = one.payload(client.version)[:4]
            numbers += [] if text == b"last" else list(struct.unpack("!I", text))
        client.send(b"".join(wire.puback(one.packet_id) for one in found if one.flags & 6))
    return numbers


def read_until_pong(client: Client) -> list[wire.Packet]:
    client.send(b"\xc0\x00")
    found = []
    while (one := client.read()) is not None and one.kind != wire.PINGRESP:
        assert one.kind == PUBLISH
        found.append(one)
    assert one is not None, "closed"
    return found


def test_a_receiver_that_never_acknowledges_is_sent_its_window_and_no_more(serve: Serve) -> None:
    broker = serve(environment=capabilities(queue_messages_maximum=100))
    with Neighbour(broker), Client(broker.port()) as lazy, Client(broker.port()) as writer:
        properties = b"\x21" + struct.pack("!H", 10)  # Receive Maximum
        lazy.send(wire.connect(V5, "lazy", "apikey", broker.api_key, raw_properties=properties))
        assert lazy.expect(wire.CONNACK).body[1] == 0
        assert lazy.subscribe("work") == [1]
        writer.login("apikey", broker.api_key, "writer")
        for number in range(300):
            assert writer.publish_qos1("work", b"%d" % number) in (0, 0x10)
        lazy.send(b"\xc0\x00")
        window = [lazy.expect(PUBLISH) for _ in range(10)]
        lazy.expect(wire.PINGRESP)
        assert [int(one.payload(V5)) for one in window] == list(range(10))
        for _ in range(3):  # the same acknowledgement again frees nothing
            lazy.send(wire.puback(window[0].packet_id))
        lazy.send(b"\xc0\x00")
        assert int(lazy.expect(PUBLISH).payload(V5)) == 10
        lazy.expect(wire.PINGRESP)


def test_churn_of_subscriptions_gives_its_memory_back(served: Served) -> None:
    with Neighbour(served), Client(served.port()) as client:
        client.login("apikey", served.api_key, "churn")

        def churn(rounds: int) -> None:
            for number in range(rounds):
                filters = [f"churn/{number}/{n}/+/#" for n in range(50)]
                client.send(wire.subscribe(V5, 1, filters) + wire.unsubscribe(V5, 2, filters))
                assert client.expect(wire.SUBACK).packet_id == 1
                assert set(client.expect(wire.UNSUBACK).body[3:]) == {0}

        churn(100)
        settled = served.rss_bytes()
        churn(400)
        assert served.rss_bytes() - settled < 4 * MIB


def test_publishers_who_wait_for_nothing_lose_nothing_while_the_queue_has_room(serve: Serve) -> None:
    # Twenty publishers at once with up to 200 messages in flight each, over both versions.
    served = serve(environment=capabilities(queue_messages_maximum=50_000))
    assert served.cli("accounts", "set-plan", "default", "unlimited").returncode == 0
    devices = [served.register() for _ in range(20)]
    with Neighbour(served), ExitStack() as stack:
        application = stack.enter_context(Client(served.port(), V5))
        application.login("apikey", served.api_key, "collector")
        assert application.subscribe("devices/+/events") == [1]
        clients = []
        for number, device in enumerate(devices):
            client = stack.enter_context(Client(served.port(), V5 if number % 2 else V311))
            clients.append(client.login(device.username, device.password))

        def publish_all() -> None:
            for start in range(0, 1000, 200):
                for client, device in zip(clients, devices, strict=True):
                    topic_name = device.topic("events")
                    numbers = range(start + 1, start + 201)
                    client.send(b"".join(wire.publish(client.version, topic_name, b"%d" % n, n) for n in numbers))
                for client in clients:
                    assert [client.expect(PUBACK).packet_id for _ in range(200)] == list(range(start + 1, start + 201))

        thread = threading.Thread(target=publish_all)
        thread.start()
        arrived: dict[str, list[int]] = {}
        for _ in range(20 * 1000):
            found = application.expect(PUBLISH)
            arrived.setdefault(found.topic_name, []).append(int(found.payload(V5)))
            application.send(wire.puback(found.packet_id))
        thread.join(30)
        assert arrived == {device.topic("events"): list(range(1, 1001)) for device in devices}


def test_more_in_flight_than_receive_maximum_allows_is_never_the_brokers_own_delay(
    served: Served, device: Login
) -> None:
    # 5.0 has been told 256; a client that keeps to it is never cut for what the broker has not acknowledged yet.
    with Client(served.port(), V5) as client:
        client.login("apikey", served.api_key, "full-window")
        for _ in range(20):
            client.send(b"".join(wire.publish(V5, device.topic("telemetry"), b"x", n) for n in range(1, 257)))
            assert [client.expect(PUBACK).packet_id for _ in range(256)] == list(range(1, 257))


def test_silent_callers_of_http_do_not_keep_others_out(serve: Serve) -> None:
    broker = serve()
    with Neighbour(broker), many_sockets(broker.port("http"), 1200) as sockets:
        for one in sockets[:600]:
            one.sendall(b"GET /v1/iot/devices HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert broker.call("GET", "/devices").status_code == 200
        broker.register()


def test_http_that_is_no_http_and_mqtt_on_its_port_are_refused(served: Served) -> None:
    with Neighbour(served):
        for data in (wire.connect(V5, "x", "u", "p"), b"\x16\x03\x01\x00\xf1\x01\x00", b"\r\n\r\n\xff" * 100):
            one = wire.open_socket(served.port("http"))
            one.sendall(data + b"\r\n\r\n")
            answer = one.recv(1000)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer
            one.close()
        one = wire.open_socket(served.port("http"))
        one.sendall(b"GET /v1/iot/devices HTTP/1.1\r\nX: " + b"x" * 2 * MIB)
        with suppress(ConnectionResetError, BrokenPipeError):
            assert b" 200 " not in one.recv(1000)
        one.close()
