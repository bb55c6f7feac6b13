"""Decoding and encoding of packets without Python objects.

All parsers take the body (what follows the fixed header), return 0 or a reason code and never look behind it. Every
Span points into the body. Text is checked as UTF-8 here except the topic name of a PUBLISH, which is ``topics``' to
check together with its characters.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from broker._core.cursor cimport Span, put_u8, put_u16, put_varint
from broker._core.framing cimport DISCONNECT, PUBREL, VERSION_5
from broker._core.properties cimport PROPERTY_REASON_STRING, PropertyValues


cdef struct PublishFields:
    uint8_t qos
    uint8_t dup
    uint8_t retain
    uint16_t packet_id              # 0 for QoS 0
    Span topic_name
    Span properties                 # without their length; empty for 3.1.1
    Span payload
    PropertyValues values           # only `seen` and `user_property_count` are set for 3.1.1


cdef struct ConnectFields:
    uint8_t version                 # VERSION_311, VERSION_5, or 0 while it is not known
    uint8_t level                   # the level byte, once read
    bint name_valid                 # the protocol name was MQTT or MQIsdp: the client understands a CONNACK
    bint is_31                      # MQTT 3.1: refused with 0x84, but read to its end for its login
    bint clean_start
    uint16_t keep_alive_s           # 0 is off
    uint32_t session_expiry_interval_s  # 0xFFFFFFFF never ends; 3.1.1: clean session 1 is 0, clean session 0 is never
    Span client_id
    bint has_will
    uint8_t will_qos
    bint will_retain
    Span will_topic                 # UTF-8, its characters are not checked
    Span will_payload
    Span will_properties            # without their length
    bint has_user_name
    bint has_password
    Span user_name
    Span password
    Span properties
    PropertyValues values
    PropertyValues will_values


cdef struct AckFields:
    uint16_t packet_id
    uint8_t reason_code


cdef struct DisconnectFields:
    uint8_t reason_code
    Span properties
    PropertyValues values


# What a CONNACK says; `values.seen` tells which properties it carries (see properties.mark), and user properties stand
# behind them, encoded. 3.1.1 ignores both.
cdef struct ConnackFields:
    bint session_present
    uint8_t reason_code
    PropertyValues values
    Span user_properties


cdef extern from *:
    """
    #define BROKER_TOO_MANY_MESSAGES ((const unsigned char*)"Too many messages")
    """
    const uint8_t* TOO_MANY_MESSAGES "BROKER_TOO_MANY_MESSAGES"


cdef enum:
    TOO_MANY_MESSAGES_BYTES = 17
    REASON_STRING_SIZE = 64         # room that put_reason_string needs, with up to 60 bytes of text
    ACK_SIZE = 5                    # room that encode_ack needs
    DISCONNECT_SIZE = 3             # room that encode_disconnect needs
    PUBLISH_START_SIZE = 5          # room that encode_publish_start needs


# A PUBLISH from a client. 0x81: QoS 3, fields beyond the body; 0x82: packet identifier 0, DUP with QoS 0; and the
# codes of read_properties.
cdef int parse_publish(
    uint8_t first_byte, const uint8_t* body, uint32_t n, uint8_t version, PublishFields* out
) noexcept nogil

# 0x84: another protocol (name_valid false: close silently), an unknown level, or MQTT 3.1; 0x85: empty client id that
# 3.1.1 forbids (all fields are set); 0x81, 0x82 and the codes of read_properties.
cdef int parse_connect(const uint8_t* body, uint32_t n, ConnectFields* out) noexcept nogil

# PUBACK, PUBREC, PUBREL or PUBCOMP. 0x82: packet identifier 0, or a reason code this packet does not know.
cdef int parse_ack(uint8_t packet_type, const uint8_t* body, uint32_t n, uint8_t version, AckFields* out) noexcept nogil

# A DISCONNECT from a client. 0x82: a reason code that a client does not send.
cdef int parse_disconnect(const uint8_t* body, uint32_t n, uint8_t version, DisconnectFields* out) noexcept nogil

# Size of the whole packet in bytes, and the packet. For 3.1.1 connack_code_311 of the reason code must not be -1.
cdef uint32_t connack_size(uint8_t version, const ConnackFields* fields) noexcept nogil
cdef uint8_t* encode_connack(uint8_t* at, uint8_t version, const ConnackFields* fields) noexcept nogil

# The 3.1.1 return code for a reason code, or -1: close without CONNACK. [v311 MQTT-3.2.2-6]
cdef int connack_code_311(uint8_t reason_code) noexcept nogil


# PUBACK, PUBREC, PUBREL or PUBCOMP: 4 bytes, 5 where a version 5 reason code is not 0. For 3.1.1 the code is dropped.
cdef inline uint8_t* encode_ack(
    uint8_t* at, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code, uint8_t version
) noexcept nogil:
    cdef bint with_code = reason_code != 0 and version >= VERSION_5
    at = put_u8(at, <uint8_t>((packet_type << 4) | (2 if packet_type == PUBREL else 0)))  # [MQTT-3.6.1-1]
    at = put_u16(put_u8(at, 3 if with_code else 2), packet_id)
    return put_u8(at, reason_code) if with_code else at


# A list of properties that is a Reason String alone. The packet's remaining length is the caller's to set.
cdef inline uint8_t* put_reason_string(uint8_t* at, const uint8_t* text, uint32_t n) noexcept nogil:
    at = put_u16(put_u8(put_u8(at, <uint8_t>(n + 3)), PROPERTY_REASON_STRING), <uint16_t>n)
    memcpy(at, text, n)
    return at + n


# A version 5 DISCONNECT without properties: 2 or 3 bytes.
cdef inline uint8_t* encode_disconnect(uint8_t* at, uint8_t reason_code) noexcept nogil:
    at = put_u8(at, DISCONNECT << 4)
    if reason_code == 0:
        return put_u8(at, 0)
    return put_u8(put_u8(at, 1), reason_code)


# The fixed header of a PUBLISH: first byte and remaining length, 2 to 5 bytes.
cdef inline uint8_t* encode_publish_start(uint8_t* at, uint8_t first_byte, uint32_t remaining) noexcept nogil:
    return put_varint(put_u8(at, first_byte), remaining)
