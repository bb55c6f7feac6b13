# Bytes of a connection become packets, and each packet finds the module that knows it.
#
# Here belong the order of packets, barriers and what is not read. Not here: what a packet does.

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Connection, ShardState

cdef void feed(ShardState* shard, Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil
# Goes on with connections whose barrier, fan-out or back-pressure has ended.
cdef void run_ready(ShardState* shard) noexcept nogil
# The rare packet at the front of the inbox has been answered.
cdef void lift_barrier(ShardState* shard, Connection* connection) noexcept nogil
# True while nothing more may be read from this connection.
cdef inline bint is_stopped(Connection* connection) noexcept nogil:
    return connection.barrier or connection.held_back or connection.fan_out != NULL
