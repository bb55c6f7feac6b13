# Chunks of which little is needed any more, or whose messages have expired, written again without what is done.
#
# Here belong which chunks these are, and what stays of one. Not here: reading it (loading), chunks as data (journal).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport Remains, ShardState
from broker._core.records cimport Record

# Looks at some chunks, and has those read that are worth it. Before a batch is sealed.
cdef void look_for_waste(ShardState* shard) noexcept nogil
# A chunk was read: if it was for that, it is written again. Behind the checksum, as for loading.take_in.
cdef void compact(ShardState* shard, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil
# Whether records fill all the bytes: else what is done with one would have no effect on what stands behind it.
cdef bint is_whole(const uint8_t* at, const uint8_t* end) noexcept nogil
# A message with those of its deliveries that are needed, if any are. `drops_expired`: those that have expired leave
# their queues, too, and must leave the disk with this batch.
cdef void keep_record(ShardState* shard, Remains* remains, const Record* record, bint drops_expired) noexcept nogil
