# The open batch is sealed: what was recorded becomes changes of the store's tables, with checksums.
#
# Here belong the values that are made of a batch, and what is known of them while they are under way and afterwards.
# Not here: what gets into a batch (journal, keyed_records, retained_records), who writes it (broker/storage).

from libc.stdint cimport uint32_t, uint64_t

from broker._core.model cimport Journal, ShardState

# So many bytes of ops are on disk under this ticket, the highest until now.
cdef void add_ops_record(Journal* journal, uint64_t ticket, uint32_t n) noexcept nogil
# Closes the open batch: its changes as a list of (table, key, value or None), None: there is nothing to write. At most
# one batch is under way.
cdef list seal_batch(ShardState* shard)
# The sealed batch is on disk.
cdef void batch_committed(ShardState* shard) noexcept nogil
