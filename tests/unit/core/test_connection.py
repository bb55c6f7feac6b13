"""Slots, outboxes and inboxes of connections without sockets."""

from __future__ import annotations

import pytest

from broker.wire import Connack, Pingreq, Pingresp, Publish
from tests.support.core import Core


def test_slots_grow_and_are_given_again() -> None:
    core = Core()
    core.grant()
    clients = [core.connect(f"c{number}") for number in range(300)]
    assert len({client.handle & 0xFFFF_FFFF for client in clients}) == 300
    for client in clients[::2]:
        client.drop()
    again = [core.connect(f"d{number}") for number in range(150)]
    assert max(client.handle & 0xFFFF_FFFF for client in again) < 300
    assert len({client.handle for client in [*clients, *again]}) == 450
    core.end()


@pytest.mark.parametrize("piece", [1, 3, 100, 4095, 4096, 4097])
def test_an_outbox_taken_in_pieces_is_the_same_stream(piece: int) -> None:
    core = Core()
    core.grant()
    client = core.connect("c")
    client.subscribe("t")
    client.reads = False
    sent = [b"%d" % number + b"." * (number * 37 % 900) for number in range(60)]
    for payload in sent:
        core.publish("t", payload)
        client.take(piece)
    while client.take(piece):
        pass
    assert [one.payload for one in client.unread if isinstance(one, Publish)] == sent
    core.end()


@pytest.mark.parametrize("size", [0, 1, 4080, 4096, 5000, 70_000])
def test_a_packet_of_any_size_fits_an_empty_or_a_full_outbox(size: int) -> None:
    core = Core()
    core.grant()
    client = core.connect("c")
    client.subscribe("t")
    client.reads = False
    for _ in range(2):
        client.send(Pingreq())
        core.publish("t", b"x" * size)
    client.reads = True
    core.run()
    assert client.received() == [Pingresp(), Publish("t", b"x" * size)] * 2
    core.end()


def test_a_packet_that_claims_much_is_kept_as_far_as_it_came() -> None:
    core = Core()
    core.grant()
    client = core.connect("c")
    client.subscribe("t")
    body = b"\x00\x01t\x00" + b"y" * 1_000_000
    stream = b"\x30" + bytes((len(body) & 0x7F | 0x80, len(body) >> 7 & 0x7F | 0x80, len(body) >> 14)) + body
    for at in range(0, len(stream), 65_536):
        client.expect()
        client.send(stream[at : at + 65_536])
    assert [len(one) for one in client.payloads()] == [1_000_000]
    core.end()


def test_what_is_behind_a_barrier_waits_in_its_order() -> None:
    core = Core()
    core.grant()
    client = core.connecting("c", user_name="stranger", run=False)
    client.feed(b"\xc0\x00" * 5)
    core.run()
    client.feed(b"\xc0")
    client.feed(b"\x00")
    core.admit(core.asked[0][0])
    assert client.pick(Connack).reason_code == 0
    client.expect(*[Pingresp()] * 6)
    core.end()
