# The PROXY protocol, versions 1 and 2: who the client of a proxy is.
#
# Here belongs one header. Not here: whose headers are believed (reactor).

from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    PROXY_HEADER_MAXIMUM_BYTES = 2048       # version 1 has 107 at most; of version 2, addresses and extensions

# The header's size when it is whole, 0: more is needed, -1: it is none. has_address: the 16 bytes of the client's
# address are set, an IPv4 address mapped; without it the proxy speaks for itself, or for nobody with an address.
cdef int read_proxy_header(const uint8_t* bytes, uint32_t n, uint8_t* address, bint* has_address) noexcept nogil
