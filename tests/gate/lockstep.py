"""A load whose system calls do not depend on who is faster: clients and broker take turns.

In each round the clients write one batch to every publisher while the broker is held (SIGSTOP), or while it sleeps for
want of anything to do; then it runs until everything has arrived and all its threads sleep again. So every round finds
the same bytes in the same sockets, and the median round is the figure.

Belongs here: sockets of clients, turns, packets of MQTT 3.1.1 as bytes. Not here: counting and judging.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.gate.counters import Counters, Counts

PAYLOAD = b"x" * 100
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Load:
    """One scenario of the gate: ``batch`` messages of each publisher a round.

    Each subscriber hears one publisher, or all hear the only one.
    """

    name: str
    publishers: int
    subscribers: int
    qos: int
    batch: int
    rounds: int
    one_at_a_time: bool = False
    """One publisher a round in turn, so that every read brings one packet."""

    @property
    def deliveries_per_round(self) -> int:
        """Messages that leave the broker in a round."""
        return self.batch * (1 if self.one_at_a_time else self.subscribers)


LOADS = (
    Load("p2p-qos0", publishers=10, subscribers=10, qos=0, batch=100, rounds=30),
    Load("p2p-qos1", publishers=10, subscribers=10, qos=1, batch=100, rounds=30),
    Load("fan-out", publishers=1, subscribers=1000, qos=0, batch=10, rounds=15),
    Load("sparse", publishers=50, subscribers=50, qos=0, batch=1, rounds=200, one_at_a_time=True),
)
WARM_UP_ROUNDS = 5


def varint(value: int) -> bytes:
    """The variable byte integer of MQTT."""
    out = bytearray()
    while True:
        out.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(out)


def text(value: str) -> bytes:
    """A length-prefixed UTF-8 string."""
    return struct.pack(">H", len(value.encode())) + value.encode()


def packet(first_byte: int, body: bytes) -> bytes:
    """A control packet."""
    return bytes([first_byte]) + varint(len(body)) + body


def connect_packet(client_id: str) -> bytes:
    """CONNECT, clean session, keep alive off: no timer may interfere."""
    return packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(client_id))


def subscribe_packet(topic_filter: str, qos: int) -> bytes:
    """SUBSCRIBE with one filter."""
    return packet(0x82, b"\x00\x01" + text(topic_filter) + bytes([qos]))


def publish_packet(topic_name: str, qos: int, packet_id: int) -> bytes:
    """PUBLISH with the payload all use."""
    identifier = struct.pack(">H", packet_id) if qos else b""
    return packet(0x30 | qos << 1, text(topic_name) + identifier + PAYLOAD)


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes."""
    got = bytearray()
    while len(got) < size:
        piece = connection.recv(size - len(got), socket.MSG_WAITALL)
        assert piece, "closed by the broker"
        got += piece
    return bytes(got)


class Broker:
    """The process under the count: holding it, waiting until it sleeps."""

    def __init__(self, process_id: int) -> None:
        self.process_id = process_id

    def _states(self) -> set[str]:
        tasks = Path(f"/proc/{self.process_id}/task").iterdir()
        return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}

    def _wait_for(self, states: set[str]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not self._states() <= states:
            assert time.monotonic() < deadline, f"threads stay in states {self._states()}"
            time.sleep(0.0005)

    def wait_asleep(self) -> None:
        """Until every thread sleeps, seen twice in a row."""
        self._wait_for({"S"})
        time.sleep(0.002)
        self._wait_for({"S"})

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts the broker does nothing."""
        os.kill(self.process_id, signal.SIGSTOP)
        try:
            self._wait_for({"T"})
            yield
        finally:
            os.kill(self.process_id, signal.SIGCONT)


class Clients:
    """All connections of one load."""

    def __init__(self, load: Load, port: int) -> None:
        self.load = load
        self._acks = [b""] * load.subscribers
        self.topics = [f"gate/{i:04}" for i in range(load.publishers)]
        self.size = len(publish_packet(self.topics[0], load.qos, 1))
        self.subscribers = [self._connect(port, f"subscriber-{i:04}") for i in range(load.subscribers)]
        for i, subscriber in enumerate(self.subscribers):
            subscriber.sendall(subscribe_packet(self.topics[i % load.publishers], load.qos))
            assert receive(subscriber, 5)[4] == load.qos
        self.publishers = [self._connect(port, f"publisher-{i:04}") for i in range(load.publishers)]

    @staticmethod
    def _connect(port: int, client_id: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(connect_packet(client_id))
        assert receive(connection, 4) == b"\x20\x02\x00\x00"
        return connection

    def close(self) -> None:
        """Leave without a word."""
        for connection in [*self.publishers, *self.subscribers]:
            connection.close()

    def play_round(self, number: int, broker: Broker) -> None:
        """One turn of everybody."""
        if self.load.one_at_a_time:
            i = number % self.load.publishers
            self._publish([i])
            self._collect([i])
        elif self.load.publishers > 1:
            with broker.held():
                self._publish(range(self.load.publishers))
            self._collect(range(self.load.subscribers))
        else:
            self._publish([0])
            self._collect(range(self.load.subscribers))

    def _publish(self, which: range | list[int]) -> None:
        for i in which:
            ids = range(1, self.load.batch + 1)
            self.publishers[i].sendall(b"".join(publish_packet(self.topics[i], self.load.qos, n) for n in ids))
        for subscriber, acks in zip(self.subscribers, self._acks, strict=True):
            if acks:
                subscriber.sendall(acks)

    def _collect(self, which: range | list[int]) -> None:
        for i in which:
            received = receive(self.subscribers[i], self.size * self.load.batch)
            if self.load.qos:
                self._acks[i] = self._acknowledge(received)
        if self.load.qos:
            for publisher in self.publishers:
                receive(publisher, 4 * self.load.batch)

    def _acknowledge(self, received: bytes) -> bytes:
        at = self.size - len(PAYLOAD) - 2
        starts = range(0, len(received), self.size)
        return b"".join(b"\x40\x02" + received[start + at : start + at + 2] for start in starts)


def measure(load: Load, port: int, process_id: int, counters: Counters) -> dict[str, float]:
    """Counts per delivered message in the median round, by name."""
    broker, clients = Broker(process_id), Clients(load, port)
    rounds: list[Counts] = []
    try:
        for number in range(WARM_UP_ROUNDS + load.rounds):
            broker.wait_asleep()
            before = counters.read()
            clients.play_round(number, broker)
            broker.wait_asleep()
            rounds.append(counters.read().since(before))
    finally:
        clients.close()
    names = ("system_calls", "receives", "sends", "allocations")
    counted = rounds[WARM_UP_ROUNDS:]
    return {
        name: statistics.median(getattr(counts, name) for counts in counted) / load.deliveries_per_round
        for name in names
    }
