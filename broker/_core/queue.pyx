"""What waits for a session in memory. See queue.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.budgets cimport count_kept, queued_size
from broker._core.memory cimport give_memory, take_memory, take_zeroed, unlikely_
from broker._core.message cimport hold_message, release_message
from broker._core.model cimport WAITING_QUEUE, Message, Queue, Queued, Session, ShardState, SharedGroup
from broker._core.progress cimport end_record, leave_gap, taken_out
from broker._core.records cimport OP_DONE
from broker._core.topics cimport release_subscription
from broker._core.tracking cimport TRACKED_DROPPED, note


cdef enum:
    FIRST_QUEUE = 8


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


cdef inline void count_queued(ShardState* shard, Session* session, uint64_t size, int sign) noexcept nogil:
    session.queue.bytes += sign * size
    count_kept(shard, session, size, sign)


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


cdef void queue_rotate(Session* session) noexcept nogil:
    cdef Queue* queue = session.queue
    cdef uint32_t end = (queue.head + queue.count) & (queue.capacity - 1)
    if end != queue.head:       # of a full ring the end is the front
        queue.entries[end] = queue.entries[queue.head]
    queue.head = (queue.head + 1) & (queue.capacity - 1)
