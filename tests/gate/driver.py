"""Drives the native core without sockets, in phases a profiler can tell apart; run under callgrind by ``instructions``.

``os.getppid()`` is the mark between phases: callgrind writes a part of its profile whenever it is called. For each
load, in the order of ``LOADS``, one part holds set-up and warm-up and the next holds the messages that count. The last
line printed is the number of delivered messages in each of these, as JSON.

Belongs here: feeding the shard. Not here: valgrind, figures. Nothing here reads a clock or draws a random number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import click

from broker._core.shard import Shard
from broker.config import Capabilities
from broker.net.gateway import core_limits
from broker.policy.policies import APPLICATION, DEVICE
from broker.ports import Policy
from tests.gate.lockstep import LOADS, PAYLOAD, Load, connect_packet, publish_packet

ROUNDS = 20
WARM_UP = 3
NOW_NS = 1_000_000_000


class Driver:
    """The clients of one load as handles of one shard."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.shard = Shard(core_limits(Capabilities()), secret=bytes(32), hash_seed=1, now_ns=NOW_NS)
        self.principals = 0
        devices = [f"device-{i:04}" for i in range(load.publishers)]
        topics = [f"devices/{device}/telemetry" for device in devices]
        self.subscribers = [self._connect(f"reader-{i:04}", "", APPLICATION) for i in range(load.subscribers)]
        for i, handle in enumerate(self.subscribers):
            assert self.shard.subscribe(handle, topics[i % load.publishers].encode(), load.qos)
        self.publishers = [self._connect(device, device, DEVICE) for device in devices]
        ids = range(1, load.batch + 1)
        self.batches = [b"".join(publish_packet(topic, load.qos, n) for n in ids) for topic in topics]
        self.size = len(self.batches[0]) // load.batch
        self.delivered = 0

    def _connect(self, client_id: str, device_id: str, policy: Policy) -> int:
        """Let in as the engine does it, with the rights of the policy: they are checked on every message."""
        self.principals += 1
        handle: int = self.shard.open_connection(0, NOW_NS)
        self.shard.feed(handle, connect_packet(client_id), NOW_NS)
        self.shard.take_rare()
        rights = (policy.publish, policy.subscribe)
        assert self.shard.admit(handle, 1, self.principals, client_id, device_id, *rights)
        assert self.shard.take_output(handle) == b"\x20\x02\x00\x00"
        self.shard.collect()
        return handle

    def play(self, rounds: int) -> None:
        """Rounds as the lock step has them: a batch of every publisher, or one message of one of them."""
        load = self.load
        for number in range(rounds):
            if load.one_at_a_time:
                for i in range(load.publishers):
                    self._turn([i], [i])
            else:
                self._turn(range(load.publishers), range(load.subscribers))
            self.shard.run(NOW_NS + number)
            self.shard.collect()

    def _turn(self, publishing: Sequence[int], receiving: Sequence[int]) -> None:
        for i in publishing:
            self.shard.feed(self.publishers[i], self.batches[i], NOW_NS)
        for i in receiving:
            received = self.shard.take_output(self.subscribers[i])
            self.delivered += len(received) // self.size
            if self.load.qos:
                self.shard.feed(self.subscribers[i], self._acknowledge(received), NOW_NS)
        if self.load.qos:
            for i in publishing:
                assert len(self.shard.take_output(self.publishers[i])) == 4 * self.load.batch

    def _acknowledge(self, received: bytes) -> bytes:
        at = self.size - len(PAYLOAD) - 2
        return b"".join(b"\x40\x02" + received[s + at : s + at + 2] for s in range(0, len(received), self.size))


def main() -> None:
    """All loads, one after the other."""
    delivered = []
    for load in LOADS:
        driver = Driver(load)
        driver.play(WARM_UP)
        driver.delivered = 0
        os.getppid()
        driver.play(ROUNDS)
        os.getppid()
        delivered.append(driver.delivered)
    click.echo(json.dumps(delivered))


if __name__ == "__main__":
    main()
