"""Whatever bytes are on disk, a start survives them: records that are none are left out, and nothing is believed.

Checksums are made right again after most changes, so that what stands behind them is reached.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.storage.memory import MemoryStore
from broker.wire import ProtocolViolation, Puback, Publish, Pubrec, Will
from tests.support.core import Core

TABLES = ("meta", "sessions", "subscriptions", "flows", "messages", "ops", "wills", "retained")
FLOW_CRC_AT = 28

Rows = dict[str, dict[bytes, bytes]]


@cache
def sample() -> Rows:
    """A disk with something in every table: queued, in flight in every state, shared, expiring."""
    core = Core()
    core.grant("durable", synced=True)
    core.shard.set_fold(1)
    publisher = core.keep("p", user_name="durable")
    for client_id in ("a", "b"):
        client = core.keep(client_id, user_name="durable", properties={"receive_maximum": 3})
        client.subscribe("t/#", qos=2, identifier=5)
        client.subscribe("$share/g/s/#", qos=1)
    for number in range(12):
        publisher.publish("t/x", b"%d" % number, number % 2 + 1, properties={"message_expiry_interval": 100})
        publisher.publish("s/x", b"%d" % number, 1)
    for client in core.clients:
        for packet in client.received()[:4]:
            if isinstance(packet, Publish):
                client.send(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))
    core.shard.set_fold(1 << 40)
    for number in range(4):
        publisher.publish("t/x", b"%d" % number, 2)
    core.publish_retained("r", b"1", 1)
    expiring = {"message_expiry_interval": 100, "will_delay_interval": 20}
    core.keep("w", user_name="durable", will=Will("t/w", b"gone", 2, properties=expiring))
    core.connect("v", user_name="durable", will=Will("r", b"gone", 1, retain=True))  # kept for its will alone
    core.run()
    return {table: dict(core.store.load(table)) for table in TABLES}


def mend(table: str, value: bytes) -> bytes:
    """The same bytes with a right checksum."""
    if table in ("messages", "ops") and len(value) >= 4:
        return struct.pack("<I", zlib.crc32(value[4:])) + value[4:]
    if table == "flows" and len(value) >= FLOW_CRC_AT + 4:
        rest = value[FLOW_CRC_AT + 4 :]
        crc = zlib.crc32(rest, zlib.crc32(value[:FLOW_CRC_AT]))
        return value[:FLOW_CRC_AT] + struct.pack("<I", crc) + rest
    return value


@st.composite
def damage(draw: st.DrawFn) -> Rows:
    rows = {table: dict(entries) for table, entries in sample().items()}
    for _ in range(draw(st.integers(1, 6))):
        table = draw(st.sampled_from([table for table in TABLES if rows[table]]))
        key = draw(st.sampled_from(sorted(rows[table])))
        value = bytearray(rows[table][key])
        kind = draw(st.sampled_from(["byte", "word", "long", "cut", "grow", "lose", "move"]))
        if kind == "lose":
            del rows[table][key]
            continue
        if kind == "move":
            rows[table][draw(st.binary(min_size=1, max_size=30))] = bytes(value)
            continue
        if kind == "byte" and value:
            value[draw(st.integers(0, len(value) - 1))] = draw(st.integers(0, 255))
        elif kind == "word" and len(value) >= 8:
            at = draw(st.integers(0, len(value) - 4))
            value[at : at + 4] = draw(st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80", b"\1\0\0\0"]))
        elif kind == "long" and len(value) >= 12:
            at = draw(st.integers(0, (len(value) - 8) // 4)) * 4
            number = draw(st.sampled_from([0, 1, 2**31, 2**32, 2**61, 2**62, 2**62 + 1, 2**63, 2**64 - 1]))
            value[at : at + 8] = struct.pack("<Q", number)
        elif kind == "cut":
            del value[draw(st.integers(0, len(value))) :]
        elif kind == "grow":
            value += draw(st.binary(min_size=1, max_size=40))
        rows[table][key] = mend(table, bytes(value)) if draw(st.integers(0, 3)) else bytes(value)
    return rows


def receive(core: Core, client_id: str) -> None:
    client = core.connecting(
        client_id, user_name="durable", clean_start=False, properties={"session_expiry_interval": 600}
    )
    for _ in range(30):
        packets = client.received()
        if not packets or not client.is_open:
            break
        for packet in packets:
            if isinstance(packet, Publish) and client.is_open:
                client.send(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))


def live(core: Core) -> None:
    """Everybody comes, takes what there is and goes; nothing is expected of it."""
    for client_id in ("a", "b", "p", "w"):
        with suppress(ProtocolViolation):  # properties are passed on as they are
            receive(core, client_id)
        for client in core.clients:
            client.reads = False
            client.drop()
    core.publish("t/x", b"new", 2)
    core.publish("s/x", b"new", 1)
    core.wait(601)


@settings(max_examples=300, deadline=None)
@given(damage())
def test_any_damage_is_survived(rows: Rows) -> None:
    core = Core()
    core.grant("durable", synced=True)
    core.store = MemoryStore(rows)
    core = core.crash()
    core.shard.set_fold(1)
    live(core)
    core = core.crash()
    live(core)


def test_the_sample_itself_is_whole() -> None:
    core = Core()
    core.grant("durable", synced=True)
    core.store = MemoryStore(sample())
    assert all(sample()[table] for table in TABLES)
    core = core.crash()
    assert core.left_out == {}
    live(core)
    core.end()
