"""The native core without sockets: a shard, its engine and a store, with invented time, wired as the runtime does it.

Here belong driving the core and reading what it sends. Not here: any expectation about a rule of MQTT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker._core.blake2b import keyed_digest
from broker._core.framing import fixed_header
from broker._core.packets import decode, encode
from broker._core.shard import Shard
from broker.config import Capabilities
from broker.engine import Engine
from broker.engine.core import RareKind, RarePacket
from broker.errors import StoreError
from broker.net.gateway import core_limits
from broker.net.upgrades import Upgrades
from broker.ports import ConnectRequest, Durability, Grant, Policy, Refusal
from broker.reasons import DropReason, ReasonCode
from broker.storage.memory import MemoryStore
from broker.storage.tables import MESSAGES
from broker.wire import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)

SECRET = bytes(range(32))
START_NS = 1_000_000_000_000
WALL_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
MEMORY, RELAXED, SYNCED = 0, 1, 2
UNLIMITED = 1 << 40
STATES = ("await_connect", "authenticating", "connected", "closing")


def credential(user_name: str, password: bytes) -> bytes:
    """What the core's grant table calls a user name and password."""
    name = user_name.encode()
    return keyed_digest(len(name).to_bytes(2, "big") + name + password, SECRET)


class Silent:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))


class Client:
    """One connection as its peer sees it. What the core sends is taken after every step, unless ``reads`` is False."""

    def __init__(self, core: Core, handle: int, version: int) -> None:
        self.core = core
        self.handle = handle
        self.version = version
        self.reads = True
        self.raw = b""
        self.unread: list[Packet] = []
        self.next_id = 0

    @property
    def is_open(self) -> bool:
        return self.core.shard.is_open(self.handle)

    @property
    def described(self) -> Mapping[str, Any]:
        found = self.core.shard.describe(self.handle)
        assert found is not None, "the connection is gone"
        return found

    # ------------------------------------------------------------ out of the core

    def take(self, at_most: int = -1) -> bool:
        """Read what waits in the outbox; tells whether there was anything."""
        taken = self.core.shard.take_output(self.handle, at_most)
        self.keep(taken)
        return bool(taken)

    def keep(self, taken: bytes) -> None:
        """Find the packets in bytes that were read."""
        if taken and (described := self.core.shard.describe(self.handle)) is not None:
            self.version = described["protocol_version"]  # of its CONNECT, whatever it was going to speak
        self.raw += taken
        while (header := fixed_header(self.raw)) is not None and len(self.raw) >= sum(header):
            whole, self.raw = self.raw[: sum(header)], self.raw[sum(header) :]
            self.unread.append(decode(whole, self.version, from_client=False))

    def received(self) -> list[Packet]:
        """All packets since the last call."""
        if self.reads:
            self.take()
        found, self.unread = self.unread, []
        return found

    def expect(self, *packets: Packet) -> None:
        """These packets and no others have arrived since the last look."""
        assert self.received() == list(packets)

    def publishes(self) -> list[Publish]:
        """Everything that arrived, which must be PUBLISH packets alone."""
        found = self.received()
        assert all(isinstance(one, Publish) for one in found), found
        return [one for one in found if isinstance(one, Publish)]

    def payloads(self) -> list[bytes]:
        return [one.payload for one in self.publishes()]

    def closed_with(self, reason_code: int | None = None) -> list[Packet]:
        """The core has closed; the last packet said why (None: it said nothing). Returns the packets before that."""
        assert not self.is_open, "still open"
        found = self.received()
        if reason_code is None:
            assert not any(isinstance(one, Disconnect) for one in found), found
            return found
        assert found, "closed without a word"
        last = found.pop()
        assert isinstance(last, Disconnect | Connack), last
        assert last.reason_code == reason_code, last
        return found

    # ------------------------------------------------------------ into the core

    def feed(self, data: bytes) -> None:
        """Bytes arrive, in one piece or one by one; nothing else happens. What comes after the end is lost."""
        for piece in [data[i : i + 1] for i in range(len(data))] if self.core.split else [data]:
            if self.is_open and piece:
                self.core.shard.feed(self.handle, piece, self.core.now_ns, self.core.deliveries)

    def send(self, *packets: Packet | bytes, run: bool = True) -> None:
        """Packets arrive in one segment; then the core works until nothing is left to do."""
        self.feed(b"".join(one if isinstance(one, bytes) else encode(one, self.version) for one in packets))
        if run:
            self.core.run()

    def publish(
        self,
        topic_name: str,
        payload: bytes = b"",
        qos: int = 0,
        *,
        packet_id: int = 0,
        run: bool = True,
        **fields: Any,
    ) -> int:
        """Send a PUBLISH; returns its packet identifier, the next free one unless given."""
        if qos and not packet_id:
            self.next_id = self.next_id % 65_535 + 1
            packet_id = self.next_id
        self.send(Publish(topic_name, payload, qos, packet_id=packet_id, **fields), run=run)
        return packet_id

    def subscribe(
        self,
        *filters: str | Subscription,
        qos: int = 0,
        identifier: int = 0,
        packet_id: int = 1,
    ) -> tuple[int, ...]:
        """Subscribe and return the reason codes; other packets that arrive stay unread."""
        wanted = tuple(one if isinstance(one, Subscription) else Subscription(one, qos) for one in filters)
        properties: Properties = {"subscription_identifier": (identifier,)} if identifier else {}
        self.send(Subscribe(packet_id, wanted, properties))
        answer = self.pick(Suback)
        assert answer.packet_id == packet_id
        return answer.reason_codes

    def unsubscribe(self, *filters: str, packet_id: int = 1) -> tuple[int, ...]:
        self.send(Unsubscribe(packet_id, filters))
        answer = self.pick(Unsuback)
        assert answer.packet_id == packet_id
        return answer.reason_codes

    def pick(self, kind: type) -> Any:
        """Take the first packet of a kind out of what has arrived."""
        if self.reads:
            self.take()
        for at, packet in enumerate(self.unread):
            if isinstance(packet, kind):
                return self.unread.pop(at)
        raise AssertionError(f"no {kind.__name__} in {self.unread}")

    def acknowledge(self, *packet_ids: int) -> None:
        self.send(*(Puback(one) for one in packet_ids))

    def release(self, packet_id: int) -> int:
        """End an exchange of QoS 2 that this client began; returns the reason code of the PUBCOMP."""
        self.send(Pubrel(packet_id))
        answer = self.pick(Pubcomp)
        assert answer.packet_id == packet_id
        return int(answer.reason_code)

    def take_qos_2(self, delivery: Publish) -> None:
        """Go through the whole exchange of a delivery of QoS 2."""
        assert delivery.qos == 2
        self.send(Pubrec(delivery.packet_id))
        assert self.pick(Pubrel) == Pubrel(delivery.packet_id)
        self.send(Pubcomp(delivery.packet_id))

    def drop(self) -> None:
        """The network connection is lost."""
        if self.is_open:
            self.core.shard.close_connection(self.handle)
        self.core.run()


CROWDED = 4  # deliveries that wait on disk, and they become a run: few, so that most queues have some
USUAL_LIMITS = core_limits(Capabilities.model_validate({}))


class Core:
    """A shard with engine and store. ``deliveries`` is the size of a slice, ``split`` feeds every byte by itself.

    Tickets are settled at once, until ``hold()``; then by ``release()``, or never. Any limit can be given by its name.
    """

    def __init__(self, *, deliveries: int = UNLIMITED, split: bool = False, **limits: int) -> None:
        self.limits = {**USUAL_LIMITS, **limits}
        self.now_ns = START_NS
        self.deliveries = deliveries
        self.split = split
        self.shard = Shard(self.limits, secret=SECRET, hash_seed=0x1234_5678_9ABC_DEF0, now_ns=self.now_ns)
        self.shard.set_crowded(CROWDED)
        self.shard.set_merging(4, 2)
        self.wall_ns = WALL_NS  # when the monotonic clock stood at START_NS
        self.left_out: dict[str, int] = {}
        self.shard.set_wall(self.now_ns, WALL_NS)
        self.store = MemoryStore()
        self.in_flight = False
        self.before_seal: Callable[[], None] = lambda: None
        self.reading: list[bytes] = []
        self.granted: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.observer = Silent()
        self.asked: list[tuple[int, ConnectRequest]] = []
        self.engine = Engine(self.shard, self._ask, lambda _handle: "somewhere", self.observer)
        self.refused_upgrades: list[int] = []
        self.upgrades = Upgrades(
            self.shard,
            self,
            {},
            lambda peer, _: peer,
            lambda _, status: self.refused_upgrades.append(status),
        )
        self.clients: list[Client] = []
        self.holding = False
        self.principals = 0
        self.base = self.figures()

    # ------------------------------------------------------------ who

    def grant(
        self,
        user_name: str = "user",
        password: bytes = b"pw",
        *,
        account_id: int = 1,
        device_id: str = "",
        publish: tuple[str, ...] = ("#",),
        subscribe: tuple[str, ...] = ("#",),
        synced: bool = False,
        durability: int | None = None,
        limits: Sequence[int] = (),
    ) -> int:
        """Make a credential known, at level `memory` unless told otherwise; returns the number of its principal."""
        self.principals += 1
        self._put_grant(
            credential(user_name, password), account_id, self.principals, device_id or user_name, device_id, publish,
            subscribe, durability=SYNCED * synced if durability is None else durability, limits=limits,
        )  # fmt: skip
        return self.principals

    def _put_grant(self, *grant: Any, **options: Any) -> None:
        self.shard.put_grant(*grant, **options)
        self.granted.append((grant, options))

    def open_listener(self, number: int = 0) -> None:
        self.shard.open_listener(number, 0, 0, "open")

    def _ask(self, handle: int, request: ConnectRequest) -> None:
        self.asked.append((handle, request))

    def admit(
        self,
        handle: int,
        *,
        account_id: int = 1,
        principal_id: int = 900,
        device_id: str = "",
        publish: tuple[str, ...] = ("#",),
        subscribe: tuple[str, ...] = ("#",),
        synced: bool = False,
    ) -> None:
        """The Authenticator answers yes, whenever that is."""
        policy = Policy("test", publish, subscribe)
        durability = Durability.SYNCED if synced else Durability.MEMORY
        self.engine.judged(handle, Grant(account_id, principal_id, "someone", device_id, policy, durability))
        self.run()

    def refuse(self, handle: int, reason_code: ReasonCode = ReasonCode.NOT_AUTHORIZED) -> None:
        self.engine.judged(handle, Refusal(reason_code))
        self.run()

    # ------------------------------------------------------------ connections

    def open(self, version: int = 5, listener: int = 0) -> Client:
        """A peer connects and says nothing yet."""
        handle = self.shard.open_connection(listener, self.now_ns)
        assert handle, "refused at the door"
        client = Client(self, handle, version)
        self.clients.append(client)
        return client

    def connecting(
        self,
        client_id: str = "",
        version: int = 5,
        *,
        user_name: str | None = "user",
        password: bytes | None = b"pw",
        listener: int = 0,
        run: bool = True,
        **fields: Any,
    ) -> Client:
        """A peer that has sent its CONNECT; the answer is not looked at."""
        client = self.open(version, listener)
        fields.setdefault("clean_start", True)
        client.send(Connect(client_id, user_name=user_name, password=password, **fields), run=run)
        return client

    def connect(self, client_id: str = "", version: int = 5, **fields: Any) -> Client:
        """A client that was let in."""
        client = self.connecting(client_id, version, **fields)
        answer = client.pick(Connack)
        assert answer.reason_code == 0, answer
        return client

    def resume(self, client_id: str, version: int = 5, **fields: Any) -> Client:
        """A client that keeps its session is back, and finds it."""
        return self.keep(client_id, version, present=True, **fields)

    def keep(self, client_id: str, version: int = 5, *, present: bool = False, **fields: Any) -> Client:
        """A client whose session outlives its connection: for ten minutes in 5.0, for the longest allowed in 3.1.1."""
        if version == 5:
            fields["properties"] = {"session_expiry_interval": 600, **fields.get("properties", {})}
        client = self.connecting(client_id, version, **{"clean_start": False, **fields})
        answer = client.pick(Connack)
        assert (answer.reason_code, answer.session_present) == (0, present), answer
        return client

    def sink(self, *filters: str, user_name: str = "user", qos: int = 2) -> None:
        """A session on disk whose client is away: what matches its filters (all, unless given) has to be written."""
        client = self.keep("sink", user_name=user_name)
        client.subscribe(*(filters or ("#",)), qos=qos)
        client.drop()

    # ------------------------------------------------------------ time and work

    def hold(self) -> None:
        """Tickets wait from now on."""
        self.holding = True

    def release(self) -> None:
        """Tickets that wait are answered, and none waits from now on."""
        self.holding = False
        self.run()

    def slice(self) -> bool:
        """One slice, as a round of the reactor does it; tells whether more is due."""
        more = self.shard.run(self.now_ns, self.deliveries)
        rare: list[RarePacket] = self.shard.take_rare()
        self.answer(rare)
        self.seal()
        if not self.holding and self.store.waiting:
            self.store.release()
            more = True
        more = self.read() or more
        return self.exchange() or more or bool(rare)

    def answer(self, rare: Sequence[RarePacket]) -> None:
        """Answer rare packets, as the runtime does."""
        for one in rare:
            if one[0] == RareKind.UPGRADE:
                self.upgrades.answer(one[1], one[4], one[5])
            else:
                self.engine.answer((one,))

    def peer(self, _handle: int) -> str:
        return "somewhere"

    def believe(self, handle: int, address: str) -> None:
        """Without a socket there is nothing to believe."""

    def seal(self) -> None:
        """Close the journal's batch and hand it to the store, one at a time."""
        self.before_seal()
        sealed = None if self.in_flight else self.shard.seal()
        if sealed is not None:
            self.in_flight = True
            self.store.submit(*sealed, self._settled)

    def read(self) -> bool:
        """Hand over what sessions wait for, if the store answers; tells whether it did."""
        if not self.reading:
            self.reading = self.shard.wanted()
            if self.reading:
                self.store.read(MESSAGES, self.reading, self._loaded)
        return not self.holding and self.store.answer_reads() > 0

    def _loaded(self, values: Sequence[bytes | None], error: BaseException | None) -> None:
        keys, self.reading = self.reading, []
        for key, value in zip(keys, values if error is None else [None] * len(keys), strict=True):
            if error is None:
                self.shard.loaded(key, value)
            else:
                self.shard.unread(key)

    def fail_read(self) -> None:
        """What is being read cannot be, this time."""
        self.store.drop_reads()
        self._loaded((), StoreError("it cannot be read"))

    def _settled(self, ticket: int, error: BaseException | None) -> None:
        assert error is None, "a batch is submitted again, and never given up: see JournalWriter"
        self.in_flight = False
        self.shard.settle(ticket)

    def exchange(self) -> bool:
        """Peers read, and what is closed goes; tells whether there was anything to read."""
        sent = [client.take() for client in self.clients if client.reads]
        self.shard.collect()
        return any(sent)

    def run(self) -> None:
        """Work until nothing is left to do."""
        for _ in range(100_000):
            if not self.slice():
                return
        raise AssertionError("the core never comes to rest")

    def wait(self, seconds: float) -> None:
        """Let time pass in one jump."""
        self.now_ns += round(seconds * SECOND_NS)
        self.run()

    def publish(self, topic_name: str, payload: bytes = b"", qos: int = 0, account_id: int = 1) -> int:
        """Publish from inside the process."""
        taken = self.shard.publish(account_id, topic_name.encode(), payload, qos, self.now_ns)
        self.run()
        return taken

    def publish_retained(self, topic_name: str, payload: bytes, qos: int = 0, account_id: int = 1) -> None:
        """Set a retained message from inside the process."""
        self.shard.publish(account_id, topic_name.encode(), payload, qos, self.now_ns, retain=True)
        self.run()

    def forget_retained(self) -> None:
        """Clear everything that is retained, of all accounts that tests use."""
        for account_id in range(10):
            for topic_filter in (b"#", b"$SYS/#"):
                while self.shard.clear_retained(account_id, topic_filter)[1]:
                    pass

    # ------------------------------------------------------------ the end of the process

    def crash(self, *, down_s: float = 0, grace_s: float = 30, known: Callable[[int], bool] | None = None) -> Core:
        """The process dies, and another one starts on what was committed, ``down_s`` later, with the same grants.

        The monotonic clock starts anew; the wall clock goes on. This core must not be used any more.
        """
        after = Core(deliveries=self.deliveries, split=self.split, **self.limits)
        after.wall_ns = self.wall_ns + self.now_ns - START_NS + round(down_s * SECOND_NS)
        after.store = self.store.lose()
        for grant, options in self.granted:
            after._put_grant(*grant, **options)
        after.principals = self.principals
        after.left_out = after.shard.restore(
            after.store.scan, after.now_ns, after.wall_ns, known=known, restart_grace_s=grace_s
        )
        return after

    # ------------------------------------------------------------ figures

    def figures(self) -> dict[str, int]:
        """What must come back to where it was when all are gone."""
        found = self.shard.counters()
        names = (
            "connections", "unauthenticated_connections", "sessions", "subscriptions", "messages_kept", "timers",
            "promises", "retained_count", "retained_bytes",
        )  # fmt: skip
        return {name: int(found[name]) for name in names}  # type: ignore[arg-type]

    def drops(self, reason: DropReason) -> int:
        counted = self.shard.counters()["drops"]
        assert isinstance(counted, list)
        return counted[reason]

    def all_drops(self) -> dict[DropReason, int]:
        return {reason: self.drops(reason) for reason in DropReason if self.drops(reason)}

    def end(self) -> None:
        """All go away, all tickets are answered: nothing is left behind."""
        for client in self.clients:
            client.reads = True
            if client.is_open:
                self.shard.close_connection(client.handle)
        self.deliveries = UNLIMITED
        self.holding = False
        self.run()
        self.store.release()
        self.wait(self.limits["session_expiry_maximum_s"] + 1)  # sessions that are kept end by themselves
        self.forget_retained()  # their wills may have been retained
        self.run()
        assert self.figures() == self.base
