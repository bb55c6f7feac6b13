# What must be durable, gathered into batches with tickets; and which messages on disk are still needed.
#
# A message gets a number when the first session on disk takes it. While it is routed its deliveries (pairs) are
# gathered; with the end of the routing it is an entry of the open batch. What all have acknowledged before the batch is
# sealed is never written. What has been written lies in a chunk with others of its batch, and a chunk goes when nobody
# needs any of it. A batch that was sealed is committed, sooner or later: the Store's owner sees to that.
#
# Here belong messages, their deliveries and ops, as they are recorded and end. Not here: other records (keyed_records),
# how a batch is sealed (sealing) and who writes it (broker/storage), the list of chunks (chunks), what a promise is
# (promises) and what it sends (acks).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.message cimport Outgoing
from broker._core.model cimport Durable, Journal, JournalEntry, Message, ShardState, SharedGroup

cdef enum:
    TIDY_FIRST = 1024

cdef void journal_open(ShardState* shard) noexcept nogil
cdef void journal_close(ShardState* shard) noexcept nogil

# Whether the open batch holds anything.
cdef inline bint has_batch(Journal* journal) noexcept nogil:
    return journal.live_entries != 0 or journal.ops_bytes != 0 or journal.put_count != 0 or \
        journal.retained_count != journal.retained_gone
# The ticket of everything that was recorded until now; it may be settled already.
cdef inline uint64_t newest_ticket(Journal* journal) noexcept nogil:
    return journal.open_ticket if has_batch(journal) else journal.open_ticket - 1

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
# Lets go of the messages of a batch that is on disk, or will never be.
cdef void release_entries(ShardState* shard, JournalEntry* entries, uint32_t count) noexcept nogil
