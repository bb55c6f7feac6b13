# Who gets into a session's queue: whether there is room, what goes for it, and where a delivery waits.
#
# Here belong the budgets as they are asked, the narrowest first, and the policy of a full queue as it is for one
# session. Not here: `refuse`, which looks at all receivers first (deliver), what is counted (budgets), what has got in
# (queue, parking).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.message cimport Outgoing
from broker._core.model cimport Message, Session, ShardState, SharedGroup

# The DropReason for which the queue does not take so many bytes more, -1: it takes them.
cdef int why_no_room(ShardState* shard, Session* session, uint64_t size) noexcept nogil
# Why a delivery may not be kept until it is acknowledged: a DropReason, or -1: it may.
cdef int why_not_kept(ShardState* shard, Session* session, Message* message, uint32_t identifiers) noexcept nogil
# The same for so many bytes.
cdef int why_not_inflight(ShardState* shard, Session* session, uint64_t size) noexcept nogil
# The queue: -1 when it took the message, else the DropReason. `identifiers` are copied.
cdef int enqueue(
    ShardState* shard, Session* session, Outgoing* out, SharedGroup* group, uint8_t qos, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
