"""The properties of MQTT 5 (section 2.2.2): identifiers, sites, decoded values.

The one table of names, types and places is in ``properties.pyx``. All numbers are kept as ``uint32_t``.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.cursor cimport Cursor, Span


cdef enum PropertyId:
    PROPERTY_PAYLOAD_FORMAT_INDICATOR = 0x01
    PROPERTY_MESSAGE_EXPIRY_INTERVAL = 0x02
    PROPERTY_CONTENT_TYPE = 0x03
    PROPERTY_RESPONSE_TOPIC = 0x08
    PROPERTY_CORRELATION_DATA = 0x09
    PROPERTY_SUBSCRIPTION_IDENTIFIER = 0x0B
    PROPERTY_SESSION_EXPIRY_INTERVAL = 0x11
    PROPERTY_ASSIGNED_CLIENT_IDENTIFIER = 0x12
    PROPERTY_SERVER_KEEP_ALIVE = 0x13
    PROPERTY_AUTHENTICATION_METHOD = 0x15
    PROPERTY_AUTHENTICATION_DATA = 0x16
    PROPERTY_REQUEST_PROBLEM_INFORMATION = 0x17
    PROPERTY_WILL_DELAY_INTERVAL = 0x18
    PROPERTY_REQUEST_RESPONSE_INFORMATION = 0x19
    PROPERTY_RESPONSE_INFORMATION = 0x1A
    PROPERTY_SERVER_REFERENCE = 0x1C
    PROPERTY_REASON_STRING = 0x1F
    PROPERTY_RECEIVE_MAXIMUM = 0x21
    PROPERTY_TOPIC_ALIAS_MAXIMUM = 0x22
    PROPERTY_TOPIC_ALIAS = 0x23
    PROPERTY_MAXIMUM_QOS = 0x24
    PROPERTY_RETAIN_AVAILABLE = 0x25
    PROPERTY_USER_PROPERTY = 0x26
    PROPERTY_MAXIMUM_PACKET_SIZE = 0x27
    PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    PROPERTY_SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


cdef enum:
    PROPERTY_LIMIT = 0x2B            # identifiers are below this
    MAXIMUM_USER_PROPERTIES = 64     # in one packet; more is refused with 0x97


# Where a property list stands. INBOUND is from a client, OUTBOUND from the server.
cdef enum PropertySite:
    SITE_CONNECT = 0
    SITE_CONNACK = 1
    SITE_WILL = 2
    SITE_PUBLISH_INBOUND = 3
    SITE_PUBLISH_OUTBOUND = 4
    SITE_PUBACK = 5
    SITE_PUBREC = 6
    SITE_PUBREL = 7
    SITE_PUBCOMP = 8
    SITE_SUBSCRIBE = 9
    SITE_SUBACK = 10
    SITE_UNSUBSCRIBE = 11
    SITE_UNSUBACK = 12
    SITE_DISCONNECT_INBOUND = 13
    SITE_DISCONNECT_OUTBOUND = 14
    SITE_AUTH = 15


# A field means something only where its bit in `seen` is set: see has(). Spans point into what was read.
cdef struct PropertyValues:
    uint64_t seen
    uint32_t user_property_count
    uint32_t payload_format
    uint32_t message_expiry_s
    uint32_t subscription_identifier         # of several (outbound PUBLISH) the last
    uint32_t session_expiry_interval_s
    uint32_t server_keep_alive
    uint32_t request_problem_information
    uint32_t will_delay_s
    uint32_t request_response_information
    uint32_t receive_maximum
    uint32_t topic_alias_maximum
    uint32_t topic_alias
    uint32_t maximum_qos
    uint32_t retain_available
    uint32_t maximum_packet_size
    uint32_t wildcard_subscription_available
    uint32_t subscription_identifier_available
    uint32_t shared_subscription_available
    Span content_type
    Span response_topic
    Span correlation_data
    Span assigned_client_id
    Span authentication_method
    Span authentication_data
    Span response_information
    Span server_reference
    Span reason_string


cdef inline bint has(const PropertyValues* values, int property_id) noexcept nogil:
    return (values.seen >> property_id) & 1


# Announces that a field of `values` is set, for writing (see put_properties).
cdef inline void mark(PropertyValues* values, int property_id) noexcept nogil:
    values.seen |= (<uint64_t>1) << property_id


# Forgets all values without touching the fields.
cdef inline void clear(PropertyValues* values) noexcept nogil:
    values.seen = 0
    values.user_property_count = 0


# Reads the property length and all properties; returns 0 or a reason code (0x81, 0x82, 0x94, 0x97). `raw` becomes the
# property bytes without their length. On success the cursor stands behind the list.
cdef int read_properties(Cursor* c, PropertySite site, PropertyValues* out, Span* raw) noexcept nogil

# Copies the properties of a valid inbound PUBLISH in their order, without Topic Alias; returns the length. `out` has
# room for raw.n bytes. [MQTT-3.3.2-17] [MQTT-3.3.2-18]
cdef uint32_t forwardable_properties(const Span* raw, uint8_t* out) noexcept nogil
# The same for any property that may stand once in a valid list.
cdef uint32_t without_property(const Span* raw, int identifier, uint8_t* out) noexcept nogil

# Writing what `seen` announces, in the order of the identifiers. User properties are not part of PropertyValues:
# append them encoded. Sizes are without the property length.
cdef uint32_t properties_size(const PropertyValues* values) noexcept nogil
cdef uint8_t* put_properties(uint8_t* at, const PropertyValues* values) noexcept nogil

# A validated list as Python values.
cdef dict python_properties(const Span* raw)
