"""Bounded reading and plain writing of bytes: the only place that moves a pointer through a packet.

Here belong the data types of MQTT (section 1.5) as inline functions. Readers check the end before every step, advance
only on success and return whether they succeeded. Writers trust their caller to have made room and return the
advanced pointer. Not here: what the bytes mean.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef struct Span:
    const uint8_t* at
    uint32_t n


cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end


cdef inline uint32_t left(const Cursor* c) noexcept nogil:
    return <uint32_t>(c.end - c.at)


cdef inline bint take_u8(Cursor* c, uint8_t* out) noexcept nogil:
    if c.at == c.end:
        return False
    out[0] = c.at[0]
    c.at += 1
    return True


cdef inline bint take_u16(Cursor* c, uint16_t* out) noexcept nogil:
    if c.end - c.at < 2:
        return False
    out[0] = <uint16_t>((c.at[0] << 8) | c.at[1])
    c.at += 2
    return True


cdef inline bint take_u32(Cursor* c, uint32_t* out) noexcept nogil:
    if c.end - c.at < 4:
        return False
    out[0] = ((<uint32_t>c.at[0]) << 24) | ((<uint32_t>c.at[1]) << 16) | ((<uint32_t>c.at[2]) << 8) | c.at[3]
    c.at += 4
    return True


cdef inline bint take_varint(Cursor* c, uint32_t* out) noexcept nogil:
    # At most four bytes, and only the shortest form: 80 00 is refused. [MQTT-1.5.5-1]
    cdef const uint8_t* at = c.at
    cdef uint32_t value = 0
    cdef uint32_t shift = 0
    cdef uint8_t byte
    while shift < 28:
        if at == c.end:
            return False
        byte = at[0]
        at += 1
        value |= (<uint32_t>(byte & 0x7F)) << shift
        if byte < 0x80:
            if byte == 0 and shift != 0:
                return False
            out[0] = value
            c.at = at
            return True
        shift += 7
    return False


cdef inline bint take_bytes(Cursor* c, uint32_t n, Span* out) noexcept nogil:
    if left(c) < n:
        return False
    out.at = c.at
    out.n = n
    c.at += n
    return True


cdef inline bint take_binary(Cursor* c, Span* out) noexcept nogil:
    # Two-byte length and that many bytes.
    cdef uint32_t n
    if c.end - c.at < 2:
        return False
    n = (<uint32_t>c.at[0] << 8) | c.at[1]
    if <uint32_t>(c.end - c.at) - 2 < n:
        return False
    out.at = c.at + 2
    out.n = n
    c.at += 2 + n
    return True


cdef inline uint32_t varint_size(uint32_t value) noexcept nogil:
    # How many bytes a value up to 268,435,455 takes.
    if value < 128:
        return 1
    if value < 16384:
        return 2
    return 3 if value < 2097152 else 4


cdef inline uint8_t* put_u8(uint8_t* at, uint8_t value) noexcept nogil:
    at[0] = value
    return at + 1


cdef inline uint8_t* put_u16(uint8_t* at, uint16_t value) noexcept nogil:
    at[0] = <uint8_t>(value >> 8)
    at[1] = <uint8_t>value
    return at + 2


cdef inline uint8_t* put_u32(uint8_t* at, uint32_t value) noexcept nogil:
    at[0] = <uint8_t>(value >> 24)
    at[1] = <uint8_t>(value >> 16)
    at[2] = <uint8_t>(value >> 8)
    at[3] = <uint8_t>value
    return at + 4


cdef inline uint8_t* put_varint(uint8_t* at, uint32_t value) noexcept nogil:
    while value >= 128:
        at[0] = <uint8_t>(value | 0x80)
        at += 1
        value >>= 7
    at[0] = <uint8_t>value
    return at + 1


cdef inline uint8_t* put_bytes(uint8_t* at, const uint8_t* data, uint32_t n) noexcept nogil:
    if n:
        memcpy(at, data, n)
    return at + n


cdef inline uint8_t* put_binary(uint8_t* at, const uint8_t* data, uint32_t n) noexcept nogil:
    # The caller has made sure that n is at most 65,535.
    return put_bytes(put_u16(at, <uint16_t>n), data, n)


# Not MQTT's, but what the core keeps for itself: numbers of 63 bits in seven a byte, the lowest first; all but the last
# have the highest bit set.

cdef enum:
    NUMBER_BYTES = 9        # that one has at most


cdef inline uint8_t* put_number(uint8_t* at, uint64_t number) noexcept nogil:
    while number >= 0x80:
        at[0] = <uint8_t>(number | 0x80)
        number >>= 7
        at += 1
    at[0] = <uint8_t>number
    return at + 1


cdef inline const uint8_t* get_number(const uint8_t* at, const uint8_t* end, uint64_t* number) noexcept nogil:
    # Where the next one is; NULL when there is none here.
    cdef int shift = 0
    number[0] = 0
    while at < end and shift < 7 * NUMBER_BYTES:
        number[0] |= <uint64_t>(at[0] & 0x7F) << shift
        if at[0] < 0x80:
            return at + 1
        at += 1
        shift += 7
    return NULL
