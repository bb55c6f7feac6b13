# What waits for a session in memory: a ring of deliveries that were not sent yet, with their messages.
#
# Here belong its two ends, and what is recorded when a delivery leaves it. Not here: who gets in (queue_intake), what
# waits behind it on disk alone (parking), sending (deliver).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Message, Queue, Queued, Session, ShardState, SharedGroup

# Behind what is there. `identifiers` are copied, the message is held.
cdef void add_to_queue(
    ShardState* shard, Session* session, Message* message, SharedGroup* group, uint8_t qos, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
# The front of what is in memory, NULL: nothing is.
cdef Queued* queue_front(Session* session) noexcept nogil
# The end of a queue that is not empty.
cdef inline Queued* queue_last(Queue* queue) noexcept nogil:
    return &queue.entries[(queue.head + queue.count - 1) & (queue.capacity - 1)]
# The front is not delivered any more, or it was sent: what is on disk of it ends, or goes on as inflight.
cdef void queue_drop_front(ShardState* shard, Session* session) noexcept nogil
cdef void queue_sent_front(ShardState* shard, Session* session) noexcept nogil
# The front goes to the end: for who looks at all of it.
cdef void queue_rotate(Session* session) noexcept nogil
