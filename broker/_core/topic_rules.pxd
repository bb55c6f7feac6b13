# What a topic name and a topic filter are (section 4.7), byte by byte.
#
# Not here: who subscribes to what (topics), who may (grants).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    TOPIC_LEVELS_HARD_MAXIMUM = 250     # the matcher's stack has room for this many levels and not one more
    SHARE_NAME_AT = 7                   # behind `$share/`

cdef uint32_t hash_bytes(const uint8_t* p, uint32_t n, uint64_t seed) noexcept nogil

# A name without wildcards, NUL or ill-formed UTF-8, at least one byte, at most `levels_maximum` levels.
cdef bint valid_topic_name(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil
# Where the inner filter of a shared subscription, `$share/{name}/{filter}`, begins; the name lies between the first two
# slashes. 0: it is none; n or above: it has no inner filter, and is not valid.
cdef uint32_t inner_filter_at(const uint8_t* p, uint32_t n) noexcept nogil
# A filter whose wildcards stand where they may; of a shared subscription, its name and inner filter.
cdef bint valid_topic_filter(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil
# Whether a name or a filter (of a shared subscription, the inner one) is the broker's own: `$SYS`, or below it. No
# other filter matches those names. [MQTT-4.7.2-1]
cdef bint is_of_system(const uint8_t* p, uint32_t n) noexcept nogil
cdef bint has_wildcard(const uint8_t* p, uint32_t n) noexcept nogil
