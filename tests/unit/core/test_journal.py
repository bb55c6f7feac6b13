"""Batches and tickets: what is written, in which layout, and a ring of promises that grows and wraps."""

from __future__ import annotations

import struct

import pytest

from broker.wire import Puback
from tests.support.core import Core


def records(batch: bytes) -> list[tuple[int, int, int, int, bytes, bytes, bytes]]:
    """Kind, QoS, version, number, topic name, properties, payload of each record."""
    found, at = [], 0
    while at < len(batch):
        kind, qos, version, zero, _account, number, *sizes = struct.unpack_from("<BBBBIQIII", batch, at)
        assert zero == 0
        at += 28
        parts = []
        for size in sizes:
            parts.append(batch[at : at + size])
            at += size
        found.append((kind, qos, version, number, *parts))
    return found


def test_records_have_the_layout_that_is_written_down() -> None:
    core = Core()
    core.grant(synced=True)
    old, new = core.connect("o", 4), core.connect("n")
    old.publish("a", b"one", 1, run=False)
    new.publish("b/c", b"", 1, properties={"content_type": "x"}, run=False)
    sealed = core.shard.seal()
    assert sealed is not None
    assert records(sealed[1]) == [(1, 1, 4, 1, b"a", b"", b"one"), (1, 1, 5, 2, b"b/c", b"\x03\x00\x01x", b"")]
    assert sealed[0] == 1
    assert core.shard.seal() is None
    core.shard.settle(1, True)
    core.end()


def test_a_batch_grows_with_what_it_holds() -> None:
    core = Core(server_receive_maximum=1000)
    core.grant(synced=True)
    client = core.connect("c")
    payloads = [bytes((number % 256,)) * (number * 13 % 3000) for number in range(500)]
    for payload in payloads:
        client.publish("t", payload, 1, run=False)
    sealed = core.shard.seal()
    assert sealed is not None
    assert [one[6] for one in records(sealed[1])] == payloads
    assert [one[3] for one in records(sealed[1])] == list(range(1, 501))
    assert core.shard.counters()["promises"] == 500
    core.shard.settle(1, True)
    core.run()
    client.expect(*(Puback(number, 0x10) for number in range(1, 501)))
    core.end()


def test_the_ring_of_promises_wraps_and_grows_in_order() -> None:
    core = Core(server_receive_maximum=10_000)
    core.grant(synced=True)
    client, ticket, settled = core.connect("c"), 0, 0
    for burst in (10, 50, 3, 64, 65, 200, 1, 130):
        for _ in range(burst):
            client.publish("t", b"", 1, run=False)
        assert core.shard.seal() is not None
        ticket += 1
        if ticket % 2:
            settled += 1
            core.shard.settle(settled, True)
    while settled < ticket:
        settled += 1
        core.shard.settle(settled, True)
    core.run()
    client.expect(*(Puback(number, 0x10) for number in range(1, 524)))
    core.end()


@pytest.mark.parametrize("ticket", [0, 1, 2, 2**64 - 1])
def test_a_ticket_that_was_never_sealed_cannot_be_settled(ticket: int) -> None:
    core = Core()
    with pytest.raises(ValueError, match="ticket"):
        core.shard.settle(ticket, True)
