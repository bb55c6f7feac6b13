# What a principal may do per second and an account per month, and what both have done: token buckets and counters.
#
# Here belong the bucket, the pause and the end of who is too fast, usage, and the month's quota. Not here: sizes and
# numbers of things that are kept (session, grants, retained), and where the figures come from (the plans).

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from broker._core.grants cimport need_activity
from broker._core.memory cimport unlikely_
from broker._core.model cimport Account, Activity, Connection, GrantLimits, Principal, Session, ShardState, Usage

# Fills in what follows from the figures of a set of limits.
cdef void derive_limits(ShardState* shard, GrantLimits* limits) noexcept nogil

# The bucket is nearly empty. False: its owner kept that up for too long, and the connection was closed.
cdef bint strained(ShardState* shard, Connection* connection, Activity* activity, int64_t lacking_ns) noexcept nogil

# The excess is over when a packet finds enough in the bucket, and did not find it there because we were late.
cdef void calm_down(GrantLimits* limits, Activity* activity, int64_t lacking_ns) noexcept nogil

# One packet that is rated. The one that empties the bucket is still processed; then the connection is not read for a
# while. False: the connection was closed (see strained). The bucket's only state is when it would be full again.
cdef inline bint take_token(ShardState* shard, Connection* connection) noexcept nogil:
    cdef GrantLimits* limits = connection.grant.limits
    cdef Activity* activity
    cdef int64_t lacking_ns
    if limits.token_ns == 0:
        return True
    activity = need_activity(connection.grant.principal)
    lacking_ns = activity.full_at_ns - shard.now_ns
    if lacking_ns < 0:
        lacking_ns = 0
    lacking_ns += limits.token_ns
    activity.full_at_ns = shard.now_ns + lacking_ns
    if unlikely_(lacking_ns > limits.strained_ns):
        return strained(shard, connection, activity, lacking_ns)
    if unlikely_(activity.excess_since_ns):
        calm_down(limits, activity, lacking_ns)
    return True

# Who was closed for what it did and comes back at once is slowed: it is let in, and read a while later.
cdef void slow_down(ShardState* shard, Principal* principal) noexcept nogil
cdef void slow_start(ShardState* shard, Connection* connection) noexcept nogil

# True while the month's messages and bytes are not used up.
cdef inline bint within_quota(Account* account) noexcept nogil:
    return account.messages_left > 0 and account.bytes_left > 0

cdef Usage* list_usage(ShardState* shard, Principal* principal) noexcept nogil
# A PUBLISH of n bytes from inside the process: the account's own.
cdef void count_own(ShardState* shard, Account* account, uint64_t n) noexcept nogil

# A PUBLISH of n bytes was accepted from a principal.
cdef inline void count_in(ShardState* shard, Principal* principal, uint64_t n) noexcept nogil:
    cdef Usage* usage = principal.usage
    if unlikely_(usage == NULL):
        usage = list_usage(shard, principal)
    usage.messages_in += 1
    usage.bytes_in += n
    principal.account.messages_left -= 1
    principal.account.bytes_left -= <int64_t>n

# A PUBLISH of n bytes was sent to a session for the first time.
cdef inline void count_out(ShardState* shard, Session* session, uint64_t n) noexcept nogil:
    cdef Principal* principal = session.principal
    cdef Usage* usage = principal.usage
    if unlikely_(usage == NULL):
        usage = list_usage(shard, principal)
    usage.messages_out += 1
    usage.bytes_out += n
    principal.account.messages_left -= 1
    principal.account.bytes_left -= <int64_t>n

# The next principal with usage, taken off the list; its usage is set to nothing and its reference is the caller's.
cdef Principal* next_used(ShardState* shard) noexcept nogil
cdef Account* next_own_used(ShardState* shard) noexcept nogil
# Lets go of everything that was not taken.
cdef void usage_close(ShardState* shard) noexcept nogil
