# What goes when a session goes, from memory and from disk; and of one that stays, a subscription.
#
# Here belongs how each part ends. Not here: when a session ends, and what it hands over before that (lifetime,
# handover).

from libc.stdint cimport uint32_t

from broker._core.model cimport Durable, Session, ShardState, Subscription

# All of them, with the shard.
cdef void sessions_close(ShardState* shard) noexcept nogil
# Removes up to `left` subscriptions of an unlinked session; True when none is left.
cdef bint drop_subscriptions(ShardState* shard, Session* session, uint32_t* left) noexcept nogil
cdef void free_session(ShardState* shard, Session* session) noexcept nogil
# Removes a subscription, from disk as well.
cdef void end_subscription(ShardState* shard, Session* session, Subscription* subscription) noexcept nogil
# Deletes everything that is on disk of a session.
cdef void erase_session(ShardState* shard, Durable* durable) noexcept nogil
