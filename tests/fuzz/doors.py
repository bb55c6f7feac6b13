"""Fuzz target: what comes before MQTT. The first byte of an input picks the door, the rest is what a peer sends.

0 is the request of a WebSocket, 1 frames behind an accepted one, 2 a PROXY header; its other bits say into how many
pieces the bytes are cut. Handled means: an answer or an end, nothing raised, and at the end the core holds what it held
at the start.
"""

from __future__ import annotations

from broker._core.proxy_header import proxy_address
from broker.net.upgrades import UpgradeRules, judge_upgrade
from tests.support.core import Core
from tests.support.frames import FramedClient

RULES = (UpgradeRules(), UpgradeRules("/", subprotocol_required=False, allowed_origins=("null",)))


def one_input(data: bytes) -> None:
    """Knock at the door that the first byte picks."""
    if data:
        (request, frames, header)[data[0] % 3](data[1:], 1 + data[0] // 3)


def request(data: bytes, pieces: int) -> None:
    for rules in RULES:
        assert judge_upgrade(data, rules).answer
    core = Core()
    handle = core.shard.open_connection(0, core.now_ns, websocket=True)
    for part in parts(data, pieces):
        if core.shard.is_open(handle):
            core.shard.feed(handle, part, core.now_ns)
            core.run()
    core.shard.take_output(handle)
    core.shard.close_connection(handle)
    core.end()


def frames(data: bytes, pieces: int) -> None:
    core = Core()
    core.open_listener()
    client = FramedClient.opened(core)
    assert client.frames.status == 101
    for part in parts(data, pieces):
        client.feed_raw(part)
        core.run()
    client.drop()
    core.end()


def header(data: bytes, _pieces: int) -> None:
    size, address = proxy_address(data)
    assert -1 <= size <= len(data)
    assert len(address) in {0, 16}


def parts(data: bytes, pieces: int) -> list[bytes]:
    """The bytes in so many pieces of about one size."""
    size = max(1, len(data) // pieces)
    return [data[at : at + size] for at in range(0, len(data), size)]
