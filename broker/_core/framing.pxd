"""The fixed header (section 2.1): type, flags, remaining length. Not here: what follows it."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef enum PacketType:
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


cdef enum:
    VERSION_311 = 4
    VERSION_5 = 5
    MAXIMUM_HEADER_SIZE = 5
    MAXIMUM_REMAINING = 268435455


# 1: a whole header lies at p, its size and the remaining length are set; 0: more bytes are needed;
# -1: malformed (a fifth length byte, or not the shortest form). [MQTT-1.5.5-1]
cdef inline int read_header(const uint8_t* p, uint32_t n, uint32_t* header_size, uint32_t* remaining) noexcept nogil:
    cdef uint32_t value
    cdef uint32_t i
    if n < 2:
        return 0
    if p[1] < 0x80:
        header_size[0] = 2
        remaining[0] = p[1]
        return 1
    value = p[1] & 0x7F
    i = 2
    while i < 5:
        if i == n:
            return 0
        value |= (<uint32_t>(p[i] & 0x7F)) << (7 * (i - 1))
        if p[i] < 0x80:
            if p[i] == 0:
                return -1
            header_size[0] = i + 1
            remaining[0] = value
            return 1
        i += 1
    return -1


# Whether the flags of a packet's first byte are those its type demands; type 0, and AUTH before version 5, are not
# valid at all. A PUBLISH is valid unless its QoS is 3. [MQTT-2.1.3-1] [v311 MQTT-2.2.2-1] [v311 MQTT-2.2.2-2]
cdef inline bint header_flags_valid(uint8_t first_byte, uint8_t version) noexcept nogil:
    cdef uint8_t packet_type = first_byte >> 4
    cdef uint8_t flags = first_byte & 0x0F
    if packet_type == PUBLISH:
        return (flags & 0x06) != 0x06
    if packet_type == 0 or (packet_type == AUTH and version < VERSION_5):
        return False
    if packet_type == PUBREL or packet_type == SUBSCRIBE or packet_type == UNSUBSCRIBE:
        return flags == 0x02
    return flags == 0


# Whether a client may send this packet type at all; that CONNECT comes first and once is the connection's rule.
cdef inline bint client_may_send(uint8_t packet_type, uint8_t version) noexcept nogil:
    cdef uint16_t allowed = (
        (1 << CONNECT) | (1 << PUBLISH) | (1 << PUBACK) | (1 << PUBREC) | (1 << PUBREL) | (1 << PUBCOMP)
        | (1 << SUBSCRIBE) | (1 << UNSUBSCRIBE) | (1 << PINGREQ) | (1 << DISCONNECT)
    )
    if version >= VERSION_5:
        allowed |= <uint16_t>(1 << AUTH)
    return packet_type < 16 and (allowed >> packet_type) & 1
