# What an ending session leaves to the other members of its shared groups.
#
# Here belongs who gets its queued and its unacknowledged messages. Not here: the choice (shared), the end (lifetime).

from libc.stdint cimport uint32_t

from broker._core.model cimport Session, ShardState

# Hands over, or drops with their reason counted, up to `left` deliveries of a session whose subscriptions have gone:
# what is queued, and what was sent at QoS 1 for a group. True when nothing of that is left.
cdef bint hand_over(ShardState* shard, Session* session, uint32_t* left) noexcept nogil
