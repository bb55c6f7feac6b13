"""Fuzz target: the whole core. An input is a program of instructions, each one byte and its arguments.

The high bits of the first two bytes choose limits and the size of a slice. Whatever the program does, the core raises
nothing but what its stub names, sends only packets that can be read, and at the end holds what it held at the start.
Running out of bytes ends the program; missing arguments are zeros.
"""

from __future__ import annotations

from broker._core.packets import encode
from broker.errors import BadRequest, PayloadTooLarge, Unavailable
from broker.reasons import ReasonCode
from broker.wire import (
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from tests.support.core import SECOND_NS, UNLIMITED, Client, Core
from tests.support.frames import FramedClient

CLIENTS = 4
TOPICS = ("a", "a/b", "a/b/c", "$x", "b")
FILTERS = ("a", "a/b", "+", "#", "a/#", "+/b", "a/+/c", "/", "a#", "$x/#", "$share/g/a/#", "$share/g/#", "$share//#")
# What may be said to a connection in any state.
REASONS = (0x80, 0x81, 0x83, 0x87, 0x8B, 0x8D, 0x98, 0x9C, 0xA0)
STEPS_NS = (0, 1, 10**6, 17 * 10**6, SECOND_NS, 7 * SECOND_NS, 60 * SECOND_NS, 86_400 * SECOND_NS)


class Program:
    """The bytes of an input, taken one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def more(self) -> bool:
        return self.at < len(self.data)

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]


class Machine:
    """Runs a program on a core with a few connections in numbered places."""

    def __init__(self, program: Program) -> None:
        self.program = program
        first, second = program.byte(), program.byte()
        self.core = Core(
            deliveries=(UNLIMITED, 1, 2, 3)[first & 3], split=bool(first & 4),
            queue_messages_maximum=1 + (first >> 3 & 7), outbound_inflight_maximum=1 + (second & 7),
            outbox_soft_limit_bytes=64 if second & 8 else 4096, server_receive_maximum=1 + (second >> 4 & 3),
            connections_maximum=6, unauthenticated_connections_maximum=5, maximum_payload_bytes=2000,
            maximum_packet_size_bytes=4000, connect_packet_maximum_bytes=500, topic_levels_maximum=8,
            client_id_maximum_bytes=100, filters_per_subscribe_maximum=4,
            subscriptions_per_application_session_maximum=6, queue_full_policy=min(second >> 6, 2),
        )  # fmt: skip
        for number, account_id in enumerate((1, 1, 2)):
            self.core.grant(f"u{number}", account_id=account_id, durability=2 * number % 3, publish=("a/#", "b"))
        self.core.open_listener(1)
        self.places: list[Client | None] = [None] * CLIENTS

    def client(self) -> Client:
        """The connection in the place that the next byte names; opened when there is none."""
        chosen = self.program.byte()
        place, version = chosen % CLIENTS, 4 + (chosen >> 3 & 1)
        found = self.places[place]
        if found is None or not found.is_open:
            framed = bool(chosen & 0x20)
            handle = self.core.shard.open_connection(chosen >> 4 & 1, self.core.now_ns, websocket=framed)
            if framed:
                found = FramedClient(self.core, handle, version)
            else:
                found = Client(self.core, handle, version)
                self.core.clients.append(found)
            found.reads = bool(handle)
            self.places[place] = found
        return found

    def send(self, client: Client, packet: Packet | bytes) -> None:
        raw = packet if isinstance(packet, bytes) else encode(packet, client.version)
        wound = self.program.byte()
        if wound & 0xC0 == 0xC0 and raw:  # one in four is damaged
            at = self.program.byte() % len(raw)
            raw = raw[:at] + bytes((self.program.byte(),)) + raw[at + (wound & 1) :]
        client.feed(raw)

    # ------------------------------------------------------------ instructions

    def feed_bytes(self) -> None:
        client = self.client()
        client.feed(self.program.take(self.program.byte()))

    def feed_wire(self) -> None:
        client = self.client()
        data = self.program.take(self.program.byte())
        if isinstance(client, FramedClient):
            client.feed_raw(data)
        else:
            client.feed(data)

    def connect(self) -> None:
        client, what = self.client(), self.program.byte()
        properties = {"maximum_packet_size": 1 + what} if client.version == 5 and what & 1 else {}
        if client.version == 5 and what & 2:
            properties["receive_maximum"] = 1 + (what >> 4)
        kept = self.program.byte()
        if client.version == 5 and kept & 1:
            properties["session_expiry_interval"] = 1 << (kept >> 3)
        if client.version == 5 and kept & 0x20:
            properties["topic_alias_maximum"] = 2
        will = None
        if kept & 2:
            told = {"will_delay_interval": kept >> 6} if client.version == 5 and kept & 0xC0 else {}
            will = Will(TOPICS[kept % len(TOPICS)], b"gone", kept % 3, bool(kept & 8), told)
        user_name = (None, "u0", "u1", "u2", "stranger", "u0", "u1", "u0")[what >> 2 & 7]
        password = None if user_name is None else b"pw"
        client_id = ("", "x", "y", "z" * 101)[what >> 5 & 3]
        self.send(client, Connect(client_id, not kept & 4, what & 0x1F, will, user_name, password, properties))

    def publish(self) -> None:
        client, what = self.client(), self.program.byte()
        qos = what % 3
        payload = b"p" * (what >> 1 & 0x3F) * (40 if what & 0x80 else 1)
        properties = {"message_expiry_interval": what & 7} if client.version == 5 and what & 2 else {}
        chosen = self.program.byte()
        topic = TOPICS[chosen % len(TOPICS)]
        if client.version == 5 and chosen & 0x80:
            properties["topic_alias"] = 1 + (chosen >> 5 & 1)
            topic = "" if chosen & 0x40 else topic
        packet_id = 1 + (what & 7) if qos else 0
        retain = chosen & 0x18 == 0x18
        self.send(client, Publish(topic, payload, qos, retain, packet_id=packet_id, properties=properties))

    def subscribe(self) -> None:
        client, count = self.client(), 1 + self.program.byte() % 5
        chosen = [self.program.byte() for _ in range(count)]
        wanted = tuple(Subscription(FILTERS[one % len(FILTERS)], one % 3) for one in chosen)
        identified = client.version == 5 and chosen[0] & 0x80
        self.send(client, Subscribe(1, wanted, {"subscription_identifier": (1 + chosen[0],)} if identified else {}))

    def unsubscribe(self) -> None:
        self.send(self.client(), Unsubscribe(2, (FILTERS[self.program.byte() % len(FILTERS)],)))

    def acknowledge(self) -> None:
        client = self.client()
        for packet in client.received():
            answer: Packet | None = None
            if isinstance(packet, Publish) and packet.packet_id:
                answer = (Puback if packet.qos == 1 else Pubrec)(packet.packet_id)
            elif isinstance(packet, Pubrel):
                answer = Pubcomp(packet.packet_id)
            elif isinstance(packet, Pubrec):
                answer = Pubrel(packet.packet_id)
            if answer is not None:
                client.feed(encode(answer, client.version))

    def stray(self) -> None:
        client, what = self.client(), self.program.byte()
        kind = (Puback, Pubrec, Pubrel, Pubcomp)[what & 3]
        self.send(client, kind(1 + (what >> 2 & 7), 0x80 if client.version == 5 and what == 0xE0 else 0))

    def ping(self) -> None:
        self.send(self.client(), Pingreq())

    def disconnect(self) -> None:
        client, what = self.client(), self.program.byte()
        properties = {"session_expiry_interval": what >> 2} if client.version == 5 and what & 1 else {}
        self.send(client, Disconnect(4 if client.version == 5 and what & 2 else 0, properties))

    def close(self) -> None:
        self.core.shard.close_connection(self.client().handle)

    def fail(self) -> None:
        self.core.shard.fail_connection(self.client().handle, REASONS[self.program.byte() % len(REASONS)])

    def pause(self) -> None:
        client = self.client()
        client.reads = not client.reads

    def read_some(self) -> None:
        self.client().take(self.program.byte())

    def turn(self) -> None:
        self.core.slice()

    def work(self) -> None:
        self.core.run()

    def advance(self) -> None:
        self.core.now_ns += STEPS_NS[self.program.byte() % len(STEPS_NS)]
        self.core.slice()

    def judge(self) -> None:
        what = self.program.byte()
        if not self.core.asked:
            return
        handle, _ = self.core.asked[what % len(self.core.asked)]
        if what & 0x80:
            self.core.refuse(handle, ReasonCode.NOT_AUTHORIZED)
        else:
            self.core.admit(handle, account_id=1 + (what >> 6 & 1), principal_id=900 + (what >> 6 & 1))

    def hold(self) -> None:
        self.core.holding = not self.core.holding

    def break_store(self) -> None:
        self.core.shard.set_refusing(bool(self.program.byte() & 1))

    def grant(self) -> None:
        self.core.grant(f"u{self.program.byte() % 3}", durability=self.program.byte() % 3)

    def inject(self) -> None:
        what = self.program.byte()
        try:
            self.core.shard.publish(
                1 + (what & 1),
                self.program.take(what >> 2 & 15),
                b"x" * (what >> 1) * 20,
                what >> 6 & 3,
                self.core.now_ns,
            )
        except (BadRequest, PayloadTooLarge, Unavailable):
            return

    def stop(self) -> None:
        self.core.shard.fail_all(ReasonCode.SERVER_SHUTTING_DOWN)

    def describe(self) -> None:
        handle = self.client().handle ^ self.program.byte()
        self.core.shard.describe(handle)
        self.core.shard.is_stopped(handle)
        self.core.shard.next_deadline_ns()


INSTRUCTIONS = (
    Machine.feed_bytes, Machine.feed_wire, Machine.connect, Machine.connect,
    Machine.publish, Machine.publish, Machine.publish,
    Machine.subscribe, Machine.subscribe, Machine.unsubscribe, Machine.acknowledge, Machine.acknowledge,
    Machine.stray, Machine.ping, Machine.disconnect, Machine.close, Machine.fail, Machine.pause, Machine.read_some,
    Machine.turn, Machine.turn, Machine.work, Machine.advance, Machine.judge, Machine.hold, Machine.break_store,
    Machine.grant, Machine.inject, Machine.stop, Machine.describe,
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Run a program; the end must be as empty as the start."""
    program = Program(data)
    machine = Machine(program)
    while program.more:
        INSTRUCTIONS[program.byte() % len(INSTRUCTIONS)](machine)
    machine.core.shard.set_refusing(False)
    machine.core.end()
