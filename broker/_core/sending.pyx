"""The way out: one send per dirty connection, through TLS and frames where there are any. See sending.pxd."""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint8_t

from broker._core.connection cimport mark_ready, next_dirty, outbox_sent, outbox_unsent
from broker._core.linux cimport MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, c_send, clock_ns, shutdown
from broker._core.model cimport CLOSING, LOCAL_FD, PHASE_HANDSHAKE, Connection, Transport
from broker._core.net cimport WRITE_BYTES, Net, list_local, lose, stop_lingering, watch_connection
from broker._core.transport cimport end_transport, is_out, push
from broker._core.websocket cimport frame_output, frames_sent

cdef void send_outbox(Net* net, Connection* connection) noexcept nogil:
    cdef uint32_t unsent = outbox_unsent(connection)
    cdef ssize_t sent
    if connection.fd == LOCAL_FD:
        list_local(net, connection)
        return
    if connection.fd < 0:
        return
    if connection.transport != NULL:
        send_through(net, connection, connection.transport)
        return
    if unsent == 0:
        return
    net.sends += 1
    sent = c_send(
        connection.fd, connection.outbox + connection.outbox_start, unsent, MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent < 0:
        if errno != EAGAIN and errno != EINTR:
            lose_unsent(net, connection)
            return
        sent = 0
    if sent:
        outbox_sent(net.shard, connection, <uint32_t>sent)
    finish_sending(net, connection, <uint32_t>sent < unsent)


cdef void lose_unsent(Net* net, Connection* connection) noexcept nogil:
    cdef uint32_t unsent = outbox_unsent(connection)
    if unsent:
        outbox_sent(net.shard, connection, unsent)      # there is nobody left to read it
    if connection.transport != NULL and connection.transport.websocket != NULL:
        connection.transport.websocket.out_left = 0     # of the outbox, which is empty now
    lose(net, connection)
    stop_lingering(net, connection)


cdef void finish_sending(Net* net, Connection* connection, bint blocked) noexcept nogil:
    if blocked:
        if not connection.blocked:
            connection.blocked = 1
            watch_connection(net, connection)
        return
    if connection.blocked:
        connection.blocked = 0
        watch_connection(net, connection)
        mark_ready(net.shard, connection)       # what waited for room in the outbox may go on
    if connection.starved_or_lingering and connection.state == CLOSING:
        end_sending(net, connection)


cdef void end_sending(Net* net, Connection* connection) noexcept nogil:
    if connection.transport != NULL:
        end_transport(connection.transport)
    shutdown(connection.fd, SHUT_WR)


cdef void send_through(Net* net, Connection* connection, Transport* transport) noexcept nogil:
    # What TLS encrypts and WebSocket frames goes in pieces: the same ones until they are taken.
    cdef uint32_t n = 0
    cdef int sent = 0
    cdef const uint8_t* at
    if transport.phase <= PHASE_HANDSHAKE:
        n = outbox_unsent(connection)       # it was refused before anything could be said
        if n:
            outbox_sent(net.shard, connection, n)
        finish_sending(net, connection, False)
        return
    while True:
        if transport.websocket != NULL:
            n = frame_output(connection, net.write_buffer, WRITE_BYTES)
            at = net.write_buffer
        else:
            n = outbox_unsent(connection)
            at = connection.outbox + connection.outbox_start
        if n == 0:
            finish_sending(net, connection, not is_out(transport))
            return
        net.sends += 1
        sent = push(connection, at, n)
        if sent < 0:
            lose_unsent(net, connection)
            return
        if sent == 0:
            finish_sending(net, connection, True)
            return
        if transport.websocket != NULL:
            frames_sent(net.shard, connection, <uint32_t>sent)
        else:
            outbox_sent(net.shard, connection, <uint32_t>sent)


cdef bint flush(Net* net, int64_t until_ns) noexcept nogil:
    # One send per dirty connection; True when time ran out first.
    cdef Connection* connection = next_dirty(net.shard)
    cdef int count = 0
    while connection != NULL:
        if not connection.blocked and not connection.gated:
            send_outbox(net, connection)
        count += 1
        if count % FLUSHES_PER_CLOCK == 0 and clock_ns() > until_ns:
            return net.shard.dirty_head != NULL
        connection = next_dirty(net.shard)
    return False
