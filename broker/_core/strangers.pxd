# How many connections that have proven nothing yet there are from each address.
#
# Here belongs that count. Not here: addresses themselves (the reactor reads them), and how long they may take.

from libc.stdint cimport uint8_t

from broker._core.model cimport Connection, ShardState

cdef enum:
    ADDRESS_BYTES = 16      # an IPv6 address, or an IPv4 one mapped into it

# False: as many as may be from this address are waiting already; nothing is counted then.
cdef bint count_stranger(ShardState* shard, Connection* connection, const uint8_t* address) noexcept nogil
# It has proven who it is, or has gone.
cdef void forget_stranger(ShardState* shard, Connection* connection) noexcept nogil
cdef void strangers_close(ShardState* shard) noexcept nogil
