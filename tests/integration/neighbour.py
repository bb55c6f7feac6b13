"""A client who has nothing to do with the attack, and must notice nothing of it.

Here belongs an exchange of QoS 1 messages in a thread of its own, and its verdict. Not here: attacks.
"""

from __future__ import annotations

import threading
from typing import Self

from tests.integration.served import Served
from tests.integration.wire import PUBACK, PUBLISH, V5, V311, Client, puback, publish

PACE_S = 0.02  # a device may publish a hundred times a second


class Neighbour:
    """A device that publishes numbers and an application that receives them, one at a time, for as long as it lasts."""

    def __init__(self, served: Served) -> None:
        device = served.register("Neighbour")
        self._topic_name = device.topic("telemetry")
        self._publisher = Client(served.port(), V311).login(device.username, device.password, device.device_id)
        self._subscriber = Client(served.port(), V5).login("apikey", served.api_key, f"watch-{device.device_id}")
        assert self._subscriber.subscribe(self._topic_name) == [1]
        self._ends = threading.Event()
        self._trouble: BaseException | None = None
        self.exchanged = 0
        self._thread = threading.Thread(target=self._run, name="neighbour")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(40)
        self._publisher.close()
        self._subscriber.close()
        assert not self._thread.is_alive(), "the neighbour hangs"
        if self._trouble is not None:
            raise AssertionError(f"the neighbour was disturbed after {self.exchanged} messages") from self._trouble
        assert self.exchanged > 0

    def _run(self) -> None:
        try:
            while not self._ends.wait(PACE_S):
                self._exchange_one()
            self._exchange_one()  # and once more when the attack is over
        except (AssertionError, OSError) as error:
            self._trouble = error

    def _exchange_one(self) -> None:
        number = b"%d" % self.exchanged
        packet_id = self.exchanged % 65_535 + 1
        self._publisher.send(publish(V311, self._topic_name, number, packet_id))
        arrived = self._subscriber.expect(PUBLISH)
        assert arrived.payload(V5) == number
        self._subscriber.send(puback(arrived.packet_id))
        assert self._publisher.expect(PUBACK).packet_id == packet_id
        self.exchanged += 1
