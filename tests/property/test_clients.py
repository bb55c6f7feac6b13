"""Several clients do what they like: nothing is lost, doubled, reordered or left behind without a word.

The model knows what each session was offered and in which order. Deliveries made by one publisher to one topic must
arrive in the order of publishing; each offered QoS 1 and 2 delivery arrives, waits, or is counted with its reason. Some
sessions are kept, in memory or on disk: their clients go and come back, and what was taken once is not delivered again.
A disk that takes nothing refuses what needs it before anybody gets it.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.errors import Unavailable
from broker.reasons import DropReason
from broker.wire import (
    Connack,
    Disconnect,
    Pingreq,
    Pingresp,
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
from tests.support.core import UNLIMITED, Client, Core
from tests.support.topics import matches

IDS = st.integers(0, 3)
TOPICS = st.sampled_from(["a", "a/b", "c"])
FILTERS = st.sampled_from(["a", "a/b", "c", "+", "#", "a/#", "a/+"])
ACCOUNTS = (1, 1, 1, 2)


QOS = st.integers(0, 2)
LONG_S = 10**6
Ack = Puback | Pubrec | Pubcomp


@dataclass
class Exchange:
    """A PUBLISH of QoS 2 that is not complete."""

    topic: str
    payload: bytes
    released: bool = False


@dataclass
class Peer:
    """What is known about one session, whether its client is there or away."""

    client: Client
    synced: bool
    kept: bool = False
    on_disk: bool = False  # once it was, and until it ends: also when its client keeps it no longer
    filters: set[str] = field(default_factory=set)
    awaited: deque[tuple[type[Ack], int]] = field(default_factory=deque)
    exchanges: dict[int, Exchange] = field(default_factory=dict)  # begun by this client
    owed: list[Ack] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)  # QoS 2 deliveries that have arrived and are not over
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
        self.again = False
        self.refusing = False

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
            self.connect(who, 4 + who % 2, who == 1, kept=who in (1, 2))
            self.subscribe(who, ("a", "#", "a/#", "+")[who], who % 3)

    # ------------------------------------------------------------ what clients do

    @rule(who=IDS, version=st.sampled_from([4, 5]), synced=st.booleans(), kept=st.booleans(), clean=st.booleans())
    def connect(self, who: int, version: int, synced: bool, kept: bool = False, clean: bool = True) -> None:
        if version == 4:
            clean = not kept
        old = self.peers.pop(who, None)
        if old is not None:
            self.look(who, old)
            if old.synced != synced:  # another principal: another session, and the older one is of no interest any more
                self.end(who, old)
                old = None
        if synced or (old is not None and old.synced):
            self.settle()
        self.core.wait(2)  # more than two clients in a row would have to wait
        properties = {"session_expiry_interval": LONG_S} if kept and version == 5 else {}
        client = self.core.connecting(
            f"c{who}", version, user_name=f"{'s' if synced else 'u'}{who}", keep_alive_s=0, clean_start=clean,
            properties=properties,
        )  # fmt: skip
        if old is not None:
            assert not old.client.is_open
        answer = client.pick(Connack)
        assert answer.reason_code == 0
        assert answer.session_present == (old is not None and old.kept and not clean)
        peer = self.peers[who] = Peer(client, synced, kept, on_disk=synced and kept)
        if old is not None and answer.session_present:
            peer.filters, peer.taken, peer.last_seen = old.filters, old.taken, old.last_seen
            peer.exchanges, peer.on_disk = old.exchanges, peer.on_disk or old.on_disk
            self.again = True
        for packet_id, one in peer.exchanges.items():  # [MQTT-4.4.0-1]: what was begun is ended
            if one.released:
                client.send(Pubrel(packet_id))
                peer.awaited.append((Pubcomp, packet_id))
            else:
                self.unsure = True  # it may be the first time that the broker sees this one
                client.send(Publish(one.topic, one.payload, 2, dup=True, packet_id=packet_id))
                peer.awaited.append((Pubrec, packet_id))

    def settle(self) -> None:
        """A session on disk begins and ends when that is on disk: its CONNACK waits."""
        self.disk_refuses(False)
        self.core.release()

    @rule(who=IDS, lost=st.booleans())
    def come_back(self, who: int, lost: bool) -> None:
        """A client that keeps its session connects again, after a loss or over its own connection."""
        peer = self.peers.get(who)
        if peer is not None and peer.kept:
            if lost:
                self.close(who, True)
            self.connect(who, peer.client.version, peer.synced, kept=True, clean=False)

    def end(self, who: int, peer: Peer) -> None:
        """Let the session of a peer end, whether its client is there or away."""
        peer.client.drop()
        if peer.kept:
            self.settle()
            version, name = peer.client.version, f"{'s' if peer.synced else 'u'}{who}"
            self.core.connect(f"c{who}", version, user_name=name, clean_start=True, keep_alive_s=0).drop()

    @rule(who=IDS, topic_filter=FILTERS, qos=QOS)
    def subscribe(self, who: int, topic_filter: str, qos: int) -> None:
        if peer := self.free(who):
            peer.client.send(Subscribe(1, (Subscription(topic_filter, qos),)))
            peer.filters.add(topic_filter)

    @rule(who=IDS, topic_filter=FILTERS)
    def unsubscribe(self, who: int, topic_filter: str) -> None:
        if peer := self.free(who):
            peer.client.send(Unsubscribe(2, (topic_filter,)))
            peer.filters.discard(topic_filter)

    @rule(who=IDS, topic=TOPICS, qos=QOS, sizes=st.lists(st.integers(0, 150), min_size=1, max_size=8))
    def publish_several(self, who: int, topic: str, qos: int, sizes: list[int]) -> None:
        for size in sizes:
            self.publish(who, topic, qos, size, True)

    @rule(who=IDS, topic=TOPICS, qos=QOS, size=st.integers(0, 150), run=st.booleans())
    def publish(self, who: int, topic: str, qos: int, size: int, run: bool) -> None:
        peer = self.free(who)
        if peer is None or (
            peer.client.version == 5
            and len(peer.awaited) + len(peer.exchanges) >= self.core.limits["server_receive_maximum"]
        ):
            return
        self.number += 1
        self.unsure |= self.refusing
        self.expect_offers(ACCOUNTS[who], topic, run)
        payload = b"%d %d " % (who, self.number) + b"." * size
        packet_id = self.free_id(peer)
        if qos == 2:
            peer.exchanges[packet_id] = Exchange(topic, payload)
        peer.client.publish(topic, payload, qos, run=run, packet_id=packet_id if qos else 0)
        if qos:
            peer.awaited.append((Puback if qos == 1 else Pubrec, packet_id))

    def free_id(self, peer: Peer) -> int:
        used = set(peer.exchanges) | {packet_id for _, packet_id in peer.awaited}
        return next(number for number in range(1, 65_536) if number not in used)

    @rule(who=IDS)
    def complete(self, who: int) -> None:
        """End what this client began with QoS 2, as far as it was received."""
        if peer := self.free(who):
            self.look(who, peer)
            waiting = {packet_id for kind, packet_id in peer.awaited if kind is Pubrec}
            for packet_id in [one for one in peer.exchanges if one not in waiting]:
                if (Pubcomp, packet_id) not in peer.awaited:
                    peer.exchanges[packet_id].released = True
                    peer.client.send(Pubrel(packet_id))
                    peer.awaited.append((Pubcomp, packet_id))

    @rule(who=IDS, count=st.integers(1, 5))
    def acknowledge(self, who: int, count: int) -> None:
        if peer := self.free(who):
            self.look(who, peer)
            self.answer(peer, count)

    def answer(self, peer: Peer, count: int) -> None:
        now, peer.owed = peer.owed[:count], peer.owed[count:]
        peer.taken -= {packet.packet_id for packet in now if isinstance(packet, Pubcomp)}
        peer.client.send(*now)

    @rule(who=IDS)
    def ping(self, who: int) -> None:
        if peer := self.free(who):
            peer.client.send(Pingreq())

    @rule(who=IDS, run=st.booleans())
    def close(self, who: int, run: bool) -> None:
        if peer := self.peers.get(who):
            self.look(who, peer)
            if peer.client.is_open:
                self.core.shard.close_connection(peer.client.handle)
            if run:
                self.core.run()
            peer.awaited.clear()
            peer.owed.clear()
            if not peer.kept:
                del self.peers[who]

    @rule(who=IDS, reads=st.booleans())
    def read_or_not(self, who: int, reads: bool) -> None:
        if peer := self.peers.get(who):
            peer.client.reads = reads
            self.core.run()

    # ------------------------------------------------------------ what the world does

    @rule(topic=TOPICS, qos=QOS)
    def publish_from_inside(self, topic: str, qos: int) -> None:
        self.number += 1
        self.unsure |= self.refusing
        self.expect_offers(1, topic, False)
        with suppress(Unavailable):
            self.core.shard.publish(1, topic.encode(), b"9 %d " % self.number, qos, self.core.now_ns)

    @rule()
    def hold(self) -> None:
        self.core.hold()

    @rule()
    def release(self) -> None:
        self.core.release()

    @rule(refuses=st.booleans())
    def disk_refuses(self, refuses: bool) -> None:
        """A disk that takes nothing for a while: what is under way is written later, in its order."""
        self.refusing = refuses
        self.core.shard.set_refusing(refuses)

    @rule(seconds=st.sampled_from([0, 0.01, 1, 1000]))
    def wait(self, seconds: float) -> None:
        self.core.wait(seconds)

    @rule()
    def one_slice(self) -> None:
        self.core.slice()

    # ------------------------------------------------------------ what must hold

    def free(self, who: int) -> Peer | None:
        """The peer, if its client is there; 3.1.1 is closed by a disk that refuses."""
        peer = self.peers.get(who)
        if peer is None or peer.client.is_open:
            return peer
        peer.awaited.clear()
        peer.owed.clear()
        if not peer.kept:
            assert peer.client.version == 4
            del self.peers[who]
        return None

    def look(self, who: int, peer: Peer) -> None:
        for packet in peer.client.received():
            if isinstance(packet, Publish):
                self.look_at_delivery(who, peer, packet)
            elif isinstance(packet, Puback | Pubrec | Pubcomp) and not peer.awaited and not peer.client.is_open:
                pass  # it was on its way when the client gave up
            elif isinstance(packet, Puback | Pubrec | Pubcomp):
                assert peer.awaited.popleft() == (type(packet), packet.packet_id), "answers leave in their order"
                if isinstance(packet, Pubcomp) or packet.reason_code >= 0x80:
                    peer.exchanges.pop(packet.packet_id, None)
            elif isinstance(packet, Pubrel):
                assert packet.packet_id in peer.taken or peer.kept
                peer.owed.append(Pubcomp(packet.packet_id))
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
        if packet.qos == 2 and packet.packet_id in peer.taken:
            assert packet.dup, "a new message under an identifier that is in use"
        elif packet.qos == 2 or not packet.dup:
            assert peer.last_seen.get(key, 0) < number, "in order, and once"
            peer.last_seen[key] = number
        if packet.qos == 2:
            peer.taken.add(packet.packet_id)
        if packet.qos:
            assert packet.packet_id not in {one.packet_id for one in peer.owed}
            assert len(peer.owed) < self.core.limits["outbound_inflight_maximum"]
            peer.owed.append(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))

    @invariant()
    def everything_is_somewhere(self) -> None:
        for who, peer in list(self.peers.items()):
            if self.free(who):
                self.look(who, peer)
                described = peer.client.described
                assert described["queued_messages"] <= self.core.limits["queue_messages_maximum"]
                waits = peer.kept or peer.on_disk
                if peer.client.reads and not waits and not self.core.shard.is_stopped(peer.client.handle):
                    assert described["outbound_inflight"] == len({one.packet_id for one in peer.owed} | peer.taken)

    def teardown(self) -> None:
        core = self.core
        self.disk_refuses(False)
        core.release()
        for peer in self.peers.values():
            peer.client.reads = True
        core.run()
        while any(self.drain(who, peer) for who, peer in list(self.peers.items())):
            core.run()
        for peer in self.peers.values():
            if peer.client.is_open:
                assert not peer.awaited, "every PUBLISH of QoS 1 and 2 was acknowledged"
                assert peer.client.described["queued_messages"] == 0
                assert peer.client.described["outbound_inflight"] == 0
        for who, peer in self.peers.items():
            self.end(who, peer)
        before = core.all_drops()
        core.end()
        assert core.all_drops() == before  # nothing waited any more
        self.everything_was_accounted_for()

    def drain(self, who: int, peer: Peer) -> bool:
        if not self.free(who):
            return False
        self.look(who, peer)
        owed = len(peer.owed)
        self.answer(peer, owed)
        return owed > 0

    def expect_offers(self, account_id: int, topic: str, run: bool) -> None:
        """Count who subscribes now, where nothing can change before the message is routed."""
        self.core.run()
        if any(self.core.shard.is_stopped(peer.client.handle) for peer in self.peers.values()):
            self.unsure = True
            return
        self.unsure |= not run and self.core.deliveries != UNLIMITED
        for who, peer in self.peers.items():
            if ACCOUNTS[who] == account_id and (peer.client.is_open or peer.kept):
                self.offered += any(matches(topic_filter, topic) for topic_filter in peer.filters)

    def everything_was_accounted_for(self) -> None:
        drops = self.core.all_drops()
        assert set(drops) <= {
            DropReason.OUTBOX_FULL, DropReason.QUEUE_FULL, DropReason.SESSION_ENDED, DropReason.CLIENT_AWAY,
        }  # fmt: skip
        sent = self.core.shard.counters()["messages_sent"]
        assert isinstance(sent, int)
        if not self.unsure:
            assert self.offered <= sent + sum(drops.values()), "a delivery vanished"
            if DropReason.SESSION_ENDED not in drops and not self.again:
                assert self.offered == sent + sum(drops.values())


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
