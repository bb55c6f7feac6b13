"""Publishing from inside the process: one local connection for each account, and who waits for which acknowledgement.

Here belongs the client's half of QoS 0, 1 and 2 (section 4.3). Not here: whose account it is, and judging topics.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from broker._core.packets import encode
from broker.errors import BrokerStopped, PublishRefused
from broker.local.link import VERSION, Link, LinkClosed
from broker.reasons import ReasonCode
from broker.wire import Connack, Connect, Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel

FIRST_FAILURE = 0x80
WORK_PER_TURN = 64  # messages of QoS 0, or as many pages of them; then the loop's other tasks have their turn
PAGE_BYTES = 4096


class Publisher:
    """Publishes over one link; ``window`` is the server's Receive Maximum: so many may be unacknowledged."""

    def __init__(self, link: Link, window: int) -> None:
        self._link = link
        self._room = asyncio.Semaphore(window)
        self._free_ids = list(range(window, 0, -1))
        self._work = 0
        self._closed = False
        self._waiting: dict[int, tuple[str, asyncio.Future[int]]] = {}
        self._closed_with = ReasonCode.UNSPECIFIED_ERROR
        link.on_touched = self._take_answers
        link.write_now(Connect(client_id=f"local-publisher-{link.principal_id}"))

    @property
    def handle(self) -> int:
        """The handle of its connection."""
        return self._link.handle

    @property
    def is_open(self) -> bool:
        """Whether it can publish; another one has to be made otherwise."""
        return self._link.is_open

    async def publish(self, message: Publish) -> ReasonCode:
        """Publish, and for QoS 1 and 2 wait until the broker has accepted it; returns its reason code.

        Raises ``BadRequest`` for what the packet cannot carry, ``PublishRefused`` and ``BrokerStopped``.
        """
        try:
            if message.qos == 0:
                await self._take_turns(len(message.payload))
                await self._link.write(encode(message, VERSION))
                return ReasonCode.SUCCESS
            answer = await self._send(message)
        except LinkClosed:
            self._take_answers()
            raise self._why_closed(message.topic_name) from None
        reason_code = await answer
        if reason_code >= FIRST_FAILURE:
            raise PublishRefused(message.topic_name, ReasonCode(reason_code))
        return ReasonCode(reason_code)

    async def _take_turns(self, payload_bytes: int) -> None:
        """Let the loop go on from time to time: nothing else in a QoS 0 publish has to wait."""
        self._work += 1 + payload_bytes // PAGE_BYTES
        if self._work >= WORK_PER_TURN:
            self._work = 0
            await asyncio.sleep(0)

    async def _send(self, message: Publish) -> asyncio.Future[int]:
        await self._room.acquire()
        if self._closed:
            self._room.release()  # the next one that waits learns it too
            raise LinkClosed
        packet_id = self._free_ids.pop()
        try:
            await self._link.write(encode(_numbered(message, packet_id), VERSION))
        except BaseException:
            self._give_back(packet_id)
            raise
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[packet_id] = message.topic_name, answer
        return answer

    def _take_answers(self) -> None:
        while (packet := self._link.read()) is not None:
            if isinstance(packet, Puback):
                self._answer(packet.packet_id, packet.reason_code)
                self._give_back(packet.packet_id)
            elif isinstance(packet, Pubrec):
                self._received(packet)
            elif isinstance(packet, Pubcomp):
                self._give_back(packet.packet_id)
            elif isinstance(packet, Disconnect | Connack) and packet.reason_code:
                self._closed_with = ReasonCode(packet.reason_code)
        if not self._link.is_open:
            self.close()

    def _received(self, packet: Pubrec) -> None:
        """The broker owns the message now: whoever published it need not wait for the end of the exchange."""
        self._answer(packet.packet_id, packet.reason_code)
        if packet.reason_code >= FIRST_FAILURE:
            self._give_back(packet.packet_id)
        else:
            with suppress(LinkClosed):
                self._link.write_now(Pubrel(packet.packet_id))

    def _answer(self, packet_id: int, reason_code: int) -> None:
        waiting = self._waiting.pop(packet_id, None)
        if waiting is not None and not waiting[1].done():  # whoever waited may have been cancelled
            waiting[1].set_result(reason_code)

    def _give_back(self, packet_id: int) -> None:
        self._free_ids.append(packet_id)
        self._room.release()

    def _why_closed(self, topic_name: str) -> PublishRefused | BrokerStopped:
        if self._closed_with in (ReasonCode.SERVER_SHUTTING_DOWN, ReasonCode.SERVER_UNAVAILABLE):
            return BrokerStopped("the broker stopped before it had accepted the message")
        return PublishRefused(topic_name, self._closed_with)

    def stop(self) -> None:
        """Take the last answers as the broker goes; who still waits gets ``BrokerStopped``."""
        self._closed_with = ReasonCode.SERVER_SHUTTING_DOWN
        self._take_answers()
        self.close()

    def close(self) -> None:
        """End the connection; who still waits is told why."""
        self._link.close()
        if not self._closed:
            self._closed = True
            self._room.release()
        waiting, self._waiting = self._waiting, {}
        for topic_name, answer in waiting.values():
            if not answer.done():
                answer.set_exception(self._why_closed(topic_name))


def _numbered(message: Publish, packet_id: int) -> Publish:
    return Publish(
        message.topic_name,
        message.payload,
        message.qos,
        message.retain,
        packet_id=packet_id,
        properties=message.properties,
    )
