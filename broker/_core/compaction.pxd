# Chunks of which little is needed any more, or whose messages have expired, written again without what is done.
#
# Here belong which chunks these are, and what stays of one. Not here: reading it (loading), chunks as data (chunks).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport Chunk, Remains, ShardState
from broker._core.records cimport Record

cdef enum:
    YOUNG = 16                  # batches

# One that may still become empty by itself.
cdef inline bint is_young(ShardState* shard, Chunk* chunk) noexcept nogil:
    return chunk.ticket + YOUNG >= shard.journal.open_ticket

# Looks at some chunks, and has those read that are worth it. Before a batch is sealed.
cdef void look_for_waste(ShardState* shard) noexcept nogil
# A chunk was read: if it was for that, it is written again. Behind the checksum, as for loading.take_in.
cdef void compact(ShardState* shard, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil
# Whether records fill all the bytes: else what is done with one would have no effect on what stands behind it.
cdef bint is_whole(const uint8_t* at, const uint8_t* end) noexcept nogil
# A message with those of its deliveries that are needed, if any are. `drops_expired`: those that have expired leave
# their queues, too, and must leave the disk with this batch.
cdef void keep_record(ShardState* shard, Remains* remains, const Record* record, bint drops_expired) noexcept nogil
# The chunk is written again as what was kept, which stands from `begin` on.
cdef void write_again(ShardState* shard, Chunk* chunk, const Remains* remains, const uint8_t* begin) noexcept nogil
