"""The codec's native functions as tests see them: what has no Python face of its own.

Here belong thin wrappers that call one native function each. Not here: rules, and anything the broker itself uses.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from broker._core.cursor cimport Cursor, Span
from broker._core.framing cimport CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBLISH
from broker._core.packets cimport (
    ACK_SIZE, DISCONNECT_SIZE, PUBLISH_START_SIZE, AckFields, ConnackFields, ConnectFields, DisconnectFields,
    PublishFields, connack_code_311, connack_size, encode_ack, encode_connack, encode_disconnect, encode_publish_start,
    parse_ack, parse_connect, parse_disconnect, parse_publish,
)
from broker._core.properties cimport (
    PropertySite, PropertyValues, clear, forwardable_properties, has, read_properties,
)

from broker._core.properties import SITE_NAMES as _SITE_NAMES


cdef int read(bytes data, PropertySite site, PropertyValues* values, Span* raw) except -1:
    cdef Cursor c
    c.at = <const uint8_t*>data
    c.end = c.at + len(data)
    return read_properties(&c, site, values, raw)


cdef bytes binary(const Span* span):
    return (<const char*>span.at)[:span.n]


def named_values(bytes data not None, str site not None):
    cdef PropertyValues v
    cdef Span raw
    if read(data, <PropertySite><int>_SITE_NAMES.index(site), &v, &raw):
        raise ValueError(site)
    found = {}
    numbers(&v, found)
    spans(&v, found)
    return found


cdef int numbers(const PropertyValues* v, dict found) except -1:
    fields = (
        (0x01, "payload_format", v.payload_format), (0x02, "message_expiry_s", v.message_expiry_s),
        (0x0B, "subscription_identifier", v.subscription_identifier),
        (0x11, "session_expiry_interval_s", v.session_expiry_interval_s),
        (0x13, "server_keep_alive", v.server_keep_alive),
        (0x17, "request_problem_information", v.request_problem_information), (0x18, "will_delay_s", v.will_delay_s),
        (0x19, "request_response_information", v.request_response_information),
        (0x21, "receive_maximum", v.receive_maximum), (0x22, "topic_alias_maximum", v.topic_alias_maximum),
        (0x23, "topic_alias", v.topic_alias), (0x24, "maximum_qos", v.maximum_qos),
        (0x25, "retain_available", v.retain_available), (0x26, "user_property_count", v.user_property_count),
        (0x27, "maximum_packet_size", v.maximum_packet_size),
        (0x28, "wildcard_subscription_available", v.wildcard_subscription_available),
        (0x29, "subscription_identifier_available", v.subscription_identifier_available),
        (0x2A, "shared_subscription_available", v.shared_subscription_available),
    )
    found.update({name: value for identifier, name, value in fields if has(v, identifier)})
    return 0


cdef int spans(const PropertyValues* v, dict found) except -1:
    cdef (const Span*)[9] all_spans = [
        &v.content_type, &v.response_topic, &v.correlation_data, &v.assigned_client_id, &v.authentication_method,
        &v.authentication_data, &v.response_information, &v.server_reference, &v.reason_string,
    ]
    names = (
        (0x03, "content_type"), (0x08, "response_topic"), (0x09, "correlation_data"), (0x12, "assigned_client_id"),
        (0x15, "authentication_method"), (0x16, "authentication_data"), (0x1A, "response_information"),
        (0x1C, "server_reference"), (0x1F, "reason_string"),
    )
    cdef int i
    for i in range(9):
        if has(v, names[i][0]):
            found[names[i][1]] = binary(all_spans[i])
    return 0


def forwardable(bytes listed not None):
    cdef Span raw
    cdef uint8_t* room = <uint8_t*>malloc(len(listed) + 1)
    if room == NULL:
        raise MemoryError
    raw.at = <const uint8_t*>listed
    raw.n = <uint32_t>len(listed)
    try:
        return (<char*>room)[:forwardable_properties(&raw, room)]
    finally:
        free(room)


def connack(bint session_present, uint8_t reason_code, bytes properties not None, uint8_t version):
    cdef ConnackFields fields
    cdef Span raw
    clear(&fields.values)
    if properties and read(properties, <PropertySite><int>_SITE_NAMES.index("CONNACK"), &fields.values, &raw):
        raise ValueError(properties)
    fields.user_properties.n = 0
    fields.session_present = session_present
    fields.reason_code = reason_code
    cdef uint32_t size = connack_size(version, &fields)
    cdef uint8_t* room = <uint8_t*>malloc(size)
    if room == NULL:
        raise MemoryError
    try:
        if encode_connack(room, version, &fields) != room + size:
            raise ValueError("connack_size")
        return (<char*>room)[:size]
    finally:
        free(room)


def ack(uint8_t packet_type, uint16_t packet_id, uint8_t reason_code, uint8_t version):
    cdef uint8_t[ACK_SIZE] room
    return (<char*>room)[:encode_ack(room, packet_type, packet_id, reason_code, version) - room]


def disconnect(uint8_t reason_code):
    cdef uint8_t[DISCONNECT_SIZE] room
    return (<char*>room)[:encode_disconnect(room, reason_code) - room]


def publish_start(uint8_t first_byte, uint32_t remaining):
    cdef uint8_t[PUBLISH_START_SIZE] room
    return (<char*>room)[:encode_publish_start(room, first_byte, remaining) - room]


def return_code_311(uint8_t reason_code):
    return connack_code_311(reason_code)


def connect_outcome(bytes body not None):
    cdef ConnectFields fields
    cdef int refused = parse_connect(<const uint8_t*>body, <uint32_t>len(body), &fields)
    return refused, fields.version, fields.level, bool(fields.name_valid), fields.session_expiry_interval_s


def parse_exactly(uint8_t first_byte, bytes body not None, uint8_t version):
    cdef uint32_t n = <uint32_t>len(body)
    cdef uint8_t* copy = <uint8_t*>malloc(n)
    if copy == NULL and n:
        raise MemoryError
    memcpy(copy, <const uint8_t*>body, n)
    try:
        return parse(first_byte, copy, n, version)
    finally:
        free(copy)


cdef int parse(uint8_t first_byte, const uint8_t* body, uint32_t n, uint8_t version) noexcept nogil:
    cdef ConnectFields connect
    cdef PublishFields publish
    cdef AckFields acknowledged
    cdef DisconnectFields end
    cdef uint8_t packet_type = first_byte >> 4
    if packet_type == CONNECT:
        return parse_connect(body, n, &connect)
    if packet_type == PUBLISH:
        return parse_publish(first_byte, body, n, version, &publish)
    if PUBACK <= packet_type <= PUBCOMP:
        return parse_ack(packet_type, body, n, version, &acknowledged)
    return parse_disconnect(body, n, version, &end) if packet_type == DISCONNECT else -1
