"""Whatever happens to sessions and wills, also while the disk takes nothing: when all are gone, no record is left.

And no will is published twice, nor one that its client took back.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.storage.tables import META, OPS, TABLES
from broker.wire import Connack, Disconnect, Will
from tests.support.core import Client, Core

NAMES = st.sampled_from(["a", "b"])
STEPS = st.one_of(
    st.tuples(
        st.just("comes"), NAMES, st.sampled_from([0, 20, 600]), st.sampled_from([None, 0, 10, 100]), st.booleans(),
        st.sampled_from([0, 1, 2, 2]),
    ),
    st.tuples(
        st.just("comes"), NAMES, st.sampled_from([0, 20, 600]), st.sampled_from([None, 0, 10, 100]), st.booleans(),
        st.sampled_from([0, 1, 2, 2]),
    ),
    st.tuples(st.just("drops"), NAMES),
    st.tuples(st.just("says_goodbye"), NAMES, st.booleans()),
    st.tuples(st.just("subscribes"), NAMES, st.sampled_from(["t", "w/#", "+/x"])),
    st.tuples(st.just("publish"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([1, 15, 40, 700])),
    st.tuples(st.just("refuse"), st.booleans()),
    st.tuples(st.just("revoke")),
    st.tuples(st.just("crash"), st.sampled_from([0, 15, 700])),
)  # fmt: skip


class World:
    """A broker, two clients that come and go, and somebody who sees every will."""

    def __init__(self) -> None:
        self.core = Core(keep_alive_maximum_s=0)
        self.core.grant(synced=True)
        self.core.grant("plain")
        self.clients: dict[str, Client] = {}
        self.serial = 0
        self.taken_back: set[bytes] = set()
        self.wills: dict[str, bytes] = {}
        self.seen: list[bytes] = []
        self.watch()

    def watch(self) -> None:
        self.watcher = self.core.connect("watcher", user_name="plain")
        self.watcher.subscribe("w/#", qos=0)

    def look(self) -> None:
        self.core.run()
        self.seen += [one.payload for one in self.watcher.publishes() if not one.retain]

    def comes(self, name: str, expiry_s: int, delay_s: int | None, clean: bool, level: int) -> None:
        self.core.shard.set_durability(0, level)
        self.serial += 1
        payload = b"%d" % self.serial
        properties = {"will_delay_interval": delay_s} if delay_s else {}
        will = None if delay_s is None else Will(f"w/{name}", payload, 1, self.serial % 2 == 0, properties=properties)
        client = self.core.connecting(
            name, clean_start=clean, will=will, properties={"session_expiry_interval": expiry_s}
        )
        self.core.wait(2)  # one that is damped
        if client.pick(Connack).reason_code == 0:
            self.clients[name] = client
            self.wills.pop(name, None)
            if will is not None:
                self.wills[name] = payload

    def drops(self, name: str) -> None:
        if name in self.clients:
            self.clients.pop(name).drop()

    def says_goodbye(self, name: str, for_good: bool) -> None:
        client = self.clients.pop(name, None)
        if client is not None and client.is_open:
            client.send(Disconnect(0, {"session_expiry_interval": 0} if for_good else {}))
            if name in self.wills:
                self.taken_back.add(self.wills.pop(name))

    def subscribes(self, name: str, topic_filter: str) -> None:
        if name in self.clients and self.clients[name].is_open:
            self.clients[name].subscribe(topic_filter, qos=2)

    def publish(self, qos: int, retain: bool) -> None:
        self.serial += 1
        writer = self.core.connect("writer", user_name="plain")
        writer.publish("t", b"%d" % self.serial, qos, retain=retain)
        writer.send(Disconnect())

    def wait(self, seconds: float) -> None:
        self.core.wait(seconds)

    def refuse(self, refusing: bool) -> None:
        self.core.shard.set_refusing(refusing)

    def revoke(self) -> None:
        self.core.shard.revoke_principal(1, self.core.now_ns)
        self.taken_back.update(set(self.wills.values()) - set(self.seen))
        self.wills.clear()

    def crash(self, down_s: int) -> None:
        self.core.run()
        self.core = self.core.crash(down_s=down_s)
        assert self.core.left_out == {}
        self.clients.clear()
        self.wills.clear()
        self.watch()

    def end(self) -> None:
        self.core.shard.set_refusing(False)
        self.core.wait(5000)
        self.look()
        assert len(set(self.seen)) == len(self.seen)
        assert not set(self.seen) & self.taken_back
        self.core.end()
        left = {name: self.core.store.load(name) for name in TABLES if name not in (META, OPS)}
        assert not any(left.values()), left  # ops go when they are many


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=40))
def test_nothing_is_left_and_no_will_comes_twice(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    world = World()
    for name, *values in steps:
        getattr(world, name)(*values)
        world.look()
    world.end()
