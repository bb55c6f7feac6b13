"""Packets from their Python values to bytes, every type of both versions, both directions.

Here belongs what is rare or outside the broker: what is frequent is written by the native encoders of ``packets``.
Not here: judging whether a packet may be sent now.
"""

from __future__ import annotations

from collections.abc import Callable

from broker._core.properties import encode_properties
from broker.errors import BadRequest
from broker.wire import (
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)

MAXIMUM_REMAINING = 268_435_455
ACK_TYPES = {Puback: 4, Pubrec: 5, Pubrel: 6, Pubcomp: 7}


def encode(packet: Packet, version: int) -> bytes:
    """Write one whole packet of protocol version 4 (3.1.1) or 5.

    Raises ``BadRequest`` for a value that the packet cannot carry: out of range, of the wrong type, text over 65,535
    bytes, properties in 3.1.1 or where they may not stand, a packet type that the version lacks.
    """
    if version not in (4, 5):
        raise BadRequest("protocol version", field="version", provided=version, expected="4 or 5")
    first_byte, body = ENCODERS[type(packet)](packet, version)
    if len(body) > MAXIMUM_REMAINING:
        raise BadRequest("packet over 268,435,455 bytes", field="payload")
    return bytes((first_byte,)) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """Write a Variable Byte Integer in its shortest form; the caller has checked the range."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def number(name: str, value: int, lowest: int, highest: int) -> int:
    """Return the value, or raise where it is out of range."""
    if not isinstance(value, int) or not lowest <= value <= highest:
        raise BadRequest(f"{name} out of range", field=name, provided=value, expected=f"{lowest}..{highest}")
    return value


def binary(name: str, value: bytes) -> bytes:
    """Write bytes with their two-byte length."""
    if len(value) > 0xFFFF:
        raise BadRequest(f"{name} over 65,535 bytes", field=name, provided=len(value))
    return len(value).to_bytes(2, "big") + bytes(value)


def text(name: str, value: str) -> bytes:
    """Write a string with its two-byte length."""
    try:
        encoded = value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest(f"{name} holds a surrogate", field=name, provided=value) from None
    if b"\0" in encoded:
        raise BadRequest(f"{name} holds U+0000", field=name, provided=value)  # [MQTT-1.5.4-2]
    return binary(name, encoded)


def packet_id(value: int) -> bytes:
    """Write a packet identifier."""
    return number("packet_id", value, 1, 0xFFFF).to_bytes(2, "big")  # [MQTT-2.2.1-3]


def properties(given: Properties, site: str, version: int) -> bytes:
    """Write a property list with its length; nothing in 3.1.1."""
    if version >= 5:
        return encode_properties(given, site)
    if given:
        raise BadRequest("3.1.1 has no properties", field="properties")
    return b""


def connect(packet: Connect, version: int) -> tuple[int, bytes]:
    """Write a CONNECT."""
    if version < 5 and packet.password is not None and packet.user_name is None:
        raise BadRequest("3.1.1 has no password without a user name", field="password")  # [v311 MQTT-3.1.2-22]
    body = text("protocol", "MQTT") + bytes((version, connect_flags(packet)))
    body += number("keep_alive_s", packet.keep_alive_s, 0, 0xFFFF).to_bytes(2, "big")
    body += properties(packet.properties, "CONNECT", version) + text("client_id", packet.client_id)
    if packet.will is not None:
        body += will(packet.will, version)
    if packet.user_name is not None:
        body += text("user_name", packet.user_name)
    if packet.password is not None:
        body += binary("password", packet.password)
    return 0x10, body


def connect_flags(packet: Connect) -> int:
    """Compute the connect flags (section 3.1.2.3)."""
    flags = packet.clean_start << 1 | (packet.password is not None) << 6 | (packet.user_name is not None) << 7
    if packet.will is not None:
        flags |= 0x04 | number("qos", packet.will.qos, 0, 2) << 3 | packet.will.retain << 5
    return flags


def will(left_behind: Will, version: int) -> bytes:
    """Write the will's part of the CONNECT payload."""
    listed = properties(left_behind.properties, "WILL", version)
    return listed + text("topic_name", left_behind.topic_name) + binary("payload", left_behind.payload)


def connack(packet: Connack, version: int) -> tuple[int, bytes]:
    """Write a CONNACK; in 3.1.1 the reason code is the return code."""
    code = number("reason_code", packet.reason_code, 0, 0xFF if version >= 5 else 5)
    return 0x20, bytes((packet.session_present, code)) + properties(packet.properties, "CONNACK", version)


def publish(packet: Publish, version: int) -> tuple[int, bytes]:
    """Write a PUBLISH; a subscription identifier makes it one that the server sends."""
    qos = number("qos", packet.qos, 0, 2)
    if qos == 0 and (packet.packet_id or packet.dup):
        raise BadRequest("QoS 0 has neither a packet identifier nor DUP", field="packet_id")  # [MQTT-2.2.1-2]
    first_byte = 0x30 | packet.dup << 3 | qos << 1 | packet.retain
    body = text("topic_name", packet.topic_name)
    if qos:
        body += packet_id(packet.packet_id)
    return first_byte, body + properties(packet.properties, "PUBLISH_OUTBOUND", version) + bytes(packet.payload)


def ack(packet: Ack, version: int) -> tuple[int, bytes]:
    """Write a PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form."""
    packet_type = ACK_TYPES[type(packet)]
    site = type(packet).__name__.upper()
    body = packet_id(packet.packet_id) + reason(packet.reason_code, packet.properties, site, version)
    return packet_type << 4 | (2 if packet_type == 6 else 0), body


def reason(reason_code: int, given: Properties, site: str, version: int) -> bytes:
    """Write a reason code and properties, leaving out what may be; 3.1.1 has neither."""
    code = bytes((number("reason_code", reason_code, 0, 0xFF if version >= 5 else 0),))
    if given:
        return code + properties(given, site, version)
    return code if reason_code else b""


def subscribe(packet: Subscribe, version: int) -> tuple[int, bytes]:
    """Write a SUBSCRIBE."""
    if not packet.subscriptions:
        raise BadRequest("SUBSCRIBE without a filter", field="subscriptions")  # [MQTT-3.8.3-2]
    body = packet_id(packet.packet_id) + properties(packet.properties, "SUBSCRIBE", version)
    return 0x82, body + b"".join(subscription(one, version) for one in packet.subscriptions)


def subscription(wanted: Subscription, version: int) -> bytes:
    """Write a topic filter and its options."""
    options = number("qos", wanted.qos, 0, 2) | wanted.no_local << 2 | wanted.retain_as_published << 3
    options |= number("retain_handling", wanted.retain_handling, 0, 2) << 4
    if version < 5 and options > 2:
        raise BadRequest("3.1.1 has no subscription options but the QoS", field="subscriptions")
    return text("topic_filter", wanted.topic_filter) + bytes((options,))


def suback(packet: Suback, version: int) -> tuple[int, bytes]:
    """Write a SUBACK; 3.1.1 knows one failure, so that every code from 0x80 becomes 0x80."""
    if not packet.reason_codes:
        raise BadRequest("SUBACK without a reason code", field="reason_codes")
    codes = packet.reason_codes if version >= 5 else tuple(min(code, 0x80) for code in packet.reason_codes)
    body = packet_id(packet.packet_id) + properties(packet.properties, "SUBACK", version)
    return 0x90, body + bytes(number("reason_codes", code, 0, 0xFF) for code in codes)  # [v311 MQTT-3.9.3-2]


def unsubscribe(packet: Unsubscribe, version: int) -> tuple[int, bytes]:
    """Write an UNSUBSCRIBE."""
    if not packet.topic_filters:
        raise BadRequest("UNSUBSCRIBE without a filter", field="topic_filters")  # [MQTT-3.10.3-2]
    body = packet_id(packet.packet_id) + properties(packet.properties, "UNSUBSCRIBE", version)
    return 0xA2, body + b"".join(text("topic_filters", one) for one in packet.topic_filters)


def unsuback(packet: Unsuback, version: int) -> tuple[int, bytes]:
    """Write an UNSUBACK; 3.1.1 has no reason codes, so that they are left out."""
    body = packet_id(packet.packet_id) + properties(packet.properties, "UNSUBACK", version)
    if version < 5:
        return 0xB0, body
    if not packet.reason_codes:
        raise BadRequest("UNSUBACK without a reason code", field="reason_codes")
    return 0xB0, body + bytes(number("reason_codes", code, 0, 0xFF) for code in packet.reason_codes)


def disconnect(packet: Disconnect, version: int) -> tuple[int, bytes]:
    """Write a DISCONNECT; a session expiry interval makes it one that a client sends."""
    site = "DISCONNECT_INBOUND" if "session_expiry_interval" in packet.properties else "DISCONNECT_OUTBOUND"
    return 0xE0, reason(packet.reason_code, packet.properties, site, version)


def ping(packet: Pingreq | Pingresp, _version: int) -> tuple[int, bytes]:
    """Write a PINGREQ or PINGRESP, the same in both versions."""
    return 0xC0 if isinstance(packet, Pingreq) else 0xD0, b""


def auth(packet: Auth, version: int) -> tuple[int, bytes]:
    """Write an AUTH, of version 5 alone."""
    if version < 5:
        raise BadRequest("3.1.1 has no AUTH", field="version", provided=version, expected="5")
    return 0xF0, reason(packet.reason_code, packet.properties, "AUTH", version)


ENCODERS: dict[type, Callable[..., tuple[int, bytes]]] = {
    Connect: connect,
    Connack: connack,
    Publish: publish,
    **dict.fromkeys(ACK_TYPES, ack),
    Subscribe: subscribe,
    Suback: suback,
    Unsubscribe: unsubscribe,
    Unsuback: unsuback,
    Pingreq: ping,
    Pingresp: ping,
    Disconnect: disconnect,
    Auth: auth,
}
