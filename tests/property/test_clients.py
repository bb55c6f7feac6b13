"""Several clients do what they like: nothing is lost, doubled, reordered or left behind without a word.

The model knows what each session was offered and in which order. Deliveries made by one publisher to one topic must
arrive in the order of publishing; each offered QoS 1 delivery arrives, waits, or is counted with its reason.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.errors import StoreError
from broker.reasons import DropReason
from broker.wire import (
    Connack,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from tests.support.core import UNLIMITED, Client, Core
from tests.support.topics import matches

IDS = st.integers(0, 3)
TOPICS = st.sampled_from(["a", "a/b", "c"])
FILTERS = st.sampled_from(["a", "a/b", "c", "+", "#", "a/#", "a/+"])
ACCOUNTS = (1, 1, 1, 2)


@dataclass
class Peer:
    """What is known about one living session."""

    client: Client
    synced: bool
    filters: set[str] = field(default_factory=set)
    awaited: deque[int] = field(default_factory=deque)
    owed: list[int] = field(default_factory=list)
    last_seen: dict[tuple[str, int, int], int] = field(default_factory=dict)


class Clients(RuleBasedStateMachine):
    """Four clients, the last one in an account of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core()
        self.peers: dict[int, Peer] = {}
        self.number = 0
        self.offered = 0
        self.unsure = False

    @initialize(
        deliveries=st.sampled_from([1, 2, 3, UNLIMITED]),
        split=st.booleans(),
        inflight=st.integers(1, 4),
        queue=st.sampled_from([2, 5, 1000]),
        soft=st.sampled_from([200, 100_000]),
        held=st.sampled_from([2, 100]),
    )
    def start(self, deliveries: int, split: bool, inflight: int, queue: int, soft: int, held: int) -> None:
        self.core = Core(
            deliveries=deliveries, split=split, outbound_inflight_maximum=inflight, queue_messages_maximum=queue,
            outbox_soft_limit_bytes=soft, keep_alive_maximum_s=0, server_receive_maximum=held,
        )  # fmt: skip
        for who, account_id in enumerate(ACCOUNTS):
            self.core.grant(f"u{who}", account_id=account_id)
            self.core.grant(f"s{who}", account_id=account_id, synced=True)
            self.connect(who, 4 + who % 2, who == 1)
            self.subscribe(who, ("a", "#", "a/#", "+")[who], who & 1)

    # ------------------------------------------------------------ what clients do

    @rule(who=IDS, version=st.sampled_from([4, 5]), synced=st.booleans())
    def connect(self, who: int, version: int, synced: bool) -> None:
        old = self.peers.pop(who, None)
        if old is not None:
            self.look(who, old)
            if old.synced != synced:  # another principal: another session
                old.client.drop()
        client = self.core.connecting(f"c{who}", version, user_name=f"{'s' if synced else 'u'}{who}", keep_alive_s=0)
        if old is not None:
            assert not old.client.is_open
        assert client.pick(Connack).reason_code == 0
        self.peers[who] = Peer(client, synced)

    @rule(who=IDS, topic_filter=FILTERS, qos=st.integers(0, 1))
    def subscribe(self, who: int, topic_filter: str, qos: int) -> None:
        if peer := self.free(who):
            peer.client.send(Subscribe(1, (Subscription(topic_filter, qos),)))
            peer.filters.add(topic_filter)

    @rule(who=IDS, topic_filter=FILTERS)
    def unsubscribe(self, who: int, topic_filter: str) -> None:
        if peer := self.free(who):
            peer.client.send(Unsubscribe(2, (topic_filter,)))
            peer.filters.discard(topic_filter)

    @rule(who=IDS, topic=TOPICS, qos=st.integers(0, 1), sizes=st.lists(st.integers(0, 150), min_size=1, max_size=8))
    def publish_several(self, who: int, topic: str, qos: int, sizes: list[int]) -> None:
        for size in sizes:
            self.publish(who, topic, qos, size, True)

    @rule(who=IDS, topic=TOPICS, qos=st.integers(0, 1), size=st.integers(0, 150), run=st.booleans())
    def publish(self, who: int, topic: str, qos: int, size: int, run: bool) -> None:
        peer = self.free(who)
        if peer is None or (
            peer.client.version == 5 and len(peer.awaited) >= self.core.limits["server_receive_maximum"]
        ):
            return
        self.number += 1
        self.expect_offers(ACCOUNTS[who], topic, run)
        payload = b"%d %d " % (who, self.number) + b"." * size
        packet_id = peer.client.publish(topic, payload, qos, run=run)
        if qos:
            peer.awaited.append(packet_id)

    @rule(who=IDS, count=st.integers(1, 5))
    def acknowledge(self, who: int, count: int) -> None:
        if peer := self.free(who):
            self.look(who, peer)
            now, peer.owed = peer.owed[:count], peer.owed[count:]
            peer.client.acknowledge(*now)

    @rule(who=IDS)
    def ping(self, who: int) -> None:
        if peer := self.free(who):
            peer.client.send(Pingreq())

    @rule(who=IDS, run=st.booleans())
    def close(self, who: int, run: bool) -> None:
        if peer := self.peers.pop(who, None):
            self.look(who, peer)
            self.core.shard.close_connection(peer.client.handle)
            if run:
                self.core.run()

    @rule(who=IDS, reads=st.booleans())
    def read_or_not(self, who: int, reads: bool) -> None:
        if peer := self.peers.get(who):
            peer.client.reads = reads
            self.core.run()

    # ------------------------------------------------------------ what the world does

    @rule(topic=TOPICS, qos=st.integers(0, 1))
    def publish_from_inside(self, topic: str, qos: int) -> None:
        self.number += 1
        self.expect_offers(1, topic, False)
        self.core.shard.publish(1, topic.encode(), b"9 %d " % self.number, qos, self.core.now_ns)

    @rule()
    def hold(self) -> None:
        self.core.hold()

    @rule()
    def release(self) -> None:
        self.core.release()

    @precondition(lambda self: not self.core.holding)
    @rule(fails=st.booleans())
    def store_fails(self, fails: bool) -> None:
        self.core.store.fail(StoreError("full") if fails else None)

    @rule(seconds=st.sampled_from([0, 0.01, 1, 1000]))
    def wait(self, seconds: float) -> None:
        self.core.wait(seconds)

    @rule()
    def one_slice(self) -> None:
        self.core.slice()

    # ------------------------------------------------------------ what must hold

    def free(self, who: int) -> Peer | None:
        """The peer, if it is still there; 3.1.1 is closed by a failing store."""
        peer = self.peers.get(who)
        if peer is None or peer.client.is_open:
            return peer
        assert peer.client.version == 4
        assert peer.synced
        del self.peers[who]
        return None

    def look(self, who: int, peer: Peer) -> None:
        for packet in peer.client.received():
            if isinstance(packet, Publish):
                self.look_at_delivery(who, peer, packet)
            elif isinstance(packet, Puback):
                assert peer.awaited.popleft() == packet.packet_id, "PUBACKs leave in the order of the PUBLISHes"
            else:
                assert isinstance(packet, Suback | Unsuback | Pingresp | Disconnect), packet
                if isinstance(packet, Disconnect):
                    assert packet.reason_code == 0x8E

    def look_at_delivery(self, who: int, peer: Peer, packet: Publish) -> None:
        publisher, number = (int(part) for part in packet.payload.split(b" ")[:2])
        if publisher != 9:
            assert ACCOUNTS[publisher] == ACCOUNTS[who], "accounts never meet"
        else:
            assert ACCOUNTS[who] == 1
        key = (packet.topic_name, publisher, packet.qos)
        assert peer.last_seen.get(key, 0) < number, "in order, and once"
        peer.last_seen[key] = number
        if packet.qos:
            assert packet.packet_id not in peer.owed
            assert len(peer.owed) < self.core.limits["outbound_inflight_maximum"]
            peer.owed.append(packet.packet_id)

    @invariant()
    def everything_is_somewhere(self) -> None:
        for who, peer in list(self.peers.items()):
            if self.free(who):
                self.look(who, peer)
                described = peer.client.described
                assert described["queued_messages"] <= self.core.limits["queue_messages_maximum"]
                if peer.client.reads:
                    assert described["outbound_inflight"] == len(peer.owed)
        assert self.core.shard.counters()["sessions"] == sum(
            self.core.shard.is_open(client.handle) for client in self.core.clients
        )

    def teardown(self) -> None:
        core = self.core
        core.store.fail(None)
        core.release()
        for peer in self.peers.values():
            peer.client.reads = True
        core.run()
        while any(self.drain(who, peer) for who, peer in list(self.peers.items())):
            core.run()
        for peer in self.peers.values():
            if peer.client.is_open:
                assert not peer.awaited, "every PUBLISH of QoS 1 was acknowledged"
                assert peer.client.described["queued_messages"] == 0
        before = core.all_drops()
        core.end()
        assert core.all_drops() == before  # nothing waited any more
        self.everything_was_accounted_for()

    def drain(self, who: int, peer: Peer) -> bool:
        if not self.free(who):
            return False
        self.look(who, peer)
        owed, peer.owed = peer.owed, []
        peer.client.acknowledge(*owed)
        return bool(owed)

    def expect_offers(self, account_id: int, topic: str, run: bool) -> None:
        """Count who subscribes now, where nothing can change before the message is routed."""
        self.core.run()
        if any(self.core.shard.is_stopped(peer.client.handle) for peer in self.peers.values()):
            self.unsure = True
            return
        self.unsure |= not run and self.core.deliveries != UNLIMITED
        for who, peer in self.peers.items():
            if ACCOUNTS[who] == account_id and peer.client.is_open:
                self.offered += any(matches(topic_filter, topic) for topic_filter in peer.filters)

    def everything_was_accounted_for(self) -> None:
        drops = self.core.all_drops()
        assert set(drops) <= {DropReason.OUTBOX_FULL, DropReason.QUEUE_FULL, DropReason.SESSION_ENDED}
        sent = self.core.shard.counters()["messages_sent"]
        assert isinstance(sent, int)
        if not self.unsure:
            assert self.offered <= sent + sum(drops.values()), "a delivery vanished"
            if DropReason.SESSION_ENDED not in drops:
                assert self.offered == sent + sum(drops.values())


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
