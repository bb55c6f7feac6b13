# Long queues on disk, of which memory keeps runs instead of each delivery: made, and looked up again.
#
# A run says that of the messages between two numbers the session has so many, and so many bytes. Which they are stands
# in the chunks. That is enough as long as every delivery that is recorded there for the session waits: a gap, which is
# one that does not, is never within a run (`Durable.whole_from`). So a run is made of what is on disk, and has been
# offered to everybody it was recorded for.
#
# Here belong which deliveries become a run, and what a chunk says of one. Not here: the structures (parked_ring),
# asking for a chunk (parked), messages (loading).

from libc.stdint cimport uint32_t, uint64_t

from broker._core.model cimport Chunk, Durable, ShardState
from broker._core.records cimport PairRecord, Record

# Of crowded queues, before a batch is sealed: until then nothing of what waits in one is only about to be written.
cdef void make_runs(ShardState* shard) noexcept nogil
# Of one queue, whatever its length. `below`: those with lower numbers are on disk, and have been offered.
cdef void make_run(ShardState* shard, Durable* durable, uint64_t below) noexcept nogil
# Whether the front of a queue is a run, and some of it may be in this chunk.
cdef bint begins_in(Durable* durable, Chunk* chunk) noexcept nogil
# A delivery for the session is in that chunk: if it is of the run, it is known from now on.
cdef void look_up_pair(Durable* durable, const Record* record, const PairRecord* pair) noexcept nogil
# All of the chunk has been looked through, or cannot be read: what the run still has lies behind it. Returns how many
# deliveries should, and do not: they are lost.
cdef uint32_t pass_chunk(ShardState* shard, Durable* durable, Chunk* chunk, bint is_readable) noexcept nogil
