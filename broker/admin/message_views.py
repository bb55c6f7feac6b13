"""Messages to devices as the outside gives and sees them: frozen values.

Here belong values only. Not here: how they come about (``commands``), and their JSON (``api``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MessageKind = Literal["commands", "config", "firmware"]


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """What is to be sent to a device, below which of its topics; ``expiry_s`` 0: it never expires."""

    kind: MessageKind
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry_s: int = 0


@dataclass(frozen=True, slots=True)
class MessageReceipt:
    """What became of a message: ``state`` is ``sent`` when a session took it, else ``no_subscriber``."""

    message_id: str
    topic_name: str
    state: str
