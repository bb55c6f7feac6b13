"""Runs of long queues, made and looked up. See runs.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from broker._core.budgets cimport queue_full_policy
from broker._core.chunks cimport next_chunk
from broker._core.durable_table cimport find_durable
from broker._core.fold cimport first_unoffered
from broker._core.memory cimport give_memory, take_memory
from broker._core.model cimport (
    DROP_LOST,
    QUEUE_DROPS_OLDEST,
    Chunk,
    Durable,
    Journal,
    Parked,
    ParkedRing,
    QueueRun,
    ShardState,
)
from broker._core.parked_ring cimport (
    add_place,
    add_run,
    pass_places,
    remove_run,
    ring_at,
    ring_clear,
    ring_move,
    ring_push_back,
)
from broker._core.parking cimport forget_run, parked_front
from broker._core.records cimport PAIR_GROUP, PAIR_RETAIN, PairRecord, Record, delivery_size


cdef enum:
    SESSIONS_PER_BATCH = 4096
    SHORTEST = 2                # a run that is shorter takes more memory than what it stands for


# ---------------------------------------------------------------- made

cdef void find_candidates(ParkedRing* ring, uint64_t whole_from, uint64_t below, uint32_t* begin, uint32_t* end) \
        noexcept nogil:
    # Behind the last gap numbers only grow.
    begin[0] = 0
    while begin[0] < ring.count and ring_at(ring, begin[0]).number < whole_from:
        begin[0] += 1
    end[0] = begin[0]
    while end[0] < ring.count and ring_at(ring, end[0]).number < below:
        end[0] += 1


cdef void mark_places(ShardState* shard, QueueRun* run, ParkedRing* ring, uint32_t count) noexcept nogil:
    # Where the chunks are in which it has something: those between are not read for it.
    cdef Chunk* chunk = next_chunk(&shard.journal, run.first)
    cdef uint64_t number, before = run.first
    cdef uint32_t i
    for i in range(count):
        number = ring_at(ring, i).number
        if chunk == NULL or number > chunk.last:
            add_place(run, before, number)
            before = number
            chunk = next_chunk(&shard.journal, number)


cdef void make_run(ShardState* shard, Durable* durable, uint64_t below) noexcept nogil:
    cdef ParkedRing* ring = &durable.parked
    cdef ParkedRing before
    cdef uint32_t i, begin, end
    cdef uint64_t first, last = 0, size = 0
    cdef bint apart = False
    if queue_full_policy(shard, durable.session.principal.account) == QUEUE_DROPS_OLDEST:
        return      # its front has to be known at any moment
    find_candidates(ring, durable.whole_from, below, &begin, &end)
    if end - begin < SHORTEST or (begin and durable.runs != NULL):
        return
    first = ring_at(ring, begin).number
    for i in range(begin, end):
        last = ring_at(ring, i).number
        size += ring_at(ring, i).size
    if durable.runs != NULL and durable.runs.count:
        apart = durable.whole_from > durable.runs.runs[durable.runs.count - 1].last
    before.entries = NULL
    ring_clear(&before)
    ring_move(ring, begin, &before)
    mark_places(shard, add_run(durable, first, last, end - begin, size, apart), ring, end - begin)
    if begin:
        durable.runs.front = before
    ring_drop(ring, end - begin)


cdef void ring_drop(ParkedRing* ring, uint32_t count) noexcept nogil:
    # And no more memory than what stays needs.
    cdef ParkedRing rest
    rest.entries = NULL
    ring_clear(&rest)
    ring.head = (ring.head + count) & (ring.capacity - 1)
    ring.count -= count
    ring_move(ring, ring.count, &rest)
    ring_clear(ring)
    ring[0] = rest


cdef bint is_unsettled(Durable* durable, uint64_t below) noexcept nogil:
    return durable.parked.count >= SHORTEST and \
        ring_at(&durable.parked, durable.parked.count - 1).number >= below


cdef bint look_at_crowded(ShardState* shard, uint64_t session, uint64_t below) noexcept nogil:
    # True: it is looked at again.
    cdef Durable* durable = find_durable(shard, session)
    if durable == NULL or durable.ended:
        return False
    make_run(shard, durable, below)
    if is_unsettled(durable, below):
        return True
    durable.crowded = 0
    durable.crowded_at = max(shard.journal.crowded_at, 2 * durable.parked.count)    # what stays, stays for long
    return False


cdef void make_runs(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint64_t* first = journal.crowded
    cdef uint64_t below, session
    cdef uint32_t i, again = 0, count = min(journal.crowded_count, <uint32_t>SESSIONS_PER_BATCH)
    if count == 0:
        return
    below = min(first_unoffered(shard), journal.sealed_through + 1)
    for i in range(count):
        session = first[i]
        if look_at_crowded(shard, session, below):
            first[again] = session
            again += 1
    # Those that are looked at again come behind the ones whose turn it has not been.
    rotate(first, again, count, journal.crowded_count)
    journal.crowded_count -= count - again


cdef void rotate(uint64_t* first, uint32_t again, uint32_t looked_at, uint32_t count) noexcept nogil:
    cdef size_t n = again * sizeof(uint64_t)
    cdef uint64_t* aside
    if count == looked_at:
        return
    aside = <uint64_t*>take_memory(n + 1)
    memcpy(aside, first, n)
    memmove(first, first + looked_at, (count - looked_at) * sizeof(uint64_t))
    memcpy(first + count - looked_at, aside, n)
    give_memory(aside)


# ---------------------------------------------------------------- looked up

cdef bint begins_in(Durable* durable, Chunk* chunk) noexcept nogil:
    return durable.parked_count != 0 and parked_front(durable.session) == NULL and \
        chunk.first <= durable.runs.runs[0].last and durable.runs.runs[0].first <= chunk.last


cdef void look_up_pair(Durable* durable, const Record* record, const PairRecord* pair) noexcept nogil:
    cdef QueueRun* run = &durable.runs.runs[0]
    cdef uint64_t number = record.head.number
    cdef uint32_t size = delivery_size(record, pair)
    cdef Parked* parked
    if not run.first <= number <= run.last or run.count == 0 or not 1 <= pair.head.flags & 3 <= 2:
        return
    parked = ring_push_back(&durable.runs.front)
    parked.number = number
    parked.size = size
    parked.qos = pair.head.flags & 3
    parked.retain = pair.head.flags & PAIR_RETAIN != 0
    parked.grouped = pair.head.flags & PAIR_GROUP != 0
    parked.tracked = record.message.tracking != 0
    run.count -= 1
    run.bytes -= size


cdef uint32_t pass_chunk(ShardState* shard, Durable* durable, Chunk* chunk, bint is_readable) noexcept nogil:
    cdef QueueRun* run = &durable.runs.runs[0]
    cdef uint32_t lost = 0
    pass_places(run, chunk.last)
    if not is_readable:
        run.unread = chunk.first
    if run.count == 0:
        remove_run(durable, run)
    elif run.first > run.last:
        lost = run.count
        forget_run(shard, durable.session, run, DROP_LOST)
    return lost
