# How the bytes of one connection travel: plain, by TLS of either kind. WebSocket frames lie above (websocket).
#
# Here belongs what a socket call becomes. Not here: when it is made (reactor), what the bytes mean.

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Connection, Transport

cdef enum:
    TRANSPORT_ENDED = -1        # beside numbers of bytes; 0: not now

# Gives a connection a transport of its own; a plain one begins with PHASE_OPEN.
cdef Transport* open_transport(Connection* connection) noexcept nogil
cdef void open_websocket(Transport* transport) noexcept nogil
cdef void free_transport(Connection* connection) noexcept nogil

# 1: done; 0: not now, wants_write tells for what it waits; TRANSPORT_ENDED.
cdef int shake_hands(Transport* transport, bint* wants_write) noexcept nogil
# Up to n bytes of the peer's. has_more: there are more of which the kernel does not tell.
cdef int receive(Connection* connection, uint8_t* to, uint32_t n, bint* has_more) noexcept nogil
# Bytes that were not taken must be offered again, the same ones first.
cdef int push(Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil
# Whether the socket has everything that was pushed.
cdef bint is_out(Transport* transport) noexcept nogil
# TLS tells the peer that nothing more comes; once, and only when nobody has ended it.
cdef void end_transport(Transport* transport) noexcept nogil
