"""Departure, resumption and end of sessions, and their wills. See lifetime.pxd."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from broker._core.durable cimport note_end, record_session
from broker._core.handover cimport hand_over
from broker._core.inflight cimport list_again
from broker._core.memory cimport give_memory
from broker._core.model cimport WAITING_LOAD, Connection, Session, SessionExtra, ShardState
from broker._core.parking cimport park_all
from broker._core.publish cimport publish_will
from broker._core.session cimport need_extra, trim_extra, unlink_session
from broker._core.session_end cimport drop_subscriptions, erase_session, free_session
from broker._core.shared cimport leave_benches
from broker._core.timers cimport timer_cancel, timer_set


cdef enum:
    SECOND_NS = 1000000000
    NEVER = 0xFFFFFFFF
    PARTED_KEPT = 4096
    PIECES_PER_STEP = 64        # subscriptions and messages of an ended session that go between two looks at the budget


cdef inline bint has_will(Session* session) noexcept nogil:
    return session.extra != NULL and session.extra.will.message != NULL


# ---------------------------------------------------------------- departure

cdef void arm(ShardState* shard, Session* session) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    cdef int64_t at_ns = extra.ends_at_ns
    if extra.will_at_ns and (at_ns == 0 or extra.will_at_ns < at_ns):
        at_ns = extra.will_at_ns
    if at_ns:
        timer_set(&shard.wheel, &extra.timer, at_ns)


cdef void keep_session(ShardState* shard, Session* session) noexcept nogil:
    cdef SessionExtra* extra
    cdef uint32_t expiry_s = session.session_expiry_interval_s
    if session.durable != NULL:
        record_session(shard, session)
        park_all(shard, session)
    if expiry_s == NEVER and not has_will(session):
        return
    extra = need_extra(session)
    extra.ends_at_ns = 0 if expiry_s == NEVER else shard.now_ns + <int64_t>expiry_s * SECOND_NS
    if has_will(session):
        if extra.will.delay_s == 0:
            publish_will(shard, session)
        else:       # or with the session's end, if that comes first [MQTT-3.1.3-9]
            extra.will_at_ns = shard.now_ns + <int64_t>extra.will.delay_s * SECOND_NS
    arm(shard, session)
    trim_extra(session)


cdef void depart(ShardState* shard, Session* session) noexcept nogil:
    if session.parted == 0:
        return
    shard.parted[session.parted - 1] = NULL
    session.parted = 0
    if session.session_expiry_interval_s:
        keep_session(shard, session)
    else:
        end_session(shard, session)  # [MQTT-3.1.2-23]


cdef void run_parted(ShardState* shard) noexcept nogil:
    # In their order, and not all at once: each may have a will, and each will many receivers.
    cdef Session* session
    while shard.parted_at < shard.parted_count and shard.slice_budget > 0:
        session = shard.parted[shard.parted_at]
        shard.parted_at += 1
        if session != NULL:
            shard.slice_budget -= 1
            depart(shard, session)
    if shard.parted_at < shard.parted_count:
        return
    shard.parted_at = 0
    shard.parted_count = 0
    if shard.parted_capacity > PARTED_KEPT:     # after a mass departure
        give_memory(shard.parted)
        shard.parted = NULL
        shard.parted_capacity = 0


cdef void session_timer(ShardState* shard, Session* session) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    if extra.will_at_ns and extra.will_at_ns <= shard.now_ns:
        publish_will(shard, session)
    if extra.ends_at_ns and extra.ends_at_ns <= shard.now_ns:
        end_session(shard, session)  # [MQTT-3.1.2-23]
        return
    arm(shard, session)
    trim_extra(session)


# ---------------------------------------------------------------- resumption

cdef void open_quota(ShardState* shard, Session* session, Connection* connection) noexcept nogil:
    cdef uint32_t quota = shard.limits.outbound_inflight_maximum
    session.send_quota = <int32_t>(
        quota if quota < connection.client_receive_maximum else connection.client_receive_maximum)


cdef void resume_session(ShardState* shard, Session* session, Connection* connection) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    if extra != NULL:
        timer_cancel(&shard.wheel, &extra.timer)
        extra.will_at_ns = 0
        extra.ends_at_ns = 0
    session.connection = connection
    connection.session = session
    open_quota(shard, session, connection)
    list_again(session)     # [MQTT-4.4.0-1]
    leave_benches(session)


# ---------------------------------------------------------------- the end

cdef bint empty(ShardState* shard, Session* session) noexcept nogil:
    # One step; True when nothing is left.
    cdef uint32_t left = PIECES_PER_STEP
    cdef bint done = drop_subscriptions(shard, session, &left) and hand_over(shard, session, &left)
    shard.slice_budget -= 1 + PIECES_PER_STEP - left
    return done


cdef void end_session(ShardState* shard, Session* session) noexcept nogil:
    unlink_session(shard, session)
    if session.durable != NULL:
        note_end(shard, session)
        if session.durable.grouped:     # with the last of it: what it hands over must not be lost
            record_session(shard, session)
        else:
            erase_session(shard, session.durable)
    if session.extra != NULL:
        timer_cancel(&shard.wheel, &session.extra.timer)
        if session.extra.will.message != NULL:
            publish_will(shard, session)
    if empty(shard, session):
        free_session(shard, session)
        return
    if session.waiting & WAITING_LOAD:
        return      # it goes on when what it hands over has been read
    session.hash_next = shard.ending_head
    shard.ending_head = session


cdef void continue_ending(ShardState* shard) noexcept nogil:
    cdef Session* session
    while shard.ending_head != NULL and shard.slice_budget > 0:
        session = shard.ending_head
        if empty(shard, session):
            shard.ending_head = session.hash_next
            free_session(shard, session)
        elif session.waiting & WAITING_LOAD:
            shard.ending_head = session.hash_next
