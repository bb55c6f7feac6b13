"""Every row of the wire table over sockets, through all four doors.

Here belongs how bytes travel. Not here: what the rows say (``tests/packets/*.toml``), and the native core, which also
takes them cut in every place (``tests/packets/test_on_the_core.py``).
"""

from __future__ import annotations

import itertools
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

import pytest

from broker._core.framing import fixed_header
from tests.integration.served import Served, end_all
from tests.integration.wire import (
    PINGRESP,
    PUBLISH,
    V311,
    Packet,
    connect,
    open_socket,
    publish,
    subscribe,
)
from tests.packets.conversation import PINGREQ, Conversation, Line
from tests.packets.table import LIMITS, Row, load_rows
from tests.support.frames import Frames, frame

TRANSPORTS = ("tcp", "tls", "ws", "wss")
DOORS = ("open", "device")
HOST = "127.0.0.1"
SILENCE_S = 0.02
TIMEOUT_S = 5.0
NUMBERS = itertools.count(1)


class SocketLine:
    """A connection over TCP, or what lies on it."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.stream.settimeout(TIMEOUT_S)
        self.received = b""
        self.ended = False

    def send(self, data: bytes) -> None:
        try:
            self.stream.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return  # the broker has hung up: seen by reading

    def take(self) -> None:
        """Wait for some bytes. Raises ``TimeoutError``."""
        try:
            more = self.stream.recv(1 << 16)
        except ConnectionResetError:
            more = b""
        self.ended |= not more
        self.received += more

    def receive(self) -> bytes | None:
        while (header := fixed_header(self.received)) is None or len(self.received) < sum(header):
            if self.ended:
                assert not self.received, "closed within a packet"
                self.stream.close()
                return None
            try:
                self.take()
            except TimeoutError:
                raise AssertionError("nothing came") from None
        whole, self.received = self.received[: sum(header)], self.received[sum(header) :]
        return whole

    def silent(self) -> bool:
        self.stream.settimeout(SILENCE_S)
        try:
            self.take()
        except TimeoutError:
            return not self.received
        finally:
            self.stream.settimeout(TIMEOUT_S)
        return False

    def cut(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.stream.close()


class FramedLine(SocketLine):
    """A connection over WebSocket: each piece is a frame. The broker says good-bye with a Close frame."""

    def __init__(self, stream: socket.socket) -> None:
        super().__init__(stream)
        self.frames = Frames(stream.sendall)
        while not self.frames.is_open:
            assert self.frames.read(stream.recv(1 << 16)) == b""

    def send(self, data: bytes) -> None:
        super().send(frame(data))

    def take(self) -> None:
        before, self.received = self.received, b""
        super().take()
        self.received = before + self.frames.read(self.received)
        if self.ended and self.frames.close is None:
            raise AssertionError("the end came without a Close frame")


class SocketLines:
    """Both doors of a running broker. Client identifiers are new for each row."""

    def __init__(self, broker: Served, transport: str, variables: Mapping[str, bytes]) -> None:
        self.broker = broker
        self.transport = transport
        self.variables = {**variables, "id": f"row-{next(NUMBERS)}".encode()}
        self.opened: list[SocketLine] = []

    def open(self, door: str, *, carefully: bool = False) -> Line:
        stream = open_socket(self.broker.port(f"{door}-{self.transport}"))
        if self.transport in {"tls", "wss"}:
            stream = trust(self.broker.data_dir / "tls" / "ca.pem").wrap_socket(stream, server_hostname="127.0.0.1")
        self.opened.append(FramedLine(stream) if self.transport in {"ws", "wss"} else SocketLine(stream))
        return self.opened[-1]

    def close(self) -> None:
        for line in self.opened:
            line.stream.close()


@cache
def trust(file: Path) -> ssl.SSLContext:
    """The context of a client that trusts what a broker has made."""
    return ssl.create_default_context(cafile=file)


class Transported:
    """A broker with the table's limits, reached by one transport: a door for everybody, and one for devices.

    Each transport has a broker of its own, so that all four carry out a row at a time.
    """

    def __init__(self, folder: Path, transport: str) -> None:
        environment = {f"IOT_BROKER_CAPABILITIES__{name.upper()}": str(value) for name, value in LIMITS.items()}
        listeners = [
            {
                "name": f"{door}-{transport}",
                "transport": transport,
                "host": "127.0.0.1",
                "port": 0,
                "open": door == "open",
            }
            for door in DOORS
        ]
        environment["IOT_BROKER_LISTENERS"] = json.dumps(listeners)
        self.transport = transport
        self.broker = Served(folder / transport, "--http-port", "0", environment=environment)
        login = self.broker.register()
        texts = {"user": login.username, "password": login.password, "device": login.device_id}
        self.variables = {name: text.encode() for name, text in texts.items()}

    def carry_out(self, row: Row) -> None:
        """Let a row happen, from its first word to the end of all its connections."""
        lines = SocketLines(self.broker, self.transport, self.variables)
        try:
            Conversation(row, lines).run()
        except BaseException as error:
            forget_retained(lines)
            error.add_note(f"over {self.transport}")
            raise
        finally:
            lines.close()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Transported]]:
    """One for each transport."""
    folder = tmp_path_factory.mktemp("packets")
    started: list[Transported] = []
    try:
        for transport in TRANSPORTS:
            started.append(Transported(folder, transport))
        yield started
    finally:
        end_all([one.broker for one in started])


@pytest.fixture(scope="module")
def at_once() -> Iterator[ThreadPoolExecutor]:
    """Rows wait more than they work."""
    with ThreadPoolExecutor(len(TRANSPORTS)) as pool:
        yield pool


@pytest.mark.parametrize("row", load_rows(), ids=str)
def test_a_row_holds_through_all_four_doors(brokers: list[Transported], at_once: ThreadPoolExecutor, row: Row) -> None:
    done = [at_once.submit(one.carry_out, row) for one in brokers]
    wait(done)
    for one in done:
        one.result()


def forget_retained(lines: SocketLines) -> None:
    """A row that failed leaves nothing behind that would make others fail."""
    line = lines.open("open")
    line.send(connect(V311, "") + subscribe(V311, 1, ["#"]) + PINGREQ)
    topic_names = []
    while (packet := line.receive()) is not None and packet[0] >> 4 != PINGRESP:
        if packet[0] >> 4 == PUBLISH:
            header = fixed_header(packet)
            assert header is not None
            topic_names.append(Packet(PUBLISH, packet[0] & 15, packet[header[0] :]).topic_name)
    line.send(b"".join(publish(V311, name, first_byte=0x31) for name in topic_names) + PINGREQ)
    while (packet := line.receive()) is not None and packet[0] >> 4 != PINGRESP:
        pass
