# What must be durable, gathered into batches with tickets; and which messages on disk are still needed.
#
# A message gets a number when the first session on disk takes it. While it is routed its deliveries (pairs) are
# gathered; with the end of the routing it is an entry of the open batch. What all have acknowledged before the batch is
# sealed is never written. What has been written lies in a chunk with others of its batch, and a chunk goes when nobody
# needs any of it. A batch that was sealed is committed, sooner or later: the Store's owner sees to that.
#
# Here belong the batch, the chunks and the numbers as data. Not here: who writes a batch (broker/storage), what a
# promise is (promises) and what it sends (acks), the records of sessions (durable).

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.message cimport Outgoing
from broker._core.model cimport Chunk, Durable, Journal, JournalEntry, Message, SharedGroup, ShardState

cdef void journal_open(ShardState* shard) noexcept nogil
cdef void journal_close(ShardState* shard) noexcept nogil

# Whether the open batch holds anything.
cdef inline bint has_batch(Journal* journal) noexcept nogil:
    return journal.live_entries != 0 or journal.ops_bytes != 0 or journal.put_count != 0 or \
        journal.retained_count != journal.retained_gone
# The ticket of everything that was recorded until now; it may be settled already.
cdef inline uint64_t newest_ticket(Journal* journal) noexcept nogil:
    return journal.open_ticket if has_batch(journal) else journal.open_ticket - 1

# ---------------------------------------------------------------- a message and its deliveries

# Between these two, deliveries are gathered. `end_routing` returns the ticket of the message's record, 0: it has none,
# since no session on disk took it. They do not nest.
cdef inline void begin_routing(ShardState* shard) noexcept nogil:
    shard.journal.recording = 1
    shard.journal.routing_at = shard.journal.pairs_bytes
    shard.journal.routing_count = 0
cdef uint64_t end_routing(ShardState* shard, uint32_t account_id, Outgoing* out) noexcept nogil
# One delivery of what is being routed; the message gets its number with the first. `identifiers` are copied.
cdef void add_pair(
    ShardState* shard, Outgoing* out, Durable* durable, uint16_t packet_id, uint8_t qos, uint8_t retain,
    const uint32_t* identifiers, uint32_t count, SharedGroup* group) noexcept nogil
# A delivery needs its message no more. `kind` is OP_DONE, OP_RECEIVED, or 0: the session itself is gone from the disk.
# `message` is NULL when it is not in memory. `ending`: nobody has acknowledged it, its session ends.
cdef void end_pair(
    ShardState* shard, uint64_t session, uint64_t number, Message* message, uint8_t kind, uint16_t packet_id,
    bint ending) noexcept nogil
# Something that happened, for the open batch.
cdef void add_op(
    ShardState* shard, uint8_t kind, uint64_t session, uint64_t number, uint16_t packet_id) noexcept nogil
# The entry of a number that is in the open or in the sealed batch, and where its deliveries lie; or NULL.
cdef JournalEntry* find_unwritten(Journal* journal, uint64_t number, const uint8_t** pairs) noexcept nogil

# ---------------------------------------------------------------- keyed records

# Room for a record's value, to be filled by the caller before anything else is recorded.
cdef uint8_t* put_record(
    ShardState* shard, uint8_t table, const uint8_t* key, uint32_t key_bytes, uint32_t value_bytes) noexcept nogil
cdef void delete_record(ShardState* shard, uint8_t table, const uint8_t* key, uint32_t key_bytes) noexcept nogil
# The same, of records whose key is a number.
cdef uint8_t* put_numbered(ShardState* shard, uint8_t table, uint64_t number, uint32_t value_bytes) noexcept nogil
cdef void delete_numbered(ShardState* shard, uint8_t table, uint64_t number) noexcept nogil

# ---------------------------------------------------------------- chunks

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

# A message of a chunk is on disk alone from now on: when it has expired, its chunk is looked at (see compaction).
cdef void note_expiry(Journal* journal, Message* message) noexcept nogil

# A session waits for a chunk to be read, which is asked for; and does not any more.
cdef void wait_for_chunk(ShardState* shard, Durable* durable, Chunk* chunk) noexcept nogil
cdef void stop_waiting(ShardState* shard, Durable* durable) noexcept nogil
# A chunk is to be read.
cdef void ask_for(ShardState* shard, Chunk* chunk) noexcept nogil

# ---------------------------------------------------------------- sessions on disk, by number

cdef void add_durable(ShardState* shard, Durable* durable) noexcept nogil
cdef Durable* find_durable(ShardState* shard, uint64_t number) noexcept nogil
cdef void remove_durable(ShardState* shard, Durable* durable) noexcept nogil
# Runs are made of its queue before the next batch is sealed.
cdef void list_crowded(ShardState* shard, Durable* durable) noexcept nogil
cdef void mark_flow(ShardState* shard, Durable* durable) noexcept nogil
cdef void unmark_flow(ShardState* shard, Durable* durable) noexcept nogil

# ---------------------------------------------------------------- the batch

# So many bytes of ops are on disk under this ticket, the highest until now.
cdef void add_ops_record(Journal* journal, uint64_t ticket, uint32_t n) noexcept nogil

# Closes the open batch: its changes as a list of (table, key, value or None), None: there is nothing to write. At most
# one batch is under way.
cdef list seal_batch(ShardState* shard)
# The sealed batch is on disk.
cdef void batch_committed(ShardState* shard) noexcept nogil
