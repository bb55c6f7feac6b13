"""Every row of the wire table over sockets, on one broker for all of them.

Here belongs how bytes travel. Not here: what the rows say (``tests/packets/*.toml``), and the native core, which also
takes them cut in every place (``tests/packets/test_on_the_core.py``).
"""

from __future__ import annotations

import itertools
import json
import select
import socket
from collections.abc import Iterator, Mapping

import pytest

from broker._core.framing import fixed_header
from tests.integration.served import Served, end_all
from tests.integration.wire import (
    CONNACK,
    PINGRESP,
    PUBLISH,
    V311,
    Client,
    connect,
    open_socket,
    publish,
    subscribe,
)
from tests.packets.conversation import PINGREQ, Conversation, Line
from tests.packets.table import LIMITS, Row, load_rows

LISTENERS = [
    {"name": "open", "host": "127.0.0.1", "port": 0, "open": True},
    {"name": "device", "host": "127.0.0.1", "port": 0},
]
SILENCE_S = 0.02
TIMEOUT_S = 5.0
NUMBERS = itertools.count(1)


class SocketLine:
    """A connection over TCP."""

    def __init__(self, port: int) -> None:
        self.socket = open_socket(port)
        self.socket.settimeout(TIMEOUT_S)
        self.received = b""

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # the broker has hung up: seen by reading

    def receive(self) -> bytes | None:
        while (header := fixed_header(self.received)) is None or len(self.received) < sum(header):
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            except TimeoutError:
                raise AssertionError("nothing came") from None
            if not more:
                assert not self.received, "closed within a packet"
                self.socket.close()
                return None
            self.received += more
        whole, self.received = self.received[: sum(header)], self.received[sum(header) :]
        return whole

    def silent(self) -> bool:
        return not self.received and not select.select([self.socket], [], [], SILENCE_S)[0]

    def cut(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


class SocketLines:
    """Both doors of a running broker. Client identifiers are new for each row."""

    def __init__(self, broker: Served, variables: Mapping[str, bytes]) -> None:
        self.broker = broker
        self.variables = {**variables, "id": f"row-{next(NUMBERS)}".encode()}
        self.opened: list[SocketLine] = []

    def open(self, door: str, *, carefully: bool = False) -> Line:
        self.opened.append(SocketLine(self.broker.port(door)))
        return self.opened[-1]

    def close(self) -> None:
        for line in self.opened:
            line.socket.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A broker with the table's limits: a door for everybody, and one for devices."""
    environment = {f"IOT_BROKER_CAPABILITIES__{name.upper()}": str(value) for name, value in LIMITS.items()}
    environment["IOT_BROKER_LISTENERS"] = json.dumps(LISTENERS)
    broker = Served(tmp_path_factory.mktemp("packets") / "data", "--http-port", "0", environment=environment)
    try:
        yield broker
    finally:
        end_all([broker])


@pytest.fixture(scope="module")
def variables(broker: Served) -> Mapping[str, bytes]:
    """What rows call the device that may come in by the other door."""
    login = broker.register()
    texts = {"user": login.username, "password": login.password, "device": login.device_id}
    return {name: text.encode() for name, text in texts.items()}


@pytest.mark.parametrize("row", load_rows(), ids=str)
def test_a_row_holds_over_a_socket(broker: Served, variables: Mapping[str, bytes], row: Row) -> None:
    lines = SocketLines(broker, variables)
    try:
        Conversation(row, lines).run()
    except BaseException:
        forget_retained(broker)
        raise
    finally:
        lines.close()


def forget_retained(broker: Served) -> None:
    """A row that failed leaves nothing behind that would make others fail."""
    with Client(broker.port("open"), V311) as client:
        client.send(connect(V311, ""))
        client.expect(CONNACK)
        client.send(subscribe(V311, 1, ["#"]) + PINGREQ)
        while (packet := client.read()) is not None and packet.kind != PINGRESP:
            if packet.kind == PUBLISH:
                client.send(publish(V311, packet.topic_name, first_byte=0x31))
        client.send(PINGREQ)
        while client.read_kind() != PINGRESP:
            pass
