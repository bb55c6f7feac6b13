"""One connection from inside the process: bytes into the core and out of it, in order and with back-pressure.

Here belongs what publisher and subscriber have in common. Not here: what their packets mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broker._core.framing import fixed_header
from broker._core.packets import decode, encode
from broker._core.reactor import Reactor
from broker.ports import Durability, Grant, Policy
from broker.wire import Packet

VERSION = 5
READ_BYTES = 16 * 1024
ALL = Policy(name="local", publish=("#",), subscribe=("#",))


class LinkClosed(Exception):
    """The core has closed this connection; ``link.read()`` may still give the packets that say why."""


class Link:
    """A local connection. ``on_touched()`` is told when there may be something to read, or the core has closed it.

    What is not read stays in the core, within the limits of any connection's outbox.
    """

    def __init__(self, reactor: Reactor, account_id: int, principal_id: int) -> None:
        self._reactor = reactor
        self.account_id = account_id
        self.principal_id = principal_id
        self.handle = reactor.open_local()
        self.on_touched: Callable[[], None] | None = None
        self._raw = b""
        self._at = 0
        self._may_write = True
        self._resumed: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def grant(self) -> Grant:
        """What the core is told when it asks who this is: everything in one account, and promises that are durable."""
        return Grant(self.account_id, self.principal_id, "local", "", ALL, Durability.SYNCED)

    @property
    def is_open(self) -> bool:
        """Whether the core still takes packets from it."""
        return self._reactor.shard.is_open(self.handle)

    def drops(self) -> list[int]:
        """Count what was not delivered to it, by ``DropReason``."""
        return self._reactor.shard.drops(self.account_id, self.principal_id)

    # ------------------------------------------------------------ into the core

    async def write(self, data: bytes) -> None:
        """Give a whole packet to the core as soon as it takes one, in the order of the calls. Raises ``LinkClosed``."""
        async with self._turn:
            while not self._may_write:
                self._resumed = asyncio.get_running_loop().create_future()
                await self._resumed
            self._feed(data)

    def write_now(self, *packets: Packet) -> None:
        """Give short packets to the core without waiting; what it cannot take yet stays in its inbox."""
        self._feed(b"".join(encode(one, VERSION) for one in packets))

    def _feed(self, data: bytes) -> None:
        try:
            self._may_write = self._reactor.feed_local(self.handle, data)
        except LookupError:
            raise LinkClosed from None
        if not self.is_open:
            raise LinkClosed

    # ------------------------------------------------------------ out of the core

    def touched(self) -> None:
        """Hear from the reactor: something has come, it may be written again, or it is closed."""
        if not self._may_write and not self._reactor.shard.is_stopped(self.handle):
            self._may_write = True
            if self._resumed is not None and not self._resumed.done():
                self._resumed.set_result(None)
        if self.on_touched is not None:
            self.on_touched()

    def read(self) -> Packet | None:
        """Take the next packet; None when no whole one is there."""
        while True:
            header = fixed_header(self._raw[self._at : self._at + 5])
            if header is not None and len(self._raw) - self._at >= sum(header):
                whole = self._raw[self._at : self._at + sum(header)]
                self._at += sum(header)
                return decode(whole, VERSION, from_client=False)
            more = self._reactor.take_local(self.handle, max(READ_BYTES, sum(header or (0,))))
            if not more:
                return None
            self._raw = self._raw[self._at :] + more
            self._at = 0

    # ------------------------------------------------------------ the end

    def keep_rest(self) -> None:
        """Take everything that waits, so that it can be read after the core is gone."""
        self._raw = self._raw[self._at :] + self._reactor.take_local(self.handle, -1)
        self._at = 0

    def close(self) -> None:
        """End the connection; a write that waits raises ``LinkClosed``."""
        self._reactor.close_local(self.handle)
        self._may_write = True  # nobody waits: it is refused
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_exception(LinkClosed())
