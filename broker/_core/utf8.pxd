"""UTF-8 strings as MQTT allows them (section 1.5.4)."""

from libc.stdint cimport uint8_t, uint32_t


# Well-formed, no surrogates, no U+0000. [MQTT-1.5.4-1] [MQTT-1.5.4-2] [v311 MQTT-1.5.3-1] [v311 MQTT-1.5.3-2]
cdef bint valid_utf8(const uint8_t* p, uint32_t n) noexcept nogil
