"""What goes when a session goes. See session_end.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from broker._core.budgets cimport count_drop
from broker._core.durable_table cimport remove_durable
from broker._core.grants cimport hold_policy, release_principal
from broker._core.inflight cimport drop_inflight
from broker._core.keyed_records cimport delete_numbered, delete_record
from broker._core.memory cimport give_memory, slab_close, slab_give, take_memory
from broker._core.model cimport (
    DROP_SESSION_ENDED,
    WAITING_RUNS,
    Durable,
    RetainedRun,
    Session,
    ShardState,
    Subscription,
)
from broker._core.parking cimport drop_parked_front, forget_run
from broker._core.progress cimport leave_gap
from broker._core.queue cimport queue_drop_front
from broker._core.records cimport TABLE_FLOWS, TABLE_SESSIONS, TABLE_SUBSCRIPTIONS, put_subscription_key
from broker._core.retained_runs cimport close_run
from broker._core.session cimport client_id_of, unlink_session, wait_no_more
from broker._core.timers cimport timer_cancel
from broker._core.topics cimport remove_subscription, subscribed_filter
from broker._core.wills cimport drop_will


cdef enum:
    FILTER_BYTES = 65536


# ---------------------------------------------------------------- subscriptions

cdef void drop_first_run(ShardState* shard, Session* session) noexcept nogil:
    cdef RetainedRun* run = session.extra.runs
    session.extra.runs = run.next
    close_run(shard, session.principal.account, run)
    if session.extra.runs == NULL:
        session.waiting &= ~<uint8_t>WAITING_RUNS


cdef void end_subscription(ShardState* shard, Session* session, Subscription* subscription) noexcept nogil:
    cdef uint8_t[24] key
    cdef uint8_t* filter
    cdef uint32_t n
    if session.durable != NULL:
        if subscription.refs:       # what a fan-out has recorded for it and not yet delivered will not be
            leave_gap(shard, session.durable)
        filter = <uint8_t*>take_memory(FILTER_BYTES)
        n = subscribed_filter(subscription, filter)
        put_subscription_key(key, session.durable.number, filter, n)
        delete_record(shard, TABLE_SUBSCRIPTIONS, key, 24)
        give_memory(filter)
    remove_subscription(shard, &session.principal.account.space, subscription)


cdef bint drop_subscriptions(ShardState* shard, Session* session, uint32_t* left) noexcept nogil:
    while session.waiting & WAITING_RUNS:
        if left[0] == 0:
            return False
        left[0] -= 1
        drop_first_run(shard, session)
    while session.subscriptions != NULL:
        if left[0] == 0:
            return False
        left[0] -= 1
        end_subscription(shard, session, session.subscriptions)
    return True


# ---------------------------------------------------------------- sessions

cdef void erase_session(ShardState* shard, Durable* durable) noexcept nogil:
    # Subscriptions go one by one, as they are dropped: those of a session that is not there mean nothing.
    delete_numbered(shard, TABLE_SESSIONS, durable.number)
    if durable.has_flow:
        delete_numbered(shard, TABLE_FLOWS, durable.number)
    durable.ended = 1


cdef void free_durable(ShardState* shard, Session* session) noexcept nogil:
    cdef Durable* durable = session.durable
    if not durable.ended:
        erase_session(shard, durable)
    wait_no_more(shard, session)
    while durable.runs != NULL and durable.runs.count:      # there, the shard comes to its end
        forget_run(shard, session, &durable.runs.runs[0], DROP_SESSION_ENDED)
    while durable.parked_count:
        count_drop(shard, session, DROP_SESSION_ENDED)
        drop_parked_front(shard, session)
    remove_durable(shard, durable)
    give_memory(durable)
    session.durable = NULL


cdef void free_session(ShardState* shard, Session* session) noexcept nogil:
    drop_inflight(shard, session)
    drop_will(shard, session)
    if session.durable != NULL:
        free_durable(shard, session)
    if session.extra != NULL:
        timer_cancel(&shard.wheel, &session.extra.timer)
        give_memory(session.extra.qos2_ids)
        give_memory(session.extra.again)
        give_memory(session.extra.bench)
        give_memory(session.extra)
    if session.client_id_bytes > sizeof(session.client_id):
        give_memory(client_id_of(session))
    hold_policy(&session.policy, NULL)
    release_principal(shard, session.principal)
    slab_give(&shard.session_slab, session)


cdef void end_at_once(ShardState* shard, Session* session) noexcept nogil:
    cdef uint32_t left = 0xFFFFFFFF
    drop_subscriptions(shard, session, &left)
    while session.queue != NULL:
        count_drop(shard, session, DROP_SESSION_ENDED)
        queue_drop_front(shard, session)
    free_session(shard, session)


cdef void sessions_close(ShardState* shard) noexcept nogil:
    cdef uint32_t i
    cdef Session* session
    for i in range(shard.session_mask + 1):
        while shard.sessions[i] != NULL:
            session = shard.sessions[i]
            unlink_session(shard, session)
            end_at_once(shard, session)
    for i in range(shard.journal.durable_mask + 1):     # of those that end, the ones that wait for the disk
        while shard.journal.durables[i] != NULL and shard.journal.durables[i].wanted:
            end_at_once(shard, shard.journal.durables[i].session)
    while shard.ending_head != NULL:
        session = shard.ending_head
        shard.ending_head = session.hash_next
        end_at_once(shard, session)
    give_memory(shard.sessions)
    give_memory(shard.parted)
    slab_close(&shard.session_slab)
