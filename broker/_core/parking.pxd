# What waits for a session on disk alone, behind what is in memory: counted, dropped, and on its way there and back.
#
# Here belong the budgets and the records of what is parked. Not here: its structures (parked_ring), what becomes a run
# (runs), what a session needs next and asking for it (parked), reading messages (loading).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport Message, Parked, ParkedRing, QueueRun, Session, ShardState, SharedGroup
from broker._core.parked_ring cimport first_ring, ring_at

# The front of what is on disk alone, and there must be something; NULL: it has to be looked up (runs).
cdef inline Parked* parked_front(Session* session) noexcept nogil:
    cdef ParkedRing* ring = first_ring(session.durable)
    return ring_at(ring, 0) if ring != NULL else NULL
# Asks for the chunk in which the first of the runs that a queue begins with begins. False: there is none any more, and
# what the run had is lost.
cdef bint look_up(ShardState* shard, Session* session) noexcept nogil
cdef void drop_parked_front(ShardState* shard, Session* session) noexcept nogil
# Whether a number waits there, of those that are recorded for the session. And taken out, together with its delivery's
# record, which is not to be found any more when this batch is on disk; `size` and `tracked` as in that. False: it does
# not wait.
cdef bint is_parked(Session* session, uint64_t number) noexcept nogil
cdef bint drop_parked(
    ShardState* shard, Session* session, uint64_t number, uint32_t size, bint tracked) noexcept nogil
# What is left of a run is dropped, and nobody knows which messages that is.
cdef void forget_run(ShardState* shard, Session* session, QueueRun* run, int reason) noexcept nogil
# A number comes behind all that waits, parked or not: whether that is in order.
cdef void note_order(ShardState* shard, Session* session, uint64_t number) noexcept nogil
# Puts a delivery with a number behind everything that is queued, without its message.
cdef void park(
    ShardState* shard, Session* session, uint64_t number, uint32_t size, uint8_t qos, uint8_t retain,
    bint grouped, bint tracked) noexcept nogil
# The client has gone: what it has queued and in flight is on disk alone, as before it came.
cdef void park_all(ShardState* shard, Session* session) noexcept nogil
# The front of what is parked comes into memory, with its message, behind what is there.
cdef void unpark_front(
    ShardState* shard, Session* session, Message* message, SharedGroup* group, const uint32_t* identifiers,
    uint32_t count) noexcept nogil
