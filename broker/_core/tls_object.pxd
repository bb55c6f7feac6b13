# TLS by Python's ssl objects, where the core cannot use OpenSSL itself: slower, and the same to everybody above.
#
# Here belongs one connection's object. Not here: contexts (tls), and when anything happens (reactor). The functions
# mirror those of tls.pxd; they take the GIL.

from libc.stdint cimport uint8_t, uint32_t

cdef class TlsObject:
    cdef object incoming        # an ssl.MemoryBIO of what the socket gave
    cdef object outgoing        # and of what it is to take
    cdef object tls             # the ssl.SSLObject
    cdef bytes unsent           # of outgoing, what the socket did not take
    cdef int fd
    cdef bint has_ended         # the socket gives no more
    cdef bint has_spoken        # its side of the handshake has begun
    cdef size_t flight_left     # so much of the peer's answer is taken until the handshake is done
    cdef str why
    cdef bint pull(self, size_t most) except -1
    cdef bint push(self) except -1

# A new reference to an object of a TlsContext's fallback, or NULL.
cdef void* object_open(void* context, int fd) noexcept with gil
cdef void object_free(void* tls) noexcept with gil
cdef int object_handshake(void* tls, bint* wants_write) noexcept with gil
cdef int object_receive(void* tls, uint8_t* to, uint32_t n, uint32_t most, bint* has_more) noexcept with gil
cdef int object_send(void* tls, const uint8_t* bytes, uint32_t n) noexcept with gil
# Whether the socket has taken all that was encrypted.
cdef bint object_is_out(void* tls) noexcept with gil
cdef void object_end(void* tls) noexcept with gil
cdef bint object_presented(void* tls) noexcept with gil
cdef bytes object_peer_certificate(void* tls)
cdef str object_why(void* tls)
