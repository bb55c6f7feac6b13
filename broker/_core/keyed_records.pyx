"""Records of the open batch that have keys of their own. See keyed_records.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.cursor cimport put_bytes
from broker._core.memory cimport extend
from broker._core.model cimport Journal, ShardState
from broker._core.records cimport put_key


cdef uint8_t* add_put(
        Journal* journal, uint8_t table, const uint8_t* key, uint32_t key_bytes, uint32_t value_bytes, bint deletes
) noexcept nogil:
    cdef PutHead head
    cdef uint8_t* at = extend(
        &journal.puts, &journal.puts_bytes, &journal.puts_capacity,
        <uint32_t>sizeof(PutHead) + key_bytes + value_bytes)
    head.value_bytes = value_bytes
    head.key_bytes = <uint16_t>key_bytes
    head.table = table
    head.deletes = deletes
    memcpy(at, &head, sizeof(head))
    journal.put_count += 1
    return put_bytes(at + sizeof(head), key, key_bytes)


cdef uint8_t* put_record(
        ShardState* shard, uint8_t table, const uint8_t* key, uint32_t key_bytes, uint32_t value_bytes) noexcept nogil:
    return add_put(&shard.journal, table, key, key_bytes, value_bytes, False)


cdef void delete_record(ShardState* shard, uint8_t table, const uint8_t* key, uint32_t key_bytes) noexcept nogil:
    add_put(&shard.journal, table, key, key_bytes, 0, True)


cdef uint8_t* put_numbered(ShardState* shard, uint8_t table, uint64_t number, uint32_t value_bytes) noexcept nogil:
    cdef uint8_t[8] key
    put_key(key, number)
    return put_record(shard, table, key, 8, value_bytes)


cdef void delete_numbered(ShardState* shard, uint8_t table, uint64_t number) noexcept nogil:
    cdef uint8_t[8] key
    put_key(key, number)
    delete_record(shard, table, key, 8)
