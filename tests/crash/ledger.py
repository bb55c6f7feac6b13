"""Who was promised what, and what came of it: messages, subscriptions, inboxes.

Here belongs the judgement of every arrival and of every silence, from what clients alone can know. Not here: sockets,
and what is not a message (``retained``, ``wills``, ``sessions``, ``devices``), besides the list of findings.

A message is *accepted* when its PUBACK or PUBREC has come without an error. It is *owed* to every inbox whose
subscription was acknowledged before it was sent, until that inbox's client has answered it (PUBACK or PUBREC). A copy
is *settled* when something that the broker can promise only later (a SUBACK) has come after the PUBACK was sent: from
then on it must not come again. Before that a repeat over a new connection is legal, and so is one copy for each time
that a publisher without an answer has sent the message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

FILLER = bytes(range(32, 127)) * 700

# What may be found. The first group is the table's "lost", and so on.
LOST = "lost"
DOUBLED = "doubled"
REORDERED = "reordered"
GHOST = "delivered without a subscription"
REFUSED = "refused but delivered"
DAMAGED = "damaged"
SESSION_FORGOTTEN = "session forgotten"
SESSION_BACK = "session back"
IDENTIFIER = "identifier reused early"
UNFINISHED = "exchange never finished"
RETAINED_WRONG = "retained wrong"
RETAINED_BACK = "retained back"
WILL_LOST = "will lost"
WILL_TWICE = "will twice"
WILL_WRONG = "will though the client was back"
DEVICE_LOST = "device lost"
DEVICE_BACK = "device back"
USAGE_WRONG = "usage above what was sent"
NOT_STARTED = "did not start"
BACKUP_WRONG = "backup wrong"
STORE_DAMAGED = "store damaged"
STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    kind: str
    text: str


@dataclass(eq=False, slots=True)
class Stream:
    """One publisher's messages of one QoS on one topic: their order is promised."""

    topic_name: str
    qos: int


@dataclass(eq=False, slots=True)
class Message:
    """One application message, from its first transmission on."""

    number: int
    stream: Stream
    payload: bytes
    sent_tick: int
    hoped: list[tuple[Inbox, Subscription]]
    transmissions: int = 1
    copies: int = 1
    """How often it may come with QoS 2."""
    done_tick: int = 0
    accepted: bool = False
    refused: bool = False


@dataclass(eq=False, slots=True)
class Subscription:
    """One filter of one inbox, from being asked for until its end is acknowledged."""

    topic_filter: str
    asked_tick: int
    is_on: bool = False
    leaving: bool = False
    ended_tick: int = 0


@dataclass(slots=True)
class _Seen:
    """What one inbox knows of one message."""

    connection: int = 0
    here: int = 0
    total: int = 0
    settled: int = 0
    answered: bool = False


class Ledger:
    """All that was promised since a data directory began, and everything that was found wrong with it."""

    def __init__(self, *, lenient: bool = False) -> None:
        """Begin empty; ``lenient`` grants what the standard allows and ours does not do.

        That is: routing a QoS 2 message at its PUBREL, and a copy for each of several subscriptions that match.
        """
        self.lenient = lenient
        self.messages: dict[int, Message] = {}
        self.inboxes: list[Inbox] = []
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self._tick = 0
        self._matches: dict[str, list[tuple[Inbox, Subscription]]] = {}

    def tick(self) -> int:
        """Return the next moment: whatever happens later has a larger one."""
        self._tick += 1
        return self._tick

    def find(self, kind: str, text: str) -> None:
        """Note a broken promise."""
        self.findings.append(Finding(kind, text))

    def inbox(self, name: str, *, ordered: bool = True) -> Inbox:
        """Open an inbox; one that several share (a shared group) is not ordered."""
        one = Inbox(self, name, ordered)
        self.inboxes.append(one)
        return one

    def subscriptions_changed(self) -> None:
        """Forget which subscriptions match which topic."""
        self._matches.clear()

    def matching(self, topic_name: str) -> list[tuple[Inbox, Subscription]]:
        """Return who has an acknowledged subscription to a topic."""
        found = self._matches.get(topic_name)
        if found is None:
            found = [
                (inbox, one)
                for inbox in self.inboxes
                for one in inbox.subscriptions
                if one.is_on and not one.leaving and matches(one.topic_filter, topic_name)
            ]
            self._matches[topic_name] = found
        return found

    # ------------------------------------------------------------ publishers tell

    def send(self, stream: Stream, size: int) -> Message:
        """Make a message that is about to be sent for the first time."""
        number = len(self.messages) + 1
        head = b"m%d " % number
        payload = head + FILLER[number % 95 :][: max(0, size - len(head))]
        message = Message(number, stream, payload, self.tick(), self.matching(stream.topic_name))
        self.messages[number] = message
        return message

    def accepted(self, message: Message) -> None:
        """PUBACK or PUBREC has come: from now on the message is owed."""
        if message.accepted:
            return
        message.accepted = True
        message.done_tick = self.tick()
        self.counts["acknowledged"] += 1
        for inbox, subscription in message.hoped:
            if not subscription.leaving and not subscription.ended_tick:
                inbox.owe(message)

    def refused(self, message: Message) -> None:
        """An error code has come: the message must not arrive, unless an earlier transmission was taken."""
        message.refused = True
        message.done_tick = self.tick()
        self.counts["refused"] += 1


class Inbox:
    """One session that is subscribed, or one shared group, and what it has got so far."""

    def __init__(self, ledger: Ledger, name: str, ordered: bool) -> None:
        self.ledger = ledger
        self.name = name
        self.ordered = ordered
        self.subscriptions: list[Subscription] = []
        self.owed: dict[int, Message] = {}
        self._seen: dict[int, _Seen] = {}
        self._last: dict[Stream, int] = {}

    # ------------------------------------------------------------ subscriptions

    def ask(self, topic_filter: str) -> Subscription:
        """SUBSCRIBE is about to be sent."""
        one = Subscription(topic_filter, self.ledger.tick())
        self.subscriptions.append(one)
        return one

    def subscribed(self, subscription: Subscription) -> None:
        """SUBACK has come."""
        subscription.is_on = True
        self.ledger.subscriptions_changed()

    def leave(self, subscription: Subscription) -> None:
        """UNSUBSCRIBE is about to be sent."""
        subscription.leaving = True
        self.ledger.subscriptions_changed()

    def left(self, subscription: Subscription) -> None:
        """UNSUBACK has come, or the whole session was ended: what is sent from now on must not arrive."""
        subscription.leaving = True
        subscription.ended_tick = self.ledger.tick()
        self.ledger.subscriptions_changed()

    def forgotten(self, subscriptions: Iterable[Subscription]) -> None:
        """Write off what was owed: the broker does not know a session any more, and that was found already."""
        self.write_off("its session was forgotten")
        for one in subscriptions:
            self.left(one)

    # ------------------------------------------------------------ deliveries

    def owe(self, message: Message) -> None:
        """Expect a message that was accepted, unless it was answered already."""
        seen = self._seen.get(message.number)
        if seen is None or not seen.answered:
            self.owed[message.number] = message

    def arrived(self, payload: bytes, topic_name: str, connection: int, *, once: bool) -> Message | None:
        """Judge one arrival; ``once`` for QoS 2, whose repeats the receiver has filtered out by their identifiers."""
        message = self._known(payload, topic_name)
        if message is None:
            return None
        seen = self._seen.get(message.number)
        if seen is None:
            seen = self._seen[message.number] = _Seen()
            self._judge_first(message)
        else:
            self._judge_repeat(message, seen, connection, once)
        if seen.connection != connection:
            seen.connection, seen.here = connection, 0
        seen.here += 1
        seen.total += 1
        self.ledger.counts["delivered"] += 1
        return message

    def answered(self, message: Message) -> None:
        """PUBACK or PUBREC is about to be sent."""
        self._seen[message.number].answered = True
        self.owed.pop(message.number, None)

    def settled(self, messages: Iterable[Message]) -> None:
        """Something that the broker promises after these PUBACKs has come."""
        for message in messages:
            self._seen[message.number].settled += 1

    def write_off(self, why: str) -> None:
        """Give up what is still owed: it is lost."""
        for message in self.owed.values():
            self.ledger.find(LOST, f"{self.name}: message {message.number} of {message.stream.topic_name}: {why}")
        self.owed.clear()

    def _known(self, payload: bytes, topic_name: str) -> Message | None:
        number = payload[1 : payload.find(b" ")] if payload[:1] == b"m" else b""
        message = self.ledger.messages.get(int(number)) if number.isdigit() else None
        if message is None or message.payload != payload or message.stream.topic_name != topic_name:
            self.ledger.find(DAMAGED, f"{self.name}: {topic_name}: {payload[:40]!r} was never sent like this")
            return None
        return message

    def _judge_first(self, message: Message) -> None:
        if message.refused and message.transmissions == 1:
            self.ledger.find(REFUSED, f"{self.name}: message {message.number} was refused")
        if not any(_may_carry(one, message) for one in self.subscriptions):
            self.ledger.find(GHOST, f"{self.name}: message {message.number} of {message.stream.topic_name}")
        if self.ordered:
            last = self._last.get(message.stream, 0)
            if message.number < last and not self._may_be_late(message):
                self.ledger.find(REORDERED, f"{self.name}: message {message.number} after {last}")
            self._last[message.stream] = max(last, message.number)

    def _may_be_late(self, message: Message) -> bool:
        # Routed when it was sent again: when it was sent first, nobody had been promised that it comes here.
        return message.transmissions > 1 and all(inbox is not self for inbox, _ in message.hoped)

    def _judge_repeat(self, message: Message, seen: _Seen, connection: int, once: bool) -> None:
        copies = message.copies if message.stream.qos == 2 else message.transmissions
        if self.ledger.lenient:
            copies *= sum(_may_carry(one, message) for one in self.subscriptions)
        here = seen.here if seen.connection == connection else 0
        come = seen.total if once else seen.settled + here
        if come >= copies:
            sent = f"sent {message.transmissions} times, {seen.settled} settled, {here} before on this connection"
            self.ledger.find(DOUBLED, f"{self.name}: message {message.number} (QoS {message.stream.qos}, {sent})")
        else:
            self.ledger.counts["repeated"] += 1


def _may_carry(subscription: Subscription, message: Message) -> bool:
    """Tell whether a subscription may have been there at some moment between a message's sending and its answer."""
    if not matches(subscription.topic_filter, message.stream.topic_name):
        return False
    asked_in_time = not message.done_tick or subscription.asked_tick < message.done_tick
    return asked_in_time and (not subscription.ended_tick or subscription.ended_tick > message.sent_tick)


def matches(topic_filter: str, topic_name: str) -> bool:
    """Tell whether a filter without ``$share`` matches a topic name."""
    levels, names = topic_filter.split("/"), topic_name.split("/")
    for at, level in enumerate(levels):
        if level == "#":
            return True
        if at == len(names) or level not in {"+", names[at]}:
            return False
    return len(levels) == len(names)


@dataclass
class Tally:
    """What all data directories of one run have come to."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)

    def add(self, ledger: Ledger) -> None:
        """Take over one ledger's sums; its messages may be forgotten then."""
        self.counts.update(ledger.counts)
        self.findings.update(one.kind for one in ledger.findings)
