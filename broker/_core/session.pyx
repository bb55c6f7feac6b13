"""Sessions: their table, queue, outbound inflight, inbound QoS 2 identifiers and quota. See session.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memset

from broker._core.events cimport note_drop
from broker._core.grants cimport hold_policy, need_activity, release_principal
from broker._core.journal cimport (
    add_op,
    add_pair,
    delete_numbered,
    delete_record,
    end_pair,
    find_unwritten,
    list_crowded,
    next_chunk,
    note_expiry,
    remove_durable,
    stop_waiting,
    wait_for_chunk,
)
from broker._core.memory cimport (
    give_memory,
    likely_,
    resize_memory,
    slab_close,
    slab_give,
    slab_open,
    slab_take,
    take_memory,
    take_zeroed,
    unlikely_,
)
from broker._core.message cimport Outgoing, hold_message, keep_message, message_bytes, release_message
from broker._core.model cimport (
    DROP_ACCOUNT_BUDGET_FULL,
    DROP_BROKER_BUDGET_FULL,
    DROP_DEVICE_BUDGET_FULL,
    DROP_LOST,
    DROP_QUEUE_FULL,
    DROP_SESSION_ENDED,
    ENDING,
    INFLIGHT_PUBREL,
    INFLIGHT_STATE,
    INFLIGHT_UNSENT,
    QUEUE_DROPS_OLDEST,
    TIMER_SESSION,
    WAITING_AGAIN,
    WAITING_LOAD,
    WAITING_PARKED,
    WAITING_QUEUE,
    WAITING_RUNS,
    Account,
    Chunk,
    Durable,
    InflightBody,
    Message,
    Parked,
    ParkedRing,
    Principal,
    Queue,
    Queued,
    QueueRun,
    RetainedRun,
    Session,
    SessionExtra,
    SharedGroup,
    ShardState,
    Subscription,
    Will,
)
from broker._core.parked_ring cimport (
    find_run,
    first_ring,
    remove_run,
    ring_at,
    ring_find,
    ring_pop_front,
    ring_push_back,
    ring_push_front,
    ring_remove,
    trim_runs,
)
from broker._core.records cimport (
    OP_DONE,
    OP_FREED,
    OP_RECEIVED,
    TABLE_FLOWS,
    TABLE_SESSIONS,
    TABLE_SUBSCRIPTIONS,
    TABLE_WILLS,
    put_subscription_key,
)
from broker._core.retained cimport close_run
from broker._core.timers cimport timer_cancel
from broker._core.topic_rules cimport hash_bytes
from broker._core.topics cimport release_subscription, remove_subscription, subscribed_filter
from broker._core.tracking cimport TRACKED_ACKNOWLEDGED, TRACKED_DROPPED, note


cdef enum:
    FIRST_BUCKETS = 64
    FIRST_QUEUE = 8
    FIRST_INFLIGHT = 8
    FIRST_QOS2_IDS = 8
    TABLE_MAXIMUM = 512         # slots of it
    BITMAP_MASK = 0xFFFF        # in place of a table's
    BITMAP_BYTES = 65536 // 8
    FIRST_PARTED = 16
    QUEUED_IN_MEMORY = 1024     # of a client that is there: what comes behind them is parked
    FILTER_BYTES = 65536


cdef void sessions_open(ShardState* shard) noexcept nogil:
    shard.sessions = <Session**>take_zeroed(FIRST_BUCKETS * sizeof(void*))
    shard.session_mask = FIRST_BUCKETS - 1
    slab_open(&shard.session_slab, sizeof(Session), 64)


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


# ---------------------------------------------------------------- the table

cdef uint32_t session_hash(
        ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil:
    # The principal's number is unique in the installation, so it stands for the account as well.
    return hash_bytes(client_id, n, shard.hash_seed ^ (<uint64_t>principal.principal_id << 20))


cdef Session* find_session(
        ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil:
    cdef uint32_t hash = session_hash(shard, principal, client_id, n)
    cdef Session* session = shard.sessions[hash & shard.session_mask]
    while session != NULL:
        if session.hash == hash and session.principal == principal and session.client_id_bytes == n \
                and memcmp(client_id_of(session), client_id, n) == 0:
            return session
        session = session.hash_next
    return NULL


cdef void grow_sessions(ShardState* shard) noexcept nogil:
    cdef uint32_t mask = shard.session_mask * 2 + 1
    cdef Session** table = <Session**>take_zeroed(<size_t>(mask + 1) * sizeof(void*))
    cdef Session* session
    cdef Session* following
    cdef uint32_t i
    for i in range(shard.session_mask + 1):
        session = shard.sessions[i]
        while session != NULL:
            following = session.hash_next
            session.hash_next = table[session.hash & mask]
            table[session.hash & mask] = session
            session = following
    give_memory(shard.sessions)
    shard.sessions = table
    shard.session_mask = mask


cdef Session* new_session(
        ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil:
    cdef Session* session = <Session*>slab_take(&shard.session_slab)
    if shard.session_count > shard.session_mask:
        grow_sessions(shard)
    memset(session, 0, sizeof(Session))
    session.hash = session_hash(shard, principal, client_id, n)
    session.principal = principal
    session.client_id_bytes = <uint16_t>n
    if n > sizeof(session.client_id):
        (<uint8_t**>session.client_id)[0] = <uint8_t*>take_memory(n)
    memcpy(client_id_of(session), client_id, n)
    session.hash_next = shard.sessions[session.hash & shard.session_mask]
    shard.sessions[session.hash & shard.session_mask] = session
    shard.session_count += 1
    session.principal_next = principal.sessions
    if principal.sessions != NULL:
        principal.sessions.principal_previous = session
    principal.sessions = session
    principal.session_count += 1
    principal.refs += 1
    principal.account.sessions += 1
    return session


cdef void wait_no_more(ShardState* shard, Session* session) noexcept nogil:
    if session.waiting & WAITING_LOAD:
        stop_waiting(shard, session.durable)
        session.waiting &= ~<uint8_t>WAITING_LOAD


cdef void unlink_session(ShardState* shard, Session* session) noexcept nogil:
    cdef Session** link = &shard.sessions[session.hash & shard.session_mask]
    while link[0] != session:
        link = &link[0].hash_next
    link[0] = session.hash_next
    shard.session_count -= 1
    session.principal.account.sessions -= 1
    if session.principal_previous != NULL:
        session.principal_previous.principal_next = session.principal_next
    else:
        session.principal.sessions = session.principal_next
    if session.principal_next != NULL:
        session.principal_next.principal_previous = session.principal_previous
    session.principal.session_count -= 1
    session.ending = ENDING
    wait_no_more(shard, session)


cdef void drop_first_run(ShardState* shard, Session* session) noexcept nogil:
    cdef RetainedRun* run = session.extra.runs
    session.extra.runs = run.next
    close_run(shard, session.principal.account, run)
    if session.extra.runs == NULL:
        session.waiting &= ~<uint8_t>WAITING_RUNS


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


cdef void part_session(ShardState* shard, Session* session) noexcept nogil:
    session.connection = NULL
    wait_no_more(shard, session)
    if session.parted:
        return
    if shard.parted_count == shard.parted_capacity:
        shard.parted_capacity = shard.parted_capacity * 2 if shard.parted_capacity else FIRST_PARTED
        shard.parted = <Session**>resize_memory(shard.parted, shard.parted_capacity * sizeof(void*))
    shard.parted[shard.parted_count] = session
    shard.parted_count += 1
    session.parted = shard.parted_count


cdef SessionExtra* need_extra(Session* session) noexcept nogil:
    if session.extra == NULL:
        session.extra = <SessionExtra*>take_zeroed(sizeof(SessionExtra))
        session.extra.timer.owner = session
        session.extra.timer.kind = TIMER_SESSION
    return session.extra


cdef void trim_extra(Session* session) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    if extra == NULL or extra.timer.armed or extra.will.message != NULL or extra.qos2_count or extra.again_count \
            or extra.runs != NULL or extra.bench_count:
        return
    give_memory(extra.qos2_ids)
    give_memory(extra.again)
    give_memory(extra.bench)
    give_memory(extra)
    session.extra = NULL


cdef void erase_will(ShardState* shard, Session* session) noexcept nogil:
    cdef Will* will = &session.extra.will
    if will.number == 0:
        return
    delete_numbered(shard, TABLE_WILLS, will.number)
    if session.durable == NULL or session.durable.number != will.number:
        delete_numbered(shard, TABLE_SESSIONS, will.number)
    will.number = 0


cdef void drop_will(ShardState* shard, Session* session) noexcept nogil:
    if session.extra != NULL and session.extra.will.message != NULL:
        erase_will(shard, session)
        release_message(shard, session.extra.will.message)
        session.extra.will.message = NULL
        session.extra.will_at_ns = 0


cdef void count_account_drop(ShardState* shard, Account* account, int reason) noexcept nogil:
    shard.counters.drops[reason] += 1
    account.drops[reason] += 1


cdef void count_drop(ShardState* shard, Session* session, int reason) noexcept nogil:
    shard.tracking.drop_reason = reason
    count_account_drop(shard, session.principal.account, reason)
    need_activity(session.principal).drops[reason] += 1
    note_drop(shard, session.principal, reason)


# ---------------------------------------------------------------- the queue

cdef void grow_queue(Queue* queue) noexcept nogil:
    cdef uint32_t capacity = queue.capacity * 2 if queue.capacity else FIRST_QUEUE
    cdef Queued* grown = <Queued*>take_memory(<size_t>capacity * sizeof(Queued))
    cdef uint32_t first = queue.capacity - queue.head
    if first > queue.count:
        first = queue.count
    if queue.count:
        memcpy(grown, queue.entries + queue.head, first * sizeof(Queued))
        memcpy(grown + first, queue.entries, (queue.count - first) * sizeof(Queued))
    give_memory(queue.entries)
    queue.entries = grown
    queue.head = 0
    queue.capacity = capacity


cdef inline uint64_t queued_size(Message* message, uint32_t identifiers) noexcept nogil:
    return <uint64_t>message_bytes(message) + <uint64_t>identifiers * sizeof(uint32_t)


cdef inline uint64_t waiting_bytes(Session* session) noexcept nogil:
    cdef uint64_t size = session.queue.bytes if session.queue != NULL else 0
    if session.durable != NULL:
        size += session.durable.parked_bytes
    return size


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


cdef int why_not_kept(ShardState* shard, Session* session, Message* message, uint32_t identifiers) noexcept nogil:
    return why_not_inflight(shard, session, queued_size(message, identifiers))


cdef int why_not_inflight(ShardState* shard, Session* session, uint64_t size) noexcept nogil:
    # Who acknowledges has little inflight, and does not depend on budgets that others have used up.
    cdef uint64_t free = min(shard.limits.outbox_soft_limit_bytes, shard.limits.queue_maximum_bytes)
    if session.inflight_bytes == 0 or session.inflight_bytes + size <= free:
        return -1
    return why_no_room(shard, session, size)


cdef void count_kept(ShardState* shard, Session* session, uint64_t size, int sign) noexcept nogil:
    need_activity(session.principal).queued_bytes += sign * size
    session.principal.account.queued_bytes += sign * size
    shard.queued_bytes += sign * size


cdef inline void count_queued(ShardState* shard, Session* session, uint64_t size, int sign) noexcept nogil:
    session.queue.bytes += sign * size
    count_kept(shard, session, size, sign)


cdef inline void note_end(ShardState* shard, Session* session, InflightBody* body, uint8_t kind) noexcept nogil:
    # Why it was dropped has just been counted.
    if unlikely_(body.tracking != 0):
        note(shard, session.principal, body.tracking, 0, kind, shard.tracking.drop_reason)


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


cdef void add_to_queue(
        ShardState* shard, Session* session, Message* message, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    cdef Queued* entry
    cdef Queue* queue
    if session.queue == NULL:
        session.queue = <Queue*>take_zeroed(sizeof(Queue))
        session.waiting |= WAITING_QUEUE
    queue = session.queue
    if queue.count == queue.capacity:
        grow_queue(queue)
    entry = &queue.entries[(queue.head + queue.count) & (queue.capacity - 1)]
    entry.message = message
    hold_message(message)
    entry.group = group
    if group != NULL:
        group.entry.refs += 1
    entry.qos = qos
    entry.retain = retain
    entry.identifier_count = count
    entry.identifiers = NULL
    if count:
        entry.identifiers = <uint32_t*>take_memory(count * sizeof(uint32_t))
        memcpy(entry.identifiers, identifiers, count * sizeof(uint32_t))
    if session.durable != NULL and (message.number <= session.durable.high or (
            queue.count and message.number < queue_last(queue).message.number)):
        session.durable.unordered = 1
    queue.count += 1
    count_queued(shard, session, queued_size(message, count), 1)


cdef Queued* queue_front(Session* session) noexcept nogil:
    return &session.queue.entries[session.queue.head] if session.queue != NULL else NULL


cdef inline Queued* queue_last(Queue* queue) noexcept nogil:
    return &queue.entries[(queue.head + queue.count - 1) & (queue.capacity - 1)]


cdef void pass_over(ShardState* shard, Session* session, uint64_t number) noexcept nogil:
    leave_gap(shard, session.durable)
    if number > session.durable.high:
        session.durable.high = number
        session.durable.unordered |= queued_count(session) != 0


cdef inline void taken_out(Session* session, uint64_t number) noexcept nogil:
    if number > session.durable.high:
        session.durable.high = number


cdef void queue_drop_front(ShardState* shard, Session* session) noexcept nogil:
    cdef Message* message = queue_front(session).message
    if unlikely_(message.tracking != 0):
        note(
            shard, session.principal, message.tracking, message.number, TRACKED_DROPPED, shard.tracking.drop_reason)
    if session.durable != NULL and message.number:
        if queue_last(session.queue).message.number < message.number:   # they are being judged
            session.durable.unordered = 1
            leave_gap(shard, session.durable)
        taken_out(session, message.number)
        end_record(shard, session, message.number, message, OP_DONE, 0)
    pop_front(shard, session)


cdef void queue_sent_front(ShardState* shard, Session* session) noexcept nogil:
    if session.durable != NULL:
        taken_out(session, queue_front(session).message.number)
    pop_front(shard, session)


cdef inline void end_record(
        ShardState* shard, Session* session, uint64_t number, Message* message, uint8_t op, uint16_t packet_id
) noexcept nogil:
    # Of a session whose records are deleted nothing needs to be said.
    end_pair(
        shard, session.durable.number, number, message, 0 if session.durable.ended else op, packet_id,
        session.ending != 0)


cdef void pop_front(ShardState* shard, Session* session) noexcept nogil:
    cdef Queue* queue = session.queue
    cdef Queued* entry = &queue.entries[queue.head]
    count_queued(shard, session, queued_size(entry.message, entry.identifier_count), -1)
    release_message(shard, entry.message)
    if entry.group != NULL:
        release_subscription(shard, &entry.group.entry)
    give_memory(entry.identifiers)
    queue.head = (queue.head + 1) & (queue.capacity - 1)
    queue.count -= 1
    if queue.count == 0:        # an idle session owns almost nothing
        give_memory(queue.entries)
        give_memory(queue)
        session.queue = NULL
        session.waiting &= ~<uint8_t>WAITING_QUEUE


# ---------------------------------------------------------------- parked

cdef inline void mark_parked(Session* session) noexcept nogil:
    if session.durable.parked_count:
        session.waiting |= WAITING_PARKED
    else:
        session.waiting &= ~<uint8_t>WAITING_PARKED


cdef void count_parked(ShardState* shard, Session* session, uint64_t size, int sign) noexcept nogil:
    session.durable.parked_count += sign
    session.durable.parked_bytes += sign * size
    count_kept(shard, session, size, sign)
    mark_parked(session)


cdef inline void leave_gap(ShardState* shard, Durable* durable) noexcept nogil:
    # Something is recorded for it that does not wait, or not in its place: no run may reach across that.
    durable.whole_from = shard.journal.next_message


cdef inline bint is_crowded(ShardState* shard, Durable* durable) noexcept nogil:
    return not durable.crowded and durable.parked.count >= (
        durable.crowded_at if durable.crowded_at else shard.journal.crowded_at)


cdef uint64_t last_queued(Session* session) noexcept nogil:
    # The number of what waits at the end; 0 where it is not known, and not needed: see runs.
    if session.durable.parked.count:
        return ring_at(&session.durable.parked, session.durable.parked.count - 1).number
    if session.durable.runs != NULL:
        if session.durable.runs.count:
            return session.durable.runs.runs[session.durable.runs.count - 1].last
        return ring_at(&session.durable.runs.front, session.durable.runs.front.count - 1).number
    return queue_last(session.queue).message.number if session.queue != NULL else 0


cdef inline void note_order(ShardState* shard, Session* session, uint64_t number) noexcept nogil:
    # Of what comes behind all that waits. A session may get one message several times, by its shared groups.
    cdef uint64_t last = last_queued(session)
    if unlikely_(number <= session.durable.high or number <= last):
        session.durable.unordered |= number <= session.durable.high or number < last
        leave_gap(shard, session.durable)


cdef inline void note_parked(ShardState* shard, Session* session, uint64_t number, bint tracked) noexcept nogil:
    if unlikely_(tracked):
        note(shard, session.principal, 0, number, TRACKED_DROPPED, shard.tracking.drop_reason)


cdef bint drop_in_ring(ShardState* shard, Session* session, ParkedRing* ring, uint64_t number) noexcept nogil:
    # It goes out of the chunk itself, so that `high` has nothing to say about it.
    cdef int64_t at = ring_find(ring, number, not session.durable.unordered)
    cdef Parked found
    if at < 0:
        return False
    found = ring_at(ring, <uint32_t>at)[0]
    shard.slice_budget -= at // 64
    ring_remove(ring, <uint32_t>at)
    note_parked(shard, session, number, found.tracked)
    end_record(shard, session, number, NULL, OP_DONE, 0)
    count_parked(shard, session, found.size, -1)
    return True


cdef void drop_in_run(
        ShardState* shard, Session* session, QueueRun* run, uint64_t number, uint32_t size, bint tracked
) noexcept nogil:
    run.count -= 1
    run.bytes -= size
    note_parked(shard, session, number, tracked)
    end_record(shard, session, number, NULL, OP_DONE, 0)
    count_parked(shard, session, size, -1)
    if run.count == 0:
        remove_run(session.durable, run)


cdef bint is_parked(Session* session, uint64_t number) noexcept nogil:
    cdef Durable* durable = session.durable
    cdef bint ordered = not durable.unordered
    return ring_find(&durable.parked, number, ordered) >= 0 or find_run(durable, number) != NULL or (
        durable.runs != NULL and ring_find(&durable.runs.front, number, ordered) >= 0)


cdef bint drop_parked(
        ShardState* shard, Session* session, uint64_t number, uint32_t size, bint tracked) noexcept nogil:
    cdef Durable* durable = session.durable
    cdef QueueRun* run
    if drop_in_ring(shard, session, &durable.parked, number):
        return True
    if durable.runs == NULL:
        return False
    if drop_in_ring(shard, session, &durable.runs.front, number):
        trim_runs(durable)
        return True
    run = find_run(durable, number)
    if run == NULL:
        return False
    drop_in_run(shard, session, run, number, size, tracked)
    return True


cdef void park(
        ShardState* shard, Session* session, uint64_t number, uint32_t size, uint8_t qos, uint8_t retain,
        bint grouped, bint tracked) noexcept nogil:
    cdef Durable* durable = session.durable
    cdef Parked* parked
    note_order(shard, session, number)
    parked = ring_push_back(&durable.parked)
    parked.number = number
    parked.size = size
    parked.qos = qos
    parked.retain = retain
    parked.grouped = grouped
    parked.tracked = tracked
    count_parked(shard, session, size, 1)
    if unlikely_(is_crowded(shard, durable)):
        list_crowded(shard, durable)


cdef void pop_parked(ShardState* shard, Session* session) noexcept nogil:
    cdef ParkedRing* ring = first_ring(session.durable)
    cdef Parked parked = ring_at(ring, 0)[0]
    ring_pop_front(ring)
    trim_runs(session.durable)
    count_parked(shard, session, parked.size, -1)


cdef void drop_parked_front(ShardState* shard, Session* session) noexcept nogil:
    cdef Parked parked = parked_front(session)[0]
    note_parked(shard, session, parked.number, parked.tracked)
    if session.queue != NULL:       # what has been read stands before it
        session.durable.unordered = 1
        leave_gap(shard, session.durable)
    taken_out(session, parked.number)
    end_record(shard, session, parked.number, NULL, OP_DONE, 0)
    pop_parked(shard, session)


cdef void forget_run(ShardState* shard, Session* session, QueueRun* run, int reason) noexcept nogil:
    cdef uint32_t _, count = run.count
    for _ in range(count):
        count_drop(shard, session, reason)
        if run.unread:      # what it should have had, it had there
            end_pair(shard, session.durable.number, run.unread, NULL, 0, 0, session.ending != 0)
    session.durable.parked_count -= count
    session.durable.parked_bytes -= run.bytes
    count_kept(shard, session, run.bytes, -1)
    mark_parked(session)
    remove_run(session.durable, run)


cdef bint look_up(ShardState* shard, Session* session) noexcept nogil:
    cdef QueueRun* run = &session.durable.runs.runs[0]
    cdef Chunk* chunk = next_chunk(&shard.journal, run.first)
    if chunk == NULL or chunk.first > run.last:
        forget_run(shard, session, run, DROP_LOST)
        return False
    session.waiting |= WAITING_LOAD
    wait_for_chunk(shard, session.durable, chunk)
    return True


cdef void unpark_front(
        ShardState* shard, Session* session, Message* message, SharedGroup* group, const uint32_t* identifiers,
        uint32_t count) noexcept nogil:
    cdef Parked parked = parked_front(session)[0]
    pop_parked(shard, session)
    add_to_queue(shard, session, message, group, parked.qos, parked.retain, identifiers, count)


cdef void park_entry(ShardState* shard, Session* session, Queued* entry) noexcept nogil:
    # At the front; budgets count it as before. While it was in memory its chunk may have been looked at in vain.
    cdef Durable* durable = session.durable
    cdef Parked* parked = ring_push_front(&durable.parked if durable.runs == NULL else &durable.runs.front)
    note_expiry(&shard.journal, entry.message)
    parked.number = entry.message.number
    parked.size = <uint32_t>queued_size(entry.message, entry.identifier_count)
    parked.qos = entry.qos
    parked.retain = entry.retain
    parked.grouped = entry.group != NULL
    parked.tracked = entry.message.tracking != 0
    durable.parked_count += 1
    durable.parked_bytes += parked.size
    release_message(shard, entry.message)
    if entry.group != NULL:
        release_subscription(shard, &entry.group.entry)
    give_memory(entry.identifiers)


cdef void park_queue(ShardState* shard, Session* session) noexcept nogil:
    cdef Queue* queue = session.queue
    cdef uint32_t i
    if queue == NULL:
        return
    shard.slice_budget -= queue.count // 4
    for i in range(queue.count, 0, -1):
        park_entry(shard, session, &queue.entries[(queue.head + i - 1) & (queue.capacity - 1)])
    give_memory(queue.entries)
    give_memory(queue)
    session.queue = NULL
    session.waiting &= ~<uint8_t>WAITING_QUEUE
    mark_parked(session)
    if is_crowded(shard, session.durable):
        list_crowded(shard, session.durable)


cdef void park_body(ShardState* shard, InflightBody* body) noexcept nogil:
    release_message(shard, body.message)
    body.message = NULL
    body.grouped = body.group != NULL
    if body.group != NULL:
        release_subscription(shard, &body.group.entry)
    body.group = NULL
    give_memory(body.identifiers)
    body.identifiers = NULL


cdef void park_all(ShardState* shard, Session* session) noexcept nogil:
    cdef uint32_t i
    park_queue(shard, session)
    if session.bodies == NULL or session.inflight_count == 0:
        return
    shard.slice_budget -= session.inflight_count // 4
    for i in range(<uint32_t>session.inflight_mask + 1):
        if session.bodies[i].message != NULL and session.bodies[i].number:
            park_body(shard, &session.bodies[i])


cdef void queue_rotate(Session* session) noexcept nogil:
    cdef Queue* queue = session.queue
    cdef uint32_t end = (queue.head + queue.count) & (queue.capacity - 1)
    if end != queue.head:       # of a full ring the end is the front
        queue.entries[end] = queue.entries[queue.head]
    queue.head = (queue.head + 1) & (queue.capacity - 1)


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


cdef void enter_pubrel(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil:
    cdef uint32_t slot = packet_id & session.inflight_mask
    mark_sent(session, packet_id)
    session.inflight[slot] = packet_id | INFLIGHT_PUBREL
    if session.bodies != NULL:
        note_end(shard, session, &session.bodies[slot], TRACKED_ACKNOWLEDGED)   # its receiver owns it now
        close_body(shard, session, &session.bodies[slot], OP_RECEIVED, packet_id)
        session.inflight_serial += 1
        session.bodies[slot].serial = session.inflight_serial


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


# ---------------------------------------------------------------- inbound QoS 2

# Few are a table with open addressing, in which neighbours stand side by side. Many are a bit for each identifier: a
# table would be searched through all of them, by whoever chooses his identifiers accordingly.

cdef inline bint is_bitmap(SessionExtra* extra) noexcept nogil:
    return extra.qos2_mask == BITMAP_MASK


cdef inline uint16_t bit_of(uint16_t packet_id) noexcept nogil:
    return <uint16_t>(1 << (packet_id & 15))


cdef inline uint32_t qos2_slot(SessionExtra* extra, uint16_t packet_id) noexcept nogil:
    # Where the identifier is, or the free slot where it would be.
    cdef uint32_t slot = packet_id & extra.qos2_mask
    while extra.qos2_ids[slot] != 0 and extra.qos2_ids[slot] != packet_id:
        slot = (slot + 1) & extra.qos2_mask
    return slot


cdef bint qos2_known(Session* session, uint16_t packet_id) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    if extra == NULL or extra.qos2_count == 0:
        return False
    if is_bitmap(extra):
        return extra.qos2_ids[packet_id >> 4] & bit_of(packet_id) != 0
    return extra.qos2_ids[qos2_slot(extra, packet_id)] == packet_id


cdef void grow_qos2(SessionExtra* extra) noexcept nogil:
    cdef uint16_t* before = extra.qos2_ids
    cdef uint32_t i, slots = extra.qos2_mask + 1 if before != NULL else 0
    extra.qos2_mask = slots * 2 - 1 if slots else FIRST_QOS2_IDS - 1
    extra.qos2_ids = <uint16_t*>take_zeroed(<size_t>(extra.qos2_mask + 1) * sizeof(uint16_t))
    for i in range(slots):
        if before[i]:
            extra.qos2_ids[qos2_slot(extra, before[i])] = before[i]
    give_memory(before)


cdef void become_bitmap(SessionExtra* extra) noexcept nogil:
    cdef uint16_t* before = extra.qos2_ids
    cdef uint32_t i
    extra.qos2_ids = <uint16_t*>take_zeroed(BITMAP_BYTES)
    for i in range(extra.qos2_mask + 1):
        if before[i]:
            extra.qos2_ids[before[i] >> 4] |= bit_of(before[i])
    extra.qos2_mask = BITMAP_MASK
    give_memory(before)


cdef void qos2_add(Session* session, uint16_t packet_id) noexcept nogil:
    cdef SessionExtra* extra = need_extra(session)
    if extra.qos2_ids == NULL or extra.qos2_count * 2 > extra.qos2_mask:    # never more than half full
        if extra.qos2_mask + 1 < TABLE_MAXIMUM:
            grow_qos2(extra)
        elif not is_bitmap(extra):
            become_bitmap(extra)
    extra.qos2_count += 1
    if is_bitmap(extra):
        extra.qos2_ids[packet_id >> 4] |= bit_of(packet_id)
    else:
        extra.qos2_ids[qos2_slot(extra, packet_id)] = packet_id


cdef void take_qos2_ids(Session* session, uint16_t* ids) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    cdef uint32_t i, count = 0
    if is_bitmap(extra):
        for i in range(1, 65536):
            if extra.qos2_ids[i >> 4] & bit_of(<uint16_t>i):
                ids[count] = <uint16_t>i
                count += 1
        return
    for i in range(extra.qos2_mask + 1):
        if extra.qos2_ids[i]:
            ids[count] = extra.qos2_ids[i]
            count += 1


cdef bint qos2_remove(Session* session, uint16_t packet_id) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    cdef uint32_t hole, slot, home
    if not qos2_known(session, packet_id):
        return False
    if is_bitmap(extra):
        extra.qos2_ids[packet_id >> 4] &= ~bit_of(packet_id)
        extra.qos2_count -= 1
        return True
    hole = qos2_slot(extra, packet_id)
    slot = hole
    while True:     # what was pushed past the hole moves back into it
        slot = (slot + 1) & extra.qos2_mask
        if extra.qos2_ids[slot] == 0:
            break
        home = extra.qos2_ids[slot] & extra.qos2_mask
        if ((slot - home) & extra.qos2_mask) >= ((slot - hole) & extra.qos2_mask):
            extra.qos2_ids[hole] = extra.qos2_ids[slot]
            hole = slot
    extra.qos2_ids[hole] = 0
    extra.qos2_count -= 1
    return True
