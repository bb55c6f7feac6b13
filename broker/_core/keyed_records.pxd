# Records of the open batch that are put or deleted under a key of their own, in the order in which that is to happen.
#
# Here belongs how they lie in the batch until it is sealed. Not here: what is in them (records, and whoever writes
# one), messages and ops, which have no keys of their own (journal), sealing.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.model cimport ShardState

cdef struct PutHead:                # of a keyed record in the batch: key and value follow
    uint32_t value_bytes
    uint16_t key_bytes
    uint8_t table
    uint8_t deletes

# Room for a record's value, to be filled by the caller before anything else is recorded.
cdef uint8_t* put_record(
    ShardState* shard, uint8_t table, const uint8_t* key, uint32_t key_bytes, uint32_t value_bytes) noexcept nogil
cdef void delete_record(ShardState* shard, uint8_t table, const uint8_t* key, uint32_t key_bytes) noexcept nogil
# The same, of records whose key is a number.
cdef uint8_t* put_numbered(ShardState* shard, uint8_t table, uint64_t number, uint32_t value_bytes) noexcept nogil
cdef void delete_numbered(ShardState* shard, uint8_t table, uint64_t number) noexcept nogil
