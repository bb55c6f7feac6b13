"""Acknowledgements both ways, and the promises behind tickets. See acks.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.connection cimport fail, find_connection, mark_ready, outbox_put, outbox_reserve
from broker._core.framing cimport PUBACK, PUBCOMP, PUBREC, PUBREL
from broker._core.journal cimport add_promise, drop_first_promise, first_promise, promise_at
from broker._core.memory cimport give_memory, likely_, take_memory
from broker._core.model cimport (
    CLOSING,
    DROP_NEGATIVE_ACK,
    INFLIGHT_PUBLISH_1,
    INFLIGHT_PUBLISH_2,
    INFLIGHT_PUBREL,
    PROMISE_BYTES,
    PROMISE_PUBACK,
    PROMISE_PUBCOMP,
    PROMISE_PUBREC,
    Account,
    Connection,
    FanOut,
    Promise,
    Session,
    ShardState,
)
from broker._core.packets cimport ACK_SIZE, REASON_STRING_SIZE, AckFields, encode_ack, parse_ack, put_reason_string
from broker._core.reasons cimport (
    IMPLEMENTATION_SPECIFIC_ERROR,
    PACKET_IDENTIFIER_NOT_FOUND,
    PACKET_TOO_LARGE,
    PROTOCOL_ERROR,
    SUCCESS,
    UNSPECIFIED_ERROR,
)
from broker._core.replay cimport pump
from broker._core.session cimport (
    count_drop,
    enter_pubrel,
    inflight_state,
    mark_sent,
    qos2_remove,
    release_packet_id,
    trim_extra,
)


cdef void put_ack(
        ShardState* shard, Connection* connection, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code
) noexcept nogil:
    cdef uint8_t[ACK_SIZE] bytes
    cdef uint8_t* end
    if likely_(reason_code == SUCCESS):     # four bytes in both versions
        encode_ack(outbox_reserve(shard, connection, 4), packet_type, packet_id, SUCCESS, connection.version)
        return
    end = encode_ack(bytes, packet_type, packet_id, reason_code, connection.version)
    outbox_put(shard, connection, bytes, <uint32_t>(end - bytes))


cdef void end_delivery(ShardState* shard, Session* session, uint16_t packet_id, uint8_t reason_code) noexcept nogil:
    # An error code ends the delivery as well; to nobody else is it sent instead. [MQTT-4.3.2-5] [MQTT-4.8.2-6]
    if reason_code >= UNSPECIFIED_ERROR:
        count_drop(shard, session, DROP_NEGATIVE_ACK)
    release_packet_id(shard, session, packet_id)
    if session.waiting:
        pump(shard, session)


cdef void handle_pubrec(
        ShardState* shard, Connection* connection, uint32_t state, uint16_t packet_id, uint8_t reason_code
) noexcept nogil:
    if state == INFLIGHT_PUBLISH_1:
        fail(shard, connection, PROTOCOL_ERROR)
    elif state == 0:    # it must come to an end for the client as well [MQTT-4.3.3-4]
        if reason_code < UNSPECIFIED_ERROR:
            put_ack(shard, connection, PUBREL, packet_id, PACKET_IDENTIFIER_NOT_FOUND)
    elif reason_code >= UNSPECIFIED_ERROR:
        end_delivery(shard, connection.session, packet_id, reason_code)
    else:
        if state == INFLIGHT_PUBLISH_2:
            enter_pubrel(shard, connection.session, packet_id)
        else:
            mark_sent(connection.session, packet_id)
        put_ack(shard, connection, PUBREL, packet_id, SUCCESS)  # [MQTT-4.3.3-4]


cdef void handle_pubrel(ShardState* shard, Connection* connection, uint16_t packet_id) noexcept nogil:
    cdef bint known = qos2_remove(connection.session, packet_id)
    if known and connection.session.extra.qos2_count == 0:
        trim_extra(connection.session)
    stage_ack(
        shard, connection, 0, PUBCOMP, packet_id,
        SUCCESS if known else PACKET_IDENTIFIER_NOT_FOUND)  # [MQTT-4.3.3-11]


cdef void handle_ack(
        ShardState* shard, Connection* connection, uint8_t packet_type, const uint8_t* body, uint32_t n) noexcept nogil:
    # What acknowledges nothing that is inflight frees nothing.
    cdef AckFields fields
    cdef uint32_t state
    cdef int reason_code = parse_ack(packet_type, body, n, connection.version, &fields)
    if reason_code:
        fail(shard, connection, <uint8_t>reason_code)
        return
    if packet_type == PUBREL:
        handle_pubrel(shard, connection, fields.packet_id)
        return
    state = inflight_state(connection.session, fields.packet_id)
    if likely_(packet_type == PUBACK and state == INFLIGHT_PUBLISH_1):
        end_delivery(shard, connection.session, fields.packet_id, fields.reason_code)
    elif packet_type == PUBREC:
        handle_pubrec(shard, connection, state, fields.packet_id, fields.reason_code)
    elif packet_type == PUBCOMP and state == INFLIGHT_PUBREL:
        end_delivery(shard, connection.session, fields.packet_id, 0)
    elif state:
        fail(shard, connection, PROTOCOL_ERROR)     # not the packet that this delivery waits for


# ---------------------------------------------------------------- promises

cdef inline uint64_t due_ticket(ShardState* shard, uint64_t ticket) noexcept nogil:
    # One that needs nothing, or whose ticket is older than the newest, takes the newest: the ring's tickets never go
    # down, and nothing passes what was promised before it.
    if ticket > shard.journal.newest_ticket:
        shard.journal.newest_ticket = ticket
    return shard.journal.newest_ticket


cdef inline bint counts_as_publish(uint8_t kind) noexcept nogil:
    # While a QoS 2 exchange lasts it is counted by its identifier: only the PUBCOMP that ends it is not.
    return kind == PROMISE_PUBACK or kind == PROMISE_PUBCOMP


cdef Promise* hold(ShardState* shard, Connection* connection, uint64_t ticket, uint8_t kind) noexcept nogil:
    # Promises of one connection leave in the order in which they were made: none passes another. [v311 MQTT-4.6.0-2]
    cdef Promise* promise = add_promise(&shard.journal)
    promise.depends = ticket if ticket > shard.journal.settled_ticket else 0
    promise.ticket = due_ticket(shard, ticket)
    promise.kind = kind
    promise.slot = connection.slot
    promise.generation = connection.generation
    connection.promises_held += 1
    connection.publishes_held += counts_as_publish(kind)
    return promise


cdef inline bint leaves_now(ShardState* shard, Connection* connection, uint64_t ticket) noexcept nogil:
    return connection.promises_held == 0 and ticket <= shard.journal.settled_ticket


cdef void stage_ack(
        ShardState* shard, Connection* connection, uint64_t ticket, uint8_t packet_type, uint16_t packet_id,
        uint8_t reason_code) noexcept nogil:
    cdef Promise* promise
    if likely_(leaves_now(shard, connection, ticket)):
        put_ack(shard, connection, packet_type, packet_id, reason_code)
        return
    promise = hold(shard, connection, ticket, packet_type)
    promise.packet_id = packet_id
    promise.reason_code = reason_code


cdef void stage_receipt_again(ShardState* shard, Connection* connection, uint16_t packet_id) noexcept nogil:
    # Which ticket the first one has is not known any more: it may have come on an earlier connection of the session.
    cdef Promise* promise
    cdef uint64_t ticket = shard.journal.open_ticket - (shard.journal.batch_records == 0)
    if leaves_now(shard, connection, ticket):
        put_ack(shard, connection, PUBREC, packet_id, SUCCESS)
        return
    promise = hold(shard, connection, ticket, PROMISE_PUBREC)
    promise.depends = 0     # the failure of another's is not its own
    promise.packet_id = packet_id
    promise.reason_code = SUCCESS


cdef void stage_refusal(
        ShardState* shard, Connection* connection, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code,
        const uint8_t* text, uint32_t n) noexcept nogil:
    cdef uint8_t[ACK_SIZE + REASON_STRING_SIZE] bytes
    cdef uint8_t* end
    if not connection.request_problem_information or \
            ACK_SIZE + REASON_STRING_SIZE > connection.client_maximum_packet_size_bytes:
        # [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.5.2-2]
        stage_ack(shard, connection, 0, packet_type, packet_id, reason_code)
        return
    end = put_reason_string(encode_ack(bytes, packet_type, packet_id, reason_code, connection.version), text, n)
    bytes[1] = <uint8_t>(end - bytes - 2)
    stage_bytes(shard, connection, 0, bytes, <uint32_t>(end - bytes))


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
    if promise.kind == PROMISE_BYTES:
        outbox_put(shard, connection, promise.bytes, promise.byte_count)
    else:
        put_ack(shard, connection, promise.kind, promise.packet_id, promise.reason_code)


cdef void not_kept(
        ShardState* shard, Connection* connection, uint8_t packet_type, uint16_t packet_id) noexcept nogil:
    # Nothing is acknowledged that was not kept: 5.0 can say so, 3.1.1 can only be closed, and sends it again.
    if packet_type == PUBREC:
        qos2_remove(connection.session, packet_id)      # so that what is sent again is not taken for a repetition
    if connection.version == 5:
        stage_ack(shard, connection, 0, packet_type, packet_id, IMPLEMENTATION_SPECIFIC_ERROR)
    else:
        fail(shard, connection, IMPLEMENTATION_SPECIFIC_ERROR)


cdef void refuse(ShardState* shard, Connection* connection, Promise* promise) noexcept nogil:
    if promise.kind == PROMISE_PUBREC:
        qos2_remove(connection.session, promise.packet_id)
    if connection.version == 5 and (promise.kind == PROMISE_PUBACK or promise.kind == PROMISE_PUBREC):
        put_ack(shard, connection, promise.kind, promise.packet_id, IMPLEMENTATION_SPECIFIC_ERROR)
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
            connection.publishes_held -= counts_as_publish(promise.kind)
            if promise.failed:
                refuse(shard, connection, promise)
            else:
                keep(shard, connection, promise)
            mark_ready(shard, connection)
        give_memory(promise.bytes)
        drop_first_promise(&shard.journal)
        promise = first_promise(&shard.journal)
    shard.journal.settled_ticket = ticket
