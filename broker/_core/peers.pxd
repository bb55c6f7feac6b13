# Who is at the other end of each connection, and since when: what nobody looks at while messages flow.
#
# Here belong the peers by slot, beside the connections whose structs every message touches. Not here: where an address
# comes from (accepting), and how many strangers there are from one (strangers).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Connection, Peer, ShardState

# Room for as many slots as connections have; new ones are empty.
cdef void peers_grow(ShardState* shard, uint32_t before, uint32_t capacity) noexcept nogil
cdef void peers_close(ShardState* shard) noexcept nogil

cdef inline Peer* peer_of(ShardState* shard, Connection* connection) noexcept nogil:
    return &shard.peers[connection.slot]

cdef void set_address(ShardState* shard, Connection* connection, const uint8_t* address) noexcept nogil
# As text, IPv4 in its own form; empty for a Unix socket and for who is inside this process.
cdef str shown_address(const uint8_t* address)
