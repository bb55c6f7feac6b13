"""Outbound packet identifiers, and what is kept until they are acknowledged. See inflight.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset

from broker._core.budgets cimport count_drop, count_kept, queued_size
from broker._core.journal cimport add_op
from broker._core.memory cimport give_memory, take_memory, take_zeroed, unlikely_
from broker._core.message cimport hold_message, release_message
from broker._core.model cimport (
    DROP_SESSION_ENDED,
    INFLIGHT_PUBREL,
    INFLIGHT_STATE,
    INFLIGHT_UNSENT,
    WAITING_AGAIN,
    InflightBody,
    Message,
    Session,
    SessionExtra,
    ShardState,
    SharedGroup,
)
from broker._core.progress cimport end_record, taken_out
from broker._core.records cimport OP_DONE, OP_FREED, OP_RECEIVED
from broker._core.session cimport need_extra
from broker._core.topics cimport release_subscription
from broker._core.tracking cimport TRACKED_ACKNOWLEDGED, TRACKED_DROPPED, note


cdef enum:
    FIRST_INFLIGHT = 8


# ---------------------------------------------------------------- packet identifiers

cdef void grow_inflight(Session* session) noexcept nogil:
    cdef uint32_t mask = session.inflight_mask * 2 + 1 if session.inflight != NULL else FIRST_INFLIGHT - 1
    cdef uint32_t* grown = <uint32_t*>take_zeroed(<size_t>(mask + 1) * sizeof(uint32_t))
    cdef InflightBody* bodies = NULL
    cdef uint32_t i
    if session.bodies != NULL:
        bodies = <InflightBody*>take_zeroed(<size_t>(mask + 1) * sizeof(InflightBody))
    if session.inflight != NULL:
        for i in range(session.inflight_mask + 1):
            if session.inflight[i]:
                grown[session.inflight[i] & mask] = session.inflight[i]
                if bodies != NULL:
                    bodies[session.inflight[i] & mask] = session.bodies[i]
        give_memory(session.inflight)
        give_memory(session.bodies)
    session.inflight = grown
    session.bodies = bodies
    session.inflight_mask = <uint16_t>mask


cdef uint16_t take_packet_id(Session* session, uint32_t state) noexcept nogil:
    # Identifiers are mostly consecutive, so the ring rarely has a collision; an old identifier that is never
    # acknowledged is stepped over, and the ring grows only when it is half full. [MQTT-2.2.1-4]
    if session.inflight == NULL or (
            session.inflight_count * 2 > session.inflight_mask and session.inflight_mask < 65535):
        grow_inflight(session)
    while True:
        session.next_packet_id += 1
        if session.next_packet_id == 0:
            session.next_packet_id = 1
        if session.inflight[session.next_packet_id & session.inflight_mask] == 0:
            break
    session.inflight[session.next_packet_id & session.inflight_mask] = session.next_packet_id | state
    session.inflight_count += 1
    session.send_quota -= 1  # [MQTT-4.9.0-1]
    return session.next_packet_id


cdef inline void note_end(ShardState* shard, Session* session, InflightBody* body, uint8_t kind) noexcept nogil:
    # Why it was dropped has just been counted.
    if unlikely_(body.tracking != 0):
        note(shard, session.principal, body.tracking, 0, kind, shard.tracking.drop_reason)


cdef void close_body(
        ShardState* shard, Session* session, InflightBody* body, uint8_t op, uint16_t packet_id) noexcept nogil:
    if body.number and session.durable != NULL:
        end_record(shard, session, body.number, body.message, op, packet_id)
    if body.message != NULL or body.number:
        session.inflight_bytes -= body.size
        count_kept(shard, session, body.size, -1)
    if body.message != NULL:
        release_message(shard, body.message)
    if body.group != NULL:
        release_subscription(shard, &body.group.entry)
    give_memory(body.identifiers)
    memset(body, 0, sizeof(InflightBody))


cdef bint release_packet_id(ShardState* shard, Session* session, uint16_t packet_id, bint dropped) noexcept nogil:
    cdef uint32_t slot = packet_id & session.inflight_mask
    cdef uint32_t state = inflight_state(session, packet_id)
    if state == 0:
        return False
    if not session.inflight[slot] & INFLIGHT_UNSENT:
        session.send_quota += 1  # [MQTT-4.9.0-2]
    session.inflight[slot] = 0
    session.inflight_count -= 1
    if unlikely_(session.bodies != NULL or session.durable != NULL):
        release_kept(shard, session, packet_id, state, dropped)
    return True


cdef void release_kept(
        ShardState* shard, Session* session, uint16_t packet_id, uint32_t state, bint dropped) noexcept nogil:
    # Apart: most sessions keep nothing, and have nothing to save on the stack for it.
    if session.durable != NULL and state == INFLIGHT_PUBREL and not session.durable.ended:
        add_op(shard, OP_FREED, session.durable.number, 0, packet_id)
    if session.bodies != NULL:
        note_end(
            shard, session, &session.bodies[packet_id & session.inflight_mask],
            TRACKED_DROPPED if dropped else TRACKED_ACKNOWLEDGED)
        close_body(shard, session, &session.bodies[packet_id & session.inflight_mask], OP_DONE, packet_id)


cdef void enter_pubrel(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil:
    cdef uint32_t slot = packet_id & session.inflight_mask
    mark_sent(session, packet_id)
    session.inflight[slot] = packet_id | INFLIGHT_PUBREL
    if session.bodies != NULL:
        note_end(shard, session, &session.bodies[slot], TRACKED_ACKNOWLEDGED)   # its receiver owns it now
        close_body(shard, session, &session.bodies[slot], OP_RECEIVED, packet_id)
        session.inflight_serial += 1
        session.bodies[slot].serial = session.inflight_serial


cdef void drop_inflight(ShardState* shard, Session* session) noexcept nogil:
    cdef uint32_t i
    if session.inflight == NULL:
        return
    shard.slice_budget -= session.inflight_count
    for i in range(session.inflight_mask + 1):
        if session.inflight[i]:
            if (session.inflight[i] & INFLIGHT_STATE) != INFLIGHT_PUBREL:   # sent; nobody knows whether it was taken
                count_drop(shard, session, DROP_SESSION_ENDED)
            if session.bodies != NULL:
                note_end(shard, session, &session.bodies[i], TRACKED_DROPPED)
                close_body(shard, session, &session.bodies[i], OP_DONE, 0)
    give_memory(session.inflight)
    give_memory(session.bodies)


# ---------------------------------------------------------------- messages that are kept

cdef void keep_body(
        ShardState* shard, Session* session, uint16_t packet_id, Message* message, SharedGroup* group, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    cdef InflightBody* body
    if session.bodies == NULL:
        session.bodies = <InflightBody*>take_zeroed(<size_t>(session.inflight_mask + 1) * sizeof(InflightBody))
    body = &session.bodies[packet_id & session.inflight_mask]
    body.message = message
    hold_message(message)
    body.number = message.number if session.durable != NULL else 0
    body.tracking = message.tracking
    body.size = <uint32_t>queued_size(message, count)
    session.inflight_bytes += body.size
    count_kept(shard, session, body.size, 1)
    if body.number:
        taken_out(session, body.number)
    body.group = group
    if group != NULL:
        group.entry.refs += 1
    body.retain = retain
    session.inflight_serial += 1
    body.serial = session.inflight_serial
    body.identifiers = NULL
    if count:
        body.identifiers = <uint32_t*>take_memory((count + 1) * sizeof(uint32_t))
        body.identifiers[0] = count
        memcpy(body.identifiers + 1, identifiers, count * sizeof(uint32_t))


cdef InflightBody* put_inflight(Session* session, uint16_t packet_id, uint32_t state) noexcept nogil:
    cdef InflightBody* body
    while session.inflight == NULL or session.inflight[packet_id & session.inflight_mask]:
        if inflight_state(session, packet_id):
            return NULL
        grow_inflight(session)
    if session.bodies == NULL:
        session.bodies = <InflightBody*>take_zeroed(<size_t>(session.inflight_mask + 1) * sizeof(InflightBody))
    session.inflight[packet_id & session.inflight_mask] = packet_id | state
    session.inflight_count += 1
    session.inflight_serial += 1
    body = &session.bodies[packet_id & session.inflight_mask]
    body.serial = session.inflight_serial
    return body


cdef void keep_unread(
        ShardState* shard, Session* session, InflightBody* body, uint64_t number, uint32_t size, uint8_t retain,
        bint grouped, uint32_t tracking) noexcept nogil:
    body.number = number
    body.tracking = tracking
    body.size = size
    body.retain = retain
    body.grouped = grouped
    session.inflight_bytes += size
    count_kept(shard, session, size, 1)


cdef void fill_body(InflightBody* body, Message* message, SharedGroup* group, const uint32_t* identifiers,
                    uint32_t count) noexcept nogil:
    body.message = message
    hold_message(message)
    body.group = group
    if group != NULL:
        group.entry.refs += 1
    if count:
        body.identifiers = <uint32_t*>take_memory((count + 1) * sizeof(uint32_t))
        body.identifiers[0] = count
        memcpy(body.identifiers + 1, identifiers, count * sizeof(uint32_t))


cdef InflightBody* body_of(Session* session, uint16_t packet_id) noexcept nogil:
    return NULL if session.bodies == NULL else &session.bodies[packet_id & session.inflight_mask]


cdef void park_body(ShardState* shard, InflightBody* body) noexcept nogil:
    release_message(shard, body.message)
    body.message = NULL
    body.grouped = body.group != NULL
    if body.group != NULL:
        release_subscription(shard, &body.group.entry)
    body.group = NULL
    give_memory(body.identifiers)
    body.identifiers = NULL


cdef void park_bodies(ShardState* shard, Session* session) noexcept nogil:
    cdef uint32_t i
    if session.bodies == NULL or session.inflight_count == 0:
        return
    shard.slice_budget -= session.inflight_count // 4
    for i in range(<uint32_t>session.inflight_mask + 1):
        if session.bodies[i].message != NULL and session.bodies[i].number:
            park_body(shard, &session.bodies[i])


# ---------------------------------------------------------------- sending again

cdef void mark_sent(Session* session, uint16_t packet_id) noexcept nogil:
    cdef uint32_t slot = packet_id & session.inflight_mask
    if session.inflight[slot] & INFLIGHT_UNSENT:
        session.inflight[slot] &= ~<uint32_t>INFLIGHT_UNSENT
        session.send_quota -= 1


cdef int by_age(const void* one, const void* other) noexcept nogil:
    cdef uint64_t a = (<const uint64_t*>one)[0]
    cdef uint64_t b = (<const uint64_t*>other)[0]
    return (a > b) - (a < b)


cdef void list_again(Session* session) noexcept nogil:
    # Serials run on and wrap: what counts is the distance behind the newest.
    cdef SessionExtra* extra
    cdef uint64_t* aged
    cdef uint32_t i, count = 0
    if session.inflight_count == 0:
        return
    extra = need_extra(session)
    aged = <uint64_t*>take_memory(session.inflight_count * sizeof(uint64_t))
    for i in range(session.inflight_mask + 1):
        if session.inflight[i]:
            session.inflight[i] |= INFLIGHT_UNSENT
            aged[count] = <uint64_t><uint32_t>(
                session.bodies[i].serial - session.inflight_serial - 1) << 16 | (session.inflight[i] & 0xFFFF)
            count += 1
    qsort(aged, count, sizeof(uint64_t), by_age)
    give_memory(extra.again)
    extra.again = <uint16_t*>take_memory(count * sizeof(uint16_t))
    for i in range(count):
        extra.again[i] = <uint16_t>(aged[i] & 0xFFFF)
    give_memory(aged)
    extra.again_at = 0
    extra.again_count = count
    session.waiting |= WAITING_AGAIN
