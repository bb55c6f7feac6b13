"""What an account may send to a device: commands, configuration, firmware; and what became of it.

Here belong the verbs behind those routes. Not here: HTTP and JSON (``api``), routing and delivery (the core), states
and their bounds (``broker.accounts.messages``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from broker.accounts.directory import Directory
from broker.accounts.ledger import ALONE
from broker.accounts.messages import Messages, SentMessage
from broker.accounts.records import Device
from broker.admin.answers import Keeping
from broker.admin.awaited import Awaited
from broker.admin.clock import Clock
from broker.admin.message_views import AnswerView, DeviceMessage, MessageView, view_of
from broker.errors import NotFound, PayloadTooLarge
from broker.policy.credentials import new_message_id
from broker.ports import Change, DeviceAnswer, Publisher, ServerMessage, TrackedNote


class Commands:
    """Messages to one device at a time; implements ``ports.TrackingSink``.

    ``require_serving`` raises ``Unavailable`` while nothing is taken.
    """

    def __init__(
        self,
        directory: Directory,
        publisher: Publisher,
        clock: Clock,
        maximum_payload_bytes: int,
        require_serving: Callable[[], None],
    ) -> None:
        self._devices = directory.devices
        self._messages = directory.messages
        self._publisher = publisher
        self._clock = clock
        self._maximum_payload_bytes = maximum_payload_bytes
        self._require_serving = require_serving
        self._awaited = Awaited()
        self._messages.on_end = self._awaited.ended
        publisher.track(self)
        self._messages.reconcile(clock.wall_s())
        for account_id in self._messages.accounts():
            publisher.hear_answers(account_id)

    async def send(
        self,
        account_id: int,
        device_id: str,
        message: DeviceMessage,
        keeping: Keeping[MessageView] | None = None,
        wait_s: float = 0,
    ) -> MessageView:
        """Publish to a device; its record is on disk when this returns, and the message where a session keeps it.

        What ``keeping`` says of the outcome is on disk with it. With ``wait_s`` it returns when the device has
        answered, or nothing more will become of it, or after so many seconds. Raises ``NotFound``, ``Conflict`` for a
        message id that the device has, ``PayloadTooLarge`` over the capabilities' maximum payload, ``QuotaExceeded``
        where no more messages may be retained, ``RateLimited`` where too many wait already, and ``Unavailable``.
        """
        self._require_serving()
        self._device(account_id, device_id)
        if len(message.payload) > self._maximum_payload_bytes:
            raise PayloadTooLarge(f"payload: at most {self._maximum_payload_bytes} bytes")
        with self._awaited.place(account_id) if wait_s else nullcontext():
            publishing = asyncio.create_task(
                self._publish(account_id, device_id, message, keeping), name="message to a device"
            )
            publishing.add_done_callback(_seen)
            sent = await asyncio.shield(publishing)  # whoever gives up waiting does not part it from its records
            if wait_s:
                await self._awaited.end_of(sent, wait_s)
        return await self._view(sent, device_id)

    async def get(self, account_id: int, device_id: str, message_id: str) -> MessageView:
        """Tell what has become of a message. Raises ``NotFound``, ``Unavailable`` where an answer cannot be read."""
        device = self._devices.get(account_id, device_id)
        return await self._view(self._messages.get(device.device_number, message_id), device_id)

    def stop(self) -> None:
        """Let go who waits: the broker stops."""
        self._awaited.stop()

    # ------------------------------------------------------------ what the core tells

    def note(self, notes: Sequence[TrackedNote], answers: Sequence[DeviceAnswer]) -> None:
        """Take what happened since the last call."""
        self._messages.note(notes, answers, self._clock.wall_s())

    def take_changes(self) -> Sequence[Change]:
        """Give what has to be written of it."""
        return self._messages.take_changes()

    async def _publish(
        self, account_id: int, device_id: str, message: DeviceMessage, keeping: Keeping[MessageView] | None
    ) -> SentMessage:
        """Publish, and return when it is on disk. Nothing comes between looking for the device and routing."""
        device = self._device(account_id, device_id)
        sending = _Sending(device, message, self._messages, self._clock, keeping)
        self._publisher.hear_answers(account_id)
        try:
            await self._publisher.publish(account_id, sending.message, sending.records)
        except BaseException:
            sending.failed()
            raise
        sending.companion.committed()
        return sending.sent

    def _device(self, account_id: int, device_id: str) -> Device:
        device = self._devices.get(account_id, device_id)
        if not self._devices.is_staying(device.device_number):
            raise NotFound("there is no such device")
        return device

    async def _view(self, message: SentMessage, device_id: str) -> MessageView:
        self._publisher.look_at_tracked()
        record = message.record
        answer = None
        if record.answered_at:
            await self._publisher.written()
            payload = await self._messages.read_answer(record)
            answer = AnswerView(record.answered_at, payload, record.answer_bytes)
        return view_of(message, device_id, self._clock.wall_s(), answer)


class _Sending:
    """One message on its way: what is published, and what goes to disk with it."""

    def __init__(
        self,
        device: Device,
        message: DeviceMessage,
        messages: Messages,
        clock: Clock,
        keeping: Keeping[MessageView] | None,
    ) -> None:
        message_id = message.message_id or new_message_id()
        self._messages = messages
        self._clock = clock
        self._keeping = keeping
        self._device_id = device.device_id
        self._routed = False
        self.companion = ALONE
        self.sent = messages.begin(device, message_id, message.kind, message.qos, clock.wall_s(), message.expiry_s)
        self.message = ServerMessage(
            f"devices/{device.device_id}/{message.kind}",
            message.payload,
            message.qos,
            message.retain,
            message.expiry_s,
            response_topic=f"devices/{device.device_id}/events/commands/{message_id}",
            correlation_data=message_id.encode(),
            tracking=self.sent.record.tracking,
        )

    def records(self, _taken: int) -> Sequence[Change]:
        """Give what is written with the message, now that it has been routed."""
        now_s = self._clock.wall_s()
        self._routed = True
        self._messages.published(self.sent, now_s)
        if self._keeping is not None:
            self.companion = self._keeping(view_of(self.sent, self._device_id, now_s))
        return [*self._messages.take_changes(), *self.companion.changes]

    def failed(self) -> None:
        """It was refused, or nobody knows when it will be on disk."""
        self.companion.failed()
        if not self._routed:
            self._messages.withdraw(self.sent)


def _seen(publishing: asyncio.Task[SentMessage]) -> None:
    """Take note of an error: whoever was to be told may have gone."""
    if not publishing.cancelled():
        publishing.exception()
