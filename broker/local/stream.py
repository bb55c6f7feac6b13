"""Subscribing from inside the process: a local connection of its own, read as an asynchronous iterator.

Here belongs the client's half of SUBSCRIBE and of deliveries. Not here: whose account it is, and judging filters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from broker.errors import BrokerError, BrokerStopped, SubscribeRefused, SubscriptionEnded
from broker.local.link import Link, LinkClosed
from broker.local.message import Message
from broker.reasons import DropReason, ReasonCode
from broker.wire import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
)

FIRST_FAILURE = 0x80
MESSAGES_PER_TURN = 64  # then the loop's other tasks have theirs, however much is waiting


class MessageStream:
    """The messages of one subscription, as they come: ``async for message in broker.subscribe("devices/#")``.

    The broker keeps what has not been read: QoS 0 up to the outbox's limit in bytes, of QoS 1 and 2 as many messages as
    ``buffer`` says on their way and the rest in the session's queue. What goes beyond is dropped by the core, and
    counted in ``dropped``. A message is acknowledged when the next one is asked for, or ``async with`` ends in peace.

    It ends with ``BrokerStopped`` when the broker stops, after everything that had come was read. ``async with`` ends
    the subscription for sure; otherwise it ends when nobody holds the stream any more. One task may read at a time.
    """

    def __init__(self, link: Link, subscriptions: Sequence[Subscription], buffer: int) -> None:
        self._link = link
        self._filters = tuple(one.topic_filter for one in subscriptions)
        self._unacknowledged: Publish | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reading = False
        self._given = 0
        self._granted = False
        self._ended: BrokerError | None = None
        self._closed = False
        self._dropped: dict[DropReason, int] = {}
        link.write_now(
            Connect(client_id=f"local-subscriber-{link.principal_id}", properties={"receive_maximum": buffer}),
            Subscribe(1, tuple(subscriptions)),
        )

    @property
    def topic_filters(self) -> tuple[str, ...]:
        """What it subscribes to."""
        return self._filters

    @property
    def dropped(self) -> dict[DropReason, int]:
        """How many messages did not reach this subscription, by reason: empty while its reader keeps up."""
        if self._ended is None and not self._closed:
            self._dropped = {DropReason(at): count for at, count in enumerate(self._link.drops()) if count}
        return dict(self._dropped)

    # ------------------------------------------------------------ reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Wait for the next message.

        Raises ``SubscribeRefused``, ``SubscriptionEnded`` when the broker cut it, ``BrokerStopped``.
        """
        if self._reading:
            raise RuntimeError("another task is reading this subscription: give each task one of its own")
        self._reading = True
        try:
            self._acknowledge()
            await self._take_turns()
            while (message := self._next()) is None:
                if self._closed:
                    raise StopAsyncIteration
                if self._ended is not None:
                    raise self._ended
                await self._touch()
            return message
        finally:
            self._reading = False

    async def _take_turns(self) -> None:
        self._given += 1
        if self._given % MESSAGES_PER_TURN == 0:
            await asyncio.sleep(0)

    async def _touch(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._given = 0

    def _next(self) -> Message | None:
        while not self._closed and (packet := self._link.read()) is not None:
            if isinstance(packet, Publish):
                self._unacknowledged = packet if packet.qos else None
                return Message(packet.topic_name, packet.payload, packet.qos, packet.retain, packet.properties)
            self._handle(packet)
        if not self._closed and self._ended is None and not self._link.is_open:
            self._ended = SubscriptionEnded(self._filters, ReasonCode.UNSPECIFIED_ERROR)
        return None

    def _handle(self, packet: Packet) -> None:
        """What comes beside messages: the answers to our own packets, and the end."""
        if isinstance(packet, Pubrel):
            self._answer(Pubcomp(packet.packet_id))
        elif isinstance(packet, Suback):
            self._granted = True
            refused = [code for code in packet.reason_codes if code >= FIRST_FAILURE]
            if refused:
                self._end(SubscribeRefused(self._filters, ReasonCode(refused[0])))
        elif isinstance(packet, Disconnect | Connack) and packet.reason_code:
            if packet.reason_code == ReasonCode.SERVER_SHUTTING_DOWN:
                self._end(BrokerStopped("the broker has stopped, and the subscription with it"))
            else:
                self._end(SubscriptionEnded(self._filters, ReasonCode(packet.reason_code)))

    def _acknowledge(self) -> None:
        packet, self._unacknowledged = self._unacknowledged, None
        if packet is not None:
            self._answer(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))

    def _answer(self, packet: Puback | Pubrec | Pubcomp) -> None:
        with suppress(LinkClosed):  # why is told by what is read
            self._link.write_now(packet)

    # ------------------------------------------------------------ how it is going

    def look(self) -> bool:
        """Take the answer to SUBSCRIBE if it has come, without waiting; tells whether it has.

        Raises ``SubscribeRefused``.
        """
        while not self._granted and self._ended is None and (packet := self._link.read()) is not None:
            self._handle(packet)
        if isinstance(self._ended, SubscribeRefused):
            raise self._ended
        return self._granted

    def touched(self) -> None:
        """Hear from the link that something has come."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------ the end

    async def __aenter__(self) -> Self:
        """Wait until the subscription is in effect. Raises ``SubscribeRefused`` and ``BrokerStopped``."""
        while not self.look():
            if self._ended is not None:
                raise self._ended
            await self._touch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the subscription; what was being worked on is acknowledged unless an exception says that it failed."""
        if kind is None:
            self._acknowledge()
        await self.aclose()

    async def aclose(self) -> None:
        """End the subscription; what was not read is dropped, and a task that waits sees the end. Again is no error."""
        if not self._closed:
            self._end(None)
            self._closed = True

    def stop(self) -> None:
        """The broker goes: what has come can still be read, then ``BrokerStopped`` is raised."""
        if not self._closed and self._ended is None:
            self._link.keep_rest()
            self._end(BrokerStopped("the broker has stopped, and the subscription with it"))

    def _end(self, error: BrokerError | None) -> None:
        _ = self.dropped  # the last look before its figures are gone
        self._ended = self._ended or error
        self._link.close()
        self.touched()
