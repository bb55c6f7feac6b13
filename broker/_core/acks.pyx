"""Acknowledgements both ways, and the promises behind tickets. See acks.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.budgets cimport count_drop
from broker._core.connection cimport fail, mark_ready, outbox_put, outbox_reserve
from broker._core.deliver cimport publish_held, publish_once
from broker._core.framing cimport PUBACK, PUBCOMP, PUBREC, PUBREL
from broker._core.inbound_qos2 cimport qos2_remove
from broker._core.inflight cimport enter_pubrel, inflight_state, mark_sent, release_packet_id
from broker._core.journal cimport add_op
from broker._core.memory cimport likely_, take_memory
from broker._core.model cimport (
    DROP_NEGATIVE_ACK,
    INFLIGHT_PUBLISH_1,
    INFLIGHT_PUBLISH_2,
    INFLIGHT_PUBREL,
    PROMISE_BYTES,
    PROMISE_GATE,
    PROMISE_ONCE,
    PROMISE_PUBLISH,
    Connection,
    Held,
    Message,
    Promise,
    Session,
    ShardState,
)
from broker._core.packets cimport ACK_SIZE, REASON_STRING_SIZE, AckFields, encode_ack, parse_ack, put_reason_string
from broker._core.promises cimport drop_first, first_due, hold, leaves_now
from broker._core.reasons cimport (
    PACKET_IDENTIFIER_NOT_FOUND,
    PACKET_TOO_LARGE,
    PROTOCOL_ERROR,
    SUCCESS,
    UNSPECIFIED_ERROR,
)
from broker._core.records cimport OP_RELEASED
from broker._core.replay cimport pump
from broker._core.sealing cimport batch_committed
from broker._core.session cimport trim_extra


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
    release_packet_id(shard, session, packet_id, reason_code >= UNSPECIFIED_ERROR)
    if session.waiting:
        pump(shard, session)


cdef void handle_pubrec(
        ShardState* shard, Connection* connection, uint32_t state, uint16_t packet_id, uint8_t reason_code
) noexcept nogil:
    cdef Session* session = connection.session
    if state == INFLIGHT_PUBLISH_1:
        fail(shard, connection, PROTOCOL_ERROR)
    elif state == 0:    # it must come to an end for the client as well [MQTT-4.3.3-4]
        if reason_code < UNSPECIFIED_ERROR:
            put_ack(shard, connection, PUBREL, packet_id, PACKET_IDENTIFIER_NOT_FOUND)
    elif reason_code >= UNSPECIFIED_ERROR:
        end_delivery(shard, session, packet_id, reason_code)
    else:
        if state == INFLIGHT_PUBLISH_2:
            enter_pubrel(shard, session, packet_id)
        else:
            mark_sent(session, packet_id)
        # [MQTT-4.3.3-4]; when it is recorded: a PUBREL promises that the message will not come again
        stage_ack(
            shard, connection, ticket_for(shard, connection) if session.durable != NULL else 0, PUBREL, packet_id,
            SUCCESS)


cdef void handle_pubrel(ShardState* shard, Connection* connection, uint16_t packet_id) noexcept nogil:
    cdef Session* session = connection.session
    cdef bint known = qos2_remove(session, packet_id)
    cdef uint64_t ticket = 0
    if known and session.extra.qos2_count == 0:
        trim_extra(session)
    if session.durable != NULL:
        if known:
            add_op(shard, OP_RELEASED, session.durable.number, 0, packet_id)
        ticket = ticket_for(shard, connection)
    stage_ack(
        shard, connection, ticket, PUBCOMP, packet_id,
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

cdef void stage_ack(
        ShardState* shard, Connection* connection, uint64_t ticket, uint8_t packet_type, uint16_t packet_id,
        uint8_t reason_code) noexcept nogil:
    stage_ack_of(shard, connection, ticket, packet_type, packet_id, reason_code, NULL)


cdef void stage_ack_of(
        ShardState* shard, Connection* connection, uint64_t ticket, uint8_t packet_type, uint16_t packet_id,
        uint8_t reason_code, Message* message) noexcept nogil:
    cdef Promise* promise
    if likely_(leaves_now(shard, connection, ticket)):
        put_ack(shard, connection, packet_type, packet_id, reason_code)
        return
    promise = hold(shard, connection, ticket, packet_type)
    promise.packet_id = packet_id
    promise.reason_code = reason_code
    if message != NULL and message.outstanding and ticket > shard.journal.settled_ticket:
        promise.message = message
        message.promise = promise


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


cdef void gate(ShardState* shard, Connection* connection, uint64_t ticket) noexcept nogil:
    if leaves_now(shard, connection, ticket):
        return
    hold(shard, connection, ticket, PROMISE_GATE)
    connection.gated = 1


cdef void keep(ShardState* shard, Connection* connection, Promise* promise) noexcept nogil:
    if promise.kind == PROMISE_BYTES:
        outbox_put(shard, connection, promise.bytes, promise.byte_count)
    elif promise.kind == PROMISE_PUBLISH:
        publish_held(shard, connection.session, promise.packet_id)
    elif promise.kind == PROMISE_ONCE:
        publish_once(shard, connection.session, promise)
    elif promise.kind == PROMISE_GATE:
        connection.gated = 0
        outbox_reserve(shard, connection, 0)    # what stands there may leave
    else:
        put_ack(shard, connection, promise.kind, promise.packet_id, promise.reason_code)


cdef void release(ShardState* shard, Connection* connection) noexcept nogil:
    cdef Promise* promise = first_due(shard, connection)
    if promise == NULL:
        return
    while promise != NULL:
        keep(shard, connection, promise)
        drop_first(shard, connection)
        promise = first_due(shard, connection)
    mark_ready(shard, connection)


cdef void release_done(ShardState* shard) noexcept nogil:
    cdef Held* held = shard.journal.done_head
    while held != NULL:
        shard.journal.done_head = held.done_next
        held.done_listed = 0
        release(shard, held.connection)
        held = shard.journal.done_head


cdef void settle(ShardState* shard) noexcept nogil:
    cdef Held* held = shard.journal.held_head
    cdef Held* following
    batch_committed(shard)
    while held != NULL:
        following = held.next
        release(shard, held.connection)
        held = following
