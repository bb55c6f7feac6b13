"""Handshakes of TLS, in turns. See handshakes.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from broker._core.accepting cimport phase_after
from broker._core.connection cimport add_rare, close_connection, find_connection, handle_of
from broker._core.handle_queue cimport next_handle, queue_handle
from broker._core.linux cimport clock_ns, worked_ns
from broker._core.model cimport CLOSING, PHASE_HANDSHAKE, RARE_TLS_FAILED, Connection, Transport
from broker._core.net cimport Door, Net, watch_connection
from broker._core.reasons cimport UNSPECIFIED_ERROR
from broker._core.tls cimport tls_open, tls_presented, tls_resumed
from broker._core.tls_object cimport object_open, object_presented
from broker._core.transport cimport shake_hands

# While messages come, handshakes get a quarter of the time, so that most messages meet none; half of it while so many
# wait that doors are paused, so that a fleet comes back soon and a flood of strangers still leaves the other half.
cdef enum:
    SHAKE_NS = 100000       # of a round, on handshakes, or one: those who are connected are served between them
    RESTS = 3               # as long as the handshake took
    RESTS_IN_A_CROWD = 1
    TRAFFIC_NS = 1000000000


cdef void look_at_traffic(Net* net, int64_t now_ns) noexcept nogil:
    if net.shard.counters.messages_received != net.messages_seen:
        net.messages_seen = net.shard.counters.messages_received
        net.traffic_until_ns = now_ns + TRAFFIC_NS


cdef inline bint is_resting(Net* net) noexcept nogil:
    return clock_ns() + net.offset_ns < net.rest_until_ns


cdef bint is_turn_due(Net* net) noexcept nogil:
    return net.turns.count > 0 and not is_resting(net)


cdef void rest_after(Net* net, int64_t took_ns) noexcept nogil:
    cdef int64_t now_ns = clock_ns() + net.offset_ns
    net.shaken_ns += took_ns
    net.handshakes_ns += took_ns
    if now_ns < net.traffic_until_ns:
        net.rest_until_ns = now_ns + took_ns * (RESTS_IN_A_CROWD if net.doors_paused else RESTS)


cdef void await_turn(Net* net, Connection* connection, Transport* transport) noexcept nogil:
    # A handshake takes as long as a thousand messages: in turns, so many a round.
    if transport.queued:
        return
    if net.turns.count == 0 and net.shaken_ns < SHAKE_NS and not is_resting(net):
        go_on_shaking(net, connection, transport)
        return
    transport.queued = 1
    queue_handle(&net.turns, handle_of(connection))
    if not transport.muted:
        transport.muted = 1
        watch_connection(net, connection)


cdef bint open_tls(Door* door, Connection* connection, Transport* transport) noexcept nogil:
    # Not before something has come: who says nothing costs no more than at a plain door.
    if transport.ssl == NULL and transport.tls_object == NULL:
        if door.ssl_context != NULL:
            transport.ssl = tls_open(door.ssl_context, &transport.stream, connection.fd)
        else:
            transport.tls_object = object_open(door.tls_context, connection.fd)
    return transport.ssl != NULL or transport.tls_object != NULL


cdef void go_on_shaking(Net* net, Connection* connection, Transport* transport) noexcept nogil:
    cdef bint wants_write = False
    cdef int64_t started = worked_ns()
    cdef int done = -1
    if open_tls(&net.doors[connection.listener], connection, transport):
        done = shake_hands(transport, &wants_write)
    rest_after(net, worked_ns() - started)
    if done < 0:
        refuse_handshake(net, connection, transport)
        return
    if done:
        net.handshakes += 1
        net.resumptions += transport.ssl != NULL and tls_resumed(transport.ssl)
        transport.asked = net.doors[connection.listener].asks_certificate
        transport.presented = transport.asked and (
            tls_presented(transport.ssl) if transport.ssl != NULL else object_presented(transport.tls_object))
        transport.phase = phase_after(transport, PHASE_HANDSHAKE)
        transport.unread = 1        # what came with its last flight
        queue_handle(&net.unread, handle_of(connection))
    if transport.muted or connection.blocked != wants_write:
        transport.muted = 0
        connection.blocked = wants_write
        watch_connection(net, connection)


cdef void refuse_handshake(Net* net, Connection* connection, Transport* transport) noexcept nogil:
    net.failed_handshakes += 1
    net.shard.counters.connections_refused += 1
    if transport.why or transport.tls_object != NULL:
        add_rare(net.shard, connection, RARE_TLS_FAILED, 0)
        connection.close_reason = UNSPECIFIED_ERROR     # the peer may read the alert
    else:
        transport.gone = 1
    if transport.muted:
        transport.muted = 0
        watch_connection(net, connection)
    close_connection(net.shard, connection)


cdef void take_turns(Net* net, int64_t until_ns) noexcept nogil:
    cdef uint64_t handle
    cdef Connection* connection
    while net.shaken_ns < SHAKE_NS and is_turn_due(net):
        handle = next_handle(&net.turns)
        connection = find_connection(net.shard, <uint32_t>handle, <uint32_t>(handle >> 32))
        if connection != NULL and connection.fd >= 0 and connection.state != CLOSING:
            connection.transport.queued = 0
            go_on_shaking(net, connection, connection.transport)
        if clock_ns() > until_ns:
            return
    net.handshake_rests += net.turns.count > 0 and not is_turn_due(net)
