"""What waits for a session on disk alone. See parking.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from broker._core.budgets cimport count_drop, count_kept, queued_size
from broker._core.chunks cimport next_chunk, note_expiry, wait_for_chunk
from broker._core.durable_table cimport list_crowded
from broker._core.inflight cimport park_bodies
from broker._core.journal cimport end_pair
from broker._core.memory cimport give_memory, unlikely_
from broker._core.message cimport release_message
from broker._core.model cimport (
    DROP_LOST,
    WAITING_LOAD,
    WAITING_PARKED,
    WAITING_QUEUE,
    Chunk,
    Durable,
    Message,
    Parked,
    ParkedRing,
    Queue,
    Queued,
    QueueRun,
    Session,
    ShardState,
    SharedGroup,
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
from broker._core.progress cimport end_record, leave_gap, taken_out
from broker._core.queue cimport add_to_queue, queue_last
from broker._core.records cimport OP_DONE
from broker._core.topics cimport release_subscription
from broker._core.tracking cimport TRACKED_DROPPED, note


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


cdef void note_order(ShardState* shard, Session* session, uint64_t number) noexcept nogil:
    # Of what comes behind all that waits. A session may get one message several times, by its shared groups.
    cdef uint64_t last = last_queued(session)
    if unlikely_(number <= session.durable.high or number <= last):
        session.durable.unordered |= number <= session.durable.high or number < last
        leave_gap(shard, session.durable)


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


# ---------------------------------------------------------------- dropped

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


# ---------------------------------------------------------------- runs

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


# ---------------------------------------------------------------- from memory and back

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


cdef void park_all(ShardState* shard, Session* session) noexcept nogil:
    park_queue(shard, session)
    park_bodies(shard, session)
