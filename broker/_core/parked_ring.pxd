# What waits for a session on disk alone, as it is known in memory: deliveries one by one, and runs of them.
#
# Where many wait, only how many they are, their bytes and the numbers between which they lie are kept of those in the
# middle: a run. Memory for a session has a limit then, however long its queue is.
#
# Here belong the structures. Not here: budgets and records (parking), what becomes a run and when it is looked up
# (runs).

from libc.stdint cimport int64_t, uint32_t, uint64_t

from broker._core.model cimport Durable, Parked, ParkedRing, QueueRun

# Counted from the front, which is 0.
cdef inline Parked* ring_at(ParkedRing* ring, uint32_t i) noexcept nogil:
    return &ring.entries[(ring.head + i) & (ring.capacity - 1)]

# A place at the end, or at the front, to be filled in.
cdef Parked* ring_push_back(ParkedRing* ring) noexcept nogil
cdef Parked* ring_push_front(ParkedRing* ring) noexcept nogil
# An empty ring has no memory.
cdef void ring_pop_front(ParkedRing* ring) noexcept nogil
cdef void ring_clear(ParkedRing* ring) noexcept nogil
# The first `count` move behind what `other` has.
cdef void ring_move(ParkedRing* ring, uint32_t count, ParkedRing* other) noexcept nogil
# Takes one out; those before it move up.
cdef void ring_remove(ParkedRing* ring, uint32_t at) noexcept nogil
# Where a number stands, -1: nowhere. Those that are in order are searched by halves.
cdef int64_t ring_find(ParkedRing* ring, uint64_t number, bint ordered) noexcept nogil

# The ring that the front of what waits is in, or would be put into; NULL: the front has to be looked up.
cdef inline ParkedRing* first_ring(Durable* durable) noexcept nogil:
    if durable.runs == NULL:
        return &durable.parked
    return &durable.runs.front if durable.runs.front.count else NULL

# A run behind the others. `apart`: something that does not wait may lie between the last one and this one. Neighbours
# become one where there would be more than RUNS_MAXIMUM.
cdef QueueRun* add_run(
    Durable* durable, uint64_t first, uint64_t last, uint32_t count, uint64_t size, bint apart) noexcept nogil
# In the next chunk this is the first delivery of a run; `before` is the last such number, or the run's first.
cdef void add_place(QueueRun* run, uint64_t before, uint64_t number) noexcept nogil
# What a chunk with this last number had of a run is known: the rest begins with the next place behind that, if any.
cdef void pass_places(QueueRun* run, uint64_t last) noexcept nogil
# The run that a number lies in, NULL: none.
cdef QueueRun* find_run(Durable* durable, uint64_t number) noexcept nogil
cdef void remove_run(Durable* durable, QueueRun* run) noexcept nogil
cdef void free_runs(Durable* durable) noexcept nogil
# Forgets the structure when nothing is in it: to be called after each of its parts has lost something.
cdef void trim_runs(Durable* durable) noexcept nogil
