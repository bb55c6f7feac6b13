"""Events that wait for a webhook, and how they are told: several in one JSON object.

Here belong the queue's bounds and the words of a delivery. Not here: where events come from (``runner``), and HTTP
(``sending``).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from dataclasses import dataclass
from typing import NoReturn

from broker.accounts.moments import moment_text
from broker.accounts.webhooks import WebhookFigures
from broker.policy.credentials import new_delivery_id

EVENT_MAXIMUM_BYTES = 64 * 1024
BATCH_EVENTS = 100
BATCH_BYTES = 128 * 1024
EVENT_OVERHEAD_BYTES = 100

TOO_LARGE, QUEUE_FULL = "too_large", "queue_full"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, at a time (seconds of UTC). A warning has no topic, and JSON of its own as payload."""

    kind: str
    at: int
    payload: bytes
    topic_name: str = ""

    @property
    def size_bytes(self) -> int:
        """What it counts in a queue."""
        return len(self.payload) + len(self.topic_name) + EVENT_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Batch:
    """Events on their way; it keeps its id however often it is sent, so that a receiver knows a repetition."""

    delivery_id: str
    events: tuple[Event, ...]


class Waiting:
    """The events that wait for one webhook: so many, and so many bytes; the oldest go for new ones, and are counted."""

    def __init__(self, maximum: int, maximum_bytes: int, figures: WebhookFigures) -> None:
        self._maximum = maximum
        self._maximum_bytes = maximum_bytes
        self._figures = figures
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._batch: Batch | None = None
        self._something = asyncio.Event()

    def put(self, event: Event) -> None:
        """Take an event in."""
        if event.size_bytes > min(EVENT_MAXIMUM_BYTES, self._maximum_bytes):
            self._figures.drop(TOO_LARGE)
            return
        self._events.append(event)
        self._bytes += event.size_bytes
        while len(self._events) > self._maximum or self._bytes > self._maximum_bytes:
            self._bytes -= self._events.popleft().size_bytes
            self._figures.drop(QUEUE_FULL)
        self._something.set()
        self._count()

    async def wait(self) -> None:
        """Return when there is something to deliver."""
        await self._something.wait()

    def batch(self) -> Batch:
        """Give what is to be delivered next: the same again, until it is ``settled``."""
        if self._batch is None:
            self._batch = Batch(new_delivery_id(), tuple(self._taken()))
            self._count()
        return self._batch

    def settled(self) -> None:
        """Go on to the next: this one was taken."""
        self._batch = None
        if not self._events:
            self._something.clear()
        self._count()

    def _taken(self) -> list[Event]:
        taken: list[Event] = []
        size = 0
        while self._events and len(taken) < BATCH_EVENTS:
            size += self._events[0].size_bytes
            if taken and size > BATCH_BYTES:
                break
            taken.append(self._events.popleft())
            self._bytes -= taken[-1].size_bytes
        return taken

    def _count(self) -> None:
        self._figures.queued = len(self._events) + (len(self._batch.events) if self._batch else 0)


def told(webhook_id: str, batch: Batch, dropped: int) -> bytes:
    """Write the body of a delivery; ``dropped`` is how many events of this webhook were not delivered so far."""
    head = {"webhook_id": webhook_id, "delivery_id": batch.delivery_id, "dropped": dropped}
    events = b",".join(_event(one) for one in batch.events)
    return json.dumps(head).encode()[:-1] + b', "events": [' + events + b"]}"


def _event(event: Event) -> bytes:
    head = {"type": event.kind, "at": moment_text(event.at)}
    if event.topic_name:
        levels = event.topic_name.split("/")
        head |= {"topic": event.topic_name}
        head |= {"device_id": levels[1]} if levels[0] == "devices" and len(levels) > 2 else {}
    return json.dumps(head).encode()[:-1] + b", " + _payload(event.payload) + b"}"


def _payload(payload: bytes) -> bytes:
    """Put a payload in as it is where it is JSON, else as base64."""
    try:
        json.loads(payload.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return b'"payload_base64": "' + base64.b64encode(payload) + b'"'
    return b'"payload": ' + payload


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
