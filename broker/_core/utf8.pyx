"""UTF-8 strings as MQTT allows them (section 1.5.4): well-formed, no surrogates, no U+0000.

Control characters and non-characters are accepted: refusing them is a receiver's choice. Not here: topic rules.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef enum:
    WORD = 8

cdef uint64_t LOW_BITS = 0x0101010101010101
cdef uint64_t HIGH_BITS = 0x8080808080808080


cdef bint valid_utf8(const uint8_t* p, uint32_t n) noexcept nogil:
    cdef const uint8_t* start = p
    cdef uint32_t step
    while n:
        if n >= WORD:
            if eight_ascii(p):
                p += WORD
                n -= WORD
                continue
        elif p - start >= WORD and eight_ascii(p + n - WORD):
            return True  # the last eight bytes, some of them for the second time
        step = character_size(p, n)
        if step == 0:
            return False
        p += step
        n -= step
    return True


cdef inline bint eight_ascii(const uint8_t* p) noexcept nogil:
    # No byte over 0x7F, and none that borrows when 1 is taken from it: eight characters of U+0001..U+007F.
    cdef uint64_t word
    memcpy(&word, p, WORD)
    return not ((word | (word - LOW_BITS)) & HIGH_BITS)


cdef inline bint is_tail(uint8_t byte) noexcept nogil:
    return (byte & 0xC0) == 0x80


cdef uint32_t character_size(const uint8_t* p, uint32_t n) noexcept nogil:
    # Bytes of the character at p, or 0 where none is well-formed (table 3-7 of the Unicode standard). n is 1 at least.
    cdef uint8_t first = p[0]
    if first < 0x80:
        return first != 0  # [MQTT-1.5.4-2]
    if first < 0xC2 or first > 0xF4:
        return 0
    if first < 0xE0:
        return 2 if n >= 2 and is_tail(p[1]) else 0
    if first < 0xF0:
        return 3 if n >= 3 and second_fits(first, p[1]) and is_tail(p[2]) else 0
    return 4 if n >= 4 and second_fits(first, p[1]) and is_tail(p[2]) and is_tail(p[3]) else 0


cdef inline bint second_fits(uint8_t first, uint8_t second) noexcept nogil:
    # Excludes overlong forms, surrogates (ED A0..BF) and what lies above U+10FFFF.
    if first == 0xE0:
        return 0xA0 <= second <= 0xBF
    if first == 0xED:
        return 0x80 <= second <= 0x9F  # [MQTT-1.5.4-1]
    if first == 0xF0:
        return 0x90 <= second <= 0xBF
    if first == 0xF4:
        return 0x80 <= second <= 0x8F
    return is_tail(second)


def is_valid_utf8(bytes data not None):
    return valid_utf8(<const uint8_t*>data, <uint32_t>len(data))
