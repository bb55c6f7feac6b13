"""How the bytes of one connection travel. See transport.pxd."""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t

from broker._core.linux cimport MSG_DONTWAIT, MSG_NOSIGNAL, c_send, recv
from broker._core.memory cimport give_memory, take_zeroed
from broker._core.model cimport CONNECTED, PHASE_HANDSHAKE, PHASE_OPEN, Connection, Transport, WebSocket
from broker._core.tls cimport TLS_READ_BYTES, tls_end, tls_free, tls_handshake, tls_receive, tls_send
from broker._core.tls_object cimport (
    object_end,
    object_free,
    object_handshake,
    object_is_out,
    object_receive,
    object_send,
)


cdef enum:
    STRANGERS_READ_BYTES = 1024     # in one receive: forty records of one byte


cdef Transport* open_transport(Connection* connection) noexcept nogil:
    if connection.transport == NULL:
        connection.transport = <Transport*>take_zeroed(sizeof(Transport))
        connection.transport.phase = PHASE_OPEN
    return connection.transport


cdef void open_websocket(Transport* transport) noexcept nogil:
    transport.websocket = <WebSocket*>take_zeroed(sizeof(WebSocket))


cdef void free_transport(Connection* connection) noexcept nogil:
    cdef Transport* transport = connection.transport
    if transport == NULL:
        return
    connection.transport = NULL
    if transport.ssl != NULL:
        tls_free(transport.ssl)
    if transport.tls_object != NULL:
        object_free(transport.tls_object)
    if transport.websocket != NULL:
        give_memory(transport.websocket.raw)
        give_memory(transport.websocket)
    give_memory(transport)


cdef int shake_hands(Transport* transport, bint* wants_write) noexcept nogil:
    if transport.ssl != NULL:
        return tls_handshake(transport.ssl, &transport.stream, wants_write, &transport.why)
    return object_handshake(transport.tls_object, wants_write)


cdef int receive(Connection* connection, uint8_t* to, uint32_t n, bint* has_more) noexcept nogil:
    cdef ssize_t got
    cdef uint32_t most = TLS_READ_BYTES if connection.state == CONNECTED else STRANGERS_READ_BYTES
    if connection.transport.ssl != NULL:
        return tls_receive(connection.transport.ssl, &connection.transport.stream, to, n, most, has_more)
    if connection.transport.tls_object != NULL:
        return object_receive(connection.transport.tls_object, to, n, most, has_more)
    has_more[0] = False
    got = recv(connection.fd, to, n, MSG_DONTWAIT)
    if got > 0:
        return <int>got
    return 0 if got < 0 and (errno == EAGAIN or errno == EINTR) else TRANSPORT_ENDED


cdef int push(Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil:
    cdef ssize_t sent
    if connection.transport.ssl != NULL:
        return tls_send(connection.transport.ssl, bytes, n)
    if connection.transport.tls_object != NULL:
        return object_send(connection.transport.tls_object, bytes, n)
    sent = c_send(connection.fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent >= 0:
        return <int>sent
    return 0 if errno == EAGAIN or errno == EINTR else TRANSPORT_ENDED


cdef bint is_out(Transport* transport) noexcept nogil:
    return transport.tls_object == NULL or object_is_out(transport.tls_object)


cdef void end_transport(Transport* transport) noexcept nogil:
    if transport.ended or transport.gone or transport.phase <= PHASE_HANDSHAKE:
        return
    transport.ended = 1
    if transport.ssl != NULL:
        tls_end(transport.ssl)
    elif transport.tls_object != NULL:
        object_end(transport.tls_object)
