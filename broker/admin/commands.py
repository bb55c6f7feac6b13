"""What an account may send to a device: commands, configuration, firmware; and what became of it.

Here belong the verbs behind those routes. Not here: HTTP and JSON (``api``), routing and delivery (the core).
"""

from __future__ import annotations

from collections.abc import Callable

from broker.accounts.directory import Directory
from broker.admin.message_views import DeviceMessage, MessageReceipt
from broker.errors import PayloadTooLarge
from broker.policy.credentials import new_message_id
from broker.ports import Publisher, ServerMessage


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

    async def send(self, account_id: int, device_id: str, message: DeviceMessage) -> MessageReceipt:
        """Publish to a device; with QoS 1 and 2, or retained, it is on disk when this returns.

        Raises ``NotFound``, ``PayloadTooLarge`` over the capabilities' maximum payload, ``QuotaExceeded`` where no more
        messages may be retained, and ``Unavailable``.
        """
        self._require_serving()
        device = self._directory.devices.get(account_id, device_id)
        if len(message.payload) > self._maximum_payload_bytes:
            raise PayloadTooLarge(f"payload: at most {self._maximum_payload_bytes} bytes")
        message_id = new_message_id()
        topic_name = f"devices/{device.device_id}/{message.kind}"
        taken = await self._publisher.publish(
            account_id,
            ServerMessage(
                topic_name,
                message.payload,
                message.qos,
                message.retain,
                message.expiry_s,
                response_topic=f"devices/{device.device_id}/events/commands/{message_id}",
                correlation_data=message_id.encode(),
            ),
        )
        return MessageReceipt(message_id, topic_name, "sent" if taken else "no_subscriber")
