"""Runs of retained messages towards one receiver, and the order of what waits. See replay.pxd.

A run takes what is left over: it sends while the queue is empty, while little is unsent and while there is quota, and
it puts nothing into the queue. So a subscription to a million retained messages costs a page of outbox, and neither the
new messages of its own session nor anybody else wait for it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from broker._core.connection cimport mark_ready, outbox_unsent
from broker._core.deliver cimport send_unasked, send_waiting
from broker._core.durable cimport record_subscription
from broker._core.grants cimport policy_allows_publish
from broker._core.journal cimport begin_routing, end_routing, newest_ticket
from broker._core.memory cimport give_memory, take_memory
from broker._core.message cimport (
    Outgoing,
    expiry_left_s,
    message_bytes,
    message_topic,
    outgoing_afresh,
    outgoing_close,
)
from broker._core.model cimport (
    WAITING_RUNS,
    WAITING_TURN,
    WORK_COLD,
    Account,
    Connection,
    Message,
    Principal,
    Retained,
    RetainedRun,
    Session,
    SessionExtra,
    ShardState,
    Subscription,
)
from broker._core.queue_intake cimport why_not_kept
from broker._core.retained cimport remove_retained
from broker._core.retained_runs cimport close_run, find_retained, open_run, step_run
from broker._core.session cimport need_extra, trim_extra
from broker._core.shared cimport look_at_bench
from broker._core.topics cimport filter_of


cdef enum:
    PAGE_BYTES = 65536      # of retained messages unsent to one receiver: far below where its QoS 0 is dropped
    WORK_PER_TURN = 1024    # of one session, before the next one's
    FIRST_STEPS = 64        # of a run, before it is known to be one
    FILTER_BYTES = 65536


cdef void unlist_run(SessionExtra* extra, RetainedRun* run) noexcept nogil:
    cdef RetainedRun* before = NULL
    cdef RetainedRun* at = extra.runs
    while at != run:
        before = at
        at = at.next
    if before == NULL:
        extra.runs = run.next
    else:
        before.next = run.next
    if extra.last_run == run:
        extra.last_run = before


cdef void end_run(ShardState* shard, Session* session, RetainedRun* run) noexcept nogil:
    unlist_run(session.extra, run)
    close_run(shard, session.principal.account, run)
    if session.extra.runs == NULL:
        session.waiting &= ~<uint8_t>WAITING_RUNS


cdef void end_run_of(ShardState* shard, Session* session, Subscription* subscription) noexcept nogil:
    cdef RetainedRun* run
    if subscription.has_run:
        run = session.extra.runs
        while run.subscription != subscription:
            run = run.next
        end_run(shard, session, run)


cdef void record_end(ShardState* shard, Session* session, Subscription* subscription) noexcept nogil:
    # After a restart it would begin again.
    cdef uint8_t* filter
    if session.durable == NULL or session.durable.ended:
        return
    filter = <uint8_t*>take_memory(FILTER_BYTES)
    record_subscription(shard, session, subscription, filter, filter_of(subscription, filter))
    give_memory(filter)


cdef RetainedRun* list_run(
        ShardState* shard, Session* session, Subscription* subscription, const uint8_t* filter, uint32_t n
) noexcept nogil:
    # A few steps are made at once: most filters match nothing, and need no run.
    cdef Account* account = session.principal.account
    cdef RetainedRun* run = open_run(shard, account, subscription, filter, n)
    cdef SessionExtra* extra
    if run == NULL:
        return NULL
    if find_retained(shard, account, run, shard.slice_budget - FIRST_STEPS) == NULL and run.at == NULL:
        close_run(shard, account, run)
        return NULL
    extra = need_extra(session)
    if extra.runs == NULL:
        extra.runs = run
    else:
        extra.last_run.next = run
    extra.last_run = run
    session.waiting |= WAITING_RUNS
    return run


cdef void start_run(
        ShardState* shard, Session* session, Subscription* subscription, const uint8_t* filter, uint32_t n
) noexcept nogil:
    cdef RetainedRun* run
    end_run_of(shard, session, subscription)
    run = list_run(shard, session, subscription, filter, n)
    if run == NULL:
        return
    if session.durable != NULL:     # its record follows
        run.after_ticket = shard.journal.open_ticket
    elif session.connection.held != NULL:
        run.after_ticket = newest_ticket(&shard.journal)


cdef void restart_run(
        ShardState* shard, Session* session, Subscription* subscription, const uint8_t* filter, uint32_t n
) noexcept nogil:
    if list_run(shard, session, subscription, filter, n) == NULL:
        record_subscription(shard, session, subscription, filter, n)


cdef inline bint has_page(ShardState* shard, Connection* connection, Message* message) noexcept nogil:
    cdef uint32_t unsent = outbox_unsent(connection)
    return unsent == 0 or unsent + message_bytes(message) <= min(PAGE_BYTES, shard.limits.outbox_soft_limit_bytes)


cdef inline bint still_allowed(Principal* author, Message* message) noexcept nogil:
    # It stands on the rights that its author has now, not on those of then; on those of then while nobody has judged
    # its author since the start.
    return author == NULL or author.policy == NULL or policy_allows_publish(
        author.policy, author, message_topic(message), message.topic_bytes)


cdef inline bint may_follow(ShardState* shard, Session* session, Message* message) noexcept nogil:
    # What is acknowledged makes room for the next one.
    return session.send_quota > 0 and (
        session.session_expiry_interval_s == 0 or why_not_kept(shard, session, message, 1) < 0)


cdef void send_retained(
        ShardState* shard, Session* session, Subscription* subscription, Message* message, uint8_t qos) noexcept nogil:
    cdef Outgoing out
    if subscription.no_local and message.publisher == session.hash:  # [MQTT-3.8.3-3]
        return
    outgoing_afresh(&out, message)
    begin_routing(shard)
    if expiry_left_s(&out, shard.now_ns):  # [MQTT-3.3.2-5]
        send_unasked(  # [MQTT-3.3.1-9] [v311 MQTT-3.3.1-8]
            shard, &out, session, qos, &subscription.identifier, 1 if subscription.identifier else 0)
    end_routing(shard, session.principal.account.account_id, &out)
    outgoing_close(shard, &out)


cdef bint replay(ShardState* shard, Session* session, RetainedRun* run, Retained* retained) noexcept nogil:
    # False: it has to wait for room or quota.
    cdef Message* message = retained.message
    cdef uint8_t qos = min(message.qos, run.subscription.qos)  # [MQTT-3.8.4-8]
    if not still_allowed(retained.author, message):
        remove_retained(shard, session.principal.account, retained)
    elif retained.author != NULL and retained.author.revoked:
        pass        # it is kept, as the author's sessions are, until somebody ends or returns the rights
    elif (qos and not may_follow(shard, session, message)) or not has_page(shard, session.connection, message):
        return False
    else:
        send_retained(shard, session, run.subscription, message, qos)
    step_run(shard, session.principal.account, run)
    shard.slice_budget -= WORK_COLD
    return True


cdef void finish_run(ShardState* shard, Session* session, RetainedRun* run) noexcept nogil:
    cdef Subscription* subscription = NULL if run.subscription.dead else run.subscription
    end_run(shard, session, run)
    if subscription != NULL:
        record_end(shard, session, subscription)


cdef void continue_runs(ShardState* shard, Session* session) noexcept nogil:
    cdef int64_t until = max(shard.slice_budget - WORK_PER_TURN, 0)
    cdef RetainedRun* run = session.extra.runs
    cdef Retained* retained
    while run != NULL and run.after_ticket <= shard.journal.settled_ticket:
        retained = NULL if run.subscription.dead else find_retained(shard, session.principal.account, run, until)
        if retained != NULL:
            if not replay(shard, session, run, retained):
                return
        elif run.at == NULL or run.subscription.dead:
            finish_run(shard, session, run)
            shard.slice_budget -= 1
            run = session.extra.runs
        else:
            mark_ready(shard, session.connection)   # its turn comes again
            return
    trim_extra(session)


cdef void pump(ShardState* shard, Session* session) noexcept nogil:
    if not send_waiting(shard, session):
        return
    if session.waiting & WAITING_TURN:
        look_at_bench(shard, session)
    if session.waiting & WAITING_RUNS:
        continue_runs(shard, session)
