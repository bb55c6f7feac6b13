"""The contracts between the broker's floors: what the rules of MQTT ask of the world around them.

Here belong protocols and the frozen values that cross them. Not here: any implementation, any I/O, any default
that decides behaviour. Every protocol has one contract suite in ``tests/contracts`` that each implementation passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypedDict

from broker.reasons import ReasonCode

OWN_PRINCIPALS = 2**31
"""The directory's numbers of principals end here: those of an embedder's Authenticator are moved behind them."""

LOCAL_PRINCIPALS = OWN_PRINCIPALS + 2**30
"""Numbers of principals from here on belong to the process itself: nobody else's grant may have one."""


class Durability(Enum):
    """When a promise (an acknowledgement) may leave: after the sync, a second before it at most, or never written."""

    SYNCED = "synced"
    RELAXED = "relaxed"
    MEMORY = "memory"

    @property
    def level(self) -> int:
        """The core's number: the higher, the more is promised; of two that bound each other the lower is in force."""
        return _LEVELS[self]


_LEVELS = {Durability.MEMORY: 0, Durability.RELAXED: 1, Durability.SYNCED: 2}


@dataclass(frozen=True, slots=True)
class Policy:
    """What a kind of principal may do, as topic filters; ``{device_id}`` stands for the principal's own device id.

    A publish is allowed when its topic name matches one of ``publish``; a subscription when all that its filter can
    match is covered by one of ``subscribe``. A pattern of ``publish`` that begins with ``!`` refuses what it covers; it
    stands before those that allow. Compared literally: a wildcard inside a device id opens nothing.
    """

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


class GrantLimits(NamedTuple):
    """What one principal may do and keep; 0 is without limit. The order is the core's."""

    messages_per_s: int = 0
    burst_messages: int = 0
    connections_maximum: int = 0
    sessions_maximum: int = 0
    subscriptions_maximum: int = 0
    retained_maximum: int = 0
    payload_maximum_bytes: int = 0
    queue_maximum_bytes: int = 0


NO_LIMITS = GrantLimits()


class AccountLimits(NamedTuple):
    """What all of an account together may have; 0 is without limit. The order is the core's.

    Of the connections, ``applications_reserved`` are for applications alone. Bytes are those of messages that wait in
    queues, of what is not sent yet, of retained messages, and of subscriptions with their filters.
    ``queue_full_policy`` is its word's place in ``config.QUEUE_FULL_POLICIES``, counted from 1; 0 is the broker's.
    """

    connections_maximum: int = 0
    applications_reserved: int = 0
    sessions_maximum: int = 0
    retained_maximum: int = 0
    retained_maximum_bytes: int = 0
    queue_maximum_bytes: int = 0
    outbox_maximum_bytes: int = 0
    filters_maximum_bytes: int = 0
    queue_full_policy: int = 0


UsageRow: TypeAlias = tuple[int, int | None, int, int, int, int]
"""Account, principal (None: the account's own), PUBLISH packets and their bytes in, the same out."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a proven identity is allowed: the answer to a credential.

    ``account_id`` is a 32-bit number, ``principal_id`` one below 2**30, both given once and never reused;
    ``principal`` is the device id or the application's name; ``device_id`` is empty for an application. An answer with
    a ``credential`` (32 bytes) names the grant of the table by which the CONNECT comes in, and with which it is cut.
    """

    account_id: int
    principal_id: int
    principal: str
    device_id: str
    policy: Policy
    durability: Durability = Durability.SYNCED
    limits: GrantLimits = NO_LIMITS
    credential: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a CONNECT is refused; the reason code is MQTT 5's, mapped for 3.1.1 where it becomes bytes."""

    reason_code: ReasonCode
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A CONNECT that the core does not judge itself. ``user_name`` and ``password`` are None when absent.

    ``certificate`` is what the client has shown in TLS, as DER, and was verified; empty when there was none. By a
    listener that asks for certificates every CONNECT is asked about, also one whose credential the core knows.
    """

    listener: int
    address: str
    protocol_version: int
    client_id: str
    user_name: str | None
    password: bytes | None = field(repr=False)
    certificate: bytes = field(default=b"", repr=False)


class Authenticator(Protocol):
    """Decides about clients that the core does not know. May wait: the connection is not read meanwhile."""

    async def authenticate(self, request: ConnectRequest) -> Grant | Refusal:
        """Judge one CONNECT. Must not raise for a bad credential: that is a ``Refusal``."""
        ...


class GrantTable(Protocol):
    """Who is known: the accounts floor writes it, the core reads it at each CONNECT without entering Python."""

    def put_grant(self, credential: bytes, grant: Grant) -> None:
        """Make a credential (32 bytes, see ``policy.credentials``) valid; replaces what it granted before."""
        ...

    def remove_grant(self, credential: bytes) -> None:
        """Make a credential invalid and cut the connections that came in with it (DISCONNECT 0x98).

        Sessions that are kept stay, for whoever the principal's next credential lets in.
        """
        ...

    async def remove_device(
        self, account_id: int, principal_id: int, device_id: str, records: Sequence[tuple[str, bytes]]
    ) -> None:
        """End all that a device has: connections (0x98), sessions, wills, and what it has set as retained.

        Its credential has been removed before. Also the retained messages under ``devices/{device_id}/``. All of it
        leaves the disk in one transaction with ``records``, tables and keys of what says who it is; returns then.
        """
        ...

    def put_account(self, account_id: int, limits: AccountLimits) -> None:
        """Limit an account; what it has above new limits stays, and nothing is added."""
        ...

    def set_quota(self, account_id: int, messages_left: int, bytes_left: int) -> None:
        """Let an account's clients publish until so much more has gone in and out."""
        ...

    def add_quota(self, account_id: int, messages: int, bytes_count: int) -> None:
        """Let them publish so much more than what is left to them now, or less where it is negative.

        What has been counted and was not taken yet stays counted.
        """
        ...


@dataclass(frozen=True, slots=True)
class Presence:
    """What the core knows about a principal: open connections, and when one was last opened or closed.

    ``last_seen_ns`` is on the broker's monotonic clock; 0 when it was not seen since the start.
    """

    connections: int
    last_seen_ns: int


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A network connection as its device's answer shows it; ``connected_at`` is seconds of UTC."""

    connected_at: int
    protocol: str
    address: str


class PresenceSource(Protocol):
    """Asked by ``admin`` for one principal at a time; constant cost."""

    def presence(self, principal_id: int) -> Presence:
        """Presence of one principal; zeros for one that the core does not know."""
        ...

    def credential_used_ns(self, credential: bytes) -> int:
        """When somebody last came in with a credential (monotonic); 0 for never since the start."""
        ...

    def newest_connection(self, principal_id: int) -> OpenConnection | None:
        """The network connection that a principal has opened last and has still; its few sessions are walked."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What a principal has at the moment; ``persistent_sessions`` outlive their connections."""

    connections: int = 0
    persistent_sessions: int = 0
    queued_messages: int = 0


PROTOCOLS = ("mqtt", "mqtts", "ws", "wss")
"""What clients speak, in the order of the core's doors."""


@dataclass(frozen=True, slots=True)
class AccountStanding:
    """What an account has at the moment: connections by ``PROTOCOLS``, and the most at once today; what is retained.

    Connections from inside the process are not counted; ``retained_bytes`` are those of budgets.
    """

    connections: tuple[int, int, int, int] = (0, 0, 0, 0)
    connections_peak: int = 0
    retained_count: int = 0
    retained_bytes: int = 0


class RightsSource(Protocol):
    """Asked by ``admin`` what a credential may do: the core judges topics, over REST as over MQTT."""

    def may_publish(self, credential: bytes, topic_name: str) -> bool:
        """Tell whether who comes in with a credential may publish to a topic; False for one that is not known."""
        ...


class FigureSource(PresenceSource, RightsSource, Protocol):
    """Asked by ``admin`` for figures; constant cost but for a principal's sessions, which are walked."""

    def standing(self, principal_id: int) -> Standing:
        """What a principal has; zeros for one that the core does not know."""
        ...

    def account_standing(self, account_id: int) -> AccountStanding:
        """What an account has; zeros for one that the core does not know."""
        ...


class UsageSource(Protocol):
    """Where counts come from; days are numbers since 1970."""

    def take_usage(self) -> Sequence[UsageRow]:
        """Take what was counted since the last call, in pieces; nothing at last."""
        ...

    def connections_peak(self, account_id: int) -> int:
        """The most connections that an account has had at once since the day began."""
        ...

    def begin_day(self, day: int) -> None:
        """Count the peaks of another day from now on; again the same one changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """A message that the server publishes itself.

    ``expiry_s`` is its Message Expiry Interval, 0: it never expires. Clients of MQTT 5 are told ``response_topic`` and
    ``correlation_data`` (empty: none); 3.1.1 has no place for them. Under ``tracking``, a number of 32 bits, somebody
    is told what becomes of it (0: nobody).
    """

    topic_name: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expiry_s: int = 0
    response_topic: str = ""
    correlation_data: bytes = b""
    tracking: int = 0


class TrackedKind(IntEnum):
    """What happens to a tracked message; the numbers are the core's."""

    TAKEN = 1
    SENT = 2
    ACKNOWLEDGED = 3
    DROPPED = 4
    SENT_ONCE = 5
    REFUSED = 6
    RETAINED = 7
    RELEASED = 8


class TrackedNote(NamedTuple):
    """One thing that happened to a tracked message.

    A device's session has taken it (TAKEN), has sent it for the first time (SENT), and has it no more: its client has
    acknowledged it, or it was DROPPED. With QoS 0 it is only sent (SENT_ONCE). A session may REFUSE it. As a retained
    message it waits for whoever subscribes, until it is RELEASED. ``tracking`` is 0 where only its number on disk is
    known (else that may be 0); ``reason`` is a ``DropReason``; ``principal_id`` is the session's, 0 for a retained one.
    """

    kind: int
    tracking: int
    number: int
    principal_id: int
    reason: int


class DeviceAnswer(NamedTuple):
    """What a device has answered to a message; ``payload`` is None where it has more than 16 KiB."""

    principal_id: int
    message_id: bytes
    payload: bytes | None
    payload_bytes: int


class TrackingSink(Protocol):
    """Told what becomes of tracked messages; on the loop's thread, cheap, and never raising."""

    def note(self, notes: Sequence[TrackedNote], answers: Sequence[DeviceAnswer]) -> None:
        """Take what happened since the last call."""
        ...

    def take_changes(self) -> Sequence[Change]:
        """Give what has to be written of it, in one transaction with what the core writes next."""
        ...


class Publisher(Protocol):
    """Publishing from inside the process into one account's topic space."""

    async def publish(
        self, account_id: int, message: ServerMessage, records: Callable[[int], Sequence[Change]] | None = None
    ) -> int:
        """Route one message; returns, when it is on disk, to how many sessions it was sent or queued.

        ``records`` is given that number, and what it returns is written in one transaction with the message. With QoS 0
        nothing is waited for unless it is retained or there are records. Raises ``BadRequest`` for an invalid topic
        name, ``PayloadTooLarge`` for a message over the limit, ``QuotaExceeded`` where no more messages may be
        retained, and ``Unavailable`` for one that has to be written to a disk that takes nothing.
        """
        ...

    async def written(self) -> None:
        """Return when everything that has been recorded until now is on disk."""
        ...

    def track(self, sink: TrackingSink) -> None:
        """Tell what becomes of tracked messages from now on, first of all which of them wait."""
        ...

    def look_at_tracked(self) -> None:
        """Tell it now."""
        ...

    def hear_answers(self, account_id: int) -> None:
        """Tell as well what an account's devices answer."""
        ...


class Change(NamedTuple):
    """One change of the store: put ``value`` under ``key`` in ``table``, or delete it where ``value`` is None.

    A plain tuple of the three is as good: what is frequent is written so.
    """

    table: str
    key: bytes
    value: bytes | None


PlainChange: TypeAlias = tuple[str, bytes, bytes | None]
"""A ``Change`` without its name."""

CommitCallback = Callable[[int, BaseException | None], None]

ReadCallback = Callable[[Sequence[bytes | None], BaseException | None], None]
"""Given the value of each key (None: there is none) and None, or nothing and the error."""

Entries: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Keys with their values, in key order."""

EntriesCallback = Callable[[Entries, BaseException | None], None]
"""Given the entries and None, or nothing and the error."""

StoreState = Literal["ok", "full", "failed", "read_only"]


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Whether the store keeps what it is given, and how much room it has.

    ``ok``; ``full``: more than 90 % of the budget is used, and until less than 85 % is again, what is given is still
    kept but nothing new should be begun; ``failed`` and ``read_only``: nothing is kept, each submit is answered with
    an error, and the store tries by itself until the disk is well. ``reason`` says why, for people; empty while
    ``ok``. ``used_bytes`` are those of pages that hold something, ``free_bytes`` those of the file that hold nothing
    any more; they are of a moment ago. ``budget_bytes`` is what the file may take.
    """

    state: StoreState = "ok"
    reason: str = ""
    used_bytes: int = 0
    free_bytes: int = 0
    budget_bytes: int = 0


HealthCallback = Callable[[StoreHealth], None]

COMMIT_BOUNDS_NS = (
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
)
"""Upper bounds of ``StoreFigures.commit_counts``, all but the last, which has none."""


class StoreFigures(TypedDict):
    """Transactions, the records that committed ones changed, the time they took, and submits not answered yet.

    ``synced_ns`` is the time that commits waited for the disk, ``commit_counts`` how many of them took how long,
    ``last_sync_ns`` and ``longest_sync_ns`` the last one's and the longest one's. Then what ``StoreHealth`` tells, as
    ``healthy`` (1 or 0) and bytes, with the file's length; ``reads`` are the records that were asked for.
    """

    commits: int
    failed_commits: int
    changes: int
    busy_ns: int
    waiting: int
    reads: int
    synced_ns: int
    last_sync_ns: int
    longest_sync_ns: int
    commit_counts: list[int]
    healthy: int
    state: StoreState
    used_bytes: int
    free_bytes: int
    file_bytes: int
    budget_bytes: int


def no_store_figures() -> StoreFigures:
    """Give the figures of a store that has done nothing yet."""
    return StoreFigures(
        commits=0,
        failed_commits=0,
        changes=0,
        busy_ns=0,
        waiting=0,
        reads=0,
        synced_ns=0,
        last_sync_ns=0,
        longest_sync_ns=0,
        commit_counts=[0] * (len(COMMIT_BOUNDS_NS) + 1),
        healthy=1,
        state="ok",
        used_bytes=0,
        free_bytes=0,
        file_bytes=0,
        budget_bytes=0,
    )


class Store(Protocol):
    """Durable tables of bytes with tickets: a ticket is answered once, after its changes are synced or have failed.

    ``submit`` and ``read`` never block and are answered on the thread of the owner (the event loop's), never inside
    the call: tickets in the order in which they were submitted, reads in theirs. ``error`` is None exactly when the
    changes are durable. All changes of one submit are atomic. A submit that failed has changed nothing, as far as
    the disk could tell; submitting the same again is right in either case.
    """

    @property
    def health(self) -> StoreHealth:
        """How the store is, as the owner's thread knows it: changes are told before the answers that they explain."""
        ...

    def watch(self, callback: HealthCallback) -> None:
        """Call back on the owner's thread at every change of ``health.state`` or its reason, from now on."""
        ...

    def load(self, table: str) -> Sequence[tuple[bytes, bytes]]:
        """All committed entries of a table in key order; for start-up only. Raises ``StoreError``."""
        ...

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Committed entries of a table in key order, without holding all of them; for start-up only.

        Entries that are committed while it runs may or may not be among them. Raises ``StoreError``.
        """
        ...

    def read(self, table: str, keys: Sequence[bytes], on_read: ReadCallback) -> None:
        """Read the committed values of some keys, on another thread; calls ``on_read(values, error)`` exactly once.

        All of one call are of one moment, after everything that was answered as durable before the call. Values
        are in memory at once: ask for pages, not for tables.
        """
        ...

    def read_range(self, table: str, first: bytes, end: bytes, at_most: int, on_read: EntriesCallback) -> None:
        """Read the committed entries with ``first`` <= key < ``end``, the first ``at_most`` of them, in key order.

        Another thread does it, and ``on_read(entries, error)`` is called exactly once, as for ``read`` and in its
        order. Whoever gets ``at_most`` entries asks for the next ones behind the last key.
        """
        ...

    def submit(self, ticket: int, changes: Sequence[PlainChange], on_committed: CommitCallback) -> None:
        """Take changes for the next group commit; calls ``on_committed(ticket, error)`` exactly once."""
        ...

    def figures(self) -> StoreFigures:
        """Tell what was done since the start, and how the store is."""
        ...

    async def close(self) -> None:
        """Commit what was submitted, answer its tickets and reads, release the files."""
        ...


class Observer(Protocol):
    """Told what happened, with no veto; implementations must be cheap and must not raise."""

    def event(self, name: str, **fields: object) -> None:
        """One rare event (a connection refused, a listener opened), with plain values."""
        ...
