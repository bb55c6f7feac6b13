"""Messages in memory and as bytes: every size class, layout and length of the header."""

from __future__ import annotations

import pytest

from broker._core.packets import encode
from broker.wire import Publish
from tests.support.core import Core

# Around the size classes of the slabs, and where the remaining length takes another byte.
SIZES = sorted({0, 1, *(limit + d for limit in (64, 121, 127, 128, 256, 512, 1024, 2048, 4096, 16_377, 16_384)
                        for d in range(-3, 4, 3)), 100_000})  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("versions", [(4, 4), (4, 5), (5, 4), (5, 5)])
def test_a_message_of_any_size_arrives_sent_or_queued(size: int, versions: tuple[int, int]) -> None:
    core = Core(outbound_inflight_maximum=1)
    core.grant()
    publisher, client = core.connect("p", versions[0]), core.connect("c", versions[1])
    client.subscribe("t", qos=1)
    payload = bytes(number % 256 for number in range(size))
    for _ in range(3):
        publisher.publish("t", payload, 1)
    publisher.publish("t", payload, 0)
    got = client.publishes()
    assert core.figures()["messages_kept"] == (2 if size <= 3900 else core.figures()["messages_kept"])
    for _ in range(2):
        client.acknowledge(max(one.packet_id for one in got))
        got += client.publishes()
    assert [one.payload for one in got] == [payload] * 4
    assert sorted(one.packet_id for one in got) == [0, 1, 2, 3]
    core.end()


@pytest.mark.parametrize("identifier", [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455])
@pytest.mark.parametrize("size", [0, 100, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 16_370, 16_380])
def test_identifiers_of_every_length_make_headers_that_fit(identifier: int, size: int) -> None:
    core = Core()
    core.grant()
    client = core.connect("c")
    client.subscribe("t", identifier=identifier)
    properties = {"user_property": (("k", "v" * 100),), "message_expiry_interval": 5}
    client.publish("t", b"x" * size, properties=properties)
    client.expect(Publish("t", b"x" * size, properties={**properties, "subscription_identifier": (identifier,)}))
    core.end()


def test_one_message_for_many_is_kept_once() -> None:
    core = Core(outbound_inflight_maximum=1)
    core.grant()
    clients = [core.connect(f"c{number}", 4 + number % 2) for number in range(30)]
    for client in clients:
        client.subscribe("t", qos=1)
    core.publish("t", b"first", 1)
    core.publish("t", b"second", 1)
    assert core.figures()["messages_kept"] == 1
    for client in clients:
        client.acknowledge(1)
    assert core.figures()["messages_kept"] == 0
    core.end()


def test_what_came_in_goes_out_byte_for_byte() -> None:
    core = Core()
    core.grant()
    client = core.connect("c")
    client.subscribe("t")
    raw = encode(Publish("t", b"\xff\x00", properties={"user_property": (("b", "2"), ("a", "1"))}), 5)
    client.reads = False
    client.send(raw)
    assert core.shard.take_output(client.handle) == raw
    client.reads = True
    core.end()
