# A CONNECT: known clients are let in here without Python; an unknown one waits for the Authenticator.
#
# Here belong the rules of CONNECT and what CONNACK announces. Not here: passwords (grants know digests), decoding.

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Connection, Grant, ShardState

cdef void handle_connect(
    ShardState* shard, Connection* connection, const uint8_t* body, uint32_t n) noexcept nogil
# The Authenticator has answered for the CONNECT that waits at the front of the inbox.
cdef void admit_waiting(ShardState* shard, Connection* connection, Grant* grant) noexcept nogil
# TIMER_DAMPED has fired: its CONNECT goes on. The caller lifts the barrier when the connection is let in.
cdef void connect_damped(ShardState* shard, Connection* connection) noexcept nogil
