# What waits for a session and is not new: its queue, and the retained messages that a subscription has still to get.
#
# Here belong runs of retained messages towards one receiver and when anything that waits may leave. Not here: the tree
# that runs walk over (retained), how a message is sent (deliver).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Session, ShardState, Subscription

# The retained messages that match this subscription's filter will be sent to it, from the first one on.
cdef void start_run(
    ShardState* shard, Session* session, Subscription* subscription, const uint8_t* filter, uint32_t n) noexcept nogil
# The same for one whose run was not at its end when the process ended.
cdef void restart_run(
    ShardState* shard, Session* session, Subscription* subscription, const uint8_t* filter, uint32_t n) noexcept nogil
# Sends what waits while quota and room allow: what an earlier connection left, then the queue, then retained messages.
cdef void pump(ShardState* shard, Session* session) noexcept nogil
