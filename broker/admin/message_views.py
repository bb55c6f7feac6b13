"""Messages to devices as the outside gives and sees them: frozen values.

Here belong values only. Not here: how they come about (``commands``), and their JSON (``api``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from broker.accounts.messages import MessageState, SentMessage
from broker.reasons import DropReason

MessageKind = Literal["commands", "config", "firmware"]
ENDS = ("expired", "dropped")


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """What is to be sent to a device, below which of its topics.

    ``expiry_s`` 0: it never expires. ``message_id`` empty: one is drawn.
    """

    kind: MessageKind
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry_s: int = 0
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class AnswerView:
    """What a device has answered; ``payload`` is None where it is not kept, being too large or of long ago."""

    at: int
    payload: bytes | None
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class MessageView:
    """What has become of a message: the best in any of the device's sessions. Times are None for never.

    ``reason`` says why it was dropped, as a ``DropReason``'s name, ``NO_SESSION`` or ``REPLACED``.
    """

    message_id: str
    topic_name: str
    qos: int
    state: MessageState
    reason: str | None
    created_at: int
    expires_at: int | None
    sent_at: int | None
    acknowledged_at: int | None
    ended_at: int | None
    answered_at: int | None
    answer: AnswerView | None = None


def view_of(message: SentMessage, device_id: str, now_s: int, answer: AnswerView | None = None) -> MessageView:
    """Show a message as it is now."""
    record = message.record
    state = message.state(now_s)
    ended_at = record.ended_at or record.expires_at
    return MessageView(
        message_id=record.message_id,
        topic_name=f"devices/{device_id}/{record.kind}",
        qos=record.qos,
        state=state,
        reason=DropReason.MESSAGE_EXPIRED.name
        if state == "expired"
        else message.reason
        if state == "dropped"
        else None,
        created_at=record.created_at,
        expires_at=record.expires_at or None,
        sent_at=record.sent_at or None,
        acknowledged_at=record.acknowledged_at or None,
        ended_at=ended_at if state in ENDS else None,
        answered_at=record.answered_at or None,
        answer=answer,
    )
