"""How connections end by their peers: what was said before counts, by every door, and an end is only an end."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from broker._core.framing import fixed_header
from broker._core.packets import decode, encode
from broker.wire import Connect, Disconnect, Publish, Subscribe, Subscription, Will
from tests.support.doors import Doors, opened
from tests.support.frames import Frames, frame

CLOSE = 8
MESSAGES = 10_000
WATCHERS = 20
QUIET_ROUNDS = 20


@pytest.fixture
def doors() -> Iterator[Doors]:
    with opened() as doors:
        yield doors


class Stage:
    """A publisher at one door, and those who see what becomes of its messages and of its will."""

    def __init__(self, doors: Doors, stack: ExitStack) -> None:
        self.doors = doors
        self.port = doors.listen()
        self.watchers = [self._watcher(stack, number) for number in range(WATCHERS)]
        doors.until(lambda: doors.core.shard.counters()["subscriptions"] == WATCHERS)

    def _watcher(self, stack: ExitStack, number: int) -> socket.socket:
        watcher = stack.enter_context(closing(socket.create_connection(("127.0.0.1", self.port), 20)))
        watcher.sendall(encode(Connect(f"watcher-{number}", clean_start=True), 4))
        watcher.sendall(encode(Subscribe(1, (Subscription("#", 0),)), 4))
        watcher.setblocking(False)
        return watcher

    def seen(self) -> tuple[int, int]:
        """How many messages and wills a watcher gets, until nothing more comes."""
        got, quiet = b"", 0
        while quiet < QUIET_ROUNDS:
            self.doors.round()
            quiet += 1
            with suppress(BlockingIOError):
                got += self.watchers[0].recv(1 << 20)
                quiet = 0
            for other in self.watchers[1:]:
                with suppress(BlockingIOError):
                    other.recv(1 << 20)
        topics = [one.topic_name for one in packets(got) if isinstance(one, Publish)]
        return topics.count("t"), topics.count("will")


def packets(data: bytes) -> Iterator[object]:
    while data:
        size = sum(fixed_header(data))
        yield decode(data[:size], 4, from_client=False)
        data = data[size:]


FIRST = encode(Connect("publisher", clean_start=True, will=Will("will", b"gone", 0)), 4)
REST = b"".join(encode(Publish("t", b"%d" % number, 0), 4) for number in range(MESSAGES)) + encode(Disconnect(), 4)


def over_unix(stage: Stage, path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)
    stage.doors.listeners.append(listener)
    stage.doors.core.shard.open_listener(stage.doors.reactor.add_listener(listener.fileno()), 0, 0, "open")
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def say(stage: Stage, client: socket.socket, *parts: bytes) -> None:
    """Say everything and go, as a client does that has said good-bye."""

    def talk() -> None:
        with closing(client):
            for part in parts:
                client.sendall(part)

    stage.doors.during(talk)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_what_was_said_before_a_socket_was_closed_counts(doors: Doors, tmp_path: Path, kind: str) -> None:
    with ExitStack() as stack:
        stage = Stage(doors, stack)
        address = ("127.0.0.1", stage.port)
        client = over_unix(stage, tmp_path / "s") if kind == "unix" else socket.create_connection(address, 20)
        say(stage, client, FIRST, REST)
        assert stage.seen() == (MESSAGES, 0)


def test_what_was_said_before_a_close_frame_counts(doors: Doors) -> None:
    with ExitStack() as stack:
        stage = Stage(doors, stack)
        client = opened_websocket(doors, doors.listen(websocket=True))
        say(stage, client, frame(FIRST), frame(REST), frame(b"\x03\xe8", CLOSE))
        assert stage.seen() == (MESSAGES, 0)
        doors.until(lambda: doors.core.shard.counters()["connections"] == WATCHERS)


def opened_websocket(doors: Doors, port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 20)

    def upgrade() -> None:
        frames = Frames(client.sendall)
        while not frames.is_open:
            frames.read(client.recv(4096))

    doors.during(upgrade)
    return client


def wrong_version() -> bytes:
    packet = bytearray(encode(Connect("client", clean_start=True), 5))
    packet[8] = 9  # CONNACK 0x84 is owed
    return bytes(packet)


REFUSED: dict[str, Callable[[], bytes]] = {
    "a protocol version that nobody speaks": wrong_version,
    "too large a packet": lambda: FIRST + b"\x30\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("refused", REFUSED)
def test_a_reset_behind_a_refusal_in_a_frame_is_only_an_end(doors: Doors, refused: str) -> None:
    """The outbox was emptied and the frame's rest was not: anybody could end the process."""
    client = opened_websocket(doors, doors.listen(websocket=True))
    client.sendall(frame(REFUSED[refused]()))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    doors.until(lambda: doors.reactor.figures()["sockets"] == 0)
