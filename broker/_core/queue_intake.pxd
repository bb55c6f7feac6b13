# Who gets into a session's queue: whether there is room, what goes for it, and where a delivery waits.
#
# Here belongs the policy of a full queue as it is for one session. Not here: `refuse`, which looks at all receivers
# first (deliver), what budgets are (budgets), what has got in (queue, parking).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.message cimport Outgoing
from broker._core.model cimport Session, ShardState, SharedGroup

# The queue: -1 when it took the message, else the DropReason. `identifiers` are copied.
cdef int enqueue(
    ShardState* shard, Session* session, Outgoing* out, SharedGroup* group, uint8_t qos, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
