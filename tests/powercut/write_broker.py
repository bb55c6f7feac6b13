"""The recorded program for a whole broker: it runs in this process, and clients of it do by seed what clients do.

    python -P -m tests.powercut.write_broker FOLDER LOG SEED STEPS MAP_BYTES FAULT

STEPS 0 lets nobody play: the broker starts, has time to tidy up, and stops. FAULT is a name of ``faults``, or ``none``.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from functools import partial
from pathlib import Path

from broker import Broker, BrokerConfig
from tests.powercut import faults
from tests.powercut.clients import Publisher, Receiver
from tests.powercut.journal import Marks
from tests.powercut.promises import MESSAGE_TOPICS, RETAINED_TOPICS, mark

TIDY_S = 1.5


class Play:
    """Two publishers and four receivers: one always there, one that answers half, two that come and go."""

    def __init__(self, port: int, marks: Marks, seed: int) -> None:
        self._chance = chance = random.Random(seed)
        self._publishers = [Publisher(port, f"p{number}", marks) for number in range(2)]
        self._receivers = [
            Receiver(port, "r0", marks, lambda: True),
            Receiver(port, "r1", marks, lambda: chance.random() < 0.5),
            *(Receiver(port, f"r{number}", marks, lambda: chance.random() < 0.9) for number in (2, 3)),
        ]
        self._number = 0
        self._values = 0
        self._wanted: set[tuple[str, str]] = set()

    async def run(self, steps: int) -> None:
        """Connect all, do so many steps, and leave everything as it is."""
        for peer in (*self._publishers, *self._receivers):
            await peer.connect()
        for receiver in self._receivers:
            await self._toggle(receiver, "t/0")
        for _ in range(steps):
            await asyncio.gather(*(self._step() for _ in range(self._chance.choice((1, 1, 2)))))

    async def _step(self) -> None:
        what = self._chance.choices((self._burst, self._keep, self._subscribe, self._come_or_go), (6, 2, 1, 1))[0]
        await what()

    async def _burst(self) -> None:
        publisher = self._chance.choice(self._publishers)
        count = self._chance.choice((1, 2, 4))
        await asyncio.gather(*(self._one(publisher) for _ in range(count)))

    async def _one(self, publisher: Publisher) -> None:
        self._number += 1
        await publisher.publish(self._number, self._chance.choice((1, 2)), self._chance.choice(MESSAGE_TOPICS))

    async def _keep(self) -> None:
        self._values += 1
        value = "" if self._chance.random() < 0.3 else f"value {self._values}"
        await self._publishers[0].retain(self._chance.choice(RETAINED_TOPICS), value)

    async def _subscribe(self) -> None:
        receiver = self._chance.choice(self._receivers)
        async with receiver.turn:
            if receiver.is_connected:
                await self._toggle(receiver, self._chance.choice(MESSAGE_TOPICS))

    async def _toggle(self, receiver: Receiver, topic: str) -> None:
        pair = receiver.client_id, topic
        self._wanted ^= {pair}
        await receiver.subscribe(topic, pair in self._wanted)

    async def _come_or_go(self) -> None:
        receiver = self._chance.choice(self._receivers[2:])
        async with receiver.turn:
            await self._come_back_or_leave(receiver)

    async def _come_back_or_leave(self, receiver: Receiver) -> None:
        if receiver.is_connected:
            await receiver.leave()
        elif self._chance.random() < 0.2:
            self._wanted = {pair for pair in self._wanted if pair[0] != receiver.client_id}
            await receiver.connect(clean=True)
        else:
            await receiver.connect()


def configuration(folder: Path, map_bytes: int) -> BrokerConfig:
    """One open listener on loopback."""
    return BrokerConfig.model_validate(
        {
            "data_dir": folder,
            "listeners": [{"host": "127.0.0.1", "port": 0, "open": True}],
            "http": {"port": 0},
            "store_map_size_bytes": map_bytes,
        }
    )


async def play(folder: Path, marks: Marks, seed: int, steps: int, map_bytes: int, fault: str) -> None:
    """Run a broker, and let its clients play; then the process ends as it is."""
    marks.put(mark("wall", ns=time.time_ns()))
    broker = Broker(configuration(folder, map_bytes), wrap_store=partial(faults.store_of, fault))
    async with broker:
        port = next(one.port for one in broker.endpoints if one.protocol == "mqtt")
        if steps:
            await Play(port, marks, seed).run(steps)
        else:
            await asyncio.sleep(TIDY_S)
        marks.close()


def main() -> None:
    """Read the command line."""
    folder, log, seed, steps, map_bytes, fault = sys.argv[1:]
    with faults.planted(fault):
        asyncio.run(play(Path(folder), Marks(Path(log)), int(seed), int(steps), int(map_bytes), fault))


if __name__ == "__main__":
    main()
