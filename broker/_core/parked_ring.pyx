"""Rings of parked deliveries, and runs of them. See parked_ring.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from broker._core.cursor cimport NUMBER_BYTES, get_number, put_number
from broker._core.memory cimport give_memory, resize_memory, take_memory, take_zeroed
from broker._core.model cimport Durable, Parked, ParkedRing, QueueRun, QueueRuns


cdef enum:
    FIRST_PARKED = 8
    FIRST_RUNS = 1              # most have one
    RUNS_MAXIMUM = 32           # of one session, unless they have to be kept apart


# ---------------------------------------------------------------- one by one

cdef void grow(ParkedRing* ring) noexcept nogil:
    cdef uint32_t capacity = ring.capacity * 2 if ring.capacity else FIRST_PARKED
    cdef Parked* grown = <Parked*>take_memory(<size_t>capacity * sizeof(Parked))
    cdef uint32_t i
    for i in range(ring.count):
        grown[i] = ring_at(ring, i)[0]
    give_memory(ring.entries)
    ring.entries = grown
    ring.head = 0
    ring.capacity = capacity


cdef Parked* ring_push_back(ParkedRing* ring) noexcept nogil:
    if ring.count == ring.capacity:
        grow(ring)
    ring.count += 1
    return ring_at(ring, ring.count - 1)


cdef Parked* ring_push_front(ParkedRing* ring) noexcept nogil:
    if ring.count == ring.capacity:
        grow(ring)
    ring.head = (ring.head - 1) & (ring.capacity - 1)
    ring.count += 1
    return &ring.entries[ring.head]


cdef void ring_clear(ParkedRing* ring) noexcept nogil:
    give_memory(ring.entries)
    ring.entries = NULL
    ring.head = 0
    ring.count = 0
    ring.capacity = 0


cdef void ring_pop_front(ParkedRing* ring) noexcept nogil:
    ring.head = (ring.head + 1) & (ring.capacity - 1)
    ring.count -= 1
    if ring.count == 0:
        ring_clear(ring)


cdef void ring_move(ParkedRing* ring, uint32_t count, ParkedRing* other) noexcept nogil:
    cdef uint32_t _
    for _ in range(count):
        ring_push_back(other)[0] = ring_at(ring, 0)[0]
        ring_pop_front(ring)


cdef void ring_remove(ParkedRing* ring, uint32_t at) noexcept nogil:
    cdef uint32_t i
    for i in range(at, 0, -1):
        ring_at(ring, i)[0] = ring_at(ring, i - 1)[0]
    ring_pop_front(ring)


cdef int64_t find_by_halves(ParkedRing* ring, uint64_t number) noexcept nogil:
    cdef uint32_t low = 0, high = ring.count, middle
    while low < high:
        middle = (low + high) // 2
        if ring_at(ring, middle).number < number:
            low = middle + 1
        else:
            high = middle
    return low if low < ring.count and ring_at(ring, low).number == number else -1


cdef int64_t ring_find(ParkedRing* ring, uint64_t number, bint ordered) noexcept nogil:
    cdef uint32_t i
    if ordered:
        return find_by_halves(ring, number)
    for i in range(ring.count):
        if ring_at(ring, i).number == number:
            return i
    return -1


# ---------------------------------------------------------------- runs

# Places are distances: three bytes each, where a million messages lie between.

cdef void append_places(QueueRun* run, const uint8_t* bytes_, uint32_t n) noexcept nogil:
    # To the byte: most runs have few, and few get more.
    run.places = <uint8_t*>resize_memory(run.places, run.places_bytes + n)
    memcpy(run.places + run.places_bytes, bytes_, n)
    run.places_bytes += n


cdef uint64_t next_distance(QueueRun* run, uint32_t* at) noexcept nogil:
    cdef uint64_t distance
    at[0] = <uint32_t>(get_number(run.places + at[0], run.places + run.places_bytes, &distance) - run.places)
    return distance


cdef uint64_t last_place(QueueRun* run) noexcept nogil:
    cdef uint64_t place = run.place
    cdef uint32_t at = run.places_at
    while at < run.places_bytes:
        place += next_distance(run, &at)
    return place


cdef void add_place(QueueRun* run, uint64_t before, uint64_t number) noexcept nogil:
    cdef uint8_t[NUMBER_BYTES] distance
    append_places(run, distance, <uint32_t>(put_number(distance, number - before) - distance))


cdef void pass_places(QueueRun* run, uint64_t last) noexcept nogil:
    while run.place <= last and run.places_at < run.places_bytes:
        run.place += next_distance(run, &run.places_at)
    run.first = run.place if run.place > last else run.last + 1


cdef inline bint may_join(QueueRun* run, QueueRun* following) noexcept nogil:
    # The length of a run has 32 bits in a flow record.
    return not following.apart and following.last - run.first <= <uint64_t>0xFFFFFFFF


cdef void join(QueueRun* run, QueueRun* following) noexcept nogil:
    # Only the first run is ever read from, so that the one that follows is as it was made.
    add_place(run, last_place(run), following.first)
    append_places(run, following.places, following.places_bytes)
    give_memory(following.places)
    run.last = following.last
    run.count += following.count
    run.bytes += following.bytes


cdef void join_runs(QueueRuns* runs) noexcept nogil:
    # Pairs of neighbours.
    cdef uint32_t i = 0, kept = 0
    while i < runs.count:
        runs.runs[kept] = runs.runs[i]
        if i + 1 < runs.count and may_join(&runs.runs[i], &runs.runs[i + 1]):
            i += 1
            join(&runs.runs[kept], &runs.runs[i])
        kept += 1
        i += 1
    runs.count = kept


cdef QueueRuns* need_runs(Durable* durable) noexcept nogil:
    if durable.runs == NULL:
        durable.runs = <QueueRuns*>take_zeroed(sizeof(QueueRuns))
    return durable.runs


cdef QueueRun* add_run(
        Durable* durable, uint64_t first, uint64_t last, uint32_t count, uint64_t size, bint apart) noexcept nogil:
    cdef QueueRuns* runs = need_runs(durable)
    cdef QueueRun* run
    if runs.count >= RUNS_MAXIMUM:
        join_runs(runs)
    if runs.count == runs.capacity:
        runs.capacity = runs.capacity * 2 if runs.capacity else FIRST_RUNS
        runs.runs = <QueueRun*>resize_memory(runs.runs, <size_t>runs.capacity * sizeof(QueueRun))
    run = &runs.runs[runs.count]
    runs.count += 1
    memset(run, 0, sizeof(QueueRun))
    run.first = first
    run.last = last
    run.place = first
    run.count = count
    run.bytes = size
    run.apart = apart
    return run


cdef QueueRun* find_run(Durable* durable, uint64_t number) noexcept nogil:
    cdef uint32_t i
    if durable.runs == NULL:
        return NULL
    for i in range(durable.runs.count):
        if durable.runs.runs[i].first <= number <= durable.runs.runs[i].last:
            return &durable.runs.runs[i]
    return NULL


cdef void remove_run(Durable* durable, QueueRun* run) noexcept nogil:
    cdef QueueRuns* runs = durable.runs
    cdef uint32_t at = <uint32_t>(run - runs.runs)
    if at + 1 < runs.count and run.apart:   # what lay before it lies before the next one
        run[1].apart = 1
    give_memory(run.places)
    memmove(run, run + 1, (runs.count - at - 1) * sizeof(QueueRun))
    runs.count -= 1
    trim_runs(durable)


cdef void free_runs(Durable* durable) noexcept nogil:
    cdef uint32_t i
    if durable.runs == NULL:
        return
    for i in range(durable.runs.count):
        give_memory(durable.runs.runs[i].places)
    ring_clear(&durable.runs.front)
    give_memory(durable.runs.runs)
    give_memory(durable.runs)
    durable.runs = NULL


cdef void trim_runs(Durable* durable) noexcept nogil:
    if durable.runs != NULL and durable.runs.count == 0 and durable.runs.front.count == 0:
        free_runs(durable)
