"""A client that keeps to the standard, and remembers what the standard asks of it across connections.

Here belongs what a client does with what it receives, and what it can send. Not here: when it does it (``actions``),
and whether what it sees is right (``ledger``).
"""

from __future__ import annotations

from typing import Any

from broker._core.packets import decode, encode
from broker.wire import Connack, Connect, Disconnect, Suback, Subscribe, Subscription, Unsuback, Unsubscribe, Will
from tests.simulator import packets
from tests.simulator.facts import MAYBE, YES, Broken, Delivery, Message
from tests.simulator.ledger import Ledger
from tests.simulator.network import Link
from tests.simulator.packets import PUBACK, PUBCOMP, PUBREC, PUBREL

NUMBER_BYTES = 8


class Outgoing:
    """A message of QoS 1 or 2 on its way to the broker; ``released`` after its PUBREC."""

    __slots__ = ("message", "packet", "packet_id", "released")

    def __init__(self, message: Message, packet_id: int, packet: tuple[bytes, bytes, bytes]) -> None:
        self.message = message
        self.packet_id = packet_id
        self.packet = packet
        self.released = False


class Client:
    """One client identifier. ``link`` is its present connection, None while it has none."""

    def __init__(self, number: int, ledger: Ledger, user_names: tuple[str, ...]) -> None:
        self.number = number
        self.ledger = ledger
        self.user_names = user_names
        self.client_id = f"client-{number}"
        self.link: Link | None = None
        self.outgoing: dict[int, Outgoing] = {}
        self.incoming: dict[int, Delivery] = {}  # QoS 2, PUBREL awaited
        self.owed: list[tuple[bytes, Delivery | None]] = []  # acknowledgements not sent yet, in their order
        self.asked: tuple[int, list[tuple[str, int, bool, int]], list[str]] | None = None
        self.wants_clean = False  # it has begun to forget its session and was not told that the broker has
        self.receive_maximum = 65_535
        self.window = 8
        self.retained_seen: dict[str, int] = {}
        self.received = 0

    # ------------------------------------------------------------ connections

    def connect(self, link: Link, user: int, keep_alive_s: int, will: tuple[Message, int, Any] | None) -> None:
        """Send a CONNECT on a new link; ``link.clean`` and ``link.expiry_s`` say how."""
        self.link = link
        self.owed.clear()
        self.asked = None
        if link.clean:
            self._forget()
        properties: dict[str, Any] = {}
        if link.version == 5:
            if link.expiry_s:
                properties["session_expiry_interval"] = link.expiry_s
            if self.receive_maximum < 65_535:
                properties["receive_maximum"] = self.receive_maximum
        left = None
        if will is not None:
            message, delay_s, payload = will
            told = {"will_delay_interval": delay_s} if link.version == 5 and delay_s else {}
            left = Will(message.topic, payload, message.qos, message.retain, told)
            self.ledger.wills.left(link, message, delay_s)
        self.ledger.connecting(link)
        packet = Connect(self.client_id, link.clean, keep_alive_s, left, self.user_names[user], b"pw", properties)
        link.send(encode(packet, link.version))

    def lost(self) -> None:
        """The connection is gone, as far as this client is concerned."""
        link, self.link = self.link, None
        if link is None:
            return
        if link.accepted:
            if 0 in (link.expiry_s, link.farewell_expiry_s):
                self._forget()  # its session ends with the connection, on this side as well
                self.wants_clean |= link.expiry_s > 0 or link.unpromised  # the broker may not know
            return
        self.doubt(link)

    def doubt(self, link: Link) -> None:
        """Nobody will say what became of a CONNECT: unless it can only have found the session, begin anew."""
        session = self.ledger.sessions.of(self.number)
        if session is not None and session.alive != YES:
            self.wants_clean |= session.alive == MAYBE or bool(self.outgoing or self.incoming)
        self.wants_clean |= link.clean or link.expiry_s == 0  # the session that it found ends with it

    def _forget(self) -> None:
        for one in self.outgoing.values():
            if not one.message.acked:
                self.ledger.abandoned(one.message)
        self.outgoing.clear()
        self.incoming.clear()

    def leave(self, reason_code: int, expiry_s: int | None) -> None:
        """Send a DISCONNECT; the link stays until the broker closes it or it is lost."""
        link = self.link
        assert link is not None
        properties: dict[str, Any] = {} if expiry_s is None else {"session_expiry_interval": expiry_s}
        if expiry_s is not None:
            self.ledger.sessions.leaving(link, expiry_s)
            link.farewell_expiry_s = expiry_s
        at = link.send(encode(Disconnect(reason_code, properties), link.version))
        if reason_code == 0:
            link.farewell_sent = at
        link.waiting.append((at, None))
        self.lost()

    # ------------------------------------------------------------ what it sends

    def publish(self, message: Message, payload: bytes, properties: bytes) -> None:
        """Send a message for the first time; there must be room for it."""
        link = self.link
        assert link is not None
        topic = message.topic.encode()
        packet_id = 0
        if message.qos:
            packet_id = 1
            while packet_id in self.outgoing:
                packet_id += 1
            self.outgoing[packet_id] = Outgoing(message, packet_id, (topic, payload, properties))
        elif message.retain:
            link.at_most_once.append(message)
        self.ledger.published(message, link)
        link.send(packets.publish(
            link.version, topic, payload, message.qos, packet_id, retain=message.retain, dup=False,
            properties=properties,
        ))  # fmt: skip

    def _send_again(self, link: Link) -> None:
        for one in self.outgoing.values():
            if one.released:
                link.send(packets.ack(PUBREL, one.packet_id))
            else:
                message = one.message
                self.ledger.published_again(message, link)
                topic, payload, properties = one.packet
                link.send(packets.publish(
                    link.version, topic, payload, message.qos, one.packet_id, retain=message.retain, dup=True,
                    properties=properties,
                ))  # fmt: skip

    def subscribe(self, wanted: list[tuple[str, int, bool, int]]) -> None:
        """Ask for filters: each with QoS, no local and identifier (the same for all, 0: none)."""
        link = self.link
        assert link is not None
        assert link.session is not None
        for topic_filter, qos, no_local, identifier in wanted:
            self.ledger.sessions.subscribing(link.session, topic_filter, qos, no_local=no_local, identifier=identifier)
        properties: Any = {"subscription_identifier": (wanted[0][3],)} if wanted[0][3] else {}
        subscriptions = tuple(Subscription(one[0], one[1], no_local=one[2]) for one in wanted)
        self.asked = (7, wanted, [])
        link.send(encode(Subscribe(7, subscriptions, properties), link.version))

    def unsubscribe(self, filters: list[str]) -> None:
        """Ask to end subscriptions."""
        link = self.link
        assert link is not None
        assert link.session is not None
        for topic_filter in filters:
            self.ledger.sessions.unsubscribing(link.session, topic_filter)
        self.asked = (9, [], filters)
        link.send(encode(Unsubscribe(9, tuple(filters)), link.version))

    def acknowledge(self, most: int) -> bool:
        """Send some of the acknowledgements that are owed; tells whether there were any."""
        link = self.link
        if link is None or not self.owed:
            return False
        for packet, delivery in self.owed[:most]:
            at = link.send(packet)
            if delivery is not None:
                link.waiting.append((at, delivery))
        del self.owed[:most]
        return True

    # ------------------------------------------------------------ what it receives

    def read(self, data: bytes) -> None:
        """Take bytes from the broker."""
        link = self.link
        assert link is not None
        data = link.raw + data
        at, size = 0, len(data)
        while size - at >= 2:
            try:
                length, body = packets.read_varint(data, at + 1)
            except IndexError:
                break
            end = body + length
            if end > size:
                break
            first = data[at]
            if first >> 4 == 3:
                self._publish(link, first, data, body, end)
            elif 4 <= first >> 4 <= 7:
                code = data[body + 2] if length > 2 else 0
                self._ack(link, first >> 4, data[body] << 8 | data[body + 1], code)
            else:
                self._rare(link, data[at:end])
            at = end
            if self.link is not link:
                return
        link.raw = data[at:]

    def _publish(self, link: Link, first: int, data: bytes, body: int, end: int) -> None:
        topic, packet_id, payload, identifiers = packets.read_publish(data, first, body, end, link.version)
        self.received += 1
        qos, dup, retained = first >> 1 & 3, bool(first & 8), bool(first & 1)
        if retained:
            self.retained_seen[topic.decode()] = int.from_bytes(payload[:NUMBER_BYTES], "big")
        if qos == 2 and packet_id in self.incoming:
            self._repeated(packet_id, payload)
            return
        delivery = None
        if payload:
            number = int.from_bytes(payload[:NUMBER_BYTES], "big")
            delivery = self._judge(link, number, topic.decode(), qos, dup, retained, identifiers)
        if qos == 1:
            self.owed.append((packets.ack(PUBACK, packet_id), delivery))
        elif qos == 2:
            self.incoming[packet_id] = delivery if delivery is not None else NOTHING
            self.owed.append((packets.ack(PUBREC, packet_id), None))

    def _judge(
        self, link: Link, number: int, topic: str, qos: int, dup: bool, retained: bool, identifiers: tuple[int, ...]
    ) -> Delivery:
        ledger = self.ledger
        message = ledger.deliveries.messages.get(number)
        if message is not None and message.will is not None:
            ledger.wills.may_arrive(message)
        return ledger.deliveries.arrived(link, number, topic, qos, dup=dup, retained=retained, identifiers=identifiers)

    def _repeated(self, packet_id: int, payload: bytes) -> None:
        before = self.incoming[packet_id]
        number = int.from_bytes(payload[:NUMBER_BYTES], "big")
        if before is not NOTHING and before.message.number != number and self.ledger.moment.trusted:
            raise Broken(
                "identifier", f"client {self.number}: {packet_id} is {before.message} and comes with message {number}"
            )
        self.owed.append((packets.ack(PUBREC, packet_id), None))

    def _ack(self, link: Link, kind: int, packet_id: int, code: int) -> None:
        if kind == PUBREL:
            self.incoming.pop(packet_id, None)
            self.owed.append((packets.ack(PUBCOMP, packet_id), None))
            return
        one = self.outgoing.get(packet_id)
        if one is None or (one.message.qos == 1) != (kind == PUBACK) or (kind == PUBCOMP and not one.released):
            if not self.ledger.moment.trusted:
                return
            raise Broken(
                "acknowledgement", f"client {self.number} gets type {kind} for {packet_id}, it waits for {one}"
            )
        if code >= 0x80 and kind != PUBCOMP:
            del self.outgoing[packet_id]
            if not one.released:
                self.ledger.refused(one.message)
        elif kind == PUBREC:
            if not one.released:
                one.released = True
                self.ledger.acked(one.message)
            link.send(packets.ack(PUBREL, packet_id))
        else:
            del self.outgoing[packet_id]
            if kind == PUBACK:
                self.ledger.acked(one.message)

    def _rare(self, link: Link, packet: bytes) -> None:
        decoded = decode(packet, link.version, from_client=False)
        if isinstance(decoded, Connack):
            self._connack(link, decoded)
        elif isinstance(decoded, Suback):
            self._suback(link, decoded)
        elif isinstance(decoded, Unsuback):
            assert self.asked is not None
            assert link.session is not None
            for topic_filter in self.asked[2]:
                self.ledger.sessions.unsubscribed(link.session, topic_filter)
            self.asked = None
        elif isinstance(decoded, Disconnect):
            self.lost()

    def _connack(self, link: Link, packet: Connack) -> None:
        if packet.reason_code:
            self.lost()
            return
        link.accepted = True
        self.ledger.connected(link, present=packet.session_present)
        self.wants_clean = False
        if packet.session_present:
            self._send_again(link)
        else:
            self._forget()

    def _suback(self, link: Link, packet: Suback) -> None:
        assert self.asked is not None
        assert link.session is not None
        for code, (topic_filter, _qos, no_local, identifier) in zip(packet.reason_codes, self.asked[1], strict=True):
            if code < 0x80:
                self.ledger.sessions.subscribed(
                    link.session, topic_filter, code, no_local=no_local, identifier=identifier
                )
        self.asked = None


NOTHING = Delivery.__new__(Delivery)  # a delivery without a payload, which says nothing about itself
