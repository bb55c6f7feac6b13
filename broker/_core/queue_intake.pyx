"""Who gets into a queue. See queue_intake.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.budgets cimport count_drop, queue_full_policy, queued_count, queued_size, waiting_bytes
from broker._core.journal cimport add_pair, find_unwritten
from broker._core.memory cimport likely_
from broker._core.message cimport Outgoing, keep_message
from broker._core.model cimport (
    DROP_ACCOUNT_BUDGET_FULL,
    DROP_BROKER_BUDGET_FULL,
    DROP_DEVICE_BUDGET_FULL,
    DROP_QUEUE_FULL,
    QUEUE_DROPS_OLDEST,
    Account,
    Message,
    Principal,
    Session,
    ShardState,
    SharedGroup,
)
from broker._core.parking cimport drop_parked_front, look_up, note_order, park, parked_front
from broker._core.queue cimport add_to_queue, queue_drop_front, queue_front


cdef enum:
    QUEUED_IN_MEMORY = 1024     # of a client that is there: what comes behind them is parked


# ---------------------------------------------------------------- whether there is room

cdef int why_no_room_after(ShardState* shard, Session* session, uint64_t size, uint64_t gone) noexcept nogil:
    # The narrowest budget first, so that a drop names what its owner can change; -1: there is room. `gone`: as if so
    # many bytes of its queue, all or none of them, had gone.
    cdef Principal* principal = session.principal
    cdef Account* account = principal.account
    if gone == 0 and queued_count(session) >= shard.limits.queue_messages_maximum:
        return DROP_QUEUE_FULL
    if session.inflight_bytes + waiting_bytes(session) + size > shard.limits.queue_maximum_bytes + gone:
        return DROP_QUEUE_FULL
    if principal.limits.queue_maximum_bytes and principal.activity != NULL and \
            principal.activity.queued_bytes + size > principal.limits.queue_maximum_bytes + gone:
        return DROP_DEVICE_BUDGET_FULL
    if account.limits.queue_maximum_bytes and \
            account.queued_bytes + size > account.limits.queue_maximum_bytes + gone:
        return DROP_ACCOUNT_BUDGET_FULL
    if shard.queued_bytes + size > shard.limits.queues_maximum_bytes + gone:
        return DROP_BROKER_BUDGET_FULL
    return -1


cdef int why_no_room(ShardState* shard, Session* session, uint64_t size) noexcept nogil:
    return why_no_room_after(shard, session, size, 0)


cdef int why_not_kept(ShardState* shard, Session* session, Message* message, uint32_t identifiers) noexcept nogil:
    return why_not_inflight(shard, session, queued_size(message, identifiers))


cdef int why_not_inflight(ShardState* shard, Session* session, uint64_t size) noexcept nogil:
    # Who acknowledges has little inflight, and does not depend on budgets that others have used up.
    cdef uint64_t free = min(shard.limits.outbox_soft_limit_bytes, shard.limits.queue_maximum_bytes)
    if session.inflight_bytes == 0 or session.inflight_bytes + size <= free:
        return -1
    return why_no_room(shard, session, size)


# ---------------------------------------------------------------- the queue

cdef void drop_oldest(ShardState* shard, Session* session, int reason) noexcept nogil:
    # What was read back from the disk is older than what is still there alone.
    shard.slice_budget -= 1
    count_drop(shard, session, reason)
    if session.queue != NULL:
        queue_drop_front(shard, session)
    else:
        drop_parked_front(shard, session)


cdef bint may_drop_oldest(ShardState* shard, Session* session, Message* message) noexcept nogil:
    # Not the message itself, nor what is being recorded at this moment: a session may get a message more than once, by
    # its shared subscriptions, and what is left of a fan-out may be recorded as two.
    cdef const uint8_t* pairs = NULL
    cdef uint64_t number
    if session.queue != NULL:
        if queue_front(session).message == message:
            return False
        number = queue_front(session).message.number
    elif queued_count(session) == 0:
        return False
    elif parked_front(session) == NULL:     # the policy has changed since the run was made
        look_up(shard, session)
        return False
    else:
        number = parked_front(session).number
    return number <= shard.journal.sealed_through or find_unwritten(&shard.journal, number, &pairs) != NULL


cdef int make_room(ShardState* shard, Session* session, Message* message, uint64_t size) noexcept nogil:
    # The same as why_no_room, after what is oldest has gone where that is the policy. Nothing goes in vain.
    cdef int reason = why_no_room_after(shard, session, size, 0)
    if likely_(reason < 0) or queue_full_policy(shard, session.principal.account) != QUEUE_DROPS_OLDEST:
        return reason
    if queued_count(session) == 0 or why_no_room_after(shard, session, size, waiting_bytes(session)) >= 0:
        return reason
    while reason >= 0 and may_drop_oldest(shard, session, message):
        drop_oldest(shard, session, reason)
        reason = why_no_room_after(shard, session, size, 0)
    return reason


cdef int enqueue(
        ShardState* shard, Session* session, Outgoing* out, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    cdef Message* message = keep_message(shard, out)
    cdef uint64_t size = queued_size(message, count)
    cdef int reason = make_room(shard, session, message, size)
    if reason >= 0:
        return reason
    if session.durable != NULL:
        if not out.known:
            add_pair(shard, out, session.durable, 0, qos, retain, identifiers, count, group)
            session.durable.grouped |= group != NULL
        if session.connection == NULL or session.durable.parked_count or (
                session.queue != NULL and session.queue.count >= QUEUED_IN_MEMORY):
            park(shard, session, message.number, <uint32_t>size, qos, retain, group != NULL, message.tracking != 0)
            return -1
        note_order(shard, session, message.number)
    add_to_queue(shard, session, message, group, qos, retain, identifiers, count)
    return -1
