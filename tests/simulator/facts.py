"""What the ledger writes down: messages, deliveries, subscriptions, sessions, wills; and the error it raises.

Here belong values alone. A ``t`` is the number of the run's event, a ``_ns`` its invented time. ``NEVER`` is later than
any event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulator.network import Link

NEVER = 1 << 62
NO, MAYBE, YES = 0, 1, 2


class Broken(AssertionError):
    """A promise was not kept; ``rule`` names which."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Message:
    """One application message, known by the number in its payload; ``publisher`` is a client's number."""

    __slots__ = (
        "acked", "acked_t", "clear", "expires_ns", "group_members", "group_need", "group_seen", "late", "link", "loose",
        "number", "publisher", "qos", "refused", "retain", "seen", "sends", "sent_life", "sent_t", "topic",
        "wall_expires_ns", "will",
    )  # fmt: skip

    def __init__(self, number: int, publisher: int, topic: str, qos: int, *, retain: bool, t: int) -> None:
        self.number = number
        self.publisher = publisher
        self.topic = topic
        self.qos = qos
        self.retain = retain
        self.sent_t = t
        self.sent_life = 0
        self.acked = False
        self.acked_t = NEVER
        self.clear = False  # it removes what is retained, and its payload is empty
        self.refused = False
        self.sends = 1  # how many times it may have been routed, as far as receivers below QoS 2 can tell
        self.late = False  # it may have been refused unheard, and be new where it was sent again
        self.loose = False
        self.expires_ns = NEVER  # at the earliest
        self.wall_expires_ns = NEVER  # the same by the wall clock, which counts for what is read from disk
        self.seen: dict[Session, list[Delivery]] = {}
        self.group_need = 0
        self.group_seen = 0
        self.group_members: list[tuple[Session, str]] = []  # and by which filter
        self.will: Will | None = None
        self.link: Link | None = None

    def __repr__(self) -> str:
        return f"message {self.number} ({self.topic}, QoS {self.qos}, client {self.publisher})"


class Delivery:
    """One arrival of a message at a session; ``acked_t`` is when the core has surely taken its acknowledgement."""

    __slots__ = ("acked_t", "again", "life", "link", "message", "qos", "session")

    def __init__(self, message: Message, session: Session, qos: int, link: Link, life: int) -> None:
        self.message = message
        self.session = session
        self.qos = qos
        self.link = link
        self.life = life
        self.acked_t = NEVER
        self.again = False  # it was sent again since


class Sub:
    """One subscription as far as its client can know: it may be there from ``since_t``, is surely from ``sure_t``."""

    __slots__ = (
        "exact_t",
        "gone_t",
        "identifier",
        "no_local",
        "qos",
        "since_t",
        "sure_t",
        "topic_filter",
        "topics",
        "weak_t",
    )

    def __init__(self, topic_filter: str, topics: frozenset[str], since_t: int) -> None:
        self.topic_filter = topic_filter
        self.topics = topics
        self.since_t = since_t
        self.sure_t = NEVER
        self.gone_t = NEVER
        self.qos: tuple[int, ...] = ()
        self.weak_t = 0  # until when it may have been of QoS 0, which promises nothing
        self.identifier: tuple[int, ...] = ()
        self.no_local = False
        self.exact_t = NEVER  # since when its options are known; NEVER: they are one of several


class Session:
    """One session of a client; ``alive`` says whether the broker must, may or must not have it."""

    __slots__ = (
        "alive", "away_t", "client", "deadline_hi_ns", "deadline_lo_ns", "ended_t", "expiry_hi_s", "expiry_lo_s",
        "last", "link", "must", "past", "subs", "sure_t", "unpromised", "unwritten_t", "wall_hi_ns",
        "wall_lo_ns", "widest_s",
    )  # fmt: skip

    def __init__(self, client: int, t: int) -> None:
        self.client = client
        self.alive = YES
        self.sure_t = t
        self.ended_t = NEVER
        self.expiry_lo_s = self.expiry_hi_s = 0
        self.deadline_lo_ns = self.deadline_hi_ns = NEVER
        self.wall_lo_ns = self.wall_hi_ns = NEVER
        self.away_t = NEVER
        self.unpromised = False  # its last CONNACK came while the disk took nothing
        self.unwritten_t = NEVER
        self.widest_s: tuple[int, int] | None = None  # its expiry, while a farewell that changed it is not recorded
        self.subs: dict[str, Sub] = {}
        self.past: list[Sub] = []
        self.must: dict[Message, None] = {}
        self.last: dict[tuple[int, str, int, int], int] = {}  # the newest by publisher, topic, QoS in and out
        self.link: Link | None = None

    @property
    def kept(self) -> bool:
        """Whether it surely outlives its connection."""
        return self.expiry_lo_s > 0

    def __repr__(self) -> str:
        return f"session of client {self.client}"


class Will:
    """A will, and whether it must, may or must not be published; ``due`` is when, once its connection is lost."""

    __slots__ = (
        "armed_t",
        "back_ns",
        "client",
        "closed_t",
        "decided_t",
        "delay_s",
        "due_hi_ns",
        "due_lo_ns",
        "graced",
        "had_left",
        "link",
        "message",
        "state",
    )

    ARMED, PENDING, FIRED, CANCELLED, UNSURE, DONE = range(6)

    def __init__(self, client: int, link: Link, message: Message, delay_s: int) -> None:
        self.client = client
        self.link = link
        self.message = message
        self.delay_s = delay_s
        self.state = Will.UNSURE
        self.closed_t = NEVER
        self.due_lo_ns = self.due_hi_ns = NEVER
        self.decided_t = NEVER
        self.armed_t = NEVER
        self.graced = False  # it was pending when the broker died
        self.had_left = False  # its client was lost before that
        self.back_ns = 0  # how far the wall clock had been set back by then
