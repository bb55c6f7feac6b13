"""Wills: clients that are lost, alone or together with the broker, and how often their wills are published.

Here belongs what is to become of each will: exactly one publication when its client was lost and did not come back,
none when the broker died and the client was back at once, at most one otherwise. Not here: wills of sessions that end,
which the tests of the core know.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.crash.actor import Actor, World
from tests.crash.ledger import WILL_LOST, WILL_TWICE, WILL_WRONG, Message, Stream
from tests.crash.packets import Will
from tests.crash.receiver import Receiver
from tests.integration.wire import V5

GRACE_S = 2
"""The broker's grace period after a crash, as this machine configures it."""
AT_ONCE_S = 1.7
"""For whom the broker has lived no longer since he was lost is back within the grace period for certain."""
SLACK_S = 4.0
SIZE_BYTES = 30


@dataclass(eq=False, slots=True)
class Fate:
    """What became of one will."""

    message: Message
    delay_s: int
    fired: int = 0
    is_set: bool = False
    lost_at_s: float = 0.0
    lost_at_lived_s: float = 0.0
    broker_died: bool = False
    cancelled: bool = False
    excused: bool = False
    forgiven: bool = False


class WillReceiver(Receiver):
    """The one that all wills are sent to, with QoS 2."""

    def __init__(self, world: World, name: str, version: int) -> None:
        super().__init__(world, name, version, 2, ["will/+"], world.ledger.inbox(name, ordered=False))
        self.fates: dict[int, Fate] = {}

    def take(self, payload: bytes, topic_name: str, qos: int) -> Message | None:
        message = super().take(payload, topic_name, qos)
        fate = None if message is None else self.fates.get(message.number)
        if message is not None and fate is not None:
            fate.fired += 1
            self.world.ledger.counts["wills"] += 1
            if fate.forgiven:
                pass
            elif fate.fired > 1:
                self.world.ledger.find(WILL_TWICE, f"{topic_name}: will {message.number}")
            elif fate.cancelled or (fate.is_set and not fate.lost_at_s):
                self.world.ledger.find(WILL_WRONG, f"{topic_name}: will {message.number}")
        return message

    def missing(self, now_s: float) -> list[Fate]:
        """Return the wills that are still to come."""
        return [
            one
            for one in self.fates.values()
            if one.is_set and one.lost_at_s and not one.fired and not one.excused and now_s > one.lost_at_s
        ]

    def forgive(self) -> None:
        """Expect nothing more of wills that are due: the clock is about to be turned back for them."""
        for fate in self.fates.values():
            if fate.lost_at_s:
                fate.excused = fate.forgiven = True
                fate.message.copies = 2

    def tell_missing(self, now_s: float) -> None:
        """Say of those that are overdue that they are lost; a restart begins their delays anew."""
        for fate in self.missing(now_s):
            since = max(fate.lost_at_s, self.world.up_since_s)
            if now_s > since + max(fate.delay_s, GRACE_S) + SLACK_S:
                fate.excused = True
                how = "with the broker" if fate.broker_died else "alone"
                text = f"{fate.message.stream.topic_name}: will {fate.message.number}, its client was lost {how}"
                self.world.ledger.find(WILL_LOST, text)


class Mortal(Actor):
    """A client with a will."""

    def __init__(self, world: World, name: str, version: int, receiver: WillReceiver, delay_s: int) -> None:
        super().__init__(world, name, version)
        self._receiver = receiver
        self._delay_s = delay_s if version == V5 else 0
        self._fate: Fate | None = None
        self._next: Fate | None = None

    def will(self) -> Will:
        if self._fate is not None and self._fate.lost_at_s:
            self._fate.excused = True  # this CONNECT may take it back, whether anybody hears of that or not
        topic_name = f"will/{self.name}"
        message = self.world.ledger.send(Stream(topic_name, 2), SIZE_BYTES)
        self._next = self._receiver.fates[message.number] = Fate(message, self._delay_s)
        return Will(topic_name, message.payload, 2, self._delay_s)

    def resumed(self, session_present: bool) -> None:
        old, self._fate = self._fate, self._next
        if self._fate is not None:
            self._fate.is_set = True
        if old is not None and not old.fired:
            at_once = self.world.lived_s() - old.lost_at_lived_s < AT_ONCE_S
            old.cancelled = old.broker_died and session_present and at_once
            old.excused = True

    def drop(self) -> None:
        if self._fate is not None and self.link is not None and not self._fate.lost_at_s:
            self._fate.lost_at_s = asyncio.get_running_loop().time()  # by itself, whoever dies next
        super().drop()

    def has_left(self) -> None:
        if self._fate is not None and not self._fate.lost_at_s:
            self._fate.lost_at_s = asyncio.get_running_loop().time()
            self._fate.lost_at_lived_s = self.world.lived_s()
            # A broker that is stopping publishes the wills of those whom it sends away.
            dying = not self.world.up.is_set() and not self.world.stopping
            self._fate.broker_died = dying and not self.world.spare
