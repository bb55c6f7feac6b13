"""Batches and tickets: what is written, in which layout, and promises of many connections."""

from __future__ import annotations

import struct
import zlib

import pytest

from broker._core.records import TABLE_NAMES
from broker.storage import tables
from broker.wire import Puback
from tests.support.core import WALL_NS, Core


def chunk_records(chunk: bytes) -> list[tuple[int, bytes, bytes, list[tuple[int, int, int]]]]:
    """Number, topic name, payload, and session, packet identifier and flags of each pair, of each message."""
    crc, count = struct.unpack_from("<II", chunk)
    assert crc == zlib.crc32(chunk[4:])
    found, at = [], 8
    for _ in range(count):
        size, pair_count, number, _account, _ = struct.unpack_from("<IIQII", chunk, at)
        qos, _retain, _version, _, topic, properties, payload, *_, received = struct.unpack_from(
            "<BBBBIIIIIIIq", chunk, at + 24
        )
        assert qos in (1, 2)
        assert received == WALL_NS
        body = at + 64
        after = body + topic + properties + payload
        pairs = []
        for _ in range(pair_count):
            session, packet_id, flags, identifiers = struct.unpack_from("<QHBB", chunk, after)
            after += 12 + 4 * identifiers
            pairs.append((session, packet_id, flags))
        assert after == at + size
        found.append(
            (
                number,
                chunk[body : body + topic],
                chunk[body + topic + properties : body + topic + properties + payload],
                pairs,
            )
        )
        at = after
    assert at == len(chunk)
    return found


def durable(**limits: int) -> Core:
    core = Core(**limits)
    core.grant(synced=True)
    core.sink("a", "b/c", "t")
    return core


def test_the_tables_are_the_stores() -> None:
    assert set(TABLE_NAMES) <= set(tables.TABLES)


def test_records_have_the_layout_that_is_written_down() -> None:
    core = durable()
    old, new = core.connect("o", 4), core.connect("n")
    here = core.keep("here")
    here.subscribe("a", qos=1)
    core.hold()
    old.publish("a", b"one", 1, run=False)
    new.publish("b/c", b"", 2, properties={"content_type": "x"}, run=False)
    sealed = core.shard.seal()
    assert sealed is not None
    (table, key, chunk), *rest = sealed[1]
    assert (table, key) == (tables.MESSAGES, (1).to_bytes(8, "big"))
    assert rest == []
    (one, other) = chunk_records(chunk or b"")
    assert one[:3] == (1, b"a", b"one")
    assert sorted(one[3]) == [(1, 0, 1), (2, 1, 1)]  # queued for the first session, sent to the second
    assert other == (2, b"b/c", b"", [(1, 0, 2)])
    assert core.shard.seal.__name__  # a second batch waits for the first
    with pytest.raises(ValueError, match="one batch"):
        core.shard.seal()
    core.shard.settle(sealed[0])
    core.end()


def test_a_batch_grows_with_what_it_holds() -> None:
    core = durable(server_receive_maximum=1000)
    client = core.connect("c")
    core.hold()
    payloads = [bytes((number % 256,)) * (number * 13 % 3000) for number in range(500)]
    for payload in payloads:
        client.publish("t", payload, 1, run=False)
    sealed = core.shard.seal()
    assert sealed is not None
    chunks = [(key, value or b"") for table, key, value in sealed[1] if table == tables.MESSAGES]
    records = [one for _, value in chunks for one in chunk_records(value)]
    assert [key for key, _ in chunks] == [chunk_records(value)[0][0].to_bytes(8, "big") for _, value in chunks]
    assert [one[2] for one in records] == payloads
    assert [one[0] for one in records] == list(range(1, 501))
    assert core.shard.counters()["promises"] == 500
    core.shard.settle(sealed[0])
    core.run()
    client.expect(*(Puback(number) for number in range(1, 501)))
    core.end()


def test_a_chunk_goes_with_the_last_delivery_of_it() -> None:
    core = durable()
    reader = core.keep("reader")
    reader.subscribe("live", qos=1)
    client = core.connect("c")
    client.publish("live", b"1", 1)
    client.publish("live", b"2", 1)
    assert len(core.store.load(tables.MESSAGES)) == 2
    one, other = reader.publishes()
    reader.acknowledge(one.packet_id)
    assert [key for key, _ in core.store.load(tables.MESSAGES)] == [(2).to_bytes(8, "big")]
    assert core.shard.journal()["chunks"] == 1
    reader.acknowledge(other.packet_id)
    assert core.store.load(tables.MESSAGES) == []
    assert core.shard.journal()["chunk_bytes"] == 0
    core.end()


def test_many_connections_have_promises_of_their_own_order() -> None:
    core = durable(server_receive_maximum=10_000)
    clients = [core.connect(f"c{number}") for number in range(5)]
    core.hold()
    for burst in (10, 50, 3, 64):
        for client in clients:
            for _ in range(burst):
                client.publish("t", b"", 1, run=False)
        core.slice()
    core.release()
    for client in clients:
        client.expect(*(Puback(number) for number in range(1, 128)))
    core.end()


@pytest.mark.parametrize("ticket", [0, 1, 2, 2**64 - 1])
def test_a_ticket_that_was_never_sealed_cannot_be_settled(ticket: int) -> None:
    core = Core()
    with pytest.raises(ValueError, match="ticket"):
        core.shard.settle(ticket)
