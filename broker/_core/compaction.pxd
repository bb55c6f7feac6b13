# Chunks of which little is needed any more, or whose messages have expired, written again without what is done.
#
# Here belong which chunks these are, and what stays of one. Not here: reading it (loading), chunks as data (journal).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport ShardState

# Looks at some chunks, and has those read that are worth it. Before a batch is sealed.
cdef void look_for_waste(ShardState* shard) noexcept nogil
# A chunk was read: if it was for that, it is written again. Behind the checksum, as for loading.take_in.
cdef void compact(ShardState* shard, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil
