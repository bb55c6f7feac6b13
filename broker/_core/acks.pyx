"""Acknowledgements both ways, and the promises behind tickets. See acks.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.connection cimport fail, find_connection, mark_ready, outbox_put
from broker._core.deliver cimport pump
from broker._core.framing cimport PUBACK, PUBCOMP, PUBREC, PUBREL
from broker._core.journal cimport add_promise, drop_first_promise, first_promise, promise_at
from broker._core.memory cimport give_memory, likely_, take_memory
from broker._core.model cimport (
    CLOSING,
    PROMISE_BYTES,
    PROMISE_PUBACK,
    Account,
    Connection,
    FanOut,
    Promise,
    Session,
    ShardState,
)
from broker._core.packets cimport ACK_SIZE, AckFields, encode_ack, parse_ack
from broker._core.reasons cimport (
    IMPLEMENTATION_SPECIFIC_ERROR,
    PACKET_IDENTIFIER_NOT_FOUND,
    PACKET_TOO_LARGE,
    PROTOCOL_ERROR,
)
from broker._core.session cimport is_inflight, release_packet_id


cdef void put_ack(
        ShardState* shard, Connection* connection, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code
) noexcept nogil:
    cdef uint8_t[ACK_SIZE] bytes
    cdef uint8_t* end = encode_ack(bytes, packet_type, packet_id, reason_code, connection.version)
    outbox_put(shard, connection, bytes, <uint32_t>(end - bytes))


cdef void handle_ack(
        ShardState* shard, Connection* connection, uint8_t packet_type, const uint8_t* body, uint32_t n) noexcept nogil:
    cdef AckFields fields
    cdef Session* session = connection.session
    cdef int reason_code = parse_ack(packet_type, body, n, connection.version, &fields)
    if reason_code:
        fail(shard, connection, <uint8_t>reason_code)
    elif packet_type == PUBACK:
        # A stray PUBACK frees nothing; an error code ends the delivery as well. [MQTT-4.3.2-5]
        if release_packet_id(session, fields.packet_id):
            pump(shard, session)
    elif packet_type == PUBREC:
        if is_inflight(session, fields.packet_id):      # everything we send is QoS 1
            fail(shard, connection, PROTOCOL_ERROR)
        else:
            put_ack(shard, connection, PUBREL, fields.packet_id, PACKET_IDENTIFIER_NOT_FOUND)
    elif packet_type == PUBREL:
        put_ack(shard, connection, PUBCOMP, fields.packet_id, PACKET_IDENTIFIER_NOT_FOUND)


# ---------------------------------------------------------------- promises

cdef inline uint64_t due_ticket(ShardState* shard, uint64_t ticket) noexcept nogil:
    # One that needs nothing, or whose ticket is older than the newest, takes the newest: the ring's tickets never go
    # down, and nothing passes what was promised before it.
    if ticket > shard.journal.newest_ticket:
        shard.journal.newest_ticket = ticket
    return shard.journal.newest_ticket


cdef Promise* hold(ShardState* shard, Connection* connection, uint64_t ticket, uint8_t kind) noexcept nogil:
    # Promises of one connection leave in the order in which they were made: none passes another. [v311 MQTT-4.6.0-2]
    cdef Promise* promise = add_promise(&shard.journal)
    promise.depends = ticket if ticket > shard.journal.settled_ticket else 0
    promise.ticket = due_ticket(shard, ticket)
    promise.kind = kind
    promise.slot = connection.slot
    promise.generation = connection.generation
    connection.promises_held += 1
    connection.publishes_held += kind == PROMISE_PUBACK
    return promise


cdef inline bint leaves_now(ShardState* shard, Connection* connection, uint64_t ticket) noexcept nogil:
    return connection.promises_held == 0 and ticket <= shard.journal.settled_ticket


cdef void stage_puback(
        ShardState* shard, Connection* connection, uint64_t ticket, uint16_t packet_id, uint8_t reason_code
) noexcept nogil:
    cdef Promise* promise
    if likely_(leaves_now(shard, connection, ticket)):
        put_ack(shard, connection, PUBACK, packet_id, reason_code)
        return
    promise = hold(shard, connection, ticket, PROMISE_PUBACK)
    promise.packet_id = packet_id
    promise.reason_code = reason_code


cdef void stage_bytes(
        ShardState* shard, Connection* connection, uint64_t ticket, const uint8_t* bytes, uint32_t n) noexcept nogil:
    cdef Promise* promise
    if n > connection.client_maximum_packet_size_bytes:     # it may neither be sent nor left out [MQTT-3.1.2-24]
        fail(shard, connection, PACKET_TOO_LARGE)
        return
    if leaves_now(shard, connection, ticket):
        outbox_put(shard, connection, bytes, n)
        return
    promise = hold(shard, connection, ticket, PROMISE_BYTES)
    promise.bytes = <uint8_t*>take_memory(n)
    promise.byte_count = n
    memcpy(promise.bytes, bytes, n)


cdef void keep(ShardState* shard, Connection* connection, Promise* promise) noexcept nogil:
    if promise.kind == PROMISE_PUBACK:
        put_ack(shard, connection, PUBACK, promise.packet_id, promise.reason_code)
    else:
        outbox_put(shard, connection, promise.bytes, promise.byte_count)


cdef void not_kept(ShardState* shard, Connection* connection, uint16_t packet_id) noexcept nogil:
    if connection.version == 5:
        stage_puback(shard, connection, 0, packet_id, IMPLEMENTATION_SPECIFIC_ERROR)
    else:
        fail(shard, connection, IMPLEMENTATION_SPECIFIC_ERROR)


cdef void refuse(ShardState* shard, Connection* connection, Promise* promise) noexcept nogil:
    # Nothing is acknowledged that was not kept: 5.0 can say so, 3.1.1 can only be closed, and sends it again.
    if promise.kind == PROMISE_PUBACK and connection.version == 5:
        put_ack(shard, connection, PUBACK, promise.packet_id, IMPLEMENTATION_SPECIFIC_ERROR)
    else:
        fail(shard, connection, IMPLEMENTATION_SPECIFIC_ERROR)


cdef void mark_failed(ShardState* shard, uint64_t ticket) noexcept nogil:
    # All that depends on the ticket, wherever it waits: behind newer tickets, or for the end of its fan-out.
    cdef Account* account = shard.busy_head
    cdef FanOut* fan_out
    cdef uint32_t i
    cdef Promise* promise
    for i in range(shard.journal.ring_count):
        promise = promise_at(&shard.journal, i)
        promise.failed |= promise.depends == ticket
    while account != NULL:
        fan_out = account.fan_outs
        while fan_out != NULL:
            fan_out.failed |= fan_out.ticket == ticket
            fan_out = fan_out.next
        account = account.busy_next


cdef void settle(ShardState* shard, uint64_t ticket, bint committed) noexcept nogil:
    cdef Promise* promise = first_promise(&shard.journal)
    cdef Connection* connection
    if not committed:
        mark_failed(shard, ticket)
    while promise != NULL and promise.ticket <= ticket:
        connection = find_connection(shard, promise.slot, promise.generation)
        if connection != NULL and connection.state != CLOSING:
            connection.promises_held -= 1
            connection.publishes_held -= promise.kind == PROMISE_PUBACK
            if promise.failed:
                refuse(shard, connection, promise)
            else:
                keep(shard, connection, promise)
            mark_ready(shard, connection)
        give_memory(promise.bytes)
        drop_first_promise(&shard.journal)
        promise = first_promise(&shard.journal)
    shard.journal.settled_ticket = ticket
