# Sessions and their subscriptions come back from disk. Those of principals that are no more are deleted.
#
# Here belongs what a record of a session or of a subscription means after a restart. Not here: writing them (durable),
# wills (restore_wills), what a session has to be sent (restore_chunks, restore_flows).
#
# Each reads one row. False: it is left out, since it is not what it should be.

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport ShardState
from broker._core.recovery cimport Restoring

cdef bint restore_session(
    ShardState* shard, Restoring* restoring, const uint8_t* key, uint32_t key_bytes, const uint8_t* at, uint32_t n,
    known) except -1
cdef bint restore_subscription(
    ShardState* shard, const uint8_t* key, uint32_t key_bytes, const uint8_t* at, uint32_t n) noexcept nogil
