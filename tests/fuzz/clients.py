"""Fuzz target: a crowd of clients that know the protocol and behave as clients do on a bad day.

An input is the seed of a program: connects with and without a session to resume, wills, publishes of every QoS,
acknowledgements in time, late, twice and of nothing, takeovers, subscriptions, connections cut at any byte, readers
that stop reading, jumps of the clock, a store that fails. The core may refuse what it is told; it never sends what
cannot be read, never uses a packet identifier twice, and at the end holds what it held at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from broker._core.packets import encode
from broker.wire import (
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
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
from tests.support.core import UNLIMITED, Client, Core
from tests.support.frames import FramedClient

STEPS = 250
NAMES = ("a", "b", "c", "d")
TOPICS = ("a", "a/b", "a/b/c", "b", "b/c", "$x")
FILTERS = (*TOPICS, "#", "+", "a/#", "+/b", "a/+/c", "$share/g/a/#", "$share/g/#", "$share/h/+", "$share/g/a/b")
WAITS_S = (0.0, 0.02, 0.5, 3.0, 20.0, 400.0, 4_000.0)
EXPIRIES_S = (0, 0, 5, 300, 100_000)


class Program:
    """One crowd on one core, driven by one seed."""

    def __init__(self, seed: bytes) -> None:
        self.rng = Random(seed)
        self.core = Core(
            deliveries=self.rng.choice((UNLIMITED, UNLIMITED, 1, 2, 7)), split=self.rng.random() < 0.2,
            outbound_inflight_maximum=self.rng.choice((1, 2, 5, 100)),
            queue_messages_maximum=self.rng.choice((1, 5, 500)),
            outbox_soft_limit_bytes=self.rng.choice((100, 2_000, 100_000)),
            server_receive_maximum=self.rng.choice((1, 3, 100)), unannounced_receive_maximum=self.rng.choice((1, 100)),
            subscriptions_per_application_session_maximum=self.rng.choice((3, 50)), maximum_payload_bytes=3_000,
            maximum_packet_size_bytes=4_000, connect_packet_maximum_bytes=1_000,
            session_expiry_maximum_s=self.rng.choice((10, 50_000)), will_delay_maximum_s=self.rng.choice((1, 10_000)),
            queue_full_policy=self.rng.choice((0, 1, 2)),
        )  # fmt: skip
        for number, name in enumerate(NAMES):
            self.core.grant(
                name, account_id=1 + (number == 3), durability=2 * number % 3,
                device_id=f"dev{number}" if number < 2 else "",
                publish=("!b/c", "#") if number == 2 else ("#",),
            )  # fmt: skip
        self.living: list[Client] = []
        self.owed: dict[Client, list[Packet]] = {}
        self.held: dict[Client, set[int]] = {}

    def run(self) -> None:
        """All steps, then everybody goes."""
        for _ in range(6):
            self.connect()
            self.subscribe()
        for _ in range(STEPS):
            self.rng.choice(ACTIONS)(self)
            self.look()
        self.core.shard.set_refusing(False)
        self.core.end()

    # ------------------------------------------------------------ what is seen

    def look(self) -> None:
        """Read what has arrived, and remember what it asks for."""
        for client in [one for one in self.living if one.reads]:
            for packet in client.received():
                self.note(client, packet)
            if not client.is_open:
                self.living.remove(client)

    def note(self, client: Client, packet: Packet) -> None:
        owed, held = self.owed[client], self.held[client]
        if isinstance(packet, Publish) and packet.qos:
            assert packet.packet_id not in held, "an identifier that is in use"
            held.add(packet.packet_id)
            owed.append((Puback if packet.qos == 1 else Pubrec)(packet.packet_id))
        elif isinstance(packet, Pubrel):
            owed.append(Pubcomp(packet.packet_id))
        elif isinstance(packet, Pubrec) and packet.reason_code < 0x80:
            owed.append(Pubrel(packet.packet_id))

    def someone(self) -> Client | None:
        return self.rng.choice(self.living) if self.living else None

    def feed(self, client: Client, *packets: Packet) -> None:
        """Send, as a rule; one time in twenty the connection is cut in the middle, or a byte is wrong."""
        raw = b"".join(encode(one, client.version) for one in packets)
        luck = self.rng.random()
        if luck < 0.03:
            client.feed(raw[: self.rng.randint(0, len(raw))])
            self.cut(client)
        elif luck < 0.05:
            at = self.rng.randrange(len(raw))
            client.feed(raw[:at] + self.rng.randbytes(1) + raw[at + 1 :])
        else:
            client.feed(raw)

    def cut(self, client: Client) -> None:
        if client.is_open:
            self.core.shard.close_connection(client.handle)

    # ------------------------------------------------------------ what clients do

    def newcomer(self, version: int, *, framed: bool) -> Client:
        """A new connection, plain or over WebSocket."""
        handle = self.core.shard.open_connection(0, self.core.now_ns, websocket=framed)
        if not framed:
            return Client(self.core, handle, version)
        client = FramedClient(self.core, handle, version)
        self.core.run()
        return client

    def connect(self) -> None:
        rng = self.rng
        version, name = rng.choice((4, 5)), rng.choice(NAMES)
        properties: dict[str, Any] = {}
        will = None
        if version == 5:
            if expiry := rng.choice(EXPIRIES_S):
                properties["session_expiry_interval"] = expiry
            if rng.random() < 0.3:
                properties["receive_maximum"] = rng.randint(1, 4)
            if rng.random() < 0.3:
                properties["topic_alias_maximum"] = rng.randint(1, 3)
            if rng.random() < 0.1:
                properties["maximum_packet_size"] = rng.randint(20, 200)
        if rng.random() < 0.3:
            told: Properties = {"will_delay_interval": rng.choice((0, 1, 100))} if version == 5 else {}
            will = Will(rng.choice(TOPICS), rng.randbytes(9), rng.randint(0, 2), rng.random() < 0.3, told)
        client = self.newcomer(version, framed=rng.random() < 0.3)
        if not client.handle:
            return
        if client not in self.core.clients:
            self.core.clients.append(client)
        self.living.append(client)
        self.owed[client], self.held[client] = [], set()
        self.feed(client, Connect(
            rng.choice(("x", "x", "y", "")), rng.random() < 0.3, rng.choice((0, 10, 600)), will, name, b"pw", properties
        ))  # fmt: skip

    def publish(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(1, 6)):
            client = self.someone()
            if client is None:
                return
            qos = rng.randint(0, 2)
            properties: dict[str, Any] = {}
            topic = rng.choice(TOPICS)
            if client.version == 5 and rng.random() < 0.2:
                properties["message_expiry_interval"] = rng.choice((0, 1, 100))
            if client.version == 5 and rng.random() < 0.1:
                properties["topic_alias"] = rng.randint(1, 3)
                topic = rng.choice((topic, ""))
            payload = rng.randbytes(rng.choice((0, 0, 10, 10, 200, 2_900, 3_001)))
            self.feed(client, Publish(
                topic, payload, qos, rng.random() < 0.2, qos > 0 and rng.random() < 0.1,
                rng.randint(1, 6) if qos else 0, properties,
            ))  # fmt: skip

    def subscribe(self) -> None:
        client = self.someone()
        if client is None:
            return
        rng = self.rng
        five = client.version == 5
        wanted = tuple(
            Subscription(
                rng.choice(FILTERS),
                rng.randint(0, 2),
                no_local=five and rng.random() < 0.05,
                retain_as_published=five and rng.random() < 0.3,
                retain_handling=rng.randint(0, 2) if five else 0,
            )
            for _ in range(rng.randint(1, 4))
        )
        identified = client.version == 5 and rng.random() < 0.5
        properties = {"subscription_identifier": (rng.randint(1, 300_000),)} if identified else {}
        self.feed(client, Subscribe(rng.randint(1, 9), wanted, properties))

    def unsubscribe(self) -> None:
        if client := self.someone():
            self.feed(client, Unsubscribe(9, tuple(self.rng.sample(FILTERS, self.rng.randint(1, 5)))))

    def answer(self) -> None:
        """Acknowledge some of what is owed: mostly in order, sometimes not, sometimes with an error."""
        if (client := self.someone()) is None:
            return
        owed = self.owed[client]
        for _ in range(self.rng.randint(1, 8)):
            if not owed:
                return
            packet = owed.pop(0 if self.rng.random() < 0.9 else self.rng.randrange(len(owed)))
            refused = client.version == 5 and isinstance(packet, Puback | Pubrec) and self.rng.random() < 0.05
            if refused or isinstance(packet, Puback | Pubcomp):
                self.held[client].discard(packet.packet_id)  # type: ignore[union-attr]
            self.feed(client, type(packet)(packet.packet_id, 0x80) if refused else packet)  # type: ignore[union-attr,call-arg,arg-type]

    def stray(self) -> None:
        """Acknowledge what nobody asked for."""
        if client := self.someone():
            self.feed(client, self.rng.choice((Puback, Pubrec, Pubrel, Pubcomp))(self.rng.randint(1, 12)))
            self.held[client] = Anything()

    def ping(self) -> None:
        if client := self.someone():
            self.feed(client, Pingreq())

    def leave(self) -> None:
        if client := self.someone():
            properties: Properties = {}
            if client.version == 5 and self.rng.random() < 0.4:
                properties = {"session_expiry_interval": self.rng.choice(EXPIRIES_S)}
            reason_code = self.rng.choice((0, 0, 4)) if client.version == 5 else 0
            self.feed(client, Disconnect(reason_code, properties))

    def lose(self) -> None:
        if client := self.someone():
            self.cut(client)

    # ------------------------------------------------------------ what the world does

    def stop_or_start_reading(self) -> None:
        if client := self.someone():
            client.reads = not client.reads

    def read_some(self) -> None:
        if client := self.someone():
            client.take(self.rng.randint(0, 300))

    def turn(self) -> None:
        self.core.slice()

    def work(self) -> None:
        self.core.run()

    def wait(self) -> None:
        self.core.wait(self.rng.choice(WAITS_S))

    def hold_or_release(self) -> None:
        self.core.holding = not self.core.holding

    def break_or_mend_store(self) -> None:
        self.core.shard.set_refusing(self.rng.random() < 0.3)

    def revoke(self) -> None:
        """A credential ends, and is given anew with the same rights."""
        if self.rng.random() < 0.2:
            self.core.grant(self.rng.choice(NAMES[2:3]), account_id=1)


class Anything(set[int]):
    """What is known of a client that acknowledged at random: nothing."""

    def __contains__(self, one: object) -> bool:
        return False


ACTIONS: tuple[Callable[[Program], None], ...] = (
    *[Program.connect] * 4, *[Program.publish] * 8, *[Program.subscribe] * 4, Program.unsubscribe,
    *[Program.answer] * 8, Program.stray, Program.ping, Program.leave, *[Program.lose] * 2,
    Program.stop_or_start_reading, *[Program.read_some] * 2,
    *[Program.turn] * 4, *[Program.work] * 4, *[Program.wait] * 2, Program.hold_or_release, Program.break_or_mend_store,
    Program.revoke,
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Run the program of a seed; the end must be as empty as the start."""
    Program(data).run()
