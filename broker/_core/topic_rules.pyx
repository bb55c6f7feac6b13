"""What a topic name and a topic filter are (section 4.7), and how their bytes are hashed. See topic_rules.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from broker._core.utf8 cimport valid_utf8

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t broker_mix(uint64_t a, uint64_t b) {
        __uint128_t m = (__uint128_t)a * b;
        return (uint64_t)m ^ (uint64_t)(m >> 64);
    }
    static inline uint64_t broker_load(const uint8_t *p, uint32_t n) { /* up to 8 bytes, zero padded */
        uint64_t v = 0;
        if (n >= 8) { memcpy(&v, p, 8); return v; }
        if (n >= 4) {
            uint32_t low, high;
            memcpy(&low, p, 4);
            memcpy(&high, p + n - 4, 4);
            return low | (uint64_t)high << 32;
        }
        if (n) v = p[0] | (uint64_t)p[n >> 1] << 8 | (uint64_t)p[n - 1] << 16;
        return v;
    }
    /* 0x80 in every byte of x that equals c, exactly (no borrow between bytes) */
    static inline uint64_t broker_equal_bytes(uint64_t x, uint8_t c) {
        const uint64_t low = 0x7f7f7f7f7f7f7f7full;
        x ^= 0x0101010101010101ull * c;
        return ~(((x & low) + low) | x | low);
    }
    /* a high bit is set when a byte is 0, and none when none is: which one it is cannot be told */
    static inline uint64_t broker_any_zero(uint64_t x) {
        return (x - 0x0101010101010101ull) & ~x;
    }
    /* how many bytes of an answer of broker_equal_bytes are 0x80 */
    static inline uint32_t broker_count_bytes(uint64_t equal) {
        return (uint32_t)(((equal >> 7) * 0x0101010101010101ull) >> 56);
    }
    /* the last n bytes (1 to 7) in front of `end`, filled up with a letter; one load where eight are in front of it */
    static inline uint64_t broker_load_tail(const uint8_t *end, uint32_t n, int eight) {
        uint64_t v = 0x6161616161616161ull;
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        if (eight) {
            uint64_t word;
            memcpy(&word, end - 8, 8);
            return word >> (64 - 8 * n) | v << 8 * n;
        }
    #endif
        for (uint32_t i = 0; i < n; i++) v = v << 8 | end[-1 - (int)i];
        return v;
    }
    """
    uint64_t broker_mix(uint64_t, uint64_t) noexcept nogil
    uint64_t broker_load(const uint8_t*, uint32_t) noexcept nogil
    uint64_t broker_equal_bytes(uint64_t, uint8_t) noexcept nogil
    uint64_t any_zero "broker_any_zero"(uint64_t) noexcept nogil
    uint32_t count_bytes "broker_count_bytes"(uint64_t) noexcept nogil
    uint64_t load_tail "broker_load_tail"(const uint8_t*, uint32_t, bint) noexcept nogil


cdef uint32_t hash_bytes(const uint8_t* p, uint32_t n, uint64_t seed) noexcept nogil:
    # Multiply-and-fold over 8 bytes at a time, under a secret seed: names cannot be chosen to collide.
    cdef uint64_t h = seed ^ <uint64_t>n * <uint64_t>0x9E3779B97F4A7C15
    while n > 8:
        h = broker_mix(h ^ broker_load(p, 8), <uint64_t>0xD6E8FEB86659FD93)
        p += 8
        n -= 8
    h = broker_mix(h ^ broker_load(p, n), seed | 1)
    return <uint32_t>(h ^ (h >> 32))


cdef bint valid_topic_name(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil:
    cdef uint32_t at = 0
    cdef uint32_t levels = 1
    cdef uint64_t word
    cdef uint64_t seen = 0      # high bits: not ASCII
    cdef uint64_t bad = 0
    if n == 0 or n > 65535:  # [MQTT-4.7.3-1] [MQTT-4.7.3-3]
        return False
    while at < n:
        if n - at >= 8:
            memcpy(&word, p + at, 8)
        else:
            word = load_tail(p + n, n - at, at > 0)
        at += 8
        seen |= word
        # `+` and `#` differ in one bit [MQTT-3.3.2-2] [MQTT-4.7.1-1]; NUL [MQTT-4.7.3-2]
        bad |= any_zero((word | <uint64_t>0x0808080808080808) ^ <uint64_t>0x2B2B2B2B2B2B2B2B) | any_zero(word)
        levels += count_bytes(broker_equal_bytes(word, c"/"))
    if bad & <uint64_t>0x8080808080808080 or levels > levels_maximum:
        return False
    return not (seen & <uint64_t>0x8080808080808080) or valid_utf8(p, n)  # [MQTT-1.5.4-1]


cdef uint32_t inner_filter_at(const uint8_t* p, uint32_t n) noexcept nogil:
    cdef uint32_t at = SHARE_NAME_AT
    if n < SHARE_NAME_AT or memcmp(p, b"$share/", SHARE_NAME_AT) != 0:
        return 0
    while at < n and p[at] != c"/":
        at += 1
    return at + 1       # n + 1: it has no inner filter, and is not valid


cdef bint is_of_system(const uint8_t* p, uint32_t n) noexcept nogil:
    return n >= 4 and memcmp(p, b"$SYS", 4) == 0 and (n == 4 or p[4] == c"/")


cdef bint valid_shared_filter(const uint8_t* p, uint32_t n, uint32_t inner, uint32_t levels_maximum) noexcept nogil:
    if inner == SHARE_NAME_AT + 1 or inner >= n:    # no name, or no filter [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        return False
    if has_wildcard(p + SHARE_NAME_AT, inner - SHARE_NAME_AT) or not valid_utf8(p, inner):  # [MQTT-4.8.2-2]
        return False
    return valid_plain_filter(p + inner, n - inner, levels_maximum)


cdef bint valid_topic_filter(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil:
    cdef uint32_t inner = inner_filter_at(p, n)
    if inner == 0:
        return valid_plain_filter(p, n, levels_maximum)
    return n <= 65535 and valid_shared_filter(p, n, inner, levels_maximum)


cdef bint valid_plain_filter(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t levels = 1
    cdef bint starts, ends
    if n == 0 or n > 65535 or not valid_utf8(p, n):  # [MQTT-4.7.3-1] [MQTT-3.8.3-1]
        return False
    for i in range(n):
        starts = i == 0 or p[i - 1] == c"/"
        ends = i + 1 == n or p[i + 1] == c"/"
        if p[i] == c"/":
            levels += 1
        elif p[i] == c"+" and not (starts and ends):  # [MQTT-4.7.1-2]
            return False
        elif p[i] == c"#" and not (starts and i + 1 == n):  # [MQTT-4.7.1-1]
            return False
    return levels <= levels_maximum


cdef bint has_wildcard(const uint8_t* p, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if p[i] == c"+" or p[i] == c"#":
            return True
    return False
