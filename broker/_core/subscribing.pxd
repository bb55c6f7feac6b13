# A subscription is made or replaced, as engine/ has decided: within limits, on disk where its session is, and with the
# retained messages that it is owed.
#
# Here belongs that order. Not here: rights and reason codes (engine), filters (topics), how one ends (session_end).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Session, ShardState

# False: there is no room for it, or the disk takes none now.
cdef bint put_subscription(
    ShardState* shard, Session* session, const uint8_t* at, uint32_t n, uint8_t qos, bint no_local,
    bint retain_as_published, uint32_t identifier, int retain_handling) noexcept nogil
