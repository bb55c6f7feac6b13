# What sessions keep, counted against the budgets of session, device, account and process; and what is dropped.
#
# Here belong how large a delivery is, what all of them take, and the counts of those that do not happen (law 4). Not
# here: whether there is room (queue_intake), the limits themselves (grants, and the shard's).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.grants cimport need_activity
from broker._core.message cimport message_bytes
from broker._core.model cimport Account, Message, Session, ShardState

cdef void count_drop(ShardState* shard, Session* session, int reason) noexcept nogil
# Of a delivery that no session was chosen for.
cdef void count_account_drop(ShardState* shard, Account* account, int reason) noexcept nogil

# What happens to a message of this account for a session that has no room.
cdef inline uint8_t queue_full_policy(ShardState* shard, Account* account) noexcept nogil:
    return account.limits.queue_full_policy - 1 if account.limits.queue_full_policy else shard.limits.queue_full_policy
# What a delivery costs, and what the queue costs now.
cdef inline uint64_t queued_size(Message* message, uint32_t identifiers) noexcept nogil:
    return <uint64_t>message_bytes(message) + <uint64_t>identifiers * sizeof(uint32_t)
cdef inline uint64_t waiting_bytes(Session* session) noexcept nogil:
    cdef uint64_t size = session.queue.bytes if session.queue != NULL else 0
    if session.durable != NULL:
        size += session.durable.parked_bytes
    return size
cdef inline uint32_t queued_count(Session* session) noexcept nogil:
    return (0 if session.queue == NULL else session.queue.count) + \
        (0 if session.durable == NULL else session.durable.parked_count)
# Counts bytes against the budgets of device, account and process, or takes them back (-1).
cdef inline void count_kept(ShardState* shard, Session* session, uint64_t size, int sign) noexcept nogil:
    need_activity(session.principal).queued_bytes += sign * size
    session.principal.account.queued_bytes += sign * size
    shard.queued_bytes += sign * size
