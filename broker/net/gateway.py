"""The core as the ports see it: grants in, presence out, messages from inside the process.

Here belongs the step from frozen values to the shard's calls, with the reactor's clock. Not here: any rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from broker._core.properties import encode_properties
from broker._core.reactor import Reactor
from broker._core.shard import LIMITS
from broker.config import QUEUE_FULL_POLICIES, Capabilities
from broker.errors import BadRequest, Unavailable
from broker.ports import (
    AccountLimits,
    AccountStanding,
    Change,
    DeviceAnswer,
    Grant,
    OpenConnection,
    Presence,
    ServerMessage,
    Standing,
    TrackedNote,
    TrackingSink,
    UsageRow,
)
from broker.reasons import DropReason, ReasonCode
from broker.stories import PROTOCOLS_OF_DOORS, ConnectionNow, CoreStory, Event, EventKind, SessionNow, Story

NS_PER_S = 1_000_000_000
USAGE_PER_CALL = 250
BUCKETS_PER_CALL = 1000


def core_limits(capabilities: Capabilities) -> dict[str, int]:
    """Give the core its limits: under the configuration's names, times in nanoseconds, words as numbers."""
    limits = {name: getattr(capabilities, name) for name in LIMITS if name != "connect_timeout_ns"}
    return {
        **limits,
        "queue_full_policy": QUEUE_FULL_POLICIES.index(capabilities.queue_full_policy),
        "connect_timeout_ns": int(capabilities.connect_timeout_s * NS_PER_S),
    }


class Gateway:
    """Implements ``ports.GrantTable``, ``FigureSource``, ``UsageSource`` and ``Publisher`` on one reactor's shard.

    Also ``stories.StorySource`` and ``Announcer``.

    ``durable`` waits until everything that was recorded is on disk.
    """

    def __init__(self, reactor: Reactor, durable: Callable[[], Awaitable[None]]) -> None:
        self._reactor = reactor
        self._durable = durable
        self._shard = reactor.shard
        self._sink: TrackingSink | None = None

    def put_grant(self, credential: bytes, grant: Grant) -> None:
        """Make a credential known to the core."""
        self._shard.put_grant(
            credential,
            grant.account_id,
            grant.principal_id,
            grant.principal,
            grant.device_id,
            grant.policy.publish,
            grant.policy.subscribe,
            durability=grant.durability.level,
            limits=grant.limits,
        )
        self._reactor.soon()

    def remove_grant(self, credential: bytes) -> None:
        """Forget a credential and cut who came in with it."""
        if self._shard.remove_grant(credential):
            self._reactor.soon()

    async def remove_device(
        self, account_id: int, principal_id: int, device_id: str, records: Sequence[tuple[str, bytes]]
    ) -> None:
        """End all that a device has: no batch is sealed meanwhile, so that all of it goes with one."""
        more = True
        while more:
            _, more = self._shard.clear_authored(principal_id)
        more = True
        while more:
            _, more = self._shard.clear_retained(account_id, f"devices/{device_id}/#".encode())
        self._shard.revoke_principal(principal_id, self._reactor.now_ns())
        for table, key in records:
            self._shard.erase(table, key)
        self._reactor.soon()
        await self._durable()

    def put_account(self, account_id: int, limits: AccountLimits) -> None:
        """Limit an account."""
        self._shard.put_account(account_id, limits)

    def set_quota(self, account_id: int, messages_left: int, bytes_left: int) -> None:
        """Let an account's clients publish until so much more has gone in and out."""
        self._shard.set_quota(account_id, messages_left, bytes_left)

    def add_quota(self, account_id: int, messages: int, bytes_count: int) -> None:
        """Let them publish so much more than what is left to them now."""
        self._shard.add_quota(account_id, messages, bytes_count)

    async def forget_accounts(self) -> None:
        """Free what is left of accounts that an Authenticator named once, and that nobody is in any more."""
        bucket = self._shard.forget_accounts(0, BUCKETS_PER_CALL)
        while bucket:
            await asyncio.sleep(0)
            bucket = self._shard.forget_accounts(bucket, BUCKETS_PER_CALL)

    def take_usage(self) -> list[UsageRow]:
        """Take what has been counted since the last call; in pieces, so that many hold nobody up."""
        return self._shard.take_usage(USAGE_PER_CALL)

    def connections_peak(self, account_id: int) -> int:
        """Give the most connections that an account has had at once since the day began."""
        return self._shard.account_connections(account_id)[0]

    def begin_day(self, day: int) -> None:
        """Count the peaks of another day from now on."""
        self._shard.set_day(day)

    def standing(self, principal_id: int) -> Standing:
        """Give what a principal has; zeros for one that the core does not know."""
        return Standing(*self._shard.standing(principal_id))

    def account_standing(self, account_id: int) -> AccountStanding:
        """Give what an account has; zeros for one that the core does not know."""
        peak, (mqtt, mqtts, ws, wss) = self._shard.account_connections(account_id)
        return AccountStanding((mqtt, mqtts, ws, wss), peak, *self._shard.retained(account_id))

    def presence(self, principal_id: int) -> Presence:
        """Give a principal's presence; zeros for one that the core does not know."""
        connections, last_seen_ns = self._shard.presence(principal_id)
        return Presence(connections, last_seen_ns)

    def credential_used_ns(self, credential: bytes) -> int:
        """Tell when somebody last came in with a credential; 0 for never since the start."""
        return self._shard.credential_used_ns(credential)

    def may_publish(self, credential: bytes, topic_name: str) -> bool:
        """Tell whether who comes in with a credential may publish to a topic; False for one that is not known."""
        return self._shard.credential_may_publish(credential, topic_name.encode())

    def newest_connection(self, principal_id: int) -> OpenConnection | None:
        """Give the network connection that a principal has opened last and has still."""
        rows = self.connections_of(principal_id)
        if not rows:
            return None
        newest = max(rows, key=lambda row: row.connected_at_ns)
        return OpenConnection(newest.connected_at_ns // NS_PER_S, PROTOCOLS_OF_DOORS[newest.door], newest.address)

    # ------------------------------------------------------------ for those who look after it

    def connections(self, cursor: int, at_most: int, account_id: int | None) -> tuple[list[ConnectionNow], int]:
        """Give a page of network connections."""
        rows, behind = self._shard.connections(cursor, at_most, account_id)
        return [ConnectionNow._make(row) for row in rows], behind

    def sessions(self, cursor: int, at_most: int, account_id: int | None) -> tuple[list[SessionNow], int]:
        """Give a page of sessions."""
        rows, behind = self._shard.sessions(cursor, at_most, account_id)
        return [SessionNow._make(row) for row in rows], behind

    def connections_of(self, principal_id: int) -> list[ConnectionNow]:
        """Give a principal's network connections."""
        return [ConnectionNow._make(row) for row in self._shard.connections_of(principal_id)]

    def sessions_of(self, principal_id: int) -> list[SessionNow]:
        """Give a principal's sessions."""
        return [SessionNow._make(row) for row in self._shard.sessions_of(principal_id)]

    def connection(self, handle: int) -> ConnectionNow | None:
        """Give one network connection."""
        row = self._shard.connection(handle)
        return None if row is None else ConnectionNow._make(row)

    def disconnect(self, handle: int) -> None:
        """Close a connection with 0x98."""
        self._shard.fail_connection(handle, ReasonCode.ADMINISTRATIVE_ACTION)
        self._reactor.soon()

    async def end_session(self, principal_id: int, client_id: str) -> bool:
        """End a session; returns when that is on disk."""
        found = self._shard.end_session(principal_id, client_id.encode(), self._reactor.now_ns())
        self._reactor.soon()
        if found:
            await self._durable()
        return found

    def judge(self, grant: Grant, topic: str, *, publishes: bool, retain: bool, payload_bytes: int) -> tuple[int, int]:
        """Tell what would be decided with a grant."""
        verdict, place = self._shard.judge(
            grant.account_id,
            grant.principal_id,
            grant.device_id,
            grant.policy.publish,
            grant.policy.subscribe,
            grant.limits,
            topic.encode(errors="surrogatepass"),
            publishes=publishes,
            retain=retain,
            payload_bytes=payload_bytes,
        )
        return verdict, -1 if place is None else place

    async def publish(
        self, account_id: int, message: ServerMessage, records: Callable[[int], Sequence[Change]] | None = None
    ) -> int:
        """Route one message; returns, when it is on disk, to how many sessions it was sent or queued."""
        if records is not None and self._shard.journal()["refusing"]:
            raise Unavailable("the disk takes nothing now: nothing was published")
        taken = self._shard.publish(
            account_id,
            message.topic_name.encode(),
            message.payload,
            message.qos,
            self._reactor.now_ns(),
            retain=message.retain,
            expiry_s=message.expiry_s,
            properties=_properties(message),
            tracking=message.tracking,
        )
        self.look_at_tracked()
        changes = () if records is None else records(taken)
        self._record(changes)
        self._reactor.soon()
        if message.qos or message.retain or changes:
            await self._durable()
        return taken

    def _record(self, changes: Sequence[Change]) -> None:
        """Let somebody else's records go to disk with what the core writes next."""
        for table, key, value in changes:
            if value is None:
                self._shard.erase(table, key)
            else:
                self._shard.put(table, key, value)

    def announce(self, account_id: int, topic_name: str, payload: bytes) -> None:
        """Publish the broker's own word; nobody waits for it, and it is nobody's usage."""
        name, now_ns = topic_name.encode(), self._reactor.now_ns()
        for qos in (1, 0):
            try:
                self._shard.publish(account_id, name, payload, qos, now_ns, counted=False)
                break
            except Unavailable:  # the disk takes nothing: to those who are there
                continue
            except BadRequest:
                return
        self._reactor.soon()

    def tell_figure(self, account_id: int, topic_name: str, payload: bytes) -> None:
        """Publish a figure to those who are there, with QoS 0; it is nobody's usage."""
        self._shard.publish(account_id, topic_name.encode(), payload, 0, self._reactor.now_ns(), counted=False)
        self._reactor.soon()

    def system_readers(self, first: int, count: int) -> tuple[list[int], int]:
        """Give accounts that have somebody connected who may read figures below `$SYS`."""
        return self._shard.system_readers(first, count)

    def account_drops(self, account_id: int) -> list[int]:
        """Give what an account's sessions did not get, by reason, since the start."""
        return self._shard.drops(account_id)

    def account_of(self, handle: int) -> int | None:
        """Tell whose a network connection is; None for one that is none, or no more."""
        row = self._shard.connection(handle)
        return None if row is None else ConnectionNow._make(row).account_id

    def take_stories(self, at_most: int) -> Sequence[Story]:
        """Take what has happened to devices."""
        return [story_of(one) for one in self._shard.take_stories(at_most)]

    def take_gathered(self, at_most: int) -> Sequence[Story]:
        """Take what was gathered."""
        return [story_of(one) for one in self._shard.take_gathered(at_most)]

    def gathered(self) -> int:
        """Tell of how many devices something was gathered."""
        return self._shard.gathered()

    def track(self, sink: TrackingSink) -> None:
        """Tell what becomes of tracked messages from now on, first of all which of them wait."""
        self._sink = sink
        self.look_at_tracked()

    def look_at_tracked(self) -> None:
        """Tell it now."""
        if self._sink is not None:
            notes = [TrackedNote(*one) for one in self._shard.take_tracked()]
            answers = [DeviceAnswer(*one) for one in self._shard.take_answers()]
            if notes or answers:
                self._sink.note(notes, answers)

    def before_seal(self) -> None:
        """Let what has become of tracked messages go with the batch that tells of it."""
        self.look_at_tracked()
        if self._sink is not None:
            self._record(self._sink.take_changes())

    def hear_answers(self, account_id: int) -> None:
        """Tell as well what an account's devices answer."""
        self._shard.hear_answers(account_id)

    async def written(self) -> None:
        """Return when everything that has been recorded until now is on disk."""
        await self._durable()


def _properties(message: ServerMessage) -> bytes:
    """Give the properties of a message but for its expiry, without their length, as they stand in its PUBLISH."""
    given: dict[str, object] = {}
    if message.response_topic:
        given["response_topic"] = message.response_topic
    if message.correlation_data:
        given["correlation_data"] = message.correlation_data
    encoded = encode_properties(given, "PUBLISH_OUTBOUND")
    length_bytes = next(at for at, one in enumerate(encoded, 1) if one < 0x80)
    return encoded[length_bytes:]


def story_of(told: CoreStory) -> Story:
    """Give a story of the core its names."""
    account_id, principal_id, device_id, was_online, is_online, events, drops, lost = told
    happened = [Event._make((EventKind(one[0]), *one[1:])) for one in events]
    counted = [(DropReason(reason), count) for reason, count in drops]
    return Story(account_id, principal_id, device_id, was_online, is_online, happened, counted, lost)
