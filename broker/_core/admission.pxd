# Whether there is room for one more: connections of a principal and of its account, sessions.
#
# Here belongs what a CONNECT is refused for although its login is good. Not here: rights (grants), rates (limiter), and
# what the process as a whole takes before anybody is known (connection).

from libc.stdint cimport uint32_t, uint8_t

from broker._core.model cimport Connection, Grant, ShardState

# 0, or the Refusal. Who takes over a connection, or comes from inside the process, is never refused.
cdef int why_full(
    ShardState* shard, Connection* connection, Grant* grant, const uint8_t* client_id, uint32_t n) noexcept nogil
