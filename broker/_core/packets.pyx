"""Packets as native fields and back, for both versions; and the Python face of decoding, for what is rare.

Here belong the rules that one packet can break by itself. Not here: what needs the connection's state (a second
CONNECT, an alias that is not set), the characters of topics (``topics``), the fixed header (``framing``).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memset

from broker._core.cursor cimport (
    Cursor, left, put_bytes, put_u8, put_varint, take_binary, take_bytes, take_u8, take_u16, varint_size,
)
from broker._core.framing cimport (
    AUTH, CONNACK, CONNECT, DISCONNECT, PINGREQ, PUBACK, PUBLISH, PUBREL, PUBCOMP, SUBACK,
    SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, VERSION_5, VERSION_311, client_may_send, header_flags_valid, read_header,
)
from broker._core.properties cimport (
    PROPERTY_SESSION_EXPIRY_INTERVAL, SITE_AUTH, SITE_CONNACK, SITE_CONNECT, SITE_DISCONNECT_INBOUND,
    SITE_DISCONNECT_OUTBOUND, SITE_PUBACK, SITE_PUBLISH_INBOUND, SITE_PUBLISH_OUTBOUND, SITE_SUBACK, SITE_SUBSCRIBE,
    SITE_UNSUBACK, SITE_UNSUBSCRIBE, SITE_WILL, PropertySite, clear, has, properties_size, put_properties,
    python_properties, read_properties,
)
from broker._core.reasons cimport (
    BAD_USER_NAME_OR_PASSWORD, BANNED, CLIENT_IDENTIFIER_NOT_VALID, CONNECTION_RATE_EXCEEDED, MALFORMED_PACKET,
    NOT_AUTHORIZED, PROTOCOL_ERROR, QUOTA_EXCEEDED, SERVER_BUSY, SERVER_UNAVAILABLE, SUCCESS,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from broker._core.utf8 cimport valid_utf8

from broker import wire
from broker._core.encoding import encode
from broker.reasons import ReasonCode

__all__ = ["decode", "encode"]


cdef enum:
    NEVER_EXPIRES = 0xFFFFFFFF
    LEVEL_31 = 3

# Bits of the connect flags.
cdef enum:
    FLAG_RESERVED = 0x01
    FLAG_CLEAN_START = 0x02
    FLAG_WILL = 0x04
    FLAG_WILL_QOS = 0x18
    FLAG_WILL_RETAIN = 0x20
    FLAG_PASSWORD = 0x40
    FLAG_USER_NAME = 0x80


# --------------------------------------------------------------------------------------------------------------------
# PUBLISH

cdef int parse_publish(
    uint8_t first_byte, const uint8_t* body, uint32_t n, uint8_t version, PublishFields* out
) noexcept nogil:
    return read_publish(first_byte, body, n, version, SITE_PUBLISH_INBOUND, out)


cdef inline int read_publish(
    uint8_t first_byte, const uint8_t* body, uint32_t n, uint8_t version, PropertySite site, PublishFields* out
) noexcept nogil:
    cdef Cursor c
    cdef int refused
    c.at = body
    c.end = body + n
    out.qos = (first_byte >> 1) & 3
    out.dup = (first_byte >> 3) & 1
    out.retain = first_byte & 1
    out.packet_id = 0
    if out.qos == 3:
        return MALFORMED_PACKET  # [MQTT-3.3.1-4] [v311 MQTT-3.3.1-4]
    if out.dup and out.qos == 0:
        return PROTOCOL_ERROR  # [MQTT-3.3.1-2] [v311 MQTT-3.3.1-2]
    if not take_binary(&c, &out.topic_name):  # [MQTT-3.3.2-1]
        return MALFORMED_PACKET
    if out.qos:
        refused = take_packet_id(&c, &out.packet_id)
        if refused:
            return refused
    if version < VERSION_5:
        clear(&out.values)
        out.properties.at = c.at
        out.properties.n = 0
    else:
        refused = read_properties(&c, site, &out.values, &out.properties)
        if refused:
            return refused
    out.payload.at = c.at
    out.payload.n = left(&c)
    return SUCCESS


cdef inline int take_packet_id(Cursor* c, uint16_t* out) noexcept nogil:
    if not take_u16(c, out):
        return MALFORMED_PACKET
    return SUCCESS if out[0] else PROTOCOL_ERROR  # [MQTT-2.2.1-3] [v311 MQTT-2.3.1-1]


cdef inline int take_text(Cursor* c, Span* out) noexcept nogil:
    if not take_binary(c, out) or not valid_utf8(out.at, out.n):
        return MALFORMED_PACKET  # [MQTT-1.5.4-1] [v311 MQTT-1.5.3-1]
    return SUCCESS


# --------------------------------------------------------------------------------------------------------------------
# CONNECT

cdef int parse_connect(const uint8_t* body, uint32_t n, ConnectFields* out) noexcept nogil:
    cdef Cursor c
    cdef int refused
    memset(out, 0, sizeof(ConnectFields))
    c.at = body
    c.end = body + n
    refused = read_protocol(&c, out)
    if not refused:
        refused = read_connect_flags(&c, out)
    if not refused and out.version >= VERSION_5:
        refused = read_properties(&c, SITE_CONNECT, &out.values, &out.properties)
    if not refused:
        refused = take_text(&c, &out.client_id)  # [MQTT-3.1.3-3] [MQTT-3.1.3-4]
    if not refused and out.has_will:
        refused = read_will(&c, out)
    if not refused:
        refused = read_login(&c, out)
    if not refused and c.at != c.end:
        refused = MALFORMED_PACKET
    if refused:
        return refused
    if out.is_31:
        return UNSUPPORTED_PROTOCOL_VERSION     # read to its end, so that its login can be judged first
    return settle_session(out)


cdef int read_protocol(Cursor* c, ConnectFields* out) noexcept nogil:
    cdef Span name
    if not take_binary(c, &name):
        return MALFORMED_PACKET
    if name.n == 6 and memcmp(name.at, b"MQIsdp", 6) == 0:
        return read_level_31(c, out)
    if name.n != 4 or memcmp(name.at, b"MQTT", 4) != 0:
        return UNSUPPORTED_PROTOCOL_VERSION  # [MQTT-3.1.2-1] [v311 MQTT-3.1.2-1]
    if not take_u8(c, &out.level):
        return MALFORMED_PACKET
    out.name_valid = True
    if out.level != VERSION_311 and out.level != VERSION_5:
        return UNSUPPORTED_PROTOCOL_VERSION  # [MQTT-3.1.2-2] [v311 MQTT-3.1.2-2]
    out.version = out.level
    return SUCCESS


cdef int read_level_31(Cursor* c, ConnectFields* out) noexcept nogil:
    # MQTT 3.1: laid out like 3.1.1, and answered in its words.
    if not take_u8(c, &out.level):
        return MALFORMED_PACKET
    out.name_valid = True
    if out.level != LEVEL_31:
        return UNSUPPORTED_PROTOCOL_VERSION
    out.is_31 = True
    out.version = VERSION_311
    return SUCCESS


cdef int read_connect_flags(Cursor* c, ConnectFields* out) noexcept nogil:
    cdef uint8_t flags
    if not take_u8(c, &flags) or not take_u16(c, &out.keep_alive_s):
        return MALFORMED_PACKET
    if flags & FLAG_RESERVED:
        return MALFORMED_PACKET  # [MQTT-3.1.2-3] [v311 MQTT-3.1.2-3]
    if not flags & FLAG_WILL and flags & (FLAG_WILL_QOS | FLAG_WILL_RETAIN):
        return MALFORMED_PACKET  # [MQTT-3.1.2-11] [MQTT-3.1.2-13] [v311 MQTT-3.1.2-11]
    if flags & FLAG_WILL_QOS == FLAG_WILL_QOS:
        return MALFORMED_PACKET  # [MQTT-3.1.2-12] [v311 MQTT-3.1.2-14]
    if out.version < VERSION_5 and flags & FLAG_PASSWORD and not flags & FLAG_USER_NAME:
        return MALFORMED_PACKET  # [v311 MQTT-3.1.2-22]
    out.clean_start = flags & FLAG_CLEAN_START != 0
    out.has_will = flags & FLAG_WILL != 0
    out.will_qos = (flags & FLAG_WILL_QOS) >> 3
    out.will_retain = flags & FLAG_WILL_RETAIN != 0
    out.has_user_name = flags & FLAG_USER_NAME != 0
    out.has_password = flags & FLAG_PASSWORD != 0
    return SUCCESS


cdef int read_will(Cursor* c, ConnectFields* out) noexcept nogil:
    cdef int refused = SUCCESS
    if out.version >= VERSION_5:
        refused = read_properties(c, SITE_WILL, &out.will_values, &out.will_properties)
    if not refused:
        refused = take_text(c, &out.will_topic)  # [MQTT-3.1.3-11] [v311 MQTT-3.1.3-10]
    if not refused and not take_binary(c, &out.will_payload):
        refused = MALFORMED_PACKET
    return refused


cdef int read_login(Cursor* c, ConnectFields* out) noexcept nogil:
    cdef int refused = SUCCESS
    if out.has_user_name:
        refused = take_text(c, &out.user_name)  # [MQTT-3.1.3-12] [v311 MQTT-3.1.3-11]
    if not refused and out.has_password and not take_binary(c, &out.password):
        refused = MALFORMED_PACKET
    return refused


cdef int settle_session(ConnectFields* out) noexcept nogil:
    # 3.1.1 has one flag for start and lifetime; it becomes the two of version 5.
    if out.version >= VERSION_5:
        if has(&out.values, PROPERTY_SESSION_EXPIRY_INTERVAL):
            out.session_expiry_interval_s = out.values.session_expiry_interval_s
        return SUCCESS
    out.session_expiry_interval_s = 0 if out.clean_start else <uint32_t>NEVER_EXPIRES
    if out.client_id.n == 0 and not out.clean_start:
        return CLIENT_IDENTIFIER_NOT_VALID  # [v311 MQTT-3.1.3-7] [v311 MQTT-3.1.3-8]
    return SUCCESS


# --------------------------------------------------------------------------------------------------------------------
# PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT

cdef int parse_ack(
    uint8_t packet_type, const uint8_t* body, uint32_t n, uint8_t version, AckFields* out
) noexcept nogil:
    cdef PropertyValues values
    cdef Span raw
    return read_ack(packet_type, body, n, version, out, &values, &raw)


cdef int read_ack(
    uint8_t packet_type, const uint8_t* body, uint32_t n, uint8_t version, AckFields* out,
    PropertyValues* values, Span* raw
) noexcept nogil:
    cdef Cursor c
    cdef int refused
    c.at = body
    c.end = body + n
    out.packet_id = 0
    out.reason_code = SUCCESS
    refused = take_packet_id(&c, &out.packet_id)
    if refused:
        return refused
    if version < VERSION_5:
        raw.at = c.at
        raw.n = 0
        return SUCCESS if c.at == c.end else MALFORMED_PACKET
    refused = read_reason(&c, <PropertySite>(SITE_PUBACK + packet_type - PUBACK), &out.reason_code, values, raw)
    if not refused and not ack_code_known(packet_type, out.reason_code):
        refused = PROTOCOL_ERROR  # [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    return refused


cdef int read_reason(
    Cursor* c, PropertySite site, uint8_t* reason_code, PropertyValues* values, Span* raw
) noexcept nogil:
    # A reason code and properties at the end of a packet, either of which may be left out from the end.
    cdef int refused
    clear(values)
    raw.at = c.end
    raw.n = 0
    reason_code[0] = SUCCESS
    if not take_u8(c, reason_code) or c.at == c.end:
        return SUCCESS
    refused = read_properties(c, site, values, raw)
    if not refused and c.at != c.end:
        refused = MALFORMED_PACKET
    return refused


cdef bint ack_code_known(uint8_t packet_type, uint8_t reason_code) noexcept nogil:
    if packet_type == PUBREL or packet_type == PUBCOMP:
        return reason_code in (0x00, 0x92)
    return reason_code in (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)


cdef int parse_disconnect(const uint8_t* body, uint32_t n, uint8_t version, DisconnectFields* out) noexcept nogil:
    cdef Cursor c
    cdef int refused
    c.at = body
    c.end = body + n
    if version < VERSION_5:
        clear(&out.values)
        out.properties.at = body
        out.properties.n = 0
        out.reason_code = SUCCESS
        return MALFORMED_PACKET if n else SUCCESS
    refused = read_reason(&c, SITE_DISCONNECT_INBOUND, &out.reason_code, &out.values, &out.properties)
    if not refused and not client_disconnect_code_known(out.reason_code):
        refused = PROTOCOL_ERROR  # [MQTT-3.14.2-1]
    return refused


cdef bint client_disconnect_code_known(uint8_t code) noexcept nogil:
    return code in (0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90) or 0x93 <= code <= 0x99


cdef bint server_disconnect_code_known(uint8_t code) noexcept nogil:
    return code in (0x00, 0x87, 0x89) or 0x80 <= code <= 0x83 or 0x8B <= code <= 0xA2 and code not in (0x91, 0x92)


# --------------------------------------------------------------------------------------------------------------------
# CONNACK

cdef int connack_code_311(uint8_t reason_code) noexcept nogil:
    if reason_code == SUCCESS:
        return 0
    if reason_code == UNSUPPORTED_PROTOCOL_VERSION:
        return 1
    if reason_code == CLIENT_IDENTIFIER_NOT_VALID:
        return 2
    if reason_code in (SERVER_UNAVAILABLE, SERVER_BUSY, QUOTA_EXCEEDED, CONNECTION_RATE_EXCEEDED):
        return 3
    # A refused login is "not authorised" whatever was wrong with it: 4 would tell that the user exists.
    if reason_code in (BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED, BANNED):
        return 5
    return -1


cdef uint32_t connack_size(uint8_t version, const ConnackFields* fields) noexcept nogil:
    cdef uint32_t listed
    cdef uint32_t remaining
    if version < VERSION_5:
        return 4
    listed = properties_size(&fields.values) + fields.user_properties.n
    remaining = 2 + varint_size(listed) + listed
    return 1 + varint_size(remaining) + remaining


cdef uint8_t* encode_connack(uint8_t* at, uint8_t version, const ConnackFields* fields) noexcept nogil:
    cdef bint present = fields.session_present and fields.reason_code == SUCCESS  # [MQTT-3.2.2-6] [v311 MQTT-3.2.2-4]
    cdef uint32_t listed
    at = put_u8(at, CONNACK << 4)
    if version < VERSION_5:
        at = put_u8(put_u8(at, 2), present)
        return put_u8(at, <uint8_t>connack_code_311(fields.reason_code))
    listed = properties_size(&fields.values) + fields.user_properties.n
    at = put_varint(at, 2 + varint_size(listed) + listed)
    at = put_u8(put_u8(at, present), fields.reason_code)
    at = put_properties(put_varint(at, listed), &fields.values)
    return put_bytes(at, fields.user_properties.at, fields.user_properties.n)


# --------------------------------------------------------------------------------------------------------------------
# The Python face

def decode(bytes data not None, int version, *, bint from_client=True):
    cdef uint32_t header_size = 0
    cdef uint32_t remaining = 0
    cdef const uint8_t* at = <const uint8_t*>data
    cdef uint32_t n = <uint32_t>len(data)
    if version != VERSION_311 and version != VERSION_5:
        raise ValueError(f"protocol version {version}: expected 4 or 5")
    if read_header(at, n, &header_size, &remaining) != 1 or header_size + remaining != n:
        refuse(MALFORMED_PACKET, "length")
    if not header_flags_valid(at[0], version):
        refuse(MALFORMED_PACKET, "first byte")  # [MQTT-2.1.3-1]
    if not client_may_send(at[0] >> 4, version) if from_client else not server_may_send(at[0] >> 4, version):
        refuse(PROTOCOL_ERROR, "packet type")
    return decode_body(at[0], at + header_size, remaining, version, from_client)


cdef bint server_may_send(uint8_t packet_type, uint8_t version) noexcept nogil:
    if packet_type == DISCONNECT or packet_type == AUTH:
        return version >= VERSION_5
    return packet_type not in (CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ)


cdef int refuse(int reason_code, str where) except -1:
    # Raises for any reason code but 0.
    if reason_code:
        raise wire.ProtocolViolation(ReasonCode(reason_code), where)
    return 0


cdef object decode_body(uint8_t first_byte, const uint8_t* body, uint32_t n, uint8_t version, bint from_client):
    cdef uint8_t packet_type = first_byte >> 4
    cdef Cursor c
    c.at = body
    c.end = body + n
    if packet_type == CONNECT:
        return decode_connect(body, n, version)
    if packet_type == PUBLISH:
        return decode_publish(first_byte, body, n, version, from_client)
    if PUBACK <= packet_type <= PUBCOMP:
        return decode_ack(packet_type, body, n, version)
    if packet_type == DISCONNECT:
        return decode_disconnect(body, n, version, from_client)
    if packet_type == CONNACK:
        return decode_connack(&c, version)
    if packet_type == SUBSCRIBE:
        return decode_subscribe(&c, version)
    if packet_type == UNSUBSCRIBE:
        return decode_unsubscribe(&c, version)
    if packet_type == SUBACK or packet_type == UNSUBACK:
        return decode_codes(packet_type, &c, version)
    if packet_type == AUTH:
        return decode_auth(&c, from_client)
    if n:
        refuse(MALFORMED_PACKET, "length")
    return wire.Pingreq() if packet_type == PINGREQ else wire.Pingresp()


cdef bytes binary(const Span* span):
    return (<const char*>span.at)[:span.n]


cdef str text(const Span* span):
    # UTF-8 that has been validated.
    return (<const char*>span.at)[:span.n].decode("utf-8")


cdef str next_text(Cursor* c, str where):
    cdef Span span = Span(NULL, 0)
    refuse(take_text(c, &span), where)
    return text(&span)


cdef int next_packet_id(Cursor* c) except -1:
    cdef uint16_t packet_id = 0
    refuse(take_packet_id(c, &packet_id), "packet identifier")
    return packet_id


cdef dict next_properties(Cursor* c, PropertySite site, uint8_t version):
    cdef PropertyValues values
    cdef Span raw
    if version < VERSION_5:
        return {}
    refuse(read_properties(c, site, &values, &raw), "properties")
    return python_properties(&raw)


cdef object decode_connect(const uint8_t* body, uint32_t n, uint8_t version):
    cdef ConnectFields fields
    refuse(parse_connect(body, n, &fields), "CONNECT")
    if fields.version != version:
        refuse(UNSUPPORTED_PROTOCOL_VERSION, f"level {fields.level}")
    will = None
    if fields.has_will:
        will = wire.Will(
            text(&fields.will_topic), binary(&fields.will_payload), fields.will_qos, bool(fields.will_retain),
            python_properties(&fields.will_properties),
        )
    return wire.Connect(
        text(&fields.client_id), bool(fields.clean_start), fields.keep_alive_s, will,
        text(&fields.user_name) if fields.has_user_name else None,
        binary(&fields.password) if fields.has_password else None,
        python_properties(&fields.properties),
    )


cdef object decode_connack(Cursor* c, uint8_t version):
    cdef uint8_t flags = 0
    cdef uint8_t code = 0
    if not take_u8(c, &flags) or not take_u8(c, &code) or flags > 1:
        refuse(MALFORMED_PACKET, "CONNACK")  # [MQTT-3.2.2-1]
    properties = next_properties(c, SITE_CONNACK, version)
    if c.at != c.end:
        refuse(MALFORMED_PACKET, "length")
    known = code <= 5 if version < VERSION_5 else code in CONNACK_CODES
    if not known or (code and flags):
        refuse(PROTOCOL_ERROR, "CONNACK")  # [MQTT-3.2.2-6] [MQTT-3.2.2-8]
    return wire.Connack(bool(flags), code, properties)


cdef object decode_publish(uint8_t first_byte, const uint8_t* body, uint32_t n, uint8_t version, bint from_client):
    cdef PublishFields fields
    cdef PropertySite site = SITE_PUBLISH_INBOUND if from_client else SITE_PUBLISH_OUTBOUND
    refuse(read_publish(first_byte, body, n, version, site, &fields), "PUBLISH")
    if not valid_utf8(fields.topic_name.at, fields.topic_name.n):
        refuse(MALFORMED_PACKET, "topic name")  # [MQTT-3.3.2-1]
    return wire.Publish(
        text(&fields.topic_name), binary(&fields.payload), fields.qos, bool(fields.retain), bool(fields.dup),
        fields.packet_id, python_properties(&fields.properties),
    )


cdef object decode_ack(uint8_t packet_type, const uint8_t* body, uint32_t n, uint8_t version):
    cdef AckFields fields
    cdef PropertyValues values
    cdef Span raw
    refuse(read_ack(packet_type, body, n, version, &fields, &values, &raw), "acknowledgement")
    kind = (wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp)[packet_type - PUBACK]
    return kind(fields.packet_id, fields.reason_code, python_properties(&raw))


cdef object decode_subscribe(Cursor* c, uint8_t version):
    packet_id = next_packet_id(c)
    properties = next_properties(c, SITE_SUBSCRIBE, version)
    subscriptions = []
    while c.at != c.end:
        subscriptions.append(next_subscription(c, version))
    if not subscriptions:
        refuse(PROTOCOL_ERROR, "SUBSCRIBE without a filter")  # [MQTT-3.8.3-2] [v311 MQTT-3.8.3-3]
    return wire.Subscribe(packet_id, tuple(subscriptions), properties)


cdef object next_subscription(Cursor* c, uint8_t version):
    cdef uint8_t options = 0
    topic_filter = next_text(c, "topic filter")  # [MQTT-3.8.3-1] [v311 MQTT-3.8.3-1]
    if not take_u8(c, &options) or options & (0xC0 if version >= VERSION_5 else 0xFC):
        refuse(MALFORMED_PACKET, "subscription options")  # [MQTT-3.8.3-5] [v311 MQTT-3.8.3-4]
    if options & 0x03 == 0x03 or options & 0x30 == 0x30:
        refuse(PROTOCOL_ERROR, "subscription options")
    if options & 0x04 and topic_filter.startswith("$share/"):
        refuse(PROTOCOL_ERROR, "no local on a shared subscription")  # [MQTT-3.8.3-4]
    return wire.Subscription(
        topic_filter, options & 0x03, bool(options & 0x04), bool(options & 0x08), (options >> 4) & 0x03
    )


cdef object decode_unsubscribe(Cursor* c, uint8_t version):
    packet_id = next_packet_id(c)
    properties = next_properties(c, SITE_UNSUBSCRIBE, version)
    topic_filters = []
    while c.at != c.end:
        topic_filters.append(next_text(c, "topic filter"))  # [MQTT-3.10.3-1] [v311 MQTT-3.10.3-1]
    if not topic_filters:
        refuse(PROTOCOL_ERROR, "UNSUBSCRIBE without a filter")  # [MQTT-3.10.3-2] [v311 MQTT-3.10.3-2]
    return wire.Unsubscribe(packet_id, tuple(topic_filters), properties)


CONNACK_CODES = frozenset(bytes.fromhex("00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F"))
SUBACK_CODES = frozenset(bytes.fromhex("00 01 02 80 83 87 8F 91 97 9E A1 A2"))
SUBACK_CODES_311 = frozenset(bytes.fromhex("00 01 02 80"))
UNSUBACK_CODES = frozenset(bytes.fromhex("00 11 80 83 87 8F 91"))


cdef object decode_codes(uint8_t packet_type, Cursor* c, uint8_t version):
    cdef Span rest
    subscribing = packet_type == SUBACK
    packet_id = next_packet_id(c)
    properties = next_properties(c, SITE_SUBACK if subscribing else SITE_UNSUBACK, version)
    take_bytes(c, left(c), &rest)
    codes = tuple(binary(&rest))
    if bool(codes) == (not subscribing and version < VERSION_5):
        refuse(MALFORMED_PACKET, "one code for each filter")
    known = UNSUBACK_CODES if not subscribing else SUBACK_CODES if version >= VERSION_5 else SUBACK_CODES_311
    if not known.issuperset(codes):
        refuse(PROTOCOL_ERROR, "reason code")  # [MQTT-3.9.3-2] [MQTT-3.11.3-2] [v311 MQTT-3.9.3-2]
    return (wire.Suback if subscribing else wire.Unsuback)(packet_id, codes, properties)


cdef object decode_disconnect(const uint8_t* body, uint32_t n, uint8_t version, bint from_client):
    cdef DisconnectFields fields
    cdef Cursor c
    if from_client:
        refuse(parse_disconnect(body, n, version, &fields), "DISCONNECT")
    else:
        c.at = body
        c.end = body + n
        refuse(
            read_reason(&c, SITE_DISCONNECT_OUTBOUND, &fields.reason_code, &fields.values, &fields.properties),
            "DISCONNECT",
        )
        if not server_disconnect_code_known(fields.reason_code):
            refuse(PROTOCOL_ERROR, "reason code")  # [MQTT-3.14.2-1]
    return wire.Disconnect(fields.reason_code, python_properties(&fields.properties))


cdef object decode_auth(Cursor* c, bint from_client):
    cdef PropertyValues values
    cdef Span raw
    cdef uint8_t code
    refuse(read_reason(c, SITE_AUTH, &code, &values, &raw), "AUTH")
    if code not in ((0x18, 0x19) if from_client else (0x00, 0x18)):
        refuse(PROTOCOL_ERROR, "reason code")  # [MQTT-3.15.2-1]
    properties = python_properties(&raw)
    if "authentication_method" not in properties and code != 0:
        refuse(PROTOCOL_ERROR, "AUTH without a method")
    return wire.Auth(code, properties)
