"""Sockets on the native core: a reactor whose rounds run while a client's code runs beside it.

Here belongs what stands between a test and the reactor. Not here: a whole broker (``tests.integration``), expectations.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from broker._core.reactor import Reactor
from broker._core.tls import TlsContext
from broker.engine import Engine
from broker.engine.core import RareKind, RarePacket
from broker.net.upgrades import Upgrades
from broker.ports import ConnectRequest, Durability, Grant, Policy
from tests.support.core import Core

T = TypeVar("T")
PATIENCE_S = 30.0
STEP_S = 0.02


class Doors:
    """Listeners on loopback; whoever comes by any of them is let in."""

    def __init__(self, **limits: int) -> None:
        self.core = Core(**limits)
        self.due: list[Callable[[], None]] = []
        self.reactor = Reactor(self.core.shard, on_rare=self._on_rare, on_batch=self.core.seal, again=self.due.append)
        self.core.engine = Engine(
            self.core.shard,
            self.core._ask,
            self.reactor.peer,
            self.core.observer,
            certificate_of=self.reactor.peer_certificate,
        )
        self.upgrades = Upgrades(
            self.core.shard, self.reactor, {}, lambda _, chain: chain[-1], lambda _, status: self.refused.append(status)
        )
        self.refused: list[int] = []
        self.rare: list[RarePacket] = []
        self.listeners: list[socket.socket] = []

    def listen(
        self, tls: TlsContext | None = None, *, websocket: bool = False, proxy: bool = False, is_open: bool = True
    ) -> int:
        """Open another listener; gives its port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        listener.setblocking(False)
        self.listeners.append(listener)
        number = self.reactor.add_listener(listener.fileno(), tls=tls, websocket=websocket, proxy=proxy)
        if is_open:
            self.core.shard.open_listener(number, 0, 0, "open")
        port: int = listener.getsockname()[1]
        return port

    def admit(self) -> ConnectRequest:
        """The Authenticator answers yes to whoever asks next."""
        self.until(lambda: bool(self.core.asked))
        handle, request = self.core.asked.pop()
        self.core.engine.judged(handle, Grant(1, 900, "someone", "", Policy("all", ("#",), ("#",)), Durability.MEMORY))
        self.reactor.soon()
        return request

    def _on_rare(self, rare: list[RarePacket]) -> None:
        self.rare += rare
        for one in rare:
            if one[0] == RareKind.UPGRADE:
                self.upgrades.answer(one[1], one[4], one[5])
            else:
                self.core.engine.answer((one,))

    def round(self, step_s: float = STEP_S) -> None:
        """Wait a little for something to happen, and one round."""
        if not self.due:
            select.select([self.reactor.fileno()], [], [], step_s)
        self.reactor.on_ready()
        due = list(self.due)
        self.due.clear()  # the reactor appends to this one
        for one in due:
            one()

    def during(self, client: Callable[[], T]) -> T:
        """Serve while a client's code runs in a thread; gives what it gives, raises what it raises."""
        got: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                got.append(client())
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.until(lambda: not thread.is_alive())
        if errors:
            raise errors[0]
        return got[0]

    def until(self, condition: Callable[[], bool]) -> None:
        """Serve until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "it never became so"
            self.round()

    def close(self) -> None:
        self.reactor.close()
        for listener in self.listeners:
            listener.close()


@contextmanager
def opened(**limits: int) -> Iterator[Doors]:
    """Doors that are closed with the block."""
    doors = Doors(**limits)
    try:
        yield doors
    finally:
        doors.close()
