# TLS by OpenSSL, without Python per record: contexts, and the records of one connection.
#
# Here belong contexts made of PEM bytes, handshakes, reading, writing and saying good-bye. Not here: when any of it
# happens (reactor), files and their renewal (broker.net), and how Python's ssl objects do the same (tls_object).

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

cdef enum TlsOutcome:       # beside numbers of bytes
    TLS_AGAIN = 0           # not now: the socket has no more, or takes no more
    TLS_ENDED = -1          # the peer has ended it, or it is broken

cdef enum:
    TLS_READ_BYTES = 32768      # in one receive, of the socket
    RECORD_BYTES = 17000        # a record at most, with its head

cdef struct TlsReading:         # what one call of OpenSSL may have of the socket
    uint8_t* buffer             # of what was read and not taken, from `at` to `end`; NULL: OpenSSL takes all at once
    const uint8_t* at
    const uint8_t* end
    uint32_t most               # bytes, in the one read that is left; 0: none is

cdef struct TlsStream:          # what OpenSSL reads of one connection, and what of it was none of the application's
    TlsReading* reading         # NULL: nothing
    int fd
    int64_t counted_ns          # since when they are counted, of the monotonic clock
    uint16_t handshake_messages  # of TLS, in a second
    uint8_t has_spoken          # our side of the handshake has begun
    uint8_t is_over             # nothing is read any more

cdef class TlsContext:
    cdef void* context              # an SSL_CTX, NULL: by Python's ssl objects
    cdef void* tickets              # its TicketKeys, which the SSL_CTX owns
    cdef readonly object fallback   # an ssl.SSLContext, None: native
    cdef readonly str client_certificate
    cdef void make(self, bytes certificate_chain, bytes private_key, bytes client_ca, bytes crl, str protocol) except *
    cdef void take_tickets(self, TlsContext previous) except *

# An SSL of a context, or NULL; its stream outlives it.
cdef void* tls_open(void* context, TlsStream* stream, int fd) noexcept nogil
cdef void tls_free(void* ssl) noexcept nogil
# 1: done; TLS_AGAIN; TLS_ENDED. wants_write: it waits for room in the socket; why: OpenSSL's error, 0: there is none.
cdef int tls_handshake(void* ssl, TlsStream* stream, bint* wants_write, unsigned long* why) noexcept nogil
# Decrypts what one read of the socket gives, of up to `most` bytes and TLS_READ_BYTES: little of a stranger's, since
# records that carry nothing cost as well. `n`, the room for it, is RECORD_BYTES more. has_more: the kernel will not
# tell that there are more.
cdef int tls_receive(
    void* ssl, TlsStream* stream, uint8_t* to, uint32_t n, uint32_t most, bint* has_more
) noexcept nogil
# Encrypts and sends; bytes that were not taken must be offered again, the same ones first.
cdef int tls_send(void* ssl, const uint8_t* bytes, uint32_t n) noexcept nogil
# Tells the peer that nothing more comes, so that it knows that nothing was cut off.
cdef void tls_end(void* ssl) noexcept nogil
cdef bint tls_resumed(void* ssl) noexcept nogil
cdef bint tls_presented(void* ssl) noexcept nogil
cdef bytes tls_peer_certificate(void* ssl)
