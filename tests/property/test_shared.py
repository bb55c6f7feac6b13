"""Shared groups against the plainest account that can be kept: whatever members do, nobody gets a message twice over.

Members come, go, come back, subscribe, unsubscribe and acknowledge, or not, as a drawn program says. Each message that
matched a group with a member must end in one of two places: with exactly one member, or among the drops.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker._core.core_probe import topic_tables
from broker.wire import Publish, Subscription
from tests.support.core import Client, Core
from tests.support.topics import matches

MEMBERS = 5
FILTERS = ["a/b", "a/+", "#", "+/b"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(["a/b", "a/c", "x/b"]), st.integers(0, 1)),
        st.tuples(st.just("subscribe"), st.integers(0, MEMBERS - 1), st.integers(0, 3), st.integers(0, 2)),
        st.tuples(st.just("unsubscribe"), st.integers(0, MEMBERS - 1), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.integers(0, MEMBERS - 1)),
        st.tuples(st.just("acknowledge"), st.integers(0, MEMBERS - 1)),
    ),
    max_size=60,
)


class World:
    """Members of one group for each filter, and what each has got."""

    def __init__(self, deliveries: int) -> None:
        self.core = Core(deliveries=deliveries)
        self.core.grant()
        self.publisher = self.core.connect("publisher")
        self.members: list[Client | None] = [None] * MEMBERS
        self.held: list[list[int]] = [[] for _ in range(MEMBERS)]
        self.subscribed: list[set[str]] = [set() for _ in range(MEMBERS)]
        self.got: Counter[bytes] = Counter()
        self.groups: dict[bytes, int] = {}
        self.qos: dict[bytes, int] = {}

    def member(self, number: int) -> Client:
        """Even ones are kept, odd ones end with their connection; each may have two open."""
        client = self.members[number]
        if client is None:
            properties: Any = {"receive_maximum": 2, "session_expiry_interval": 0 if number % 2 else 1000}
            client = self.core.connect(f"m{number}", clean_start=False, properties=properties)
            self.members[number] = client
        return client

    def publish(self, topic_name: str, qos: int) -> None:
        payload = b"%d" % len(self.groups)
        wanted = {one for filters in self.subscribed for one in filters if matches(one, topic_name)}
        self.groups[payload] = len(wanted)
        self.qos[payload] = qos
        self.publisher.publish(topic_name, payload, qos)

    def subscribe(self, number: int, which: int, qos: int) -> None:
        topic_filter = f"$share/g/{FILTERS[which]}"
        assert self.member(number).subscribe(Subscription(topic_filter, qos)) == (qos,)
        self.subscribed[number].add(FILTERS[which])

    def unsubscribe(self, number: int, which: int) -> None:
        there = FILTERS[which] in self.subscribed[number]
        assert self.member(number).unsubscribe(f"$share/g/{FILTERS[which]}") == (0 if there else 0x11,)
        self.subscribed[number].discard(FILTERS[which])

    def leave(self, number: int) -> None:
        client = self.members[number]
        if client is not None:
            client.drop()
            self.read(number)
            self.members[number] = None
            self.held[number].clear()
            if number % 2:
                self.subscribed[number].clear()

    def acknowledge(self, number: int) -> None:
        if self.members[number] is not None:
            self.read(number)
            held, self.held[number] = self.held[number], []
            self.member(number).acknowledge(*held)
            self.read(number)

    def read(self, number: int) -> None:
        client = self.members[number]
        if client is None:
            return
        for packet in client.received():
            if isinstance(packet, Publish):
                self.got[packet.payload] += 0 if packet.dup else 1
                if packet.qos:
                    self.held[number].append(packet.packet_id)

    def finish(self) -> None:
        """All come back and acknowledge everything that is left."""
        for number in range(MEMBERS):
            self.member(number)
        for _ in range(100):
            for number in range(MEMBERS):
                self.acknowledge(number)
            if not any(self.held):
                return
        raise AssertionError("there is always more to acknowledge")


@settings(max_examples=150)
@given(STEPS, st.sampled_from([1, 1 << 40]))
def test_every_message_goes_to_one_member_of_each_group_or_is_counted(
    steps: list[tuple[Any, ...]], deliveries: int
) -> None:
    world = World(deliveries)
    for step in steps:
        getattr(world, step[0])(*step[1:])
        for number in range(MEMBERS):
            world.read(number)
    world.finish()
    lost = sum(world.core.all_drops().values())
    missing = sum(max(0, wanted - world.got[payload]) for payload, wanted in world.groups.items())
    again = sum(max(0, world.got[payload] - wanted) for payload, wanted in world.groups.items())
    assert missing <= lost, (world.groups, world.got, world.core.all_drops())
    for payload, qos in world.qos.items():
        if qos == 0:
            assert world.got[payload] <= world.groups[payload]
    if not any(step[0] == "leave" and step[1] % 2 for step in steps):  # nothing was handed over
        assert again == 0, (world.groups, world.got)
    world.core.end()
    tables = topic_tables(world.core.shard, 1)
    assert tables is not None
    assert not any(tables[name] for name in ("topics", "nodes", "groups", "subscriptions", "wildcards"))


@pytest.mark.parametrize("members", [1, 7])
def test_turns_are_even(members: int) -> None:
    core = Core()
    core.grant()
    clients = [core.connect(f"m{number}") for number in range(members)]
    for one in clients:
        one.subscribe("$share/g/t")
    for _ in range(members * 10):
        core.publish("t", b"x")
    assert [len(one.publishes()) for one in clients] == [10] * members
    core.end()
