"""Peers by slot. See peers.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.memory cimport give_memory, resize_memory
from broker._core.model cimport Connection, Peer, ShardState

import ipaddress

cdef enum:
    ADDRESS_BYTES = 16


cdef void peers_grow(ShardState* shard, uint32_t before, uint32_t capacity) noexcept nogil:
    shard.peers = <Peer*>resize_memory(shard.peers, <size_t>capacity * sizeof(Peer))
    memset(shard.peers + before, 0, <size_t>(capacity - before) * sizeof(Peer))


cdef void peers_close(ShardState* shard) noexcept nogil:
    give_memory(shard.peers)


cdef void set_address(ShardState* shard, Connection* connection, const uint8_t* address) noexcept nogil:
    memcpy(shard.peers[connection.slot].address, address, ADDRESS_BYTES)


cdef str shown_address(const uint8_t* address):
    cdef uint8_t[ADDRESS_BYTES] nobody
    memset(nobody, 0, ADDRESS_BYTES)
    if memcmp(address, nobody, ADDRESS_BYTES) == 0:
        return ""
    if memcmp(address, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        return str(ipaddress.IPv4Address((<char*>address)[12:ADDRESS_BYTES]))
    return str(ipaddress.IPv6Address((<char*>address)[:ADDRESS_BYTES]))
