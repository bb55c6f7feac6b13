"""A publisher that keeps a window of QoS 1 and 2 messages open and sends again what was not answered.

Here belong its exchanges, as section 4.3 and 4.4 of the standard have them. Identifiers come round quickly, so that one
which the broker has not let go shows. Not here: what the answers mean to anybody else (``ledger``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.crash.actor import Actor, World, packet_id_of, reason_code
from tests.crash.ledger import Message, Stream
from tests.crash.packets import Login, acknowledgement
from tests.integration.wire import PUBACK, PUBCOMP, PUBREC, publish

PUBREL_BYTE = 0x62
SPARE_IDENTIFIERS = 3


@dataclass(slots=True)
class Flight:
    """One exchange that is not finished."""

    message: Message
    released: bool = False


class Publisher(Actor):
    """Publishes to its streams in turn, until ``left`` messages are gone."""

    retain = False

    def __init__(
        self, world: World, name: str, version: int, streams: list[Stream], window: int, login: Login | None = None
    ) -> None:
        super().__init__(world, name, version, login)
        self.streams = streams
        self.window = window
        self.left = 0
        self.size_bytes = (20, 200)
        self.refusals = 0
        self._flights: dict[int, Flight] = {}
        self._free = deque(range(1, window + 1 + SPARE_IDENTIFIERS))
        self._out: list[bytes] = []

    # ------------------------------------------------------------ for those who inherit

    def next_message(self) -> Message | None:
        """Make the next message; None when there is none now."""
        if self.left <= 0:
            return None
        self.left -= 1
        rng = self.world.rng
        return self.world.ledger.send(rng.choice(self.streams), rng.randint(*self.size_bytes))

    def was_accepted(self, message: Message) -> None:
        """A message was accepted."""
        self.world.ledger.accepted(message)

    def was_refused(self, message: Message) -> None:
        """A message was refused with an error code."""
        self.refusals += 1
        self.world.ledger.refused(message)

    def was_given_up(self, message: Message) -> None:
        """An exchange was ended without an answer, together with its session."""

    # ------------------------------------------------------------ sending

    def begin(self, count: int) -> None:
        """Publish so many more."""
        self.left = count
        self.pump()

    def stop(self) -> None:
        """Begin nothing new."""
        self.left = 0

    def pump(self) -> None:
        """Fill the window."""
        while self.is_in and len(self._flights) < self.window:
            message = self.next_message()
            if message is None:
                break
            packet_id = self._free.popleft()
            self._flights[packet_id] = Flight(message)
            self._out.append(self._publish(packet_id, message, dup=False))
        self.after_packets()

    def after_packets(self) -> None:
        if self._out:
            self.send(b"".join(self._out))
            self._out.clear()

    def _publish(self, packet_id: int, message: Message, *, dup: bool) -> bytes:
        self.world.ledger.counts["PUBLISH sent"] += 1
        first = 0x30 | message.stream.qos << 1 | (8 if dup else 0) | (1 if self.retain else 0)
        return publish(self.version, message.stream.topic_name, message.payload, packet_id, first_byte=first)

    # ------------------------------------------------------------ coming back

    def resumed(self, session_present: bool) -> None:
        if not session_present:
            self._begin_anew()
        for packet_id, flight in self._flights.items():
            if flight.released:
                self._out.append(acknowledgement(PUBREL_BYTE, packet_id))
            else:
                flight.message.transmissions += 1
                self._out.append(self._publish(packet_id, flight.message, dup=session_present))
        self.pump()

    def _begin_anew(self) -> None:
        """Without a session on the other side, an unfinished QoS 2 exchange is over; QoS 1 may be tried again."""
        for packet_id, flight in list(self._flights.items()):
            if flight.message.stream.qos == 2:
                self.was_given_up(flight.message)
                self._finish(packet_id)

    def has_left(self) -> None:
        self._out.clear()

    def _finish(self, packet_id: int) -> None:
        del self._flights[packet_id]
        self._free.append(packet_id)

    # ------------------------------------------------------------ answers

    def on_packet(self, kind: int, flags: int, body: bytes) -> None:
        packet_id = packet_id_of(body) if len(body) >= 2 else 0
        flight = self._flights.get(packet_id)
        if kind == PUBREC and flight is not None:
            self._received(packet_id, flight, body)
        elif flight is not None and kind == (PUBACK if flight.message.stream.qos == 1 else PUBCOMP):
            if kind == PUBACK or self.world.ledger.lenient:
                self._answered(flight.message, body)
            self._finish(packet_id)
            self.pump()

    def _received(self, packet_id: int, flight: Flight, body: bytes) -> None:
        if not flight.released and not self.world.ledger.lenient:
            self._answered(flight.message, body)
        if reason_code(self.version, body) >= 0x80:
            self._finish(packet_id)
            self.pump()
            return
        flight.released = True
        # Sent again, PUBRELs go in the order of their PUBRECs [MQTT-4.6.0-4].
        self._flights[packet_id] = self._flights.pop(packet_id)
        self._out.append(acknowledgement(PUBREL_BYTE, packet_id))

    def _answered(self, message: Message, body: bytes) -> None:
        if reason_code(self.version, body) >= 0x80:
            self.was_refused(message)
        else:
            self.was_accepted(message)

    def waits_for(self) -> str:
        if self._flights:
            number, flight = next(iter(self._flights.items()))
            what = "PUBCOMP" if flight.released else "an answer"
            return f"{what} for message {flight.message.number} ({number}), one of {len(self._flights)}"
        return super().waits_for()
