"""The packets of MQTT as frozen values, one class for both versions, and the error for bytes that break the rules.

Here belong fields and their units. Not here: bytes (``broker._core.packets`` decodes and encodes these). They serve
what is rare: SUBSCRIBE, AUTH, tests and programs that embed the broker; a PUBLISH in flight never becomes one.

``properties`` has the specification's names in snake_case and is empty in 3.1.1; ``user_property`` is a tuple of pairs,
``subscription_identifier`` a tuple of numbers. A ``packet_id`` is 1..65,535.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from broker.errors import BrokerError
from broker.reasons import ReasonCode

Properties: TypeAlias = Mapping[str, object]


class ProtocolViolation(BrokerError):
    """Bytes that are no packet, or one that a rule forbids; ``reason_code`` is what MQTT 5 calls it."""

    code = "PROTOCOL_VIOLATION"

    def __init__(self, reason_code: ReasonCode, where: str = "") -> None:
        name = reason_code.name.lower().replace("_", " ")
        super().__init__(f"{name} (0x{reason_code:02X}): {where}" if where else f"{name} (0x{reason_code:02X})")
        self.reason_code = reason_code


@dataclass(frozen=True, slots=True)
class Will:
    """What a CONNECT leaves behind, published when the connection ends without a farewell."""

    topic_name: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT. ``clean_start`` is CleanSession in 3.1.1; ``user_name`` and ``password`` are None when absent."""

    client_id: str = ""
    clean_start: bool = True
    keep_alive_s: int = 0
    will: Will | None = None
    user_name: str | None = None
    password: bytes | None = field(default=None, repr=False)
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connack:
    """CONNACK. In 3.1.1 ``reason_code`` is the return code, 0..5."""

    session_present: bool = False
    reason_code: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publish:
    """PUBLISH. ``packet_id`` is 0 for QoS 0, which has none."""

    topic_name: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Puback:
    """PUBACK; in 3.1.1 the reason code is always 0 and there are no properties."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pubrec:
    """PUBREC; in 3.1.1 the reason code is always 0 and there are no properties."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pubrel:
    """PUBREL; in 3.1.1 the reason code is always 0 and there are no properties."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """PUBCOMP; in 3.1.1 the reason code is always 0 and there are no properties."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter of a SUBSCRIBE with its options; 3.1.1 has the QoS alone, the others keep their defaults."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE, with one subscription at least."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suback:
    """SUBACK, one reason code for each filter in the order of the SUBSCRIBE."""

    packet_id: int
    reason_codes: tuple[int, ...]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE, with one filter at least."""

    packet_id: int
    topic_filters: tuple[str, ...]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsuback:
    """UNSUBACK; 3.1.1 has no reason codes."""

    packet_id: int
    reason_codes: tuple[int, ...] = ()
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pingreq:
    """PINGREQ."""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """PINGRESP."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT; in 3.1.1 only a client sends it, and it says nothing."""

    reason_code: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH, of version 5 alone."""

    reason_code: int = 0
    properties: Properties = field(default_factory=dict)


Ack: TypeAlias = Puback | Pubrec | Pubrel | Pubcomp
Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Ack
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
