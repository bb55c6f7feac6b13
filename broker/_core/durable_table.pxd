# Sessions on disk: their table by number, and the lists of those for which something is to be written.
#
# Here belong the table, the sessions with ops that no flow record of theirs contains (fold), and those that are crowded
# (runs). Not here: their records (durable), the table by client identifier (session).

from libc.stdint cimport uint32_t, uint64_t

from broker._core.model cimport Durable, Journal, ShardState

cdef inline uint32_t durable_bucket(Journal* journal, uint64_t number) noexcept nogil:
    return <uint32_t>(number * <uint64_t>0x9E3779B97F4A7C15 >> 32) & journal.durable_mask
cdef void durables_open(Journal* journal) noexcept nogil
cdef void add_durable(ShardState* shard, Durable* durable) noexcept nogil
cdef inline Durable* find_durable(ShardState* shard, uint64_t number) noexcept nogil:
    cdef Durable* durable = shard.journal.durables[durable_bucket(&shard.journal, number)]
    while durable != NULL and durable.number != number:
        durable = durable.next
    return durable
cdef void remove_durable(ShardState* shard, Durable* durable) noexcept nogil
# Its flow record is to be written again; and is not any more.
cdef void mark_flow(ShardState* shard, Durable* durable) noexcept nogil
cdef void unmark_flow(ShardState* shard, Durable* durable) noexcept nogil
# Runs are made of its queue before the next batch is sealed.
cdef void list_crowded(ShardState* shard, Durable* durable) noexcept nogil
