"""Retained messages against a dictionary: set, cleared and expiring while subscribers read at any pace.

What a run owes is said in the plainest way: what its filter matched when it was subscribed and nobody touched since has
to come once; what came must have been there then; nothing comes twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from broker._core.core_probe import retained_tables
from broker.wire import Publish, Subscription
from tests.support.core import Client, Core
from tests.support.topics import matches

LEVELS = st.sampled_from(["", "a", "b", "c", "$x"])
NAMES = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(lambda name: bool(name) and name[0] != "$")
FILTERS = (
    st.tuples(st.lists(st.one_of(LEVELS, st.just("+")), max_size=3), st.booleans())
    .map(lambda drawn: "/".join([*drawn[0], *(["#"] if drawn[1] else [])]))
    .filter(bool)
)
STEPS = st.one_of(
    st.tuples(st.just("set"), NAMES, st.sampled_from([0, 0, 3, 30]), st.integers(0, 1)),
    st.tuples(st.just("set"), NAMES, st.sampled_from([0, 0, 3, 30]), st.integers(0, 1)),
    st.tuples(st.just("clear"), NAMES),
    st.tuples(st.just("wait"), st.integers(1, 4)),
    st.tuples(st.just("subscribe"), FILTERS, st.integers(0, 2)),
    st.tuples(st.just("unsubscribe"), FILTERS),
    st.tuples(st.just("read"), st.integers(1, 300)),
    st.tuples(st.just("return")),
)


@dataclass
class Run:
    """What one subscription owes to its client."""

    there: dict[str, bytes]
    owed: set[str]
    came: list[str] = field(default_factory=list)


class World:
    """The broker and what is known of it by simpler means."""

    def __init__(self, slice_size: int) -> None:
        self.core = Core(deliveries=slice_size, outbox_soft_limit_bytes=200)
        self.core.grant("user", subscribe=("#", "$x/#"))
        self.kept: dict[str, tuple[bytes, int, float]] = {}
        self.runs: dict[int, Run] = {}  # by subscription identifier
        self.current: dict[str, int] = {}
        self.identifier = 0
        self.now_s = 0.0
        self.reader = self.comes()
        self.publisher = self.core.connect("p")

    def comes(self) -> Client:
        reader = self.core.connect("r", clean_start=False, properties={"session_expiry_interval": 1000})
        reader.reads = False
        return reader

    def touched(self, topic: str) -> None:
        for run in self.runs.values():
            run.owed.discard(topic)

    def set(self, topic: str, expiry_s: int, qos: int) -> None:
        payload = b"%d" % self.identifier
        self.identifier += 1
        properties = {"message_expiry_interval": expiry_s} if expiry_s else {}
        self.publisher.publish(topic, payload, qos, properties=properties, retain=True)
        self.kept[topic] = (payload, qos, self.now_s + expiry_s if expiry_s else float("inf"))
        self.touched(topic)

    def clear(self, topic: str) -> None:
        self.publisher.publish(topic, b"", retain=True)
        self.kept.pop(topic, None)
        self.touched(topic)

    def wait(self, seconds: float) -> None:
        self.core.wait(seconds)
        self.now_s += seconds
        for topic in [topic for topic, (_, _, until) in self.kept.items() if until <= self.now_s]:
            del self.kept[topic]
            self.touched(topic)

    def subscribe(self, topic_filter: str, handling: int) -> None:
        self.identifier += 1
        self.reader.reads = True  # until its SUBACK is out, and what comes with it
        wanted = Subscription(topic_filter, 1, retain_handling=handling)
        self.reader.subscribe(wanted, identifier=self.identifier)
        self.reader.reads = False
        known = self.current.get(topic_filter)
        self.current[topic_filter] = self.identifier
        if handling == 0 or (handling == 1 and known is None):
            there = {topic: kept[0] for topic, kept in self.kept.items() if matches(topic_filter, topic)}
            if known is not None:
                self.runs[known].owed.clear()
            self.runs[self.identifier] = Run(there, set(there))
        else:
            self.runs[self.identifier] = self.runs[known] if known is not None else Run({}, set())
        self.look()

    def unsubscribe(self, topic_filter: str) -> None:
        self.reader.reads = True
        self.reader.unsubscribe(topic_filter)
        self.reader.reads = False
        if topic_filter in self.current:
            self.runs[self.current.pop(topic_filter)].owed.clear()
        self.look()

    def read(self, at_most: int) -> None:
        self.reader.take(at_most)
        self.look()
        self.core.run()

    def returns(self) -> None:
        self.reader.drop()
        for run in self.runs.values():  # what was on its way at QoS 0 is lost
            run.owed -= {topic for topic, kept in self.kept.items() if kept[1] == 0}
        self.reader = self.comes()

    def look(self) -> None:
        found, self.reader.unread = self.reader.unread, []
        for packet in found:
            assert isinstance(packet, Publish)
            if packet.qos and self.reader.is_open:
                self.reader.feed(bytes([0x40, 2]) + packet.packet_id.to_bytes(2, "big"))
            if packet.retain and not packet.dup:
                self.check(packet)

    def check(self, packet: Publish) -> None:
        (identifier,) = packet.properties["subscription_identifier"]  # type: ignore[misc]
        run = self.runs[identifier]  # type: ignore[has-type]
        assert run.there.get(packet.topic_name) == packet.payload, "it was not there when the client subscribed"
        assert packet.topic_name not in run.came, "it came twice"
        run.came.append(packet.topic_name)

    def end(self) -> None:
        for _ in range(10_000):
            if not self.reader.take():
                break
            self.look()
            self.core.run()
        for run in self.runs.values():
            assert run.owed <= set(run.came)
        self.core.wait(0.1)  # a timer fires up to one tick late
        assert self.core.shard.retained(1)[0] == len(self.kept)
        self.core.end()
        tables = retained_tables(self.core.shard, 1)
        assert tables is not None
        assert (tables["nodes"], tables["pins"], tables["buckets"]) in {(0, 0, 16), (0, 0, 0)}


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=40), st.sampled_from([1, 3, 1 << 40]))
def test_runs_bring_what_was_there_once_whatever_happens_meanwhile(
    steps: list[tuple[str, ...]], slice_size: int
) -> None:
    world = World(slice_size)
    for name, *arguments in steps:
        getattr(world, "returns" if name == "return" else name)(*arguments)
    world.end()


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(100, 600))
def test_the_tree_shrinks_as_it_grew(random: object, count: int) -> None:
    core = Core(outbound_inflight_maximum=2000)
    core.grant()
    topics = [f"a/{number % 7}/{number}" for number in range(count)]
    for topic in topics:
        core.shard.publish(1, topic.encode(), b"x", 0, core.now_ns, retain=True)
    full = retained_tables(core.shard, 1)
    assert full is not None
    assert full["nodes"] == full["buckets"] == count + 8 - max(0, 7 - count)
    random.shuffle(topics)  # type: ignore[attr-defined]
    for topic in topics:
        client = core.connect("c")
        client.subscribe(topic)
        assert [one.topic_name for one in client.publishes()] == [topic]
        core.shard.publish(1, topic.encode(), b"", 0, core.now_ns, retain=True)
        client.drop()
    empty = retained_tables(core.shard, 1)
    assert empty is not None
    assert empty["nodes"] == 0
    assert empty["buckets"] == 16
    assert empty["bucket_capacity"] <= 64
    core.end()
