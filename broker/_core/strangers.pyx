"""Connections that have proven nothing, by address. See strangers.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.memory cimport give_memory, take_zeroed
from broker._core.model cimport Connection, ShardState, Strangers
from broker._core.topic_rules cimport hash_bytes


cdef enum:
    BUCKETS = 1024      # there are never more addresses than strangers, whose number has a limit
    NETWORK_BYTES = 8   # of an IPv6 address: whoever has one address has all that begin alike


cdef void key_of(const uint8_t* address, uint8_t* key) noexcept nogil:
    # An IPv4 address whole; of an IPv6 one the network.
    memset(key, 0, ADDRESS_BYTES)
    if memcmp(address, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        memcpy(key, address, ADDRESS_BYTES)
    else:
        memcpy(key, address, NETWORK_BYTES)


cdef bint count_stranger(ShardState* shard, Connection* connection, const uint8_t* address) noexcept nogil:
    cdef uint8_t[ADDRESS_BYTES] key
    cdef Strangers** link
    cdef Strangers* found
    cdef uint32_t slot
    if shard.strangers == NULL:
        shard.strangers = <Strangers**>take_zeroed(BUCKETS * sizeof(void*))
    key_of(address, key)
    slot = hash_bytes(key, ADDRESS_BYTES, shard.hash_seed) & (BUCKETS - 1)
    link = &shard.strangers[slot]
    while link[0] != NULL and memcmp(link[0].address, key, ADDRESS_BYTES) != 0:
        link = &link[0].next
    found = link[0]
    if found == NULL:
        found = <Strangers*>take_zeroed(sizeof(Strangers))
        memcpy(found.address, key, ADDRESS_BYTES)
        found.bucket = slot
        link[0] = found
    if found.count >= shard.limits.unauthenticated_connections_per_address_maximum:
        return False
    found.count += 1
    connection.grant_previous = <Connection*>found
    return True


cdef void forget_stranger(ShardState* shard, Connection* connection) noexcept nogil:
    cdef Strangers* left = <Strangers*>connection.grant_previous
    cdef Strangers** link
    if left == NULL:
        return
    connection.grant_previous = NULL
    left.count -= 1
    if left.count:
        return
    link = &shard.strangers[left.bucket]
    while link[0] != left:
        link = &link[0].next
    link[0] = left.next
    give_memory(left)


cdef void strangers_close(ShardState* shard) noexcept nogil:
    give_memory(shard.strangers)
