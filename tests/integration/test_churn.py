"""Everything at once: receivers that come and go while fan-outs that need many slices run through them."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Served
from tests.integration.wire import PUBLISH, V5, V311, Client

Serve = Callable[..., Served]
MIB = 1024 * 1024
TOPIC = "churn/all"
VOLATILE = 900
FILTERS = [TOPIC, "churn/#", "churn/+", "+/all"]


class Swarm:
    """Connections that subscribe, take each other over, hang up and come back until they are told to end."""

    def __init__(self, served: Served, seed: int) -> None:
        self._served = served
        self._rng = random.Random(seed)
        self._sockets: list[socket.socket] = []
        self._ends = threading.Event()
        self.trouble: BaseException | None = None
        self.steps = 0
        self.thread = threading.Thread(target=self._run)

    def end(self) -> None:
        self._ends.set()
        self.thread.join(30)
        for one in self._sockets:
            one.close()
        assert self.trouble is None, self.trouble

    def _run(self) -> None:
        try:
            while len(self._sockets) < VOLATILE // 3:
                self._sockets.append(self._enter())
            while not self._ends.is_set():
                self._step()
                self.steps += 1
        except (OSError, AssertionError) as error:
            self.trouble = error

    def _enter(self) -> socket.socket:
        one = wire.open_socket(self._served.port())
        version = self._rng.choice([V311, V5])
        name = f"swarm-{self._rng.randrange(VOLATILE)}"
        filters = self._rng.sample(FILTERS, self._rng.randint(1, 4))
        hello = wire.connect(version, name, "apikey", self._served.api_key)
        one.sendall(hello + wire.subscribe(version, 1, filters, self._rng.randint(0, 1)))
        one.setblocking(False)
        return one

    def _step(self) -> None:
        at = self._rng.randrange(len(self._sockets))
        one = self._sockets[at]
        what = self._rng.random()
        with suppress(BlockingIOError, ConnectionError):
            if what < 0.5:
                one.recv(1 << 16)
            elif what < 0.6:
                one.send(wire.packet(0xA2, b"\x00\x02" + wire.binary(TOPIC)))
            elif what < 0.7:
                one.send(wire.puback(self._rng.randint(1, 50)))
            elif what < 0.75:
                one.send(b"\xe0\x00")
        if what >= 0.8:
            if what > 0.9:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
            self._sockets[at] = self._enter()


def test_fan_outs_through_receivers_that_come_and_go_reach_those_who_stay(serve: Serve) -> None:
    served = serve(environment={"IOT_BROKER_LOG_LEVEL": "warning"})
    with Neighbour(served), ExitStack() as stack:
        steady = [stack.enter_context(Client(served.port(), V5 if n % 2 else V311)) for n in range(300)]
        for number, client in enumerate(steady):
            client.login("apikey", served.api_key, f"steady-{number}")
            assert client.subscribe("churn/#", TOPIC, options=number % 3 % 2) == [number % 3 % 2] * 2
        writer = stack.enter_context(Client(served.port())).login("apikey", served.api_key, "writer")
        swarms = [Swarm(served, seed) for seed in range(3)]
        for swarm in swarms:
            swarm.thread.start()
            stack.callback(swarm.end)
        until = time.monotonic() + 5
        sent = 0
        while time.monotonic() < until:
            assert writer.publish_qos1(TOPIC, b"%d" % sent) == 0
            sent += 1
            for client in steady:
                found = client.expect(PUBLISH)
                assert int(found.payload(client.version)) == sent - 1
                if found.flags & 6:
                    client.send(wire.puback(found.packet_id))
        assert sent > 5
        assert all(swarm.steps > 100 for swarm in swarms)
    assert served.process.poll() is None
    assert served.rss_bytes() < 256 * MIB
