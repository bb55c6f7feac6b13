"""From bytes to packets to the module that handles them. See dispatch.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from broker._core.acks cimport handle_ack
from broker._core.connect cimport handle_connect
from broker._core.connection cimport (
    add_rare,
    close_connection,
    fail,
    inbox_consumed,
    keep_in_inbox,
    mark_dirty,
    mark_ready,
    next_ready,
    outbox_put,
    outbox_unsent,
)
from broker._core.cursor cimport Cursor, Span, take_binary, take_bytes, take_u8, take_u16, take_varint
from broker._core.framing cimport (
    AUTH,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    SUBSCRIBE,
    client_may_send,
    header_flags_valid,
    read_header,
)
from broker._core.limiter cimport take_token
from broker._core.memory cimport likely_, unlikely_
from broker._core.model cimport (
    AWAIT_CONNECT,
    CLOSING,
    CONNECTED,
    DEAF,
    FAREWELL_LOST,
    FAREWELL_NORMAL,
    FAREWELL_WITH_WILL,
    HELD_BACK,
    RARE_PACKET,
    RATED,
    WAKING,
    YIELDED,
    Connection,
    Session,
    ShardState,
)
from broker._core.packets cimport DisconnectFields, parse_disconnect
from broker._core.promises cimport promises_held, publishes_held
from broker._core.properties cimport PROPERTY_SESSION_EXPIRY_INTERVAL, has
from broker._core.publish cimport handle_publish
from broker._core.reasons cimport MALFORMED_PACKET, PACKET_TOO_LARGE, PROTOCOL_ERROR, QUOTA_EXCEEDED, SUCCESS
from broker._core.replay cimport pump
from broker._core.wills cimport drop_will


cdef void handle_pingreq(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil:
    if n:
        fail(shard, connection, MALFORMED_PACKET)
    else:
        outbox_put(shard, connection, b"\xd0\x00", 2)  # [MQTT-3.12.4-1]
        take_token(shard, connection)


cdef void handle_disconnect(
        ShardState* shard, Connection* connection, const uint8_t* body, uint32_t n) noexcept nogil:
    cdef DisconnectFields fields
    cdef Session* session = connection.session
    cdef int reason_code = parse_disconnect(body, n, connection.version, &fields)
    if not reason_code and has(&fields.values, PROPERTY_SESSION_EXPIRY_INTERVAL):
        if session.session_expiry_interval_s == 0 and fields.values.session_expiry_interval_s:
            reason_code = PROTOCOL_ERROR  # [MQTT-3.14.2-2]: what was not to be kept has not been kept
        else:
            session.session_expiry_interval_s = min(
                fields.values.session_expiry_interval_s, shard.limits.session_expiry_maximum_s)
    if reason_code:
        fail(shard, connection, <uint8_t>reason_code)
        return
    if fields.reason_code == SUCCESS:
        drop_will(shard, session)  # [MQTT-3.14.4-3] [v311 MQTT-3.14.4-3]
    shard.farewell = FAREWELL_NORMAL if fields.reason_code == SUCCESS else FAREWELL_WITH_WILL
    close_connection(shard, connection)  # [MQTT-3.14.4-1]
    shard.farewell = FAREWELL_LOST


cdef void handle_packet(
        ShardState* shard, Connection* connection, const uint8_t* packet, uint32_t total, uint32_t header
) noexcept nogil:
    cdef uint8_t packet_type = packet[0] >> 4
    shard.counters.packets_received += 1
    if likely_(packet_type == PUBLISH):
        handle_publish(shard, connection, packet, total, header)
    elif not client_may_send(packet_type, connection.version) or packet_type == CONNECT:
        # [MQTT-3.1.0-2]; a reserved type is malformed, a packet of the server's a protocol error
        fail(shard, connection, PROTOCOL_ERROR if 0 < packet_type < AUTH else MALFORMED_PACKET)
    elif not header_flags_valid(packet[0], connection.version):  # [MQTT-2.1.3-1]
        fail(shard, connection, MALFORMED_PACKET)
    elif PUBACK <= packet_type <= PUBCOMP:
        handle_ack(shard, connection, packet_type, packet + header, total - header)
    elif packet_type == PINGREQ:
        handle_pingreq(shard, connection, total - header)
    elif packet_type == DISCONNECT:
        handle_disconnect(shard, connection, packet + header, total - header)
    elif packet_type != AUTH and too_many_filters(
            shard, connection.version, packet + header, total - header, packet_type == SUBSCRIBE):
        fail(shard, connection, QUOTA_EXCEEDED)
    else:       # SUBSCRIBE, UNSUBSCRIBE, AUTH: Python answers, and what follows waits so that order is arrival order
        connection.barrier = 1
        add_rare(shard, connection, RARE_PACKET, 0)
        take_token(shard, connection)


cdef bint too_many_filters(
        ShardState* shard, uint8_t version, const uint8_t* body, uint32_t n, bint with_options) noexcept nogil:
    # Counted before Python sees them: each would become an object. A body that does not add up is Python's to refuse.
    cdef Cursor cursor
    cdef Span skipped
    cdef uint16_t packet_id = 0
    cdef uint32_t properties = 0, count = 0
    cdef uint8_t options = 0
    cursor.at = body
    cursor.end = body + n
    take_u16(&cursor, &packet_id)
    if version == 5 and take_varint(&cursor, &properties):
        take_bytes(&cursor, properties, &skipped)
    while take_binary(&cursor, &skipped):
        count += 1
        if with_options:
            take_u8(&cursor, &options)
    return count > shard.limits.filters_per_subscribe_maximum


cdef void handle_first_packet(
        ShardState* shard, Connection* connection, const uint8_t* packet, uint32_t total, uint32_t header
) noexcept nogil:
    shard.counters.packets_received += 1
    if packet[0] != CONNECT << 4:  # [MQTT-3.1.0-1]
        close_connection(shard, connection)
    else:
        handle_connect(shard, connection, packet + header, total - header)


cdef inline uint32_t packet_limit(ShardState* shard, Connection* connection) noexcept nogil:
    return connection.grant.limits.packet_bytes if connection.state == CONNECTED \
        else shard.limits.connect_packet_maximum_bytes


cdef bint refuse_header(
        ShardState* shard, Connection* connection, const uint8_t* bytes, uint32_t n, int complete, uint32_t size
) noexcept nogil:
    # What can be refused from the header alone, before a body is waited for. True when it was.
    if connection.state == AWAIT_CONNECT and n and bytes[0] != CONNECT << 4:
        close_connection(shard, connection)  # [MQTT-3.1.0-1]: it has shown no version to answer in
    elif complete < 0:
        fail(shard, connection, MALFORMED_PACKET)  # [MQTT-1.5.5-1]
    elif complete and size > packet_limit(shard, connection):
        fail(shard, connection, PACKET_TOO_LARGE)  # [MQTT-3.2.2-15]
    else:
        return False
    return True


cdef uint32_t parse(ShardState* shard, Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil:
    # Handles whole packets until something stops it; returns how many bytes are done with.
    cdef uint32_t at = 0, header = 0, remaining = 0, total
    cdef int complete
    while at < n:
        complete = read_header(bytes + at, n - at, &header, &remaining)
        total = header + remaining
        if unlikely_(connection.state == AWAIT_CONNECT or complete <= 0 or
                     total > shard.limits.connect_packet_maximum_bytes):
            if refuse_header(shard, connection, bytes + at, n - at, complete, total):
                return n
        if complete == 0 or n - at < total:
            return at
        connection.last_packet_at_ns = shard.now_ns
        if likely_(connection.state == CONNECTED):
            handle_packet(shard, connection, bytes + at, total, header)
        else:
            handle_first_packet(shard, connection, bytes + at, total, header)
        if unlikely_(connection.state == CLOSING):
            return n
        if unlikely_(connection.barrier):
            return at       # the rare packet stays at the front until it is answered
        at += total
        if unlikely_(connection.fan_out != NULL or must_wait(shard, connection)):
            return at
        if unlikely_(shard.slice_budget <= 0 and at < n):
            connection.held_back |= YIELDED     # others first: even what reaches nobody takes its time
            mark_ready(shard, connection)
            return at
    return at


cdef inline uint32_t answers_held(Connection* connection) noexcept nogil:
    # 5.0 has been told how many PUBACKs may be owed to it, and is closed when it does not keep to that.
    return promises_held(connection) - (publishes_held(connection) if connection.version == 5 else 0)


cdef bint must_wait(ShardState* shard, Connection* connection) noexcept nogil:
    # A client that does not take its acknowledgements, or whose promises are not durable yet, is not read on. More
    # publishes than Receive Maximum are owed to nobody but who releases what was never received.
    cdef bint held = outbox_unsent(connection) > shard.limits.outbox_soft_limit_bytes or \
        answers_held(connection) >= shard.limits.server_receive_maximum or \
        publishes_held(connection) > min(shard.limits.server_receive_maximum, <uint32_t>65534)
    connection.held_back = (connection.held_back & RATED) | (HELD_BACK if held else 0)
    return connection.held_back != 0


cdef void feed(ShardState* shard, Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil:
    cdef uint32_t done
    if connection.state == CLOSING:
        return
    shard.counters.bytes_received += n
    if connection.inbox_bytes or is_stopped(connection):
        keep_in_inbox(connection, bytes, n)
        if not is_stopped(connection):
            parse_inbox(shard, connection)
        return
    done = parse(shard, connection, bytes, n)
    if done < n:
        keep_in_inbox(connection, bytes + done, n - done)


cdef void parse_inbox(ShardState* shard, Connection* connection) noexcept nogil:
    cdef uint32_t done = parse(shard, connection, connection.inbox, connection.inbox_bytes)
    if connection.state != CLOSING and done:    # closing has freed the inbox
        inbox_consumed(connection, done)


cdef void lift_barrier(ShardState* shard, Connection* connection) noexcept nogil:
    cdef uint32_t header = 0, remaining = 0
    if not connection.barrier or connection.state == CLOSING:
        return
    connection.barrier = 0
    read_header(connection.inbox, connection.inbox_bytes, &header, &remaining)
    inbox_consumed(connection, header + remaining)
    must_wait(shard, connection)
    connection.resumes = 1
    mark_ready(shard, connection)


cdef void run_ready(ShardState* shard) noexcept nogil:
    cdef Connection* connection
    cdef Connection* last = shard.ready_tail
    while shard.slice_budget > 0:       # what becomes ready meanwhile waits for the next slice
        connection = next_ready(shard)
        if connection == NULL:
            return
        if connection.state == CONNECTED or connection.state == AWAIT_CONNECT:
            if connection.session != NULL:
                pump(shard, connection.session)
            connection.held_back &= HELD_BACK | RATED
            if connection.held_back:
                connection.resumes = not must_wait(shard, connection)
            if connection.resumes and not is_stopped(connection):
                connection.resumes = 0
                connection.last_packet_at_ns = shard.now_ns
            if connection.inbox_bytes and not is_stopped(connection):
                parse_inbox(shard, connection)
            if unlikely_(connection.peer_ended) and not is_stopped(connection) and connection.state != CLOSING:
                close_connection(shard, connection)     # all that came before its end is done with
                mark_dirty(shard, connection)
            if connection.deaf == DEAF and not is_stopped(connection) and connection.state != CLOSING:
                connection.deaf = WAKING
                connection.waking_next = shard.waking_head
                shard.waking_head = connection
        if connection == last:
            return
