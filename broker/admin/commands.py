"""What an account may send to a device: commands, configuration, firmware; and what became of it.

Here belong the verbs behind those routes. Not here: HTTP and JSON (``api``), routing and delivery (the core).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from broker.accounts.directory import Directory
from broker.accounts.ledger import ALONE
from broker.admin.answers import Keeping
from broker.admin.message_views import DeviceMessage, MessageReceipt
from broker.errors import PayloadTooLarge
from broker.policy.credentials import new_message_id
from broker.ports import Change, Publisher, ServerMessage


class Commands:
    """Messages to one device at a time; ``require_serving`` raises ``Unavailable`` while nothing is taken."""

    def __init__(
        self,
        directory: Directory,
        publisher: Publisher,
        maximum_payload_bytes: int,
        require_serving: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._publisher = publisher
        self._maximum_payload_bytes = maximum_payload_bytes
        self._require_serving = require_serving

    async def send(
        self,
        account_id: int,
        device_id: str,
        message: DeviceMessage,
        keeping: Keeping[MessageReceipt] | None = None,
    ) -> MessageReceipt:
        """Publish to a device; with QoS 1 and 2, or retained, it is on disk when this returns.

        What ``keeping`` says of the receipt is on disk with it.

        Raises ``NotFound``, ``PayloadTooLarge`` over the capabilities' maximum payload, ``QuotaExceeded`` where no more
        messages may be retained, and ``Unavailable``.
        """
        self._require_serving()
        device = self._directory.devices.get(account_id, device_id)
        if len(message.payload) > self._maximum_payload_bytes:
            raise PayloadTooLarge(f"payload: at most {self._maximum_payload_bytes} bytes")
        sending = _Sending(device.device_id, message, keeping)
        published = asyncio.create_task(
            self._publisher.publish(account_id, sending.message, None if keeping is None else sending.records),
            name="message to a device",
        )
        published.add_done_callback(sending.published)
        await asyncio.shield(published)  # whoever gives up waiting does not part it from its records
        return sending.receipt


class _Sending:
    """One message on its way: what is published, and what goes to disk with it."""

    def __init__(self, device_id: str, message: DeviceMessage, keeping: Keeping[MessageReceipt] | None) -> None:
        message_id = new_message_id()
        self._keeping = keeping
        self._companion = ALONE
        self.message = ServerMessage(
            f"devices/{device_id}/{message.kind}",
            message.payload,
            message.qos,
            message.retain,
            message.expiry_s,
            response_topic=f"devices/{device_id}/events/commands/{message_id}",
            correlation_data=message_id.encode(),
        )
        self.receipt = MessageReceipt(message_id, self.message.topic_name, "no_subscriber")

    def records(self, taken: int) -> Sequence[Change]:
        """Give what is written with the message, now that it has been routed to so many sessions."""
        self._route(taken)
        assert self._keeping is not None
        self._companion = self._keeping(self.receipt)
        return self._companion.changes

    def published(self, done: asyncio.Task[int]) -> None:
        """Tell who keeps something what became of it."""
        if done.cancelled() or done.exception() is not None:
            self._companion.failed()
        else:
            self._route(done.result())
            self._companion.committed()

    def _route(self, taken: int) -> None:
        self.receipt = replace(self.receipt, state="sent" if taken else "no_subscriber")
