"""What every client of this machine does: connect, be cut off, come back as soon as somebody answers.

Here belong a connection, the CONNECT handshake and the loop around both. Not here: what a client does when it is
connected (``publisher``, ``receiver`` and their like).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import struct
from contextlib import suppress
from typing import cast

from tests.crash.ledger import SESSION_BACK, SESSION_FORGOTTEN, Ledger
from tests.crash.packets import Login, Splitter, Will, connect
from tests.integration.wire import CONNACK, DISCONNECT, PUBLISH, V5

ANSWER_S = 10.0
AGAIN_S = 0.01
KEPT_S = 3600
DISCONNECTED = b"\xe0\x00"


class Cut(Exception):
    """The connection ended before what was waited for."""


class Link(asyncio.Protocol):
    """One connection of one client."""

    _serials = itertools.count(1)

    def __init__(self, actor: Actor, *, clean: bool) -> None:
        self.serial = next(self._serials)
        self.clean = clean
        self.lost = asyncio.Event()
        self.let_in: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._actor = actor
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        packets = self._splitter.feed(data)
        for kind, flags, body in packets:
            if kind == CONNACK:
                self._actor.on_connack(self, body)
            elif kind == DISCONNECT:
                self._actor.world.told_to_leave(self._actor.name, body)
            elif self is self._actor.link:
                self._actor.world.packets += 1
                self._actor.world.ledger.counts["PUBLISH received"] += kind == PUBLISH
                self._actor.on_packet(kind, flags, body)
        self._actor.after_packets()

    def connection_lost(self, exception: Exception | None) -> None:
        self.lost.set()
        if not self.let_in.done():
            self.let_in.set_exception(Cut())
            self.let_in.exception()  # looked at, whoever waits for it or not
        self._actor.on_lost(self)

    def send(self, data: bytes) -> None:
        """Send bytes; into the void when the connection is gone."""
        if self._transport is not None and not self.lost.is_set():
            self._transport.write(data)

    def abort(self) -> None:
        """End the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection after what was sent."""
        if self._transport is not None:
            self._transport.close()


class World:
    """What all clients of one data directory share."""

    def __init__(self, ledger: Ledger, rng: random.Random, login: Login | None) -> None:
        self.ledger = ledger
        self.rng = rng
        self.login = login
        self.port = 0
        self.up = asyncio.Event()
        self.up_since_s = 0.0
        self._begun_s: float | None = None
        self._lived_s = 0.0
        self.stopping = False
        self.spare = False
        """Nobody kills the broker."""
        self.packets = 0
        self.leave_codes: list[tuple[str, int]] = []
        self.actors: list[Actor] = []

    def opened(self) -> None:
        """The broker serves."""
        self.up_since_s = asyncio.get_running_loop().time()
        self.stopping = False
        self.up.set()

    def closed(self) -> None:
        """The broker is about to die."""
        self.up.clear()

    def begins(self) -> None:
        """A process of the broker is started: it serves from now on at the earliest, whether anybody looks or not."""
        self._begun_s = asyncio.get_running_loop().time()

    def died(self) -> None:
        """That process is gone."""
        self._lived_s = self.lived_s()
        self._begun_s = None

    def lived_s(self) -> float:
        """How long all processes of the broker have lived: no deadline of theirs can have come nearer by more."""
        if self._begun_s is None:
            return self._lived_s
        return self._lived_s + asyncio.get_running_loop().time() - self._begun_s

    def told_to_leave(self, name: str, body: bytes) -> None:
        """Remember a DISCONNECT from the broker."""
        self.leave_codes.append((name, body[0] if body else 0))


class Actor:
    """One client with a session that is kept; ``present`` tells whether the broker has to know that session."""

    expiry_s = KEPT_S
    receive_maximum = 0

    def __init__(self, world: World, name: str, version: int, login: Login | None = None) -> None:
        self.world = world
        self.name = name
        self.version = version
        self.login = login or world.login
        self.link: Link | None = None
        self.present = False
        self.wanted = asyncio.Event()
        self.is_in = False
        self._packet_ids = itertools.count()
        world.actors.append(self)

    # ------------------------------------------------------------ for those who inherit

    def will(self) -> Will | None:
        """What the next CONNECT asks to be published."""
        return None

    def resumed(self, session_present: bool) -> None:
        """The CONNACK has come."""

    def forgotten(self) -> None:
        """The broker does not know a session that it had promised to keep."""

    def on_packet(self, kind: int, flags: int, body: bytes) -> None:
        """Take one packet of the current connection."""

    def after_packets(self) -> None:
        """All packets of one read were taken."""

    def has_left(self) -> None:
        """The current connection has ended."""

    def waits_for(self) -> str:
        """Say what is still to come before nothing is under way; empty when nothing is."""
        return "" if self.is_in else "its connection"

    # ------------------------------------------------------------ life

    async def live(self) -> None:
        """Be connected whenever there is somebody to connect to and this client is wanted."""
        while True:
            await self.world.up.wait()
            await self.wanted.wait()
            try:
                if not self.is_in:
                    await self.enter()
            except (OSError, TimeoutError, Cut):
                await asyncio.sleep(AGAIN_S)
                continue
            if self.link is not None:
                await self.link.lost.wait()

    async def enter(self, *, clean: bool = False) -> bool:
        """Connect and be let in; returns Session Present. Raises ``Cut`` and ``OSError``."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: Link(self, clean=clean), "127.0.0.1", self.world.port)
        link.send(self._connect(clean))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await link.let_in
        except (Cut, TimeoutError):
            link.abort()
            raise

    def _connect(self, clean: bool) -> bytes:
        return connect(
            self.version,
            self.name,
            self.login,
            clean=clean,
            expiry_s=self.expiry_s,
            will=self.will(),
            receive_maximum=self.receive_maximum if self.version == V5 else 0,
        )

    def on_connack(self, link: Link, body: bytes) -> None:
        """Take up the session, before anything that follows in the same read."""
        session_present = bool(body[0] & 1)
        if link.let_in.done():
            return
        if body[1]:
            self.world.told_to_leave(self.name, body[1:2])
            link.let_in.set_exception(Cut())
            return
        link.let_in.set_result(session_present)
        old, self.link = self.link, link
        if old is not None:
            old.close()
            self.has_left()
        self._check(session_present, link.clean)
        self.present = self.expiry_s > 0
        self.is_in = True
        self.resumed(session_present)

    def _check(self, session_present: bool, clean: bool) -> None:
        if clean and session_present:
            self.world.ledger.find(SESSION_BACK, f"{self.name}: Session Present after Clean Start")
        if self.present and not session_present and not clean:
            self.world.ledger.find(SESSION_FORGOTTEN, self.name)
            self.forgotten()

    def on_lost(self, link: Link) -> None:
        """A connection has ended; only the current one matters."""
        if link is self.link:
            self.link = None
            self.is_in = False
            self.has_left()

    def send(self, data: bytes) -> None:
        """Send on the current connection, if there is one."""
        if self.link is not None:
            self.link.send(data)

    def next_packet_id(self) -> int:
        """An identifier for SUBSCRIBE and UNSUBSCRIBE, away from those of PUBLISH."""
        return 60_000 + next(self._packet_ids) % 5_000

    def drop(self) -> None:
        """Be cut off, as by the network."""
        if self.link is not None:
            self.link.abort()

    def depart(self) -> None:
        """Say goodbye, keeping the session."""
        if self.link is not None:
            self.link.send(DISCONNECTED)
            self.link.close()


def reason_code(version: int, body: bytes) -> int:
    """Read the reason code of an acknowledgement: 3.1.1 has none."""
    return body[2] if version == V5 and len(body) > 2 else 0


def packet_id_of(body: bytes) -> int:
    """Read the identifier of an acknowledgement."""
    number: int = struct.unpack_from("!H", body)[0]
    return number


async def cancel(tasks: list[asyncio.Task[None]]) -> None:
    """End tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
