"""What tests of the upper floors share: a directory over a memory store, invented time, and a core that only listens.

Here belong stand-ins for the ports below ``accounts`` and ``admin``. Not here: anything of the native core.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.accounts.counting import Counting
from broker.accounts.directory import Directory
from broker.accounts.telling import Telling
from broker.admin import Admin
from broker.config import BrokerConfig
from broker.doors import Endpoint
from broker.errors import BadRequest
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
    Store,
    TrackedKind,
    TrackedNote,
    TrackingSink,
    UsageRow,
)
from broker.storage.memory import MemoryStore
from broker.storage.tables import TABLES
from broker.stories import ConnectionNow, SessionNow, Story

SECRET = bytes(range(32))
GRACE_S = 30
NOW_S = 1_762_338_600  # 2025-11-05T10:30:00Z


class FakeClock:
    """Invented time; both clocks move together with ``pass_s``."""

    def __init__(self) -> None:
        self.wall = NOW_S
        self.monotonic = 1_000 * 10**9

    def wall_s(self) -> int:
        return self.wall

    def wall_ns(self) -> int:
        return self.wall * 10**9

    def monotonic_ns(self) -> int:
        return self.monotonic

    def pass_s(self, seconds: int) -> None:
        self.wall += seconds
        self.monotonic += seconds * 10**9


@dataclass
class FakeCore:
    """Grant table, publisher and presence of a core in which nothing happens."""

    store: Store = field(default_factory=MemoryStore)
    grants: dict[bytes, Grant] = field(default_factory=dict)
    removed: list[bytes] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    accounts: dict[int, AccountLimits] = field(default_factory=dict)
    quotas: dict[int, tuple[int, int]] = field(default_factory=dict)
    published: list[tuple[int, ServerMessage]] = field(default_factory=list)
    subscribers: int = 0
    sink: TrackingSink | None = None
    heard: set[int] = field(default_factory=set)
    present: dict[int, Presence] = field(default_factory=dict)
    used: dict[bytes, int] = field(default_factory=dict)
    standings: dict[int, Standing] = field(default_factory=dict)
    account_standings: dict[int, AccountStanding] = field(default_factory=dict)
    counted: list[UsageRow] = field(default_factory=list)
    day: int = 0
    open: dict[int, OpenConnection] = field(default_factory=dict)
    announced: list[tuple[int, str, dict[str, object]]] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    noise: list[Story] = field(default_factory=list)

    def put_grant(self, credential: bytes, grant: Grant) -> None:
        assert len(credential) == 32
        self.grants[credential] = grant

    def remove_grant(self, credential: bytes) -> None:
        self.removed.append(credential)
        self.grants.pop(credential, None)

    async def remove_device(
        self, account_id: int, principal_id: int, device_id: str, records: Sequence[tuple[str, bytes]]
    ) -> None:
        """End nothing, and write the rest as a journal does: sooner or later it is on disk."""
        self.ended.append(principal_id)
        await written(self.store, [Change(*one, None) for one in records])

    def put_account(self, account_id: int, limits: AccountLimits) -> None:
        self.accounts[account_id] = limits

    def set_quota(self, account_id: int, messages_left: int, bytes_left: int) -> None:
        self.quotas[account_id] = (messages_left, bytes_left)

    def add_quota(self, account_id: int, messages: int, bytes_count: int) -> None:
        left = self.quotas[account_id]
        self.quotas[account_id] = (left[0] + messages, left[1] + bytes_count)

    def count(self, account_id: int, messages: int, bytes_count: int) -> tuple[int, None, int, int, int, int]:
        """Count what an account published, as a core does at once; returns what it tells of it later."""
        self.add_quota(account_id, -messages, -bytes_count)
        return account_id, None, messages, bytes_count, 0, 0

    async def publish(
        self, account_id: int, message: ServerMessage, records: Callable[[int], Sequence[Change]] | None = None
    ) -> int:
        if "#" in message.topic_name or "+" in message.topic_name:
            raise BadRequest("wildcards in a topic name")
        self.published.append((account_id, message))
        kind = TrackedKind.SENT if message.qos else TrackedKind.SENT_ONCE
        for _ in range(self.subscribers):
            if message.qos:
                self.tell(message.tracking, TrackedKind.TAKEN)
            self.tell(message.tracking, kind)
        if message.retain and message.payload:
            self.tell(message.tracking, TrackedKind.RETAINED)
        if records is not None:
            await written(self.store, records(self.subscribers))
        return self.subscribers

    def tell(self, tracking: int, kind: TrackedKind, reason: int = 0, number: int = 0) -> None:
        """Let something have happened to a message."""
        if self.sink is not None:
            self.sink.note([TrackedNote(kind, tracking, number, 0, reason)], [])

    def answer(self, device_number: int, message_id: str, payload: bytes | None, size: int | None = None) -> None:
        """Let a device have answered."""
        assert self.sink is not None
        size = len(payload or b"") if size is None else size
        self.sink.note([], [DeviceAnswer(device_number, message_id.encode(), payload, size)])

    def track(self, sink: TrackingSink) -> None:
        self.sink = sink

    def look_at_tracked(self) -> None:
        pass

    def hear_answers(self, account_id: int) -> None:
        self.heard.add(account_id)

    async def written(self) -> None:
        """Write what is told of tracked messages, as a journal does before it says that all is written."""
        if self.sink is not None:
            await written(self.store, self.sink.take_changes())

    def presence(self, principal_id: int) -> Presence:
        return self.present.get(principal_id, Presence(0, 0))

    def credential_used_ns(self, credential: bytes) -> int:
        return self.used.get(credential, 0)

    def may_publish(self, credential: bytes, topic_name: str) -> bool:
        """Judge as the core does, where a pattern has no wildcard but a last ``#``."""
        grant = self.grants.get(credential)
        topics = () if grant is None else grant.policy.publish
        return any(topic == topic_name or topic_name.startswith(topic.removesuffix("#")) for topic in topics if topic)

    def connections(self, cursor: int, at_most: int, account_id: int | None) -> tuple[list[ConnectionNow], int]:
        return [], 0

    def sessions(self, cursor: int, at_most: int, account_id: int | None) -> tuple[list[SessionNow], int]:
        return [], 0

    def connections_of(self, principal_id: int) -> list[ConnectionNow]:
        return []

    def sessions_of(self, principal_id: int) -> list[SessionNow]:
        return []

    def connection(self, handle: int) -> ConnectionNow | None:
        return None

    def disconnect(self, handle: int) -> None:
        pass

    async def end_session(self, principal_id: int, client_id: str) -> bool:
        return False

    def judge(self, grant: Grant, topic: str, *, publishes: bool, retain: bool, payload_bytes: int) -> tuple[int, int]:
        return 0, 0

    def newest_connection(self, principal_id: int) -> OpenConnection | None:
        return self.open.get(principal_id)

    def announce(self, account_id: int, topic_name: str, payload: bytes) -> None:
        self.announced.append((account_id, topic_name, json.loads(payload)))

    def take_stories(self, at_most: int) -> list[Story]:
        taken, self.stories = self.stories[:at_most], self.stories[at_most:]
        return taken

    def take_gathered(self, at_most: int) -> list[Story]:
        taken, self.noise = self.noise[:at_most], self.noise[at_most:]
        return taken

    def gathered(self) -> int:
        return len(self.noise)

    def standing(self, principal_id: int) -> Standing:
        return self.standings.get(principal_id, Standing(self.presence(principal_id).connections))

    def account_standing(self, account_id: int) -> AccountStanding:
        return self.account_standings.get(account_id, AccountStanding())

    def connections_peak(self, account_id: int) -> int:
        return self.account_standing(account_id).connections_peak

    def take_usage(self) -> list[UsageRow]:
        taken, self.counted = self.counted[:2], self.counted[2:]
        return taken

    def begin_day(self, day: int) -> None:
        self.day = day


async def written(store: Store, changes: Sequence[Change]) -> None:
    """Change some records; returns when that is on disk."""
    done = asyncio.get_running_loop().create_future()
    store.submit(0, changes, lambda _ticket, error: done.set_result(error))
    assert await done is None


class Upper:
    """The upper floors over a memory store; ``restart`` gives what a new process would load."""

    def __init__(
        self, store: MemoryStore | None = None, config: BrokerConfig | None = None, *, now_s: int = NOW_S
    ) -> None:
        self.store = store or MemoryStore()
        self.core = FakeCore(self.store)
        self.clock = FakeClock()
        self.clock.wall = now_s
        self.config = config or BrokerConfig()
        self.directory = Directory(self.store, SECRET, self.core, wall_ms=lambda: self.clock.wall * 1000)
        self.directory.load(self.clock.wall_s())
        self.endpoints = [Endpoint("mqtt", "mqtt", "0.0.0.0", 1883), Endpoint("http", "http", "127.0.0.1", 8080)]
        self.counting = Counting(
            self.directory.usage, self.core, lambda: self.clock.wall * 10**9, self.clock.monotonic_ns
        )
        self.telling = Telling(
            self.directory.devices,
            self.core,
            self.core,
            lambda: self.clock.wall * 10**9,
            self.clock.monotonic_ns,
            GRACE_S,
        )
        self.admin = Admin(
            self.directory, self.core, self.core, self.counting, self.config, self.clock, lambda: self.endpoints
        )
        self.admin.start_serving()

    async def bootstrap(self) -> str:
        key = await self.directory.bootstrap(NOW_S)
        assert key is not None
        return key

    def restart(self) -> Upper:
        """Crash, and start again; the old floors are dead."""
        return Upper(self.store.lose(), self.config, now_s=self.clock.wall_s())

    def reloaded(self) -> Upper:
        """What a restart would load now; these floors live on."""
        return Upper(
            MemoryStore({table: dict(self.store.load(table)) for table in TABLES}),
            self.config,
            now_s=self.clock.wall_s(),
        )
