"""Every row of the wire table on the native core: in one piece, in slices of one, byte by byte, cut in every place.

Here belongs how bytes reach the core. Not here: what the rows say (``*.toml``), and the same over sockets
(``tests/integration/test_packets.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise

import pytest

from broker._core.framing import fixed_header
from broker.config import Capabilities
from broker.net.gateway import core_limits
from tests.packets.conversation import Conversation, Line
from tests.packets.table import LIMITS, Row, load_rows
from tests.support.core import UNLIMITED, Client, Core
from tests.support.frames import FramedClient
from tests.support.sanitized import SANITIZED

OPEN_LISTENER = 1
SHORT_BYTES = 8
"""What one side says in a row of this size is cut in every two places."""
LONG_BYTES = 40
"""Longer than this is not cut in every single place."""
CORE_LIMITS = core_limits(Capabilities.model_validate(LIMITS))
HUGE_BYTES = 5000
"""Longer than this is not sent byte by byte."""

Cuts = tuple[int, ...] | None


class Bytewise(Client):
    """A client of the core whose bytes are only gathered."""

    def take(self, at_most: int = -1) -> bool:
        taken = self.core.shard.take_output(self.handle, at_most)
        self.raw += taken
        return bool(taken)


class Framewise(FramedClient):
    """The same in WebSocket frames: each piece is one of its own."""

    def keep(self, taken: bytes) -> None:
        self.raw += taken


class CoreLine:
    """A connection without a socket. ``cuts`` are places in all that it sends, None stands for every one."""

    def __init__(self, core: Core, listener: int, cuts: Cuts, *, framed: bool) -> None:
        self.core = core
        self.client: Client
        if framed:
            self.client = Framewise.opened(core, 0, listener)
        else:
            self.client = Bytewise(core, core.shard.open_connection(listener, core.now_ns), 0)
            core.clients.append(self.client)
        self.cuts = cuts
        self.sent = 0

    def send(self, data: bytes) -> None:
        start, self.sent = self.sent, self.sent + len(data)
        inner = range(1, len(data)) if self.cuts is None else [at - start for at in self.cuts if start < at < self.sent]
        places = [0, *inner, len(data)]
        for begin, end in pairwise(places):
            self.client.feed(data[begin:end])
            self.core.run()
            while self.core.asked:  # who is not known is nobody
                self.core.refuse(self.core.asked.pop()[0])

    def receive(self) -> bytes | None:
        client = self.client
        header = fixed_header(client.raw)
        if header is None:
            assert not client.is_open, "nothing came"
            assert not client.raw, "closed within a packet"
            return None
        whole, client.raw = client.raw[: sum(header)], client.raw[sum(header) :]
        assert len(whole) == sum(header), "part of a packet"
        return whole

    def silent(self) -> bool:
        return self.client.is_open and not self.client.raw

    def cut(self) -> None:
        self.client.drop()


class CoreLines:
    """A core with both doors; the client's own bytes are cut, the other's are not."""

    variables: Mapping[str, bytes] = {"id": b"client", "user": b"user", "password": b"pw", "device": b"sensor-1"}

    def __init__(self, cuts: Cuts, deliveries: int, *, framed: bool) -> None:
        self.core = Core(deliveries=deliveries, **CORE_LIMITS)
        self.core.open_listener(OPEN_LISTENER)
        rights = ("devices/{device_id}/#",)
        self.core.grant(device_id="sensor-1", publish=rights, subscribe=rights)
        self.cuts = cuts
        self.framed = framed
        self.opened: list[CoreLine] = []

    def open(self, door: str, *, carefully: bool = False) -> Line:
        listener = OPEN_LISTENER if door == "open" else 0
        line = CoreLine(self.core, listener, () if carefully else self.cuts, framed=self.framed)
        if not carefully:
            self.opened.append(line)
        return line


def run(row: Row, cuts: Cuts, deliveries: int = UNLIMITED, *, framed: bool = False) -> int:
    """Carry out a row; gives how many bytes its client sent on one connection at most."""
    lines = CoreLines(cuts, deliveries, framed=framed)
    Conversation(row, lines).run()
    sent = max(line.sent for line in lines.opened)
    lines.core.end()
    return sent


def cuttings(size: int) -> Iterator[Cuts]:
    """Every way to cut that is worth its time, which under sanitizers is byte by byte alone."""
    if size <= HUGE_BYTES:
        yield None
    if SANITIZED:
        return
    if size <= LONG_BYTES:
        yield from ((at,) for at in range(1, size))
    if size <= SHORT_BYTES:
        yield from combinations(range(1, size), 2)


@pytest.mark.parametrize("row", load_rows(), ids=str)
def test_a_row_holds_on_the_core(row: Row) -> None:
    size = run(row, ())
    run(row, (), deliveries=1)
    for cuts in cuttings(size):
        run(row, cuts)


@pytest.mark.parametrize("row", load_rows(), ids=str)
def test_a_row_holds_in_websocket_frames(row: Row) -> None:
    """v5:MQTT-6.0.0-2 v311:MQTT-6.0.0-2 A packet lies in one frame or in many."""
    size = run(row, (), framed=True)
    if size <= LONG_BYTES and not SANITIZED:
        run(row, None, framed=True)
