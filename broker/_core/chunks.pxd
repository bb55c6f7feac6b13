# The chunks of messages that are on disk: their list in the order of numbers, and which are to be read.
#
# Here belong finding a chunk, waiting for it and asking for it. Not here: writing one (sealing, compaction, merging),
# when one goes (journal), taking in what was read (loading).

from libc.stdint cimport int64_t, uint32_t, uint64_t

from broker._core.message cimport NEVER_EXPIRES
from broker._core.model cimport Chunk, Durable, Journal, Message, ShardState

cdef enum:
    SECOND_NS = 1000000000

# A chunk at the end of the list; its number of living pairs is counted by the caller.
cdef Chunk* add_chunk(ShardState* shard, uint64_t first, uint64_t last) noexcept nogil
# Where in the list the first chunk stands that has this number or higher ones, gone ones included.
cdef uint32_t chunk_index(Journal* journal, uint64_t number) noexcept nogil
# The chunk that has a number: one that is there, or has been while it is still listed; or NULL.
cdef Chunk* chunk_at(Journal* journal, uint64_t number) noexcept nogil
# The first living one that has this number or higher ones, NULL: there is none.
cdef Chunk* next_chunk(Journal* journal, uint64_t number) noexcept nogil
# The one with the number, living.
cdef Chunk* find_chunk(Journal* journal, uint64_t number) noexcept nogil

# When a message expires, 0: never; and a chunk has one that expires then.
cdef inline int64_t expires_at_ns(Message* message) noexcept nogil:
    return message.received_at_ns + <int64_t>message.message_expiry_s * SECOND_NS \
        if message.message_expiry_s != NEVER_EXPIRES else 0
cdef inline void expires_with(Chunk* chunk, int64_t expires_at_ns) noexcept nogil:
    if expires_at_ns and (chunk.expires_at_ns == 0 or expires_at_ns < chunk.expires_at_ns):
        chunk.expires_at_ns = expires_at_ns
# A message of a chunk is on disk alone from now on: when it has expired, its chunk is looked at (see compaction).
cdef void note_expiry(Journal* journal, Message* message) noexcept nogil

# A session waits for a chunk to be read, which is asked for; and does not any more.
cdef void wait_for_chunk(ShardState* shard, Durable* durable, Chunk* chunk) noexcept nogil
cdef void stop_waiting(ShardState* shard, Durable* durable) noexcept nogil
# A chunk is to be read.
cdef void ask_for(ShardState* shard, Chunk* chunk) noexcept nogil
