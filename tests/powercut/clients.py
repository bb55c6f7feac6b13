"""Clients of a recorded broker: MQTT 5 over sockets, each marking in the log what it asks and what it was promised.

Here belong the exchanges of a publisher, a receiver and one who sets retained messages. Not here: when they do what
(``write_broker``), or what follows from it (``promises``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from broker._core.framing import fixed_header
from broker._core.packets import decode, encode
from broker.wire import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from tests.powercut.journal import Marks
from tests.powercut.promises import mark, name_in, payload_of

EXPIRY_S = 86_400
Answer = TypeVar("Answer")


class Peer:
    """One client: a kept session and, now and then, a connection."""

    def __init__(self, port: int, client_id: str, marks: Marks) -> None:
        self.client_id = client_id
        self._port = port
        self._marks = marks
        self._waiting: dict[tuple[type, int], asyncio.Future[Packet]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._next_id = 0
        self._ids: set[int] = set()
        self.turn = asyncio.Lock()

    @property
    def is_connected(self) -> bool:
        """Whether it has a connection."""
        return self._writer is not None

    def note(self, event: str, **fields: object) -> None:
        """Put a mark into the log."""
        self._marks.put(mark(event, **fields))

    async def connect(self, *, clean: bool = False) -> None:
        """Come back, or begin anew."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.on_connect(clean)
        self._reading = asyncio.create_task(self._read(reader))
        properties = {"session_expiry_interval": EXPIRY_S}
        answer = await self.ask(Connect(self.client_id, clean, properties=properties), Connack)
        assert answer.reason_code == 0, answer
        self.on_connected()

    async def leave(self) -> None:
        """Say farewell; the session stays."""
        assert self._writer is not None
        self.send(Disconnect())
        self._writer.close()
        await self._writer.wait_closed()
        self._writer = None
        assert self._reading is not None
        await self._reading
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    def free_id(self) -> int:
        """Take the next packet identifier that is free; they come round soon."""
        while True:
            self._next_id = self._next_id % 20 + 1
            if self._next_id not in self._ids:
                self._ids.add(self._next_id)
                return self._next_id

    def send(self, packet: Packet) -> None:
        """Write a packet."""
        if self._writer is not None:
            self._writer.write(encode(packet, 5))

    async def ask(self, packet: Packet, kind: type[Answer]) -> Answer:
        """Write a packet and wait for its answer."""
        future: asyncio.Future[Packet] = asyncio.get_running_loop().create_future()
        self._waiting[kind, getattr(packet, "packet_id", 0)] = future
        self.send(packet)
        async with asyncio.timeout(20):
            answer = await future
        assert isinstance(answer, kind)
        return answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while data := await reader.read(65536):
            rest += data
            while (header := fixed_header(rest)) is not None and len(rest) >= sum(header):
                packet = decode(rest[: sum(header)], 5, from_client=False)
                rest = rest[sum(header) :]
                self._arrived(packet)

    def _arrived(self, packet: Packet) -> None:
        future = self._waiting.pop((type(packet), getattr(packet, "packet_id", 0)), None)
        if future is None:
            self.on_packet(packet)
        elif not future.done():
            future.set_result(packet)

    def on_connect(self, clean: bool) -> None:
        """A CONNECT is about to leave."""

    def on_connected(self) -> None:
        """A CONNACK has come."""

    def on_packet(self, packet: Packet) -> None:
        """What nobody waits for has come."""


class Publisher(Peer):
    """Publishes messages of both qualities, each to its end; sets and clears retained messages."""

    async def publish(self, number: int, qos: int, topic: str, until: str = "complete") -> None:
        """Send one message; of QoS 2 only so far as ``until`` says: "accepted" or "complete"."""
        name = f"{self.client_id}.{number}"
        packet_id = self.free_id()
        self.note("publish", name=name, publisher=self.client_id, packet_id=packet_id, qos=qos, topic=topic)
        message = Publish(topic, payload_of(name), qos, packet_id=packet_id)
        answer: Puback | Pubrec = await self.ask(message, Puback if qos == 1 else Pubrec)
        assert answer.reason_code < 0x80, answer
        self.note("accepted", name=name)
        if qos == 2 and until == "accepted":
            return
        if qos == 2:
            await self.complete(name, packet_id)
        self._ids.discard(packet_id)

    async def complete(self, name: str, packet_id: int) -> None:
        """End an exchange of QoS 2."""
        self.note("release", name=name)
        answer = await self.ask(Pubrel(packet_id), Pubcomp)
        assert answer.reason_code == 0, answer
        self.note("complete", name=name)

    async def retain(self, topic: str, value: str) -> None:
        """Set a retained message, or clear it with an empty value."""
        packet_id = self.free_id()
        self.note("retain", topic=topic, value=value)
        answer = await self.ask(Publish(topic, value.encode(), 1, retain=True, packet_id=packet_id), Puback)
        assert answer.reason_code < 0x80, answer
        self.note("retained", topic=topic, value=value)
        self._ids.discard(packet_id)


class Receiver(Peer):
    """Subscribes, and answers what arrives, as far as ``answers`` lets it."""

    def __init__(self, port: int, client_id: str, marks: Marks, answers: Callable[[], bool]) -> None:
        super().__init__(port, client_id, marks)
        self._answers = answers
        self._releasing: dict[int, str] = {}

    def on_connect(self, clean: bool) -> None:
        self.note("connect", client=self.client_id, clean=clean)
        if clean:
            self._releasing.clear()

    def on_connected(self) -> None:
        self.note("connected", client=self.client_id)

    async def subscribe(self, topic: str, wanted: bool) -> None:
        """Subscribe to a topic, or no longer."""
        packet_id = self.free_id()
        self.note("subscribe", client=self.client_id, topic=topic, wanted=wanted)
        if wanted:
            await self.ask(Subscribe(packet_id, (Subscription(topic, 2),)), Suback)
        else:
            await self.ask(Unsubscribe(packet_id, (topic,)), Unsuback)
        self._ids.discard(packet_id)
        self.note("subscribed", client=self.client_id, topic=topic, wanted=wanted)

    def on_packet(self, packet: Packet) -> None:
        if isinstance(packet, Publish) and packet.qos and self._answers():
            name = name_in(packet.payload)
            self.note("answer", client=self.client_id, name=name)
            if packet.qos == 1:
                self.send(Puback(packet.packet_id))
            else:
                self._releasing[packet.packet_id] = name
                self.send(Pubrec(packet.packet_id))
        elif isinstance(packet, Pubrel):
            if name := self._releasing.pop(packet.packet_id, ""):
                self.note("settled", client=self.client_id, name=name)
            self.send(Pubcomp(packet.packet_id))
