"""The property table of MQTT 5 (section 2.2.2.2), and reading and writing by it.

Here belongs what each property is called, how it is encoded, where it may stand and which values it may have. Not
here: what a property does.
"""

from typing import NamedTuple

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from broker._core.cursor cimport (
    Cursor, Span, put_binary, put_u8, put_u16, put_u32, put_varint, take_binary, take_bytes, take_u8, take_u16,
    take_u32, take_varint, varint_size,
)
from broker._core.reasons cimport (
    MALFORMED_PACKET, PROTOCOL_ERROR, QUOTA_EXCEEDED, SUCCESS, TOPIC_ALIAS_INVALID,
)
from broker._core.utf8 cimport valid_utf8

from broker.errors import BadRequest
from broker.reasons import ReasonCode
from broker.wire import ProtocolViolation


cdef enum Kind:
    NO_KIND = 0
    BYTE = 1
    TWO_BYTES = 2
    FOUR_BYTES = 3
    VARINT = 4
    STRING = 5
    BINARY = 6
    PAIR = 7


cdef enum Check:
    ANY_VALUE = 0
    NOT_ZERO = 1      # else 0x82
    ZERO_OR_ONE = 2   # else 0x82
    ALIAS = 3         # 0 is 0x94
    TOPIC_NAME = 4    # no wildcards and not empty, else 0x82


cdef struct Rule:
    uint8_t kind
    uint8_t check
    uint16_t offset   # of the field in PropertyValues
    uint32_t sites    # bit per PropertySite
    uint32_t many_at  # sites where it may occur more than once


SITE_NAMES = (
    "CONNECT", "CONNACK", "WILL", "PUBLISH_INBOUND", "PUBLISH_OUTBOUND", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
    "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "DISCONNECT_INBOUND", "DISCONNECT_OUTBOUND", "AUTH",
)
KIND_NAMES = ("", "byte", "two_bytes", "four_bytes", "varint", "string", "binary", "pair")

cdef PropertyValues SHAPE
cdef Rule[PROPERTY_LIMIT] RULES


cdef size_t at(void* field):
    return <char*>field - <char*>&SHAPE


cdef uint32_t sites(str names) except? 0:
    cdef uint32_t mask = 0
    for name in names.split():
        mask |= 1 << SITE_NAMES.index(name)
    return mask


cdef str MESSAGE = "WILL PUBLISH_INBOUND PUBLISH_OUTBOUND"
cdef str ACKS = "PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK"
cdef str ENDS = "DISCONNECT_INBOUND DISCONNECT_OUTBOUND AUTH"
cdef str EVERYWHERE = " ".join(SITE_NAMES)

# The one table: identifier, name, kind, check, field of PropertyValues, where it may stand, where it may repeat.
cdef tuple TABLE = (
    (0x01, "payload_format_indicator", BYTE, ZERO_OR_ONE, at(&SHAPE.payload_format), MESSAGE, ""),
    (0x02, "message_expiry_interval", FOUR_BYTES, ANY_VALUE, at(&SHAPE.message_expiry_s), MESSAGE, ""),
    (0x03, "content_type", STRING, ANY_VALUE, at(&SHAPE.content_type), MESSAGE, ""),
    (0x08, "response_topic", STRING, TOPIC_NAME, at(&SHAPE.response_topic), MESSAGE, ""),
    (0x09, "correlation_data", BINARY, ANY_VALUE, at(&SHAPE.correlation_data), MESSAGE, ""),
    (0x0B, "subscription_identifier", VARINT, NOT_ZERO, at(&SHAPE.subscription_identifier),
     "SUBSCRIBE PUBLISH_OUTBOUND", "PUBLISH_OUTBOUND"),
    (0x11, "session_expiry_interval", FOUR_BYTES, ANY_VALUE, at(&SHAPE.session_expiry_interval_s),
     "CONNECT CONNACK DISCONNECT_INBOUND", ""),
    (0x12, "assigned_client_identifier", STRING, ANY_VALUE, at(&SHAPE.assigned_client_id), "CONNACK", ""),
    (0x13, "server_keep_alive", TWO_BYTES, ANY_VALUE, at(&SHAPE.server_keep_alive), "CONNACK", ""),
    (0x15, "authentication_method", STRING, ANY_VALUE, at(&SHAPE.authentication_method), "CONNECT CONNACK AUTH", ""),
    (0x16, "authentication_data", BINARY, ANY_VALUE, at(&SHAPE.authentication_data), "CONNECT CONNACK AUTH", ""),
    (0x17, "request_problem_information", BYTE, ZERO_OR_ONE, at(&SHAPE.request_problem_information), "CONNECT", ""),
    (0x18, "will_delay_interval", FOUR_BYTES, ANY_VALUE, at(&SHAPE.will_delay_s), "WILL", ""),
    (0x19, "request_response_information", BYTE, ZERO_OR_ONE, at(&SHAPE.request_response_information), "CONNECT", ""),
    (0x1A, "response_information", STRING, ANY_VALUE, at(&SHAPE.response_information), "CONNACK", ""),
    (0x1C, "server_reference", STRING, ANY_VALUE, at(&SHAPE.server_reference), "CONNACK DISCONNECT_OUTBOUND", ""),
    (0x1F, "reason_string", STRING, ANY_VALUE, at(&SHAPE.reason_string), f"CONNACK {ACKS} {ENDS}", ""),
    (0x21, "receive_maximum", TWO_BYTES, NOT_ZERO, at(&SHAPE.receive_maximum), "CONNECT CONNACK", ""),
    (0x22, "topic_alias_maximum", TWO_BYTES, ANY_VALUE, at(&SHAPE.topic_alias_maximum), "CONNECT CONNACK", ""),
    (0x23, "topic_alias", TWO_BYTES, ALIAS, at(&SHAPE.topic_alias), "PUBLISH_INBOUND PUBLISH_OUTBOUND", ""),
    (0x24, "maximum_qos", BYTE, ZERO_OR_ONE, at(&SHAPE.maximum_qos), "CONNACK", ""),
    (0x25, "retain_available", BYTE, ZERO_OR_ONE, at(&SHAPE.retain_available), "CONNACK", ""),
    (0x26, "user_property", PAIR, ANY_VALUE, 0, EVERYWHERE, EVERYWHERE),
    (0x27, "maximum_packet_size", FOUR_BYTES, NOT_ZERO, at(&SHAPE.maximum_packet_size), "CONNECT CONNACK", ""),
    (0x28, "wildcard_subscription_available", BYTE, ZERO_OR_ONE, at(&SHAPE.wildcard_subscription_available),
     "CONNACK", ""),
    (0x29, "subscription_identifier_available", BYTE, ZERO_OR_ONE, at(&SHAPE.subscription_identifier_available),
     "CONNACK", ""),
    (0x2A, "shared_subscription_available", BYTE, ZERO_OR_ONE, at(&SHAPE.shared_subscription_available),
     "CONNACK", ""),
)


class PropertyRule(NamedTuple):
    identifier: int
    name: str
    kind: str
    sites: frozenset
    repeatable_at: frozenset


cdef tuple fill_rules():
    described = []
    for identifier, name, kind, check, offset, where, many in TABLE:
        RULES[<int>identifier] = Rule(kind, check, offset, sites(where), sites(many))
        described.append(
            PropertyRule(identifier, name, KIND_NAMES[kind], frozenset(where.split()), frozenset(many.split()))
        )
    return tuple(described)


PROPERTIES = fill_rules()
cdef dict NAMES = {rule.identifier: rule.name for rule in PROPERTIES}
cdef dict IDENTIFIERS = {rule.name: rule.identifier for rule in PROPERTIES}


# --------------------------------------------------------------------------------------------------------------------
# Reading

cdef int read_properties(Cursor* c, PropertySite site, PropertyValues* out, Span* raw) noexcept nogil:
    cdef Cursor listed
    cdef uint32_t size
    cdef int refused
    clear(out)
    if not take_varint(c, &size) or not take_bytes(c, size, raw):
        return MALFORMED_PACKET
    listed.at = raw.at
    listed.end = raw.at + size
    while listed.at != listed.end:
        refused = read_property(&listed, site, out)
        if refused:
            return refused
    if has(out, PROPERTY_AUTHENTICATION_DATA) and not has(out, PROPERTY_AUTHENTICATION_METHOD):
        return PROTOCOL_ERROR
    return SUCCESS


cdef int read_property(Cursor* c, PropertySite site, PropertyValues* out) noexcept nogil:
    cdef uint32_t identifier
    cdef const Rule* rule
    cdef void* field
    if not take_varint(c, &identifier) or identifier >= PROPERTY_LIMIT:
        return MALFORMED_PACKET
    rule = &RULES[identifier]
    if not (rule.sites >> site) & 1:
        if identifier == PROPERTY_SUBSCRIPTION_IDENTIFIER and site == SITE_PUBLISH_INBOUND:
            return PROTOCOL_ERROR  # [MQTT-3.3.4-6]
        return MALFORMED_PACKET
    if has(out, identifier) and not (rule.many_at >> site) & 1:
        return PROTOCOL_ERROR
    mark(out, identifier)
    field = <char*>out + rule.offset
    if rule.kind <= VARINT:
        return read_number(c, rule, <uint32_t*>field)
    if rule.kind == PAIR:
        return read_pair(c, out)
    return read_span(c, rule, <Span*>field)


cdef int read_number(Cursor* c, const Rule* rule, uint32_t* out) noexcept nogil:
    cdef uint8_t one
    cdef uint16_t two
    cdef bint whole
    if rule.kind == BYTE:
        whole = take_u8(c, &one)
        out[0] = one if whole else 0
    elif rule.kind == TWO_BYTES:
        whole = take_u16(c, &two)
        out[0] = two if whole else 0
    elif rule.kind == FOUR_BYTES:
        whole = take_u32(c, out)
    else:
        whole = take_varint(c, out)
    if not whole:
        return MALFORMED_PACKET
    if rule.check == NOT_ZERO and out[0] == 0:
        return PROTOCOL_ERROR
    if rule.check == ZERO_OR_ONE and out[0] > 1:
        return PROTOCOL_ERROR
    if rule.check == ALIAS and out[0] == 0:
        return TOPIC_ALIAS_INVALID  # [MQTT-3.3.2-8]
    return SUCCESS


cdef int read_span(Cursor* c, const Rule* rule, Span* out) noexcept nogil:
    if not take_binary(c, out):
        return MALFORMED_PACKET
    if rule.kind == STRING and not valid_utf8(out.at, out.n):
        return MALFORMED_PACKET  # [MQTT-1.5.4-1]
    if rule.check == TOPIC_NAME and not names_one_topic(out):
        return PROTOCOL_ERROR  # [MQTT-3.3.2-14]
    return SUCCESS


cdef int read_pair(Cursor* c, PropertyValues* out) noexcept nogil:
    cdef Span name
    cdef Span value
    if not take_binary(c, &name) or not take_binary(c, &value):
        return MALFORMED_PACKET
    if not valid_utf8(name.at, name.n) or not valid_utf8(value.at, value.n):
        return MALFORMED_PACKET  # [MQTT-1.5.7-1]
    out.user_property_count += 1
    return QUOTA_EXCEEDED if out.user_property_count > MAXIMUM_USER_PROPERTIES else SUCCESS


cdef bint names_one_topic(const Span* topic) noexcept nogil:
    cdef uint32_t i
    for i in range(topic.n):
        if topic.at[i] == c'+' or topic.at[i] == c'#':
            return False
    return topic.n != 0  # [MQTT-4.7.3-1]


# --------------------------------------------------------------------------------------------------------------------
# Writing

cdef const uint8_t* behind_property(const uint8_t* p) noexcept nogil:
    # Steps over one property of a list that has been validated.
    cdef uint8_t kind = RULES[p[0]].kind
    p += 1
    if kind == BYTE:
        return p + 1
    if kind == TWO_BYTES:
        return p + 2
    if kind == FOUR_BYTES:
        return p + 4
    if kind == VARINT:
        while p[0] >= 0x80:
            p += 1
        return p + 1
    if kind == PAIR:
        p += 2 + ((p[0] << 8) | p[1])
    return p + 2 + ((p[0] << 8) | p[1])


cdef uint32_t without_property(const Span* raw, int identifier, uint8_t* out) noexcept nogil:
    cdef const uint8_t* p = raw.at
    cdef const uint8_t* end = raw.at + raw.n
    cdef const uint8_t* behind
    cdef uint32_t before
    while p != end:
        behind = behind_property(p)
        if p[0] == identifier:
            before = <uint32_t>(p - raw.at)
            memcpy(out, raw.at, before)
            memcpy(out + before, behind, <size_t>(end - behind))
            return <uint32_t>(raw.n - (behind - p))
        p = behind
    if raw.n:
        memcpy(out, raw.at, raw.n)
    return raw.n


cdef uint32_t forwardable_properties(const Span* raw, uint8_t* out) noexcept nogil:
    return without_property(raw, PROPERTY_TOPIC_ALIAS, out)


cdef uint32_t properties_size(const PropertyValues* values) noexcept nogil:
    cdef uint32_t size = 0
    cdef int identifier
    for identifier in range(1, PROPERTY_LIMIT):
        if has(values, identifier):
            size += value_size(values, identifier)
    return size


cdef uint32_t value_size(const PropertyValues* values, int identifier) noexcept nogil:
    cdef const Rule* rule = &RULES[identifier]
    cdef const char* field = <const char*>values + rule.offset
    if rule.kind == BYTE:
        return 2
    if rule.kind == TWO_BYTES:
        return 3
    if rule.kind == FOUR_BYTES:
        return 5
    if rule.kind == VARINT:
        return 1 + varint_size((<const uint32_t*>field)[0])
    if rule.kind == STRING or rule.kind == BINARY:
        return 3 + (<const Span*>field).n
    return 0


cdef uint8_t* put_properties(uint8_t* at, const PropertyValues* values) noexcept nogil:
    cdef int identifier
    for identifier in range(1, PROPERTY_LIMIT):
        if has(values, identifier) and RULES[identifier].kind != PAIR:
            at = put_value(put_u8(at, <uint8_t>identifier), values, &RULES[identifier])
    return at


cdef uint8_t* put_value(uint8_t* at, const PropertyValues* values, const Rule* rule) noexcept nogil:
    cdef const char* field = <const char*>values + rule.offset
    if rule.kind == STRING or rule.kind == BINARY:
        return put_binary(at, (<const Span*>field).at, (<const Span*>field).n)
    if rule.kind == BYTE:
        return put_u8(at, <uint8_t>(<const uint32_t*>field)[0])
    if rule.kind == TWO_BYTES:
        return put_u16(at, <uint16_t>(<const uint32_t*>field)[0])
    if rule.kind == FOUR_BYTES:
        return put_u32(at, (<const uint32_t*>field)[0])
    return put_varint(at, (<const uint32_t*>field)[0])


# --------------------------------------------------------------------------------------------------------------------
# The Python face

cdef object python_value(Cursor* c, uint8_t kind):
    # The value of a property that has been validated.
    cdef uint8_t one = 0
    cdef uint16_t two = 0
    cdef uint32_t four = 0
    cdef Span span = Span(NULL, 0)
    cdef Span second = Span(NULL, 0)
    if kind == BYTE:
        take_u8(c, &one)
        return one
    if kind == TWO_BYTES:
        take_u16(c, &two)
        return two
    if kind == FOUR_BYTES:
        take_u32(c, &four)
        return four
    if kind == VARINT:
        take_varint(c, &four)
        return four
    take_binary(c, &span)
    if kind == BINARY:
        return (<const char*>span.at)[:span.n]
    if kind == STRING:
        return (<const char*>span.at)[:span.n].decode("utf-8")
    take_binary(c, &second)
    return (<const char*>span.at)[:span.n].decode("utf-8"), (<const char*>second.at)[:second.n].decode("utf-8")


cdef dict python_properties(const Span* raw):
    cdef Cursor c
    cdef dict found = {}
    cdef uint8_t identifier = 0
    c.at = raw.at
    c.end = raw.at + raw.n
    while c.at != c.end:
        take_u8(&c, &identifier)
        name = NAMES[identifier]
        value = python_value(&c, RULES[identifier].kind)
        # what may repeat anywhere is a tuple everywhere, so that a reader need not look twice
        found[name] = found.get(name, ()) + (value,) if RULES[identifier].many_at else value
    return found


cdef PropertySite site_named(str name) except *:
    if name not in SITE_NAMES:
        raise BadRequest(f"no such place for properties: {name}", field="site", provided=name)
    return <PropertySite><int>SITE_NAMES.index(name)


def decode_properties(bytes data not None, str site not None):
    cdef Cursor c
    cdef PropertyValues values
    cdef Span raw
    c.at = <const uint8_t*>data
    c.end = c.at + len(data)
    cdef int refused = read_properties(&c, site_named(site), &values, &raw)
    if refused or c.at != c.end:
        raise ProtocolViolation(ReasonCode(refused or <int>MALFORMED_PACKET), f"properties of {site}")
    return python_properties(&raw)


def encode_properties(object properties not None, str site not None):
    cdef bytearray listed = bytearray()
    for name in properties:
        if name not in IDENTIFIERS:
            raise BadRequest(f"no such property: {name}", field=str(name))
    for rule in PROPERTIES:
        if rule.name in properties:
            for value in values_of(rule, properties[rule.name]):
                listed.append(rule.identifier)
                listed += encoded_value(rule, value)
    cdef bytes encoded = encoded_varint(len(listed)) + bytes(listed)
    check_sendable(encoded, site)
    return encoded


cdef tuple values_of(object rule, object value):
    if not rule.repeatable_at:
        return (value,)
    try:
        return tuple(value)
    except TypeError:
        raise BadRequest(f"{rule.name} is not a tuple", field=rule.name, provided=value) from None


cdef int check_sendable(bytes encoded, str site) except -1:
    # What is written obeys the rules by which it is read.
    try:
        decode_properties(encoded, site)
    except ProtocolViolation as violation:
        raise BadRequest(f"properties not allowed in {site}: {violation}", field="properties") from None
    return 0


cdef bytes encoded_varint(object value):
    cdef uint8_t[4] room
    if not 0 <= value <= 268435455:
        raise OverflowError("more than four bytes")
    return (<char*>room)[:put_varint(room, <uint32_t>value) - room]


cdef bytes encoded_binary(bytes value):
    return len(value).to_bytes(2, "big") + value


cdef bytes encoded_value(object rule, object value):
    try:
        if rule.kind == "varint":
            return encoded_varint(value)
        if rule.kind == "binary":
            return encoded_binary(bytes(memoryview(value)))
        if rule.kind == "string":
            return encoded_binary(value.encode("utf-8"))
        if rule.kind == "pair":
            name, text = value
            return encoded_binary(name.encode("utf-8")) + encoded_binary(text.encode("utf-8"))
        return int(value).to_bytes({"byte": 1, "two_bytes": 2, "four_bytes": 4}[rule.kind], "big")
    except (TypeError, ValueError, OverflowError, AttributeError):
        raise BadRequest(f"{rule.name} is not a {rule.kind}", field=rule.name, provided=value) from None
