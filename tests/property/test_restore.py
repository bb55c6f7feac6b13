"""Any program of publishing, receiving, leaving and crashing: what was acknowledged arrives, and QoS 2 once.

A model keeps what publishers were told is kept. Nothing of it may be missing at the end, first deliveries of one QoS
come in the order of publication, and with QoS 2 none comes twice.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.wire import Connack, Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.core import Client, Core

CROWDED = 3  # deliveries that wait on disk: few, so that queues are runs nearly always
SMALL_CHUNKS = 3  # on disk, and they are made one where they stay
FOLD_BYTES = 150
NAMES = ("one", "two")


class Receiver:
    """A client as an application has it: it keeps what it received, and its QoS 2 identifiers, over connections."""

    def __init__(self, name: str, qos: int) -> None:
        self.name = name
        self.qos = qos
        self.client: Client | None = None
        self.got: list[int] = []
        self.of_qos: dict[int, set[int]] = {1: set(), 2: set()}
        self.unreleased: dict[int, int] = {}
        self.owed: list[Packet] = []

    def connect(self, core: Core, quota: int) -> None:
        self.owed = []
        fields: dict[str, Any] = {"session_expiry_interval": 5000, "receive_maximum": quota}
        self.client = core.connecting(self.name, user_name="durable", clean_start=False, properties=fields)
        self.read()

    def read(self) -> None:
        assert self.client is not None
        for packet in self.client.received():
            if isinstance(packet, Publish):
                self._take(packet)
            elif isinstance(packet, Pubrel):
                self.unreleased.pop(packet.packet_id, None)
                self.owed.append(Pubcomp(packet.packet_id))
            elif isinstance(packet, Connack):
                assert packet.reason_code == 0
            else:
                raise AssertionError(packet)

    def _take(self, packet: Publish) -> None:
        number = int(packet.payload)
        self.of_qos[packet.qos].add(number)
        if packet.qos == 1:
            self.got.append(number)
            self.owed.append(Puback(packet.packet_id))
            return
        if self.unreleased.get(packet.packet_id) != number:
            assert packet.packet_id not in self.unreleased, "an identifier was used again before its exchange had ended"
            self.unreleased[packet.packet_id] = number
            self.got.append(number)
        self.owed.append(Pubrec(packet.packet_id))

    def acknowledge(self, count: int) -> None:
        if self.client is None:
            return
        due, self.owed = self.owed[:count], self.owed[count:]
        self.client.send(*due)
        self.read()

    def first_deliveries(self) -> list[int]:
        return list(dict.fromkeys(self.got))


class World:
    def __init__(self, slice_size: int) -> None:
        self.core = Core(deliveries=slice_size)
        self.core.grant("durable", synced=True)
        self.core.shard.set_fold(FOLD_BYTES)
        self.core.shard.set_crowded(CROWDED)
        self.core.shard.set_merging(SMALL_CHUNKS, 2)
        self.receivers = [Receiver(name, qos) for qos, name in enumerate(NAMES, 1)]
        for receiver in self.receivers:
            client = self.core.keep(receiver.name, user_name="durable", properties={"session_expiry_interval": 5000})
            client.subscribe("t", qos=receiver.qos)
            client.drop()
        self.publisher = self.core.connect("p", user_name="durable")
        self.sent = 0
        self.kept: set[int] = set()
        self.exactly_once: set[int] = set()

    def publish(self, qos: int) -> None:
        self.sent += 1
        packet_id = self.publisher.publish("t", b"%d" % self.sent, qos)
        self.told = packet_id
        if any(one.packet_id == packet_id for one in self.publisher.received() if isinstance(one, Puback | Pubrec)):
            self.kept.add(self.sent)
            if qos == 2:
                self.publisher.send(Pubrel(packet_id))
                self.publisher.received()

    def crash(self, committed: bool) -> None:
        if committed:
            self.core.store.commit()
        self.core = self.core.crash()
        assert self.core.left_out == {}
        self.core.shard.set_fold(FOLD_BYTES)
        for receiver in self.receivers:
            receiver.client = None
        self.publisher = self.core.connect("p", user_name="durable")

    def leave(self, receiver: Receiver) -> None:
        if receiver.client is not None:
            receiver.client.drop()
            receiver.client = None

    def settle(self) -> None:
        self.core.release()
        for receiver in self.receivers:
            if receiver.client is not None:
                receiver.read()

    def finish(self) -> None:
        self.settle()
        for receiver in self.receivers:
            self.leave(receiver)
            receiver.connect(self.core, 10)
            while receiver.owed:
                receiver.acknowledge(len(receiver.owed))
            firsts = receiver.first_deliveries()
            assert self.kept <= set(firsts), (receiver.name, self.kept - set(firsts))
            for numbers in receiver.of_qos.values():  # QoS 2 waits for its identifier, and QoS 1 may pass it
                ordered = [number for number in firsts if number in numbers]
                assert ordered == sorted(ordered), receiver.name
            if receiver.qos == 2:
                twice = {one for one in receiver.got if receiver.got.count(one) > 1}
                assert not twice & self.exactly_once, twice
        self.core.end()
        assert self.core.store.load("messages") == []


WHO = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 2)),
        st.tuples(st.just("connect"), WHO, st.integers(1, 4)),
        st.tuples(st.just("acknowledge"), WHO, st.integers(1, 5)),
        st.tuples(st.just("leave"), WHO),
        st.tuples(st.just("crash"), st.booleans()),
        st.tuples(st.just("hold")),
        st.tuples(st.just("settle")),
    ),
    max_size=60,
)


def play(world: World, step: tuple[Any, ...]) -> None:
    kind, *rest = step
    if kind == "publish":
        world.publish(*rest)
        if rest == [2]:
            world.exactly_once = world.exactly_once | {world.sent}
    elif kind == "crash":
        world.crash(*rest)
    elif kind == "hold":
        world.core.hold()
    elif kind == "settle":
        world.settle()
    else:
        receiver = world.receivers[rest[0]]
        if kind == "connect":
            world.leave(receiver)
            receiver.connect(world.core, rest[1])
        elif kind == "acknowledge":
            receiver.acknowledge(rest[1])
        else:
            world.leave(receiver)


@example([("hold",), ("publish", 1), ("publish", 2), ("publish", 1)], 1)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from([1, 1 << 40]))
def test_what_was_acknowledged_arrives_whatever_crashes(steps: list[tuple[Any, ...]], slice_size: int) -> None:
    world = World(slice_size)
    for step in steps:
        play(world, step)
    world.finish()
