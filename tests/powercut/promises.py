"""What clients of a whole broker were promised by a moment of the log, and what may be there without a promise.

Here belong the marks that clients put into the log and what follows from them. Not here: the clients (``clients``), or
how a restarted broker is asked (``check_broker``).

A message is *due* to a receiver when its publisher has PUBACK or PUBREC, the receiver's SUBACK was there before it was
sent, and the receiver has neither answered it nor asked to unsubscribe since. It is *possible* when it was sent and the
receiver had asked to subscribe. It is *settled*, and must not come again, when a promise made later covers the answer:
the PUBREL, or a SUBACK for what was asked after it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

MESSAGE_TOPICS = tuple(f"t/{number}" for number in range(4))
RETAINED_TOPICS = tuple(f"k/{number}" for number in range(4))


def mark(event: str, **fields: Any) -> str:
    """One mark, as the log has it."""
    return json.dumps({"event": event, **fields})


@cache
def payload_of(name: str) -> bytes:
    """What a message carries: its name, and a filler whose length and bytes follow from it."""
    number = int(name.rsplit(".", 1)[1])
    size = (7, 60, 400, 3000)[number % 4]
    return f"{name} ".encode() + bytes((number + at) % 251 for at in range(size))


def name_in(payload: bytes) -> str:
    """The name of the message that a payload says it is."""
    return payload.split(b" ", 1)[0].decode("ascii", "replace")


@dataclass(slots=True)
class Sent:
    """A message and how far its publisher has got with it."""

    name: str
    publisher: str
    packet_id: int
    qos: int
    topic: str
    accepted: bool = False
    releasing: bool = False
    complete: bool = False


@dataclass(slots=True)
class Wish:
    """A receiver and a filter: what holds for sure, and what is asked for besides."""

    held: bool = False
    asked: bool | None = None

    def may_be(self, subscribed: bool) -> bool:
        """Whether it may be so after a cut."""
        return self.held == subscribed or self.asked == subscribed


@dataclass(slots=True)
class Receiver:
    """What one receiver was promised."""

    promised: bool = False
    starting_anew: bool = False
    wishes: dict[str, Wish] = field(default_factory=lambda: {topic: Wish() for topic in MESSAGE_TOPICS})
    due: set[str] = field(default_factory=set)
    possible: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)
    fenced: set[str] = field(default_factory=set)
    sure: set[str] = field(default_factory=set)
    """Sent while its subscription held: due as soon as they are accepted."""


class Promises:
    """The ledger; ``hear`` each mark in the log's order."""

    def __init__(self) -> None:
        self.wall_ns = 0
        self.messages: dict[str, Sent] = {}
        self.receivers: dict[str, Receiver] = {}
        self.retained: dict[str, list[str]] = {topic: [""] for topic in RETAINED_TOPICS}
        """Topic -> values it may have: the one that was acknowledged last, then those asked for since."""

    def hear(self, text: str) -> bool:
        """Take a mark; whether more is promised than before."""
        told = json.loads(text)
        event = told.pop("event")
        getattr(self, f"_{event}")(**told)
        return event in _PROMISES

    def _wall(self, ns: int) -> None:
        self.wall_ns = ns

    # ------------------------------------------------------------ publishers

    def _publish(self, name: str, publisher: str, packet_id: int, qos: int, topic: str) -> None:
        self.messages[name] = Sent(name, publisher, packet_id, qos, topic)
        for receiver in self.receivers.values():
            wish = receiver.wishes[topic]
            if wish.may_be(True):
                receiver.possible.add(name)
            if not wish.may_be(False) and receiver.promised:
                receiver.sure.add(name)

    def _accepted(self, name: str) -> None:
        self.messages[name].accepted = True
        for receiver in self.receivers.values():
            if name in receiver.sure and name not in receiver.answered:
                receiver.due.add(name)

    def _release(self, name: str) -> None:
        self.messages[name].releasing = True

    def _complete(self, name: str) -> None:
        self.messages[name].complete = True

    # ------------------------------------------------------------ receivers

    def _connect(self, client: str, clean: bool) -> None:
        receiver = self.receivers.setdefault(client, Receiver())
        if clean:
            receiver.starting_anew = True
            receiver.due.clear()
            receiver.sure.clear()
            for wish in receiver.wishes.values():
                wish.asked = False

    def _connected(self, client: str) -> None:
        receiver = self.receivers[client]
        if receiver.starting_anew:
            self.receivers[client] = receiver = Receiver()
        receiver.promised = True

    def _subscribe(self, client: str, topic: str, wanted: bool) -> None:
        receiver = self.receivers[client]
        receiver.wishes[topic].asked = wanted
        receiver.fenced = set(receiver.answered)
        if wanted:  # what is under way may be routed after it
            receiver.possible |= {m.name for m in self.messages.values() if m.topic == topic and not m.accepted}
            return
        gone = {name for name in receiver.sure if self.messages[name].topic == topic}
        receiver.sure -= gone
        receiver.due -= gone

    def _subscribed(self, client: str, topic: str, wanted: bool) -> None:
        receiver = self.receivers[client]
        receiver.wishes[topic] = Wish(held=wanted)
        receiver.settled |= receiver.fenced

    def _answer(self, client: str, name: str) -> None:
        receiver = self.receivers[client]
        receiver.answered.add(name)
        receiver.due.discard(name)

    def _settled(self, client: str, name: str) -> None:
        self.receivers[client].settled.add(name)

    # ------------------------------------------------------------ retained messages

    def _retain(self, topic: str, value: str) -> None:
        self.retained[topic].append(value)

    def _retained(self, topic: str, value: str) -> None:
        values = self.retained[topic]
        self.retained[topic] = values[values.index(value, 1) :]


_PROMISES = frozenset(("accepted", "complete", "connected", "subscribed", "settled", "retained"))
