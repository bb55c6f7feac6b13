# Long queues on disk, of which memory keeps runs instead of each delivery: made, and looked up again.
#
# A run says that of the messages between two numbers the session has so many, and so many bytes. Which they are stands
# in the chunks. That is enough as long as every delivery that is recorded there for the session waits: a gap, which is
# one that does not, is never within a run (`Durable.whole_from`). So a run is made of what is on disk, and has been
# offered to everybody it was recorded for.
#
# Here belong which deliveries become a run, and what a chunk says of one. Not here: the structures (parked_ring),
# asking for a chunk (parked), messages (loading).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport Chunk, Durable, ShardState

# Of crowded queues, before a batch is sealed: until then nothing of what waits in one is only about to be written.
cdef void make_runs(ShardState* shard) noexcept nogil
# Of one queue, whatever its length. `below`: those with lower numbers are on disk, and have been offered.
cdef void make_run(ShardState* shard, Durable* durable, uint64_t below) noexcept nogil
# A chunk was read: for those who wait for it since the front of their queue is a run, what it has of that. NULL: it
# cannot be read. Returns how many deliveries were lost with it.
cdef uint32_t look_up_runs(ShardState* shard, Chunk* chunk, const uint8_t* at, uint32_t n) noexcept nogil
