"""The shard: everything one native core knows, behind handles. It does no I/O, reads no clock and draws no number.

A handle names one network connection: a slot and its generation. Calls with a handle that has become invalid find
nothing (``LookupError`` where an answer is owed). Times are nanoseconds on the owner's monotonic clock. Every call
must come from the thread that made the shard (``WrongThread`` otherwise).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypedDict, final, type_check_only

from broker.ports import PlainChange
from broker.stories import ConnectionRow, CoreStory, SessionRow

LIMITS: tuple[str, ...]
"""The names that ``limits`` must have, all of them."""

GRANT_LIMITS: tuple[str, ...]
"""The figures of one principal's limits, in the order in which ``put_grant`` and ``admit`` take them; 0: without."""

ACCOUNT_LIMITS: tuple[str, ...]
"""The same of an account, in the order in which ``put_account`` takes them."""

@type_check_only
class Description(TypedDict):
    """One connection as it is now; numbers are 0 and texts empty before CONNECT was accepted."""

    listener: int
    protocol_version: int
    state: int
    keep_alive_s: int
    close_reason: int
    request_problem_information: bool
    client_id: str
    principal_id: int
    subscriptions: int
    queued_messages: int
    outbound_inflight: int
    promises_held: int

@final
class Shard:
    """One native core.

    ``limits`` are enforced and announced; ``secret`` (32 bytes) keys credentials; ``hash_seed`` keeps topic names from
    being chosen to collide. Raises ``ValueError`` for limits that it cannot keep.
    """

    def __new__(cls, limits: Mapping[str, int], *, secret: bytes, hash_seed: int, now_ns: int) -> Shard: ...
    def put_grant(
        self,
        credential: bytes,
        account_id: int,
        principal_id: int,
        principal: str,
        device_id: str,
        publish: Sequence[str],
        subscribe: Sequence[str],
        *,
        durability: int = 2,
        limits: Sequence[int] = (),
    ) -> None:
        """Make a credential known, so that CONNECTs with it need no Python; replaces an earlier one and cuts it.

        Where nothing but ``limits`` (see ``GRANT_LIMITS``; empty: none) and ``durability`` (0 memory, 1 relaxed,
        2 synced; for those who connect from now on) differ, nobody is cut. Raises ``ValueError`` for a level that there
        is not, and for a number of figures that is not theirs.
        """
        ...

    def remove_grant(self, credential: bytes) -> int:
        """Forget a credential; its connections are closed with 0x98. Returns how many there were."""
        ...

    def revoke_principal(self, principal_id: int, now_ns: int) -> None:
        """End a principal that is no more: its connections (0x98), sessions and wills. Its grants go before."""
        ...

    def put_account(self, account_id: int, limits: Sequence[int]) -> None:
        """Limit an account (see ``ACCOUNT_LIMITS``); what it has above new limits stays. Raises ``ValueError``."""
        ...

    def forget_accounts(self, first: int, count: int) -> int:
        """Free accounts that were only ever named by grants, and in which nobody and nothing is any more.

        Looks at ``count`` buckets of their table from ``first`` (0) on; returns where to go on, 0 at the end.
        """
        ...

    def open_listener(self, listener: int, account_id: int, principal_id: int, principal: str) -> None:
        """Let everybody in on a listener (0 to 63), with all rights in one account's topic space."""
        ...

    def allow_applications(self, listener: int) -> None:
        """Take applications (principals without a device id) on a listener from anywhere, not from loopback alone."""
        ...

    def set_door(self, listener: int, door: int) -> None:
        """Count who comes through a listener (0 to 254) by its protocol: 0 mqtt, 1 mqtts, 2 ws, 3 wss."""
        ...

    def set_day(self, day: int) -> None:
        """Begin another day for the peaks of connections, where it is another number than the last one."""
        ...

    def standing(self, principal_id: int) -> tuple[int, int, int]:
        """Give a principal's open connections, sessions that outlive theirs, and messages in all its queues."""
        ...

    def system_readers(self, first: int, count: int) -> tuple[list[int], int]:
        """Give accounts that have a subscription to topics below `$SYS`, and an application that is connected.

        Looks at ``count`` buckets of their table from ``first`` (0) on; also where to go on, 0 at the end.
        """
        ...

    def account_connections(self, account_id: int) -> tuple[int, list[int]]:
        """Give the most connections that an account has had at once today, and those of now by ``set_door``.

        Connections from inside the process are in neither.
        """
        ...

    def presence(self, principal_id: int) -> tuple[int, int]:
        """Give a principal's open connections and when one was last opened or closed; zeros for an unknown one."""
        ...

    def credential_used_ns(self, credential: bytes) -> int:
        """Tell when somebody last came in with a credential; 0 for never since the start, and for an unknown one."""
        ...

    def credential_may_publish(self, credential: bytes, topic_name: bytes) -> bool:
        """Tell whether who comes in with a credential may publish to a topic; False for an unknown one."""
        ...

    def watch_stories(self) -> None:
        """Note from now on what happens to devices, so that it can be taken; before that nothing is."""
        ...

    def take_stories(self, at_most: int = ...) -> list[CoreStory]:
        """Take what has happened to up to ``at_most`` devices, one account's after another's.

        When something is left, a rare packet of kind ``STORIES`` says so again.
        """
        ...

    def take_gathered(self, at_most: int = ...) -> list[CoreStory]:
        """Take the same of devices of which alone something is known that may happen very often.

        Nobody calls for it: what is taken once a second is gathered for so long.
        """
        ...

    def gathered(self) -> int:
        """Tell how many devices ``take_gathered`` has something of now."""
        ...

    def open_connection(
        self,
        listener: int,
        now_ns: int,
        *,
        from_loopback: bool = True,
        address: bytes = b"",
        websocket: bool = False,
    ) -> int:
        """Open a connection without a socket and return its handle; 0 when a limit of connections is reached.

        ``address`` (16 bytes, IPv4 mapped) counts it among the strangers from there. A ``websocket`` begins with the
        request of its handshake.
        """
        ...

    def feed(self, handle: int, data: bytes | bytearray | memoryview, now_ns: int, deliveries: int = ...) -> None:
        """Take bytes as if they had been received; the slice ends after ``deliveries``, or work that takes as long."""
        ...

    def answer_upgrade(self, handle: int, answer: bytes, accepted: bool) -> bool:
        """Give a WebSocket's request the HTTP answer; frames follow it when it is accepted, else the end.

        False: nobody waits for it any more.
        """
        ...

    def take_output(self, handle: int, at_most: int = -1) -> bytes:
        """Take the bytes that wait to be sent, all or ``at_most``; also from a connection that is closing."""
        ...

    def is_open(self, handle: int) -> bool:
        """Tell whether the connection lives and is not closing."""
        ...

    def is_stopped(self, handle: int) -> bool:
        """Tell whether nothing is read from it: a barrier, an unfinished fan-out, too many promises or unsent bytes."""
        ...

    def connections(self, cursor: int, at_most: int, account_id: int | None = None) -> tuple[list[ConnectionRow], int]:
        """Give a page of the network connections that were let in, of one account or of all.

        Begin with cursor 0, and go on with the one that is returned until that is 0. A page may be empty, and is
        bounded in what is looked at for it. Who stays connected all the while is in exactly one page.
        """
        ...

    def sessions(self, cursor: int, at_most: int, account_id: int | None = None) -> tuple[list[SessionRow], int]:
        """Give a page of sessions in the same way; some more than ``at_most``, and, while many come, one twice."""
        ...

    def connections_of(self, principal_id: int) -> list[ConnectionRow]:
        """Give a principal's network connections."""
        ...

    def sessions_of(self, principal_id: int) -> list[SessionRow]:
        """Give a principal's sessions."""
        ...

    def connection(self, handle: int) -> ConnectionRow | None:
        """Give a network connection that was let in; None for any other handle."""
        ...

    def end_session(self, principal_id: int, client_id: bytes, now_ns: int) -> bool:
        """End a session, and its connection with 0x98; its will is published. False: there is none."""
        ...

    def close_connection(self, handle: int) -> None:
        """Close as if the peer had gone away."""
        ...

    def fail_connection(self, handle: int, reason_code: int) -> None:
        """Close with a reason code, in the words of the connection's version and state."""
        ...

    def fail_all(self, reason_code: int) -> None:
        """Close every connection with a reason code."""
        ...

    def describe(self, handle: int) -> Description | None:
        """Describe a connection; None when the handle names none."""
        ...

    def run(self, now_ns: int, deliveries: int = ...) -> bool:
        """Run one slice: timers, unfinished fan-outs, connections that may go on. True when more is due."""
        ...

    def collect(self) -> None:
        """End a round without a reactor: free what has closed and whose output was taken or is not wanted."""
        ...

    def next_deadline_ns(self) -> int | None:
        """Give when ``run`` has to be called again for a timer; None when nothing is armed."""
        ...

    def take_rare(self) -> list[tuple[int, int, int, int, int, bytes]]:
        """Take the packets that wait for an answer: see ``broker.engine.core.RarePacket``."""
        ...

    def seal(self) -> tuple[int, list[PlainChange]] | None:
        """Close the journal's open batch: its ticket and what it changes; None when it is empty.

        One batch is under way at a time: ``ValueError`` before the one before it is settled.
        """
        ...

    def settle(self, ticket: int) -> None:
        """The sealed batch is on disk: its promises leave. ``ValueError`` for any other ticket."""
        ...

    def set_refusing(self, refusing: bool) -> None:
        """Refuse what would need the disk before it is routed (0x97), or take it again."""
        ...

    def erase(self, table: str, key: bytes) -> None:
        """Delete a record of somebody else's (a device, its sightings) in one transaction with the open batch.

        Raises ``ValueError`` for a table whose records are the core's own.
        """
        ...

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Write a record of somebody else's in one transaction with the open batch; raises as ``erase`` does."""
        ...

    def set_wall(self, now_ns: int, wall_ns: int) -> None:
        """Tell how the wall clock stands to the monotonic one, for what is written to disk."""
        ...

    def newest_ticket(self) -> int:
        """The ticket of everything that was recorded until now; it may be settled already."""
        ...

    def open_batch_bytes(self) -> int:
        """The size of the batch that is being gathered."""
        ...

    def set_fold(self, ops_bytes: int) -> None:
        """Write what sessions have queued and in flight anew when so many bytes of changes to it are on disk."""
        ...

    def set_crowded(self, deliveries: int) -> None:
        """Keep no more than so many deliveries one by one that wait for one session on disk, 2 or more; 16 if unset."""
        ...

    def set_merging(self, small_chunks: int, fewest: int) -> None:
        """Make small chunks one, ``fewest`` or more (2 at least), where there are more than ``small_chunks`` chunks."""
        ...

    def settled_ticket(self) -> int:
        """The last ticket that is on disk."""
        ...

    def restore(
        self,
        scan: Callable[[str], Iterable[tuple[bytes, bytes]]],
        now_ns: int,
        wall_ns: int,
        *,
        known: Callable[[int], bool] | None = None,
        restart_grace_s: float = 30.0,
    ) -> dict[str, int]:
        """Bring back what is on disk: retained messages, sessions, what is queued and in flight (unread), wills.

        Once, after grants were put and before anything else. ``scan`` gives a table's committed rows in key order;
        ``known`` tells whether a principal without a grant still exists (below ``OWN_PRINCIPALS``): else its sessions
        end, and what it has retained goes. Clients that were connected have ``restart_grace_s`` to come back before
        their wills are due. Returns how many records of which tables were left out since they are none.
        """
        ...

    def wanted(self, maximum_bytes: int = ...) -> list[bytes]:
        """Keys of the chunks of messages that sessions wait for, each once; none until those before have come.

        Each is answered by ``loaded`` or ``unread``. ``maximum_bytes`` bounds their sizes, but for the first.
        """
        ...

    def loaded(self, key: bytes, chunk: bytes | None) -> int:
        """Give a chunk that was wanted, as it was written; None: there is none (any more).

        Returns how many deliveries are lost with it: it cannot be read, or does not hold them.
        """
        ...

    def unread(self, key: bytes) -> None:
        """Ask once more for a chunk that was wanted: it could not be read now."""
        ...

    def journal(self) -> dict[str, int | bool]:
        """Figures of what is on disk and on its way there."""
        ...

    def set_durability(self, listener: int, durability: int) -> None:
        """Bound the level (0 memory, 1 relaxed, 2 synced) of those who come through a listener (0 to 255)."""
        ...

    def admit(
        self,
        handle: int,
        account_id: int,
        principal_id: int,
        principal: str,
        device_id: str,
        publish: Sequence[str],
        subscribe: Sequence[str],
        *,
        durability: int = 2,
        limits: Sequence[int] = (),
        credential: bytes = b"",
    ) -> bool:
        """Accept the CONNECT that waits at this connection; False when none waits any more.

        With a ``credential`` (32 bytes) it comes in with the grant that stands in the table under it, in place of all
        else that is said here, and is cut when that one ends; it is refused when there is none any more.
        """
        ...

    def subscribe(
        self,
        handle: int,
        topic_filter: bytes,
        qos: int,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifier: int = 0,
        retain_handling: int = 0,
    ) -> bool:
        """Add or replace a subscription with a valid filter; False when the session has its maximum.

        Retained messages follow the reply: always (``retain_handling`` 0), for a new one (1), never (2).
        """
        ...

    def unsubscribe(self, handle: int, topic_filter: bytes) -> bool:
        """Remove a subscription; False when there was none."""
        ...

    def may_subscribe(self, handle: int, topic_filter: bytes) -> bool:
        """Tell whether everything that the filter can match is allowed; that it is not belongs to a device's story."""
        ...

    def may_publish(self, handle: int, topic_name: bytes) -> bool:
        """Tell whether the topic name is allowed."""
        ...

    def judge(
        self,
        account_id: int,
        principal_id: int,
        device_id: str,
        publish: Sequence[str],
        subscribe: Sequence[str],
        limits: Sequence[int],
        topic: bytes,
        *,
        publishes: bool,
        retain: bool = False,
        payload_bytes: int = 0,
    ) -> tuple[int, int | None]:
        """Tell what would be decided about a publish or a subscription with these rights and limits.

        A ``stories.Verdict``, and the place of the pattern that decides, None where none does. The account and the
        principal need not be known.
        """
        ...

    def valid_topic_filter(self, topic_filter: bytes) -> bool:
        """Tell whether this is a topic filter (section 4.7) within the limits."""
        ...

    def valid_topic_name(self, topic_name: bytes) -> bool:
        """Tell whether this is a topic name (section 4.7) within the limits."""
        ...

    def reply(self, handle: int, packet: bytes) -> None:
        """Stage the encoded answer to the packet that waits, behind earlier promises, and lift the barrier."""
        ...

    def publish(
        self,
        account_id: int,
        topic_name: bytes,
        payload: bytes,
        qos: int,
        now_ns: int,
        *,
        retain: bool = False,
        expiry_s: int = 0,
        properties: bytes = b"",
        counted: bool = True,
        tracking: int = 0,
    ) -> int:
        """Publish from inside the process; returns how many sessions took it (or will be offered it in later slices).

        ``expiry_s`` is the Message Expiry Interval, 0: none; ``properties`` are others as they stand in a PUBLISH,
        valid and without their length. It counts as the account's own usage, unless it is the broker's word and
        ``counted`` is False. Under ``tracking`` (32 bits; 0: no) ``take_tracked`` tells what becomes of it. Raises
        ``BadRequest`` for a bad topic name or QoS, ``PayloadTooLarge``, and ``QuotaExceeded`` for a retained one that
        the account or the broker has no room for.
        """
        ...

    def hear_answers(self, account_id: int) -> None:
        """Let ``take_answers`` tell what an account's devices answer to messages, from now on."""
        ...

    def take_tracked(self) -> list[tuple[int, int, int, int, int]]:
        """Take what has become of tracked messages since the last call, in order: see ``ports.TrackedNote``.

        After ``restore`` each delivery that a session on disk has, and each retained message, is told as taken.
        """
        ...

    def take_answers(self) -> list[tuple[int, bytes, bytes | None, int]]:
        """Take what devices have published to ``devices/{their id}/events/commands/{id}`` since the last call.

        Principal, the topic's last level, payload, and its length: a payload of more than 16 KiB is None. Its PUBACK
        or PUBREC leaves when the batch that is open now is on disk.
        """
        ...

    def set_quota(self, account_id: int, messages_left: int | None = None, bytes_left: int | None = None) -> None:
        """Let an account's clients publish until so much more has gone in or out; None: without end."""
        ...

    def add_quota(self, account_id: int, messages: int, bytes_count: int) -> None:
        """Let an account's clients publish so much more than what is left to them now; less where it is negative."""
        ...

    def quota_left(self, account_id: int) -> tuple[int | None, int | None]:
        """Give what is left of an account's messages and bytes; below 0 when more was sent out. None: without end."""
        ...

    def take_usage(self, at_most: int = ...) -> list[tuple[int, int | None, int, int, int, int]]:
        """Take what has been counted since the last call, for up to ``at_most`` principals and accounts.

        Account, principal (None: the account's own, published from inside the process), messages and bytes in,
        messages and bytes out. PUBLISH packets, inbound when accepted, outbound when first sent.
        """
        ...

    def clear_retained(self, account_id: int, topic_filter: bytes) -> tuple[int, bool]:
        """Remove an account's retained messages that a filter matches; nobody is told.

        Returns how many went, and whether to call again for more: one call takes under a millisecond or so. Raises
        ``BadRequest`` for a bad filter.
        """
        ...

    def clear_authored(self, principal_id: int) -> tuple[int, bool]:
        """Remove the retained messages that a principal has set; returns as ``clear_retained`` does."""
        ...

    def retained(self, account_id: int) -> tuple[int, int]:
        """Give the number of an account's retained messages and the bytes that they are counted as."""
        ...

    def counters(self) -> dict[str, int | list[int]]:
        """Give the shard's figures; ``drops`` is indexed by ``DropReason``."""
        ...

    def drops(self, account_id: int, principal_id: int | None = None) -> list[int]:
        """Give drops by ``DropReason`` of an account, or of one principal."""
        ...
