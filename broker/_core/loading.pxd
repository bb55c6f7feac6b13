# Chunks of messages that sessions have waited for, taken in.
#
# Here belongs what becomes of a chunk's bytes: each session that waits is told what of its queue is in it, and gets
# what it needs next, a page at most. Not here: who waits for what (parked), what a run is (runs), reading the disk (the
# Store).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport ShardState

# The key of a chunk that has to be read, 0: there is none.
cdef uint64_t next_ask(ShardState* shard) noexcept nogil
# It could not be read, and is asked for again.
cdef void ask_again(ShardState* shard, uint64_t key) noexcept nogil
# Its bytes behind the checksum, or NULL when it cannot be read; returns how many deliveries were lost with it.
cdef uint32_t take_in(ShardState* shard, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil
