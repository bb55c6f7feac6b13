# What a topic name and a topic filter are (section 4.7), byte by byte.
#
# Not here: who subscribes to what (topics), who may (grants).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    TOPIC_LEVELS_HARD_MAXIMUM = 250     # the matcher's stack has room for this many levels and not one more

cdef uint32_t hash_bytes(const uint8_t* p, uint32_t n, uint64_t seed) noexcept nogil

# A name without wildcards, NUL or ill-formed UTF-8, at least one byte, at most `levels_maximum` levels.
cdef bint valid_topic_name(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil
# A filter whose wildcards stand where they may; shared subscriptions are not looked into.
cdef bint valid_topic_filter(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil
cdef bint has_wildcard(const uint8_t* p, uint32_t n) noexcept nogil
