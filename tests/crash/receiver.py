"""A subscriber with a session that is kept: answers, or leaves unanswered, what arrives; subscribes and unsubscribes.

Here belong its exchanges and its fences: a fence is a SUBSCRIBE or UNSUBSCRIBE of a filter of its own, whose answer
promises what was sent before it as well. Not here: whether an arrival was right (``ledger``).
"""

from __future__ import annotations

from contextlib import suppress

from tests.crash.actor import Actor, Cut, World, packet_id_of
from tests.crash.ledger import IDENTIFIER, Inbox, Message, Subscription
from tests.crash.packets import NO_RETAINED, acknowledgement, read_publish
from tests.integration.wire import PUBLISH, PUBREL, SUBACK, UNSUBACK, V5, subscribe, unsubscribe

PUBACK_BYTE, PUBREC_BYTE, PUBCOMP_BYTE = 0x40, 0x50, 0x70


class Receiver(Actor):
    """One session that is subscribed; ``share`` puts all its filters into a shared group."""

    receive_maximum = 100

    def __init__(
        self, world: World, name: str, version: int, qos: int, filters: list[str], inbox: Inbox, share: str = ""
    ) -> None:
        super().__init__(world, name, version)
        self.qos = qos
        self.inbox = inbox
        self.share = share
        self.mute_after = -1
        self._subscriptions = [inbox.ask(one) for one in filters]
        self._held: dict[int, int] = {}
        self._asked: dict[int, Subscription] = {}
        self._out: list[bytes] = []
        self._fence = 0
        self._fence_id = 0
        self._unsettled: list[Message] = []
        self._fenced: list[Message] = []

    # ------------------------------------------------------------ subscriptions

    def add(self, topic_filter: str) -> None:
        """Subscribe to one more filter, unless it is there in some way."""
        if self.is_in and all(one.topic_filter != topic_filter for one in self._subscriptions):
            one = self.inbox.ask(topic_filter)
            self._subscriptions.append(one)
            self._ask(one)
            self.after_packets()

    def remove(self, topic_filter: str) -> None:
        """Unsubscribe from a filter."""
        for one in self._subscriptions:
            if self.is_in and one.topic_filter == topic_filter and one.is_on and not one.leaving:
                self.inbox.leave(one)
                self._ask(one)
        self.after_packets()

    def _ask(self, one: Subscription) -> None:
        packet_id = self.next_packet_id()
        self._asked[packet_id] = one
        name = f"$share/{self.share}/{one.topic_filter}" if self.share else one.topic_filter
        if one.leaving:
            self._out.append(unsubscribe(self.version, packet_id, [name]))
        else:
            options = self.qos | (NO_RETAINED if self.version == V5 else 0)
            self._out.append(subscribe(self.version, packet_id, [name], options))

    def _acknowledged(self, packet_id: int) -> None:
        if packet_id == self._fence_id:
            self.inbox.settled(self._fenced)
            self._fence_id = 0
            return
        one = self._asked.pop(packet_id, None)
        if one is not None and one.leaving:
            self._subscriptions.remove(one)
            self.inbox.left(one)
        elif one is not None:
            self.inbox.subscribed(one)

    def fence(self) -> None:
        """Ask for something whose answer promises all that was answered before."""
        if not self.is_in or self._fence_id or self.mute_after >= 0:
            return
        self._fence += 1
        self._fence_id = packet_id = self.next_packet_id()
        self._fenced, self._unsettled = self._unsettled, []
        name = f"fence/{self.name}/{(self._fence + 1) // 2}"
        if self._fence % 2:
            self.send(subscribe(self.version, packet_id, [name], 1))
        else:
            self.send(unsubscribe(self.version, packet_id, [name]))

    # ------------------------------------------------------------ coming and going

    def resumed(self, session_present: bool) -> None:
        if not session_present:
            self._held.clear()
        for one in self._subscriptions:
            if one.leaving or not one.is_on:
                self._ask(one)
        self.after_packets()

    def forgotten(self) -> None:
        filters = [one.topic_filter for one in self._subscriptions if not one.leaving]
        self.inbox.forgotten(self._subscriptions)
        self._subscriptions = [self.inbox.ask(one) for one in filters]

    async def takeover(self) -> None:
        """Connect a second time, over the first connection."""
        with suppress(Cut, OSError, TimeoutError):
            await self.enter()

    def has_left(self) -> None:
        self._out.clear()
        self._asked.clear()
        self._unsettled.clear()
        self._fenced.clear()
        self._fence_id = 0
        self.mute_after = -1

    def mute(self, after: int) -> None:
        """Answer so many more, then nothing until the connection ends; -1 answers everything."""
        self.mute_after = after

    # ------------------------------------------------------------ deliveries

    def on_packet(self, kind: int, flags: int, body: bytes) -> None:
        if kind == PUBLISH:
            self._arrived(flags, body)
        elif kind == PUBREL:
            packet_id = packet_id_of(body)
            self._held.pop(packet_id, None)
            self._out.append(acknowledgement(PUBCOMP_BYTE, packet_id))
        elif kind in {SUBACK, UNSUBACK}:
            self._acknowledged(packet_id_of(body))

    def after_packets(self) -> None:
        if self._out:
            self.send(b"".join(self._out))
            self._out.clear()

    def _arrived(self, flags: int, body: bytes) -> None:
        topic_name, packet_id, payload = read_publish(self.version, flags, body)
        qos = flags >> 1 & 3
        if packet_id in self._held and qos == 2:
            self._again(packet_id, payload)
            return
        may_answer = self._may_answer()
        if qos == 2 and not may_answer:
            return  # not received, as far as this client is concerned
        message = self.take(payload, topic_name, qos)
        if message is None or not may_answer:
            return
        self.inbox.answered(message)
        if qos == 2:
            self._held[packet_id] = message.number
            self._out.append(acknowledgement(PUBREC_BYTE, packet_id))
        elif qos == 1:
            self._unsettled.append(message)
            self._out.append(acknowledgement(PUBACK_BYTE, packet_id))

    def take(self, payload: bytes, topic_name: str, qos: int) -> Message | None:
        """Give an arrival to the inbox."""
        assert self.link is not None
        return self.inbox.arrived(payload, topic_name, self.link.serial, once=qos == 2)

    def _again(self, packet_id: int, payload: bytes) -> None:
        """A QoS 2 PUBLISH whose identifier is taken: either the same one once more, or a broken promise."""
        number = self._held[packet_id]
        if not payload.startswith(b"m%d " % number):
            text = f"{self.name}: {packet_id} of message {number} carries {payload[:20]!r}"
            self.inbox.ledger.find(IDENTIFIER, text)
        self._out.append(acknowledgement(PUBREC_BYTE, packet_id))

    def _may_answer(self) -> bool:
        if self.mute_after > 0:
            self.mute_after -= 1
        return self.mute_after != 0

    def waits_for(self) -> str:
        if self._asked or any(one.leaving or not one.is_on for one in self._subscriptions):
            return "a SUBACK or UNSUBACK"
        if self.inbox.owed:
            return f"{len(self.inbox.owed)} messages, the first {min(self.inbox.owed)}"
        if self._held:
            return f"PUBREL of {len(self._held)} messages"
        return super().waits_for()
