"""Sessions on disk, by number. See durable_table.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from broker._core.memory cimport give_memory, resize_memory, take_zeroed
from broker._core.model cimport Durable, Journal, ShardState


cdef enum:
    FIRST_DURABLES = 64
    FIRST_CROWDED = 64


cdef void durables_open(Journal* journal) noexcept nogil:
    journal.durables = <Durable**>take_zeroed(FIRST_DURABLES * sizeof(void*))
    journal.durable_mask = FIRST_DURABLES - 1


cdef void grow_durables(Journal* journal) noexcept nogil:
    cdef Durable** before = journal.durables
    cdef Durable* durable
    cdef Durable* following
    cdef uint32_t i, count = journal.durable_mask + 1, bucket
    journal.durable_mask = count * 2 - 1
    journal.durables = <Durable**>take_zeroed(<size_t>count * 2 * sizeof(void*))
    for i in range(count):
        durable = before[i]
        while durable != NULL:
            following = durable.next
            bucket = durable_bucket(journal, durable.number)
            durable.next = journal.durables[bucket]
            journal.durables[bucket] = durable
            durable = following
    give_memory(before)


cdef void add_durable(ShardState* shard, Durable* durable) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint32_t bucket
    if journal.durable_count > journal.durable_mask:
        grow_durables(journal)
    bucket = durable_bucket(journal, durable.number)
    durable.next = journal.durables[bucket]
    journal.durables[bucket] = durable
    journal.durable_count += 1


cdef void remove_durable(ShardState* shard, Durable* durable) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Durable** link = &journal.durables[durable_bucket(journal, durable.number)]
    while link[0] != durable:
        link = &link[0].next
    link[0] = durable.next
    journal.durable_count -= 1
    unmark_flow(shard, durable)


cdef void mark_flow(ShardState* shard, Durable* durable) noexcept nogil:
    if durable.dirty or durable.ended:
        return
    durable.dirty = 1
    durable.dirty_previous = NULL
    durable.dirty_next = shard.journal.dirty_head
    if durable.dirty_next != NULL:
        durable.dirty_next.dirty_previous = durable
    shard.journal.dirty_head = durable
    shard.journal.dirty_count += 1


cdef void unmark_flow(ShardState* shard, Durable* durable) noexcept nogil:
    if not durable.dirty:
        return
    durable.dirty = 0
    if durable.dirty_previous != NULL:
        durable.dirty_previous.dirty_next = durable.dirty_next
    elif shard.journal.folding_head == durable:
        shard.journal.folding_head = durable.dirty_next
    else:
        shard.journal.dirty_head = durable.dirty_next
    if durable.dirty_next != NULL:
        durable.dirty_next.dirty_previous = durable.dirty_previous
    shard.journal.dirty_count -= 1


cdef void list_crowded(ShardState* shard, Durable* durable) noexcept nogil:
    cdef Journal* journal = &shard.journal
    durable.crowded = 1
    if journal.crowded_count == journal.crowded_capacity:
        journal.crowded_capacity = journal.crowded_capacity * 2 if journal.crowded_capacity else FIRST_CROWDED
        journal.crowded = <uint64_t*>resize_memory(
            journal.crowded, <size_t>journal.crowded_capacity * sizeof(uint64_t))
    journal.crowded[journal.crowded_count] = durable.number
    journal.crowded_count += 1
