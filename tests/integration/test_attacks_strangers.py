"""Attacks by those who have not proven anything: whatever arrives before a good CONNECT.

Each test has a neighbour who must notice nothing. Here belongs what one connection can say; floods are in
``test_attacks_floods``.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Login, Served
from tests.integration.wire import V5, V311, Client

MIB = 1024 * 1024
CONNECT_TIMEOUT_S = 2
TLS_HELLO = bytes.fromhex("16030100f1010000ed0303") + bytes(range(240))
HTTP_GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A broker that waits two seconds for a CONNECT."""
    from tests.integration.served import PORTS, end_all

    environment = {"IOT_BROKER_CAPABILITIES__CONNECT_TIMEOUT_S": str(CONNECT_TIMEOUT_S)}
    broker = Served(tmp_path_factory.mktemp("hasty") / "data", *PORTS, environment=environment)
    try:
        yield broker
    finally:
        end_all([broker])


@pytest.fixture(autouse=True)
def neighbour(hasty: Served) -> Iterator[Neighbour]:
    with Neighbour(hasty) as one:
        yield one


@pytest.mark.parametrize(
    "data",
    [
        TLS_HELLO,
        HTTP_GET,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00",
        b"\xff" * 64,
        *[bytes([kind << 4 | flags, 0]) for kind, flags in [(0, 0), (2, 0), (8, 2), (12, 0), (14, 0), (15, 0)]],
        wire.publish(V311, "a", b"x"),
        wire.publish(V5, "a", b"x", 1),
        wire.subscribe(V5, 1, ["#"]),
        b"\x11\x00",  # CONNECT with a reserved flag of the header
        b"\x10\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x10\x80\x80\x80\x00",  # a length that is not the shortest form
        b"\x10\xff\xff\xff\x7f",  # 268,435,455 bytes are promised
        b"\x10\x81\x80\x01",  # one more than 16 KiB
    ],
    ids=lambda data: data[:6].hex(),
)
@pytest.mark.clause("v5:MQTT-3.1.0-1", "v311:MQTT-3.1.0-1")
def test_what_is_no_connect_is_closed_at_once_without_an_answer(hasty: Served, data: bytes) -> None:
    started = time.monotonic()
    with Client(hasty.port()) as client:
        client.send(data)
        client.expect_closed()
    assert wire.seconds_since(started) < CONNECT_TIMEOUT_S, "closed for its bytes, not by its deadline"


def test_random_bytes_are_closed(hasty: Served) -> None:
    for size in (1, 2, 3, 7, 64, 1500, 65_536):
        with Client(hasty.port()) as client:
            client.send(os.urandom(size).replace(b"\x10", b"\x20"))
            client.expect_closed()


def refused_connects(name: str, at_311: int | None, at_5: int | None, make: Callable[[int], bytes]) -> list[object]:
    return [
        pytest.param(V311, at_311, make(V311), id=f"{name}-3.1.1"),
        pytest.param(V5, at_5, make(V5), id=f"{name}-5.0"),
    ]


def with_flags(bits: int) -> Callable[[int], bytes]:
    return lambda version: wire.connect(version, "raw", "u", "p", flags=0xC2 | bits)


def cut_short(version: int) -> bytes:
    """A CONNECT whose header counts fewer bytes than its fields need."""
    whole = wire.connect(version, "raw", "user", "password")
    return bytes([0x10, len(whole) - 2 - 5]) + whole[2:-5]


@pytest.mark.parametrize(
    ("version", "code", "data"),
    [
        *refused_connects("unknown-user", 5, 0x87, lambda version: wire.connect(version, "raw", "nobody", "wrong")),
        *refused_connects("anonymous", 5, 0x87, wire.connect),
        *refused_connects("password-missing", 5, 0x87, lambda version: wire.connect(version, "raw", "nobody")),
        *refused_connects("password-without-user", None, 0x87, lambda version: wire.connect(version, "raw", None, "p")),
        *refused_connects("wildcard-as-user", 5, 0x87, lambda version: wire.connect(version, "#", "#", "#")),
        *refused_connects("reserved-flag", None, 0x81, with_flags(0x01)),
        *refused_connects("will-qos-without-will", None, 0x81, with_flags(0x08)),
        *refused_connects("will-retain-without-will", None, 0x81, with_flags(0x20)),
        *refused_connects("fields-longer-than-packet", None, 0x81, cut_short),
        *refused_connects("nul-in-id", None, 0x81, lambda version: wire.connect(version, b"a\x00b", "u", "p")),
        *refused_connects("surrogate", None, 0x81, lambda version: wire.connect(version, b"\xed\xa0\x80", "u", "p")),
        *refused_connects("overlong-utf8", None, 0x81, lambda version: wire.connect(version, b"\xc0\xaf", "u", "p")),
        *refused_connects("stray-utf8", None, 0x81, lambda version: wire.connect(version, "raw", b"\xff", "p")),
        *refused_connects("wrong-name", None, None, lambda version: wire.connect(version, name=b"MQTX")),
        *refused_connects("longer-name", None, None, lambda version: wire.connect(version, name=b"MQTTx")),
        pytest.param(V311, 1, wire.connect(V311, level=3), id="level-3"),
        pytest.param(V311, 1, wire.connect(V311, level=0), id="level-0"),
        pytest.param(V5, 0x84, wire.connect(V5, level=6), id="level-6"),
        pytest.param(V5, 0x84, wire.connect(V5, level=255), id="level-255"),
        pytest.param(V5, 0x81, wire.connect(V5, raw_properties=b"\x23\x00\x01"), id="property-of-another-packet"),
        pytest.param(V5, 0x82, wire.connect(V5, raw_properties=b"\x21\x00\x01" * 2), id="property-twice"),
        pytest.param(V5, 0x82, wire.connect(V5, raw_properties=b"\x21\x00\x00"), id="receive-maximum-0"),
        pytest.param(V5, 0x82, wire.connect(V5, raw_properties=b"\x27" + bytes(4)), id="maximum-packet-size-0"),
        pytest.param(V5, 0x8C, wire.connect(V5, raw_properties=b"\x15\x00\x01x"), id="authentication-method"),
    ],
)
def test_a_bad_connect_is_answered_as_its_version_can_say_it(
    hasty: Served, version: int, code: int | None, data: bytes
) -> None:
    with Client(hasty.port(), version) as client:
        client.send(data)
        client.expect_refused(code)


def test_mqtt_3_1_is_told_first_that_its_password_is_wrong_and_only_then_its_version(hasty: Served) -> None:
    # A library that falls back to 3.1 after a refusal must not end with the wrong reason.
    device = hasty.register()
    for password, code in (("wrong", 5), (device.password, 1)):
        with Client(hasty.port(), V311) as client:
            client.send(wire.connect(V311, "old", device.username, password, name=b"MQIsdp", level=3))
            client.expect_refused(code)


@pytest.mark.clause("v311:MQTT-3.1.3-8")
def test_an_empty_client_identifier_needs_a_clean_session_in_311(hasty: Served) -> None:
    device = hasty.register()
    with Client(hasty.port(), V311) as client:
        client.send(wire.connect(V311, "", device.username, device.password, flags=0xC0))
        client.expect_refused(2)
    with Client(hasty.port(), V311) as one, Client(hasty.port(), V311) as other:
        one.login(device.username, device.password, "")
        other.login(device.username, device.password, "")
        one.ping()


@pytest.mark.clause("v5:MQTT-3.1.4-6")
def test_what_follows_a_refused_connect_is_not_processed(hasty: Served) -> None:
    device = hasty.register()
    with Client(hasty.port()) as watch, Client(hasty.port()) as client:
        watch.login("apikey", hasty.api_key, "watch")
        assert watch.subscribe(device.topic("telemetry")) == [1]
        message = wire.publish(V5, device.topic("telemetry"), b"smuggled", 1)
        client.send(wire.connect(V5, "x", device.username, "wrong") + message)
        client.expect_refused(0x87)
        assert watch.publish_within(device.topic("telemetry"), b"honest") == [b"honest"]


def test_a_property_length_past_the_end_is_malformed(hasty: Served) -> None:
    body = wire.binary("MQTT") + bytes([5, 2, 0, 0]) + wire.varint(268_435_455) + wire.binary("raw")
    with Client(hasty.port()) as client:
        client.send(wire.packet(0x10, body))
        client.expect_refused(0x81)


def settled_descriptors(served: Served, at_most: int = 0) -> int:
    """Descriptors once those of earlier attackers are closed: when few enough, or not fewer for two seconds."""
    until = time.monotonic() + 2
    least = served.descriptors()
    while time.monotonic() < until and least > at_most:
        time.sleep(0.05)
        if served.descriptors() < least:
            least, until = served.descriptors(), time.monotonic() + 2
    return least


@pytest.mark.parametrize("version", [V311, V5])
def test_a_truncated_connect_is_closed_when_its_sender_leaves_or_its_time_is_up(hasty: Served, version: int) -> None:
    whole = wire.connect(version, "raw", "user", "password")
    before = settled_descriptors(hasty)
    waiting = [Client(hasty.port(), version) for _ in range(len(whole))]
    for size, client in enumerate(waiting):
        client.send(whole[:size])
    for client in waiting[: len(waiting) // 2]:
        client.socket.shutdown(1)
    for client in waiting:
        client.expect_closed()
        client.close()
    assert settled_descriptors(hasty, at_most=before) <= before


@pytest.mark.parametrize("version", [V311, V5])
def test_a_connect_one_byte_at_a_time_is_taken_if_it_is_fast_enough(hasty: Served, version: int) -> None:
    device = hasty.register()
    with Client(hasty.port(), version) as client:
        for byte in wire.connect(version, "raw", device.username, device.password):
            client.send(bytes([byte]))
        assert client.expect(wire.CONNACK).body[1] == 0
        for byte in wire.publish(version, device.topic("telemetry"), b"split", 7) + b"\xc0\x00":
            client.send(bytes([byte]))
        assert client.expect(wire.PUBACK).packet_id == 7
        client.expect(wire.PINGRESP)


def test_slowloris_is_closed_by_the_deadline_of_connect_however_it_drips(hasty: Served) -> None:
    started = time.monotonic()
    drip = wire.connect(V5, "raw" * 100, "user", "password")
    clients = [Client(hasty.port()) for _ in range(200)]
    for at in range(12):
        for client in clients:
            client.send(drip[at : at + 1])
        time.sleep(CONNECT_TIMEOUT_S / 10)
    for client in clients:
        client.expect_closed()
        client.close()
    assert wire.seconds_since(started) < CONNECT_TIMEOUT_S + 8


@pytest.mark.parametrize("promised", [b"\x10\xff\xff\xff\x7f", b"\x30\xff\xff\xff\x7f", b"\x82\xff\xff\xff\x7f"])
def test_a_promise_of_256_mib_costs_no_memory(hasty: Served, promised: bytes) -> None:
    before = hasty.rss_bytes()
    for _ in range(100):
        with Client(hasty.port()) as client:
            client.send(promised)
            client.expect_closed()
    assert hasty.rss_bytes() - before < 8 * MIB


def test_a_connect_of_8_kib_is_read_and_one_byte_more_is_not(hasty: Served) -> None:
    def of(size: int) -> bytes:
        """A user property fills the packet."""
        made, value = b"", b"x" * (size - 60)
        while len(made) < size:
            value += b"x"
            filler = b"\x26" + wire.binary("k") + wire.binary(value)
            made = wire.connect(V5, "raw", "u", "p", raw_properties=filler)
        assert len(made) == size
        return made

    with Client(hasty.port()) as client:
        client.send(of(8 * 1024))
        client.expect_refused(0x87)
    with Client(hasty.port()) as client:
        client.send(of(8 * 1024 + 1))
        client.expect_closed()


def test_a_client_identifier_of_another_device_takes_nothing_over(hasty: Served) -> None:
    victim, attacker = hasty.register(), hasty.register()
    for version in (V311, V5):
        with Client(hasty.port(), version) as first, Client(hasty.port(), version) as second:
            first.login(victim.username, victim.password, victim.device_id)
            second.login(attacker.username, attacker.password, victim.device_id)
            first.ping()
            second.ping()
            forbidden = 0x87 if version == V5 else 0x80
            assert second.subscribe(victim.topic("commands")) == [forbidden]


@pytest.mark.parametrize("version", [V311, V5])
def test_a_flood_of_wrong_passwords_is_refused_and_the_device_itself_is_not_locked_out(
    hasty: Served, version: int, neighbour: Neighbour
) -> None:
    device = hasty.register()
    code = 0x87 if version == V5 else 5
    flood = [Client(hasty.port(), version) for _ in range(300)]
    before = neighbour.exchanged
    for number, client in enumerate(flood):
        client.send(wire.connect(version, "raw", device.username, f"guess-{number}"))
    with Client(hasty.port(), version) as legitimate:
        legitimate.login(device.username, device.password, device.device_id)
        legitimate.ping()
    for client in flood:
        client.expect_refused(code)
        client.close()
    assert neighbour.exchanged > before


def test_nothing_of_a_stranger_forges_a_line_of_the_log_and_no_secret_reaches_it(hasty: Served) -> None:
    device: Login = hasty.register()
    evil = "evil\n2025-01-01 00:00:00 INFO broker.events: forged\x1b[31m"
    for version in (V311, V5):
        for username, password in [
            (evil, "x"),
            (device.username, "hunter2-hunter2"),
            (device.username, device.password),
        ]:
            with Client(hasty.port(), version) as client:
                client.send(wire.connect(version, evil, username, password))
                client.read()
    with Client(hasty.port(), V5) as client:
        client.login(device.username, device.password, evil)
        client.send(wire.publish(V5, evil + "/+", b"secret-payload", 1))
        client.expect_closed(0x90)
    text = hasty.log
    assert "connection_refused" in text
    for never in ("forged", "\x1b", "hunter2", device.password, hasty.api_key, "secret-payload"):
        assert never not in text


def test_malformed_lengths_of_user_name_and_password_are_refused(hasty: Served) -> None:
    for version, code in ((V311, None), (V5, 0x81)):
        head = wire.binary("MQTT") + bytes([version, 0xC2, 0, 0]) + wire.properties(version) + wire.binary("raw")
        for rest in (b"", b"\x00", b"\xff\xff", b"\x00\x01", struct.pack("!H", 3) + b"abc" + b"\xff\xff"):
            with Client(hasty.port(), version) as client:
                client.send(wire.packet(0x10, head + rest))
                client.expect_refused(code)
