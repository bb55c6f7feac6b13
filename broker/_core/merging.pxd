# Small chunks that lie side by side, and stay, made one: each has a place in memory, and is read by itself.
#
# Here belong which chunks these are, and the one that they become. Not here: what stays of a chunk (compaction),
# reading it (loading), chunks as data (chunks).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport ShardState

# Where there are many chunks: looks at some, and has some of them read. Before a batch is sealed.
cdef void look_for_small(ShardState* shard) noexcept nogil
# A chunk was read: if it was for that, its part is taken; with the last of them, they are written as one. Behind the
# checksum, NULL: it cannot be read.
cdef void take_part(ShardState* shard, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil
