"""Retained messages: one writer that sets and clears, and what a newcomer may find.

Here belongs what a topic may hold: what was acknowledged last, or something that was sent later and has no answer yet.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tests.crash.actor import Actor, World
from tests.crash.ledger import RETAINED_BACK, RETAINED_WRONG, Message, Stream
from tests.crash.packets import read_publish
from tests.crash.publisher import Publisher
from tests.integration.wire import PINGRESP, PUBLISH, SUBACK, V5, subscribe

NOTHING = b""
READ_S = 5.0
CLEARED_PART = 0.35
PING = b"\xc0\x00"


@dataclass(eq=False)
class Topic:
    """One retained topic: its last acknowledged payload, those sent since, and all it ever had before."""

    known: bytes = NOTHING
    sent: list[bytes] = field(default_factory=list)
    busy: bool = False

    def may_be(self) -> set[bytes]:
        """What a newcomer may find; ``NOTHING`` for no message."""
        return {self.known, *self.sent}


class RetainedWriter(Publisher):
    """Sets and clears retained messages, at most one without an answer for each topic."""

    retain = True

    def __init__(self, world: World, name: str, version: int, prefix: str, count: int) -> None:
        streams = [Stream(f"{prefix}/{number}", 1 + number % 2) for number in range(count)]
        super().__init__(world, name, version, streams, window=8)
        self.prefix = prefix
        self.topics = {one.topic_name: Topic() for one in streams}

    def next_message(self) -> Message | None:
        idle = [one for one in self.streams if not self.topics[one.topic_name].busy]
        if self.left <= 0 or not idle:
            return None
        self.left -= 1
        rng = self.world.rng
        stream = rng.choice(idle)
        message = self.world.ledger.send(stream, rng.randint(*self.size_bytes))
        topic = self.topics[stream.topic_name]
        if topic.known and rng.random() < CLEARED_PART:
            message.payload = NOTHING
        topic.sent.append(message.payload)
        topic.busy = True
        return message

    def was_accepted(self, message: Message) -> None:
        if message.accepted:
            return
        super().was_accepted(message)
        topic = self.topics[message.stream.topic_name]
        topic.known = message.payload
        topic.sent.clear()
        topic.busy = False
        self.world.ledger.counts["retained cleared" if not topic.known else "retained set"] += 1

    def was_refused(self, message: Message) -> None:
        super().was_refused(message)
        topic = self.topics[message.stream.topic_name]
        topic.sent.remove(message.payload)
        topic.busy = False

    def was_given_up(self, message: Message) -> None:
        self.topics[message.stream.topic_name].busy = False  # it may have been set all the same


class RetainedReader(Actor):
    """A newcomer without a session: asks for everything under a prefix and goes."""

    expiry_s = 0

    def __init__(self, world: World, name: str, prefix: str) -> None:
        super().__init__(world, name, V5)
        self.prefix = prefix
        self.found: dict[str, bytes] = {}
        self._expected: set[str] = set()
        self._done = asyncio.Event()
        self._answered = False

    async def read(self, expected: set[str]) -> dict[str, bytes]:
        """Read all retained messages; waits for the topics that are expected, and a moment for others."""
        self.found.clear()
        self._done.clear()
        self._answered = False
        self._expected = expected
        await self.enter(clean=True)
        self.send(subscribe(V5, 1, [f"{self.prefix}/#"], 0))
        try:
            async with asyncio.timeout(READ_S):
                await self._done.wait()
        except TimeoutError:
            pass  # what is missing is told by whoever asked
        self.drop()
        return dict(self.found)

    def on_packet(self, kind: int, flags: int, body: bytes) -> None:
        if kind == PUBLISH:
            topic_name, _, payload = read_publish(V5, flags, body)
            self.found[topic_name] = payload
        elif kind == SUBACK:
            self._answered = True
        elif kind == PINGRESP:
            self._done.set()

    def after_packets(self) -> None:
        if self._answered and self._expected <= self.found.keys():
            self._answered = False
            self.send(PING)

    def waits_for(self) -> str:
        return ""


async def check_retained(writer: RetainedWriter, reader: RetainedReader) -> None:
    """Compare what a newcomer finds with what was promised. Raises ``Cut`` when the broker dies meanwhile."""
    before = {name: topic.may_be() for name, topic in writer.topics.items()}
    found = await reader.read({name for name, allowed in before.items() if NOTHING not in allowed})
    ledger = writer.world.ledger
    for name, topic in writer.topics.items():
        allowed = before[name] | topic.may_be()
        got = found.get(name, NOTHING)
        if got in allowed:
            continue
        back = not topic.known and not topic.sent
        ledger.find(RETAINED_BACK if back else RETAINED_WRONG, f"{name}: {got[:20]!r}, not {_short(allowed)}")
        topic.known = got  # told once
    ledger.counts["retained checked"] += len(writer.topics)


def _short(payloads: set[bytes]) -> str:
    return " or ".join(sorted(repr(one[:20]) for one in payloads))
