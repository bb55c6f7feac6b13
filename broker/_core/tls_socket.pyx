"""TLS on a socket that somebody else watches. See tls_socket.pxd, and tls_socket.pyi for what it promises."""

from libc.stdint cimport uint8_t, uint32_t

from cpython.bytes cimport PyBytes_FromStringAndSize

from broker._core.libssl cimport LIB
from broker._core.tls cimport (
    RECORD_BYTES,
    TLS_AGAIN,
    TLS_ENDED,
    TlsContext,
    tls_end,
    tls_free,
    tls_handshake,
    tls_open,
    tls_receive,
    tls_send,
)
from broker._core.tls_object cimport (
    object_end,
    object_free,
    object_handshake,
    object_is_out,
    object_open,
    object_receive,
    object_send,
    object_why,
)

cdef enum:
    READ_BYTES = 16384      # in one receive: seven hundred records of one byte, half a millisecond
    PLAIN_BYTES = READ_BYTES + RECORD_BYTES
    SENT_BYTES = 131072     # are encrypted in one step: a tenth of a millisecond


cdef class TlsSocket:

    def __cinit__(self, int fd, TlsContext context not None):
        self.context = context
        if context.is_native:
            self.ssl = tls_open(context.context, &self.stream, fd)
        else:
            self.tls_object = object_open(<void*>context, fd)
        if self.ssl == NULL and self.tls_object == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.ssl != NULL:
            tls_free(self.ssl)
        if self.tls_object != NULL:
            object_free(self.tls_object)

    def shake_hands(self):
        cdef unsigned long why = 0
        cdef bint wants_write = False
        cdef int done
        if self.ssl != NULL:
            done = tls_handshake(self.ssl, &self.stream, &wants_write, &why)
        else:
            done = object_handshake(self.tls_object, &wants_write)
        self.wants_write = wants_write
        if done < 0:
            raise ConnectionError(f"the TLS handshake failed: {self.words(why)}")
        return done == 1

    cdef str words(self, unsigned long why):
        cdef const char* known = LIB.ERR_reason_error_string(why) if self.ssl != NULL and why else NULL
        if self.tls_object != NULL:
            return object_why(self.tls_object) or "it was broken off"
        return "it was broken off" if known == NULL else known.decode()

    def receive(self):
        cdef uint8_t[PLAIN_BYTES] plain
        cdef bint has_more = False
        cdef int got
        if self.ssl != NULL:
            got = tls_receive(self.ssl, &self.stream, plain, PLAIN_BYTES, READ_BYTES, &has_more)
        else:
            got = object_receive(self.tls_object, plain, PLAIN_BYTES, READ_BYTES, &has_more)
        self.has_more = has_more
        return None if got == TLS_ENDED else PyBytes_FromStringAndSize(<char*>plain, got)

    def send(self, const uint8_t[::1] plain not None):
        cdef uint32_t sent = 0
        cdef uint32_t n = <uint32_t>min(plain.shape[0], <Py_ssize_t>SENT_BYTES)
        cdef int taken
        while sent < n:
            if self.ssl != NULL:
                taken = tls_send(self.ssl, &plain[sent], n - sent)
            else:
                taken = object_send(self.tls_object, &plain[sent], n - sent)
            if taken == TLS_ENDED:
                raise ConnectionError("nobody takes it any more")
            if taken == TLS_AGAIN:
                break
            sent += <uint32_t>taken
        return sent

    @property
    def own_messages(self):
        return self.stream.handshake_messages

    @property
    def is_out(self):
        return self.tls_object == NULL or object_is_out(self.tls_object)

    def end(self):
        if self.ssl != NULL:
            tls_end(self.ssl)
        else:
            object_end(self.tls_object)
