"""Retained messages and crashes against a list of states: what a restart finds is one that there was, in whole.

Every change makes a new state of all topics. After a crash the broker has to be in one of them, not older than the last
change that was acknowledged; what expired meanwhile is in none.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.wire import Disconnect, Puback, Pubrec, Pubrel
from tests.support.core import Client, Core

TOPICS = st.sampled_from(["a", "b", "a/b", "b/c/d", "c/$x"])
SIZES = st.sampled_from([1, 1, 1, 300, 5000])
STEPS = st.one_of(
    st.tuples(st.just("set"), TOPICS, st.integers(0, 2), st.sampled_from([0, 0, 0, 5]), SIZES),
    st.tuples(st.just("set"), TOPICS, st.integers(0, 2), st.sampled_from([0, 0, 0, 5]), SIZES),
    st.tuples(st.just("clear"), TOPICS, st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([1.3, 3.1])),  # never the very moment of an expiry
    st.tuples(st.just("revoke"), st.integers(0, 1)),
    st.tuples(st.just("match"), st.sampled_from(["#", "a/#", "+/b"])),
    st.tuples(st.just("hold")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("release")),
    st.tuples(st.just("crash"), st.sampled_from([0, 3])),
)
State = dict[str, tuple[int, bytes, float]]  # by topic: its author, the payload, until when


class World:
    """The broker, every state that it has been in since the last crash, and which one it may not fall behind."""

    def __init__(self) -> None:
        self.core = Core()
        for name in "one", "two":
            self.core.grant(name, synced=True)
        self.core.grant("reader")
        self.states: list[State] = [{}]
        self.kept = 0
        self.now_s = 0.0
        self.serial = 0
        self.come()

    def come(self) -> None:
        self.clients = [self.core.connect(name, user_name=name) for name in ("one", "two")]
        self.owed: list[dict[int, int]] = [{}, {}]  # by packet identifier: the state that is acknowledged

    def changes(self, state: State) -> None:
        self.states.append(state)

    @property
    def state(self) -> State:
        return dict(self.states[-1])

    def alive(self, state: State) -> dict[str, bytes]:
        return {topic: payload for topic, (_, payload, until) in state.items() if until > self.now_s}

    # ------------------------------------------------------------ steps

    def set(self, topic: str, qos: int, expiry_s: int, size: int) -> None:
        self.serial += 1
        who = self.serial % 2
        payload = (b"%d." % self.serial).ljust(size, b".")
        self.changes({**self.state, topic: (who, payload, self.now_s + expiry_s if expiry_s else float("inf"))})
        self.publish(who, topic, payload, qos, {"message_expiry_interval": expiry_s} if expiry_s else {})

    def clear(self, topic: str, qos: int) -> None:
        state = self.state
        state.pop(topic, None)
        self.changes(state)
        self.publish(0, topic, b"", qos, {})

    def publish(self, who: int, topic: str, payload: bytes, qos: int, properties: dict[str, int]) -> None:
        client = self.clients[who]
        packet_id = client.publish(topic, payload, qos, retain=True, properties=properties)
        if qos:
            self.owed[who][packet_id] = len(self.states) - 1
        self.look()

    def look(self) -> None:
        for client, owed in zip(self.clients, self.owed, strict=True):
            for packet in client.received():
                if isinstance(packet, Puback | Pubrec):
                    self.kept = max(self.kept, owed.pop(packet.packet_id))
                if isinstance(packet, Pubrec):
                    client.send(Pubrel(packet.packet_id))

    def wait(self, seconds: float) -> None:
        self.core.wait(seconds)
        self.now_s += seconds
        self.look()

    def revoke(self, who: int) -> None:
        self.core.shard.clear_authored(who + 1)
        self.changes({topic: kept for topic, kept in self.state.items() if kept[0] != who})
        self.core.run()

    def match(self, topic_filter: str) -> None:
        covered = {"#": {"a", "b", "a/b", "b/c/d", "c/$x"}, "a/#": {"a", "a/b"}, "+/b": {"a/b"}}[topic_filter]
        self.core.shard.clear_retained(1, topic_filter.encode())
        self.changes({topic: kept for topic, kept in self.state.items() if topic not in covered})
        self.core.run()

    def hold(self) -> None:
        self.core.hold()

    def commit(self) -> None:
        """What waits is on disk, and nobody has been told."""
        self.core.store.commit()

    def release(self) -> None:
        self.core.release()
        self.look()
        self.kept = len(self.states) - 1
        self.check(self.core)

    def crash(self, down_s: int) -> None:
        self.core = self.core.crash(down_s=down_s)
        assert self.core.left_out == {}
        self.now_s += down_s
        found = self.seen(self.core)
        possible = [state for state in self.states[self.kept :] if self.alive(state) == found]
        assert possible, (found, [self.alive(state) for state in self.states[self.kept :]])
        self.states, self.kept = [possible[0]], 0
        self.come()
        self.check(self.core)

    # ------------------------------------------------------------ what is there

    def seen(self, core: Core) -> dict[str, bytes]:
        reader: Client = core.connect("reader", user_name="reader")
        reader.subscribe("#")
        found = {one.topic_name: one.payload for one in reader.publishes()}
        reader.send(Disconnect())
        return found

    def check(self, core: Core) -> None:
        assert self.seen(core) == self.alive(self.state)
        if not core.holding:
            assert len(core.store.load("retained")) == len(self.alive(self.state))
        assert core.shard.retained(1)[0] == len(self.alive(self.state))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_a_crash_finds_a_state_that_there_was_and_nothing_acknowledged_is_missing(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    world = World()
    for name, *values in steps:
        getattr(world, name)(*values)
    world.release()
    world.crash(0)
    world.core.end()
