# TLS on a socket that somebody else watches: one class for Python, over OpenSSL or over Python's ssl objects.
#
# Here belong the steps of one connection, each bounded. Not here: when to take one, and what waits to be sent (its
# owner), records (tls, tls_object), and the connections of MQTT (transport), which need no Python per step.

from broker._core.tls cimport TlsContext, TlsStream

cdef class TlsSocket:
    cdef TlsContext context
    cdef void* ssl
    cdef void* tls_object
    cdef TlsStream stream
    cdef readonly bint has_more
    cdef readonly bint wants_write
    cdef str words(self, unsigned long why)
