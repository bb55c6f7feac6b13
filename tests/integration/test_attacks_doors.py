"""Attacks on what lies before MQTT: TLS, WebSocket, PROXY headers. Each has a neighbour who must notice nothing.

Here belongs who never gets as far as a CONNECT. Not here: what they would say there (``test_attacks_strangers``).
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Self

import pytest

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Served, end_all
from tests.integration.test_attacks_floods import (
    MIB,
    capabilities,
    eventually,
    many_sockets,
    sockets_allowed,
    wait_until_closed,
)
from tests.integration.wire import V5, connect
from tests.support.frames import Frames, frame

Serve = Callable[..., Served]
CONNECT_TIMEOUT_S = 3
HALF_HANDSHAKE_BYTES = 56 * 1024
DOORS = ("mqtt", "mqtts", "ws", "wss", "proxied")
ORIGINS = ("https://app.example.org", "null")
LISTENERS = [
    {"name": "mqtt", "host": "127.0.0.1", "port": 0},
    {"name": "mqtts", "transport": "tls", "host": "127.0.0.1", "port": 0},
    {"name": "ws", "transport": "ws", "host": "127.0.0.1", "port": 0, "allowed_origins": [*ORIGINS]},
    {"name": "wss", "transport": "wss", "host": "127.0.0.1", "port": 0},
    {"name": "proxied", "host": "127.0.0.1", "port": 0, "proxy_protocol": True},
]
REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
)


def hello() -> bytes:
    """The first flight of a client of TLS."""
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A broker with all doors that waits three seconds for a CONNECT."""
    environment = capabilities(
        connect_timeout_s=CONNECT_TIMEOUT_S,
        unauthenticated_connections_maximum=20_000,
        unauthenticated_connections_per_address_maximum=20_000,
    )
    environment["IOT_BROKER_LISTENERS"] = json.dumps(LISTENERS)
    environment["IOT_BROKER_TRUSTED_PROXIES"] = '["127.0.0.1/32"]'
    broker = Served(tmp_path_factory.mktemp("doors") / "data", "--http-port", "0", environment=environment)
    try:
        yield broker
    finally:
        end_all([broker])


@pytest.fixture(autouse=True)
def neighbour(hasty: Served) -> Iterator[Neighbour]:
    with Neighbour(hasty) as one:
        yield one


WRONG_WORDS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "MQTT": connect(V5, "raw"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(503),
    "noise": os.urandom(3000).replace(b"\x10", b"\x20"),
    "PROXY": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" * 3,
    "a long PROXY header": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    "a long request": b"GET /mqtt HTTP/1.1\r\n" + b"X: y\r\n" * 2000,
}
RIGHT = ("mqtt", "MQTT")


@pytest.mark.parametrize(("door", "spoken"), [(d, w) for d in DOORS for w in WRONG_WORDS if (d, w) != RIGHT])
def test_the_wrong_language_is_closed_at_every_door(hasty: Served, door: str, spoken: str) -> None:
    """Row 1 of the attacks: at most an alert or a status, and the end before the deadline of who says nothing."""
    started = time.monotonic()
    with closing(wire.open_socket(hasty.port(door))) as stream:
        with suppress(BrokenPipeError, ConnectionResetError):
            stream.sendall(WRONG_WORDS[spoken])
        answer = b""
        with suppress(ConnectionResetError):
            while more := stream.recv(4096):
                answer += more
    assert answer == b"" or answer[0] == 21 or re.match(rb"HTTP/1.1 4\d\d ", answer), answer[:100]
    assert time.monotonic() - started < CONNECT_TIMEOUT_S + 1


def test_ten_thousand_half_finished_handshakes_and_upgrades_end_in_time(hasty: Served) -> None:
    """Rows 3 and 25: stalls of TLS and of upgrades, at every stage; memory is given back."""
    first = hello()
    stalls = [
        ("mqtts", b""), ("mqtts", first[:3]), ("mqtts", first[:100]), ("mqtts", first),
        ("wss", first[:50]), ("ws", b""), ("ws", b"GET /mqtt HT"), ("ws", REQUEST),
    ]  # fmt: skip
    count = sockets_allowed(10_000) // len(stalls)
    speaking = count * sum(bool(words) and door in {"mqtts", "wss"} for door, words in stalls)
    before_bytes, before_descriptors = hasty.rss_bytes(), hasty.descriptors()
    for _ in range(2):
        with ManySockets() as stack:
            for door, words in stalls:
                stack.add(hasty.port(door), count, words)
            assert wait_until_closed_reading(stack.sockets, 60) == 0
        held = hasty.rss_bytes() - before_bytes
        assert held < speaking * HALF_HANDSHAKE_BYTES + 32 * MIB, "what the first cost serves the second"
        assert eventually(lambda: hasty.descriptors() <= before_descriptors + 3)


class ManySockets:
    """Many sockets to several doors, closed together with resets."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def add(self, port: int, count: int, words: bytes) -> None:
        for _ in range(count):
            one = wire.open_socket(port)
            self.sockets.append(one)
            if words:
                with suppress(ConnectionResetError, BrokenPipeError):
                    one.sendall(words)

    def __exit__(self, *_: object) -> None:
        for one in self.sockets:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()


def wait_until_closed_reading(sockets: list[socket.socket], within_s: float) -> int:
    """Wait for the end of each, whatever of a handshake comes before it; gives how many never came."""
    for one in sockets:
        one.setblocking(False)
    open_ones, until = list(sockets), time.monotonic() + within_s
    while open_ones and time.monotonic() < until:
        open_ones = [one for one in open_ones if not has_ended(one)]
        time.sleep(0.05)
    return len(open_ones)


def has_ended(one: socket.socket) -> bool:
    try:
        return one.recv(65_536) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("door", ["mqtts", "ws", "wss"])
def test_the_limit_of_strangers_holds_at_every_door(serve: Serve, door: str) -> None:
    limits = capabilities(unauthenticated_connections_per_address_maximum=50, connect_timeout_s=60)
    broker = serve("--mqtts-port", "0", "--ws-port", "0", "--wss-port", "0", environment=limits)
    with many_sockets(broker.port(door), 120) as sockets:
        assert eventually(lambda: wait_until_closed(sockets[50:], 0.2) == 0)
        assert wait_until_closed(sockets[:50], 0.2) == 50


def opened(stream: socket.socket, **options: str | None) -> Frames:
    """A WebSocket whose request was answered, one way or the other."""
    frames = Frames(stream.sendall, **options)  # type: ignore[arg-type]  # of one kind each
    while not frames.is_answered:
        data = stream.recv(4096)
        assert data, "closed without an answer"
        frames.read(data)
    return frames


REFUSALS = {
    "another path": ({"uri": "ws://broker/"}, 404),
    "no subprotocol": ({"subprotocol": None}, 400),
    "another subprotocol": ({"subprotocol": "chat"}, 400),
    "another origin": ({"origin": "https://evil.example.org"}, 403),
    "the right origin": ({"origin": "https://app.example.org"}, 101),
    "a file's origin": ({"origin": "null"}, 101),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_upgrades_are_judged_by_path_subprotocol_and_origin(hasty: Served, refusal: str) -> None:
    options, status = REFUSALS[refusal]
    with closing(wire.open_socket(hasty.port("ws"))) as stream:
        frames = opened(stream, **options)  # type: ignore[arg-type]
        assert frames.status == status
        if status != 101:
            assert stream.recv(1) == b""


def test_a_frame_larger_than_everything_takes_no_memory(hasty: Served) -> None:
    """CVE-2026-25627: a length that is larger than what follows."""
    before = hasty.rss_bytes()
    with closing(wire.open_socket(hasty.port("ws"))) as stream:
        frames = opened(stream)
        stream.sendall(b"\x82\xff" + (1 << 62).to_bytes(8, "big") + bytes(4) + connect(V5, "raw", "nobody", "x"))
        assert frames.read(stream.recv(4096))[0] == 0x20
        assert hasty.rss_bytes() - before < 4 * MIB


def test_pings_without_reading_cost_nothing(hasty: Served) -> None:
    login = hasty.register()
    before = hasty.rss_bytes()
    with closing(wire.open_socket(hasty.port("ws"), 4096)) as stream:
        opened(stream)
        stream.sendall(frame(connect(V5, login.device_id, login.username, login.password)))
        pings = frame(b"p" * 100, 9) * 1000
        stream.settimeout(1)
        with suppress(TimeoutError):
            for _ in range(100):
                stream.sendall(pings)
        assert hasty.rss_bytes() - before < 4 * MIB


def test_one_line_for_each_address_and_minute(hasty: Served) -> None:
    """Row 1: whoever knocks wrongly does not fill the log."""
    for _ in range(50):
        for door in ("mqtts", "ws"):
            with closing(wire.open_socket(hasty.port(door))) as stream:
                stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
                with suppress(ConnectionResetError):
                    while stream.recv(4096):
                        pass
    lines = [line for line in hasty.log.splitlines() if "tls_failed" in line or "upgrade_refused" in line]
    assert 0 < len(lines) < 10, lines


def test_a_known_proxy_tells_who_its_clients_are(hasty: Served) -> None:
    login = hasty.register()
    with closing(wire.open_socket(hasty.port("proxied"))) as stream:
        stream.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n" + connect(V5, "x", login.username, "wrong"))
        while stream.recv(100):
            pass
    assert eventually(lambda: "192.0.2.7" in hasty.log, 5), hasty.log
