"""Token buckets, usage and quotas. See limiter.pxd."""

from libc.stdint cimport int64_t, uint64_t

from broker._core.connection cimport fail
from broker._core.events cimport note_often
from broker._core.grants cimport need_activity, release_principal
from broker._core.model cimport (
    EVENT_THROTTLED,
    RATED,
    TIMER_RATE_PAUSE,
    Account,
    Activity,
    Connection,
    GrantLimits,
    Principal,
    ShardState,
    Usage,
)
from broker._core.reasons cimport MESSAGE_RATE_TOO_HIGH
from broker._core.timers cimport timer_set


cdef enum:
    SECOND_NS = 1000000000
    BACK_NS = 100000000
    CALM_NS = 200000000
    SLOWED_NS = 1000000000
    EXCESS_S = 5                # closed after so long


cdef void derive_limits(ShardState* shard, GrantLimits* limits) noexcept nogil:
    # Who has less than ten messages a second waits for a whole one, and is calm with two, or a full bucket.
    limits.payload_bytes = shard.limits.maximum_payload_bytes
    if 0 < limits.payload_maximum_bytes < limits.payload_bytes:
        limits.payload_bytes = limits.payload_maximum_bytes
    limits.packet_bytes = shard.limits.maximum_packet_size_bytes - (
        shard.limits.maximum_payload_bytes - limits.payload_bytes)
    limits.token_ns = 0
    limits.capacity_ns = 0
    limits.strained_ns = 0
    if limits.messages_per_s == 0:
        return
    limits.token_ns = max(<int64_t>SECOND_NS // limits.messages_per_s, 1)
    limits.capacity_ns = (<int64_t>limits.messages_per_s + limits.burst_messages) * limits.token_ns
    limits.calm_ns = min(max(<int64_t>CALM_NS, 2 * limits.token_ns), limits.capacity_ns)
    limits.back_ns = max(<int64_t>BACK_NS, limits.token_ns)
    limits.strained_ns = limits.capacity_ns - max(limits.calm_ns - limits.token_ns, limits.token_ns)


cdef void pause(ShardState* shard, Connection* connection, int64_t until_ns) noexcept nogil:
    # Its keep alive is armed again when it is read again: meanwhile that clock stands.
    connection.held_back |= RATED
    connection.timer.kind = TIMER_RATE_PAUSE
    timer_set(&shard.wheel, &connection.timer, until_ns)


cdef void calm_down(GrantLimits* limits, Activity* activity, int64_t lacking_ns) noexcept nogil:
    cdef int64_t held_ns = limits.capacity_ns - (lacking_ns - limits.token_ns)
    if held_ns >= min(limits.calm_ns + activity.late_ns, limits.capacity_ns):
        activity.excess_since_ns = 0


cdef bint strained(ShardState* shard, Connection* connection, Activity* activity, int64_t lacking_ns) noexcept nogil:
    cdef GrantLimits* limits = connection.grant.limits
    cdef int64_t pause_ns
    calm_down(limits, activity, lacking_ns)
    if lacking_ns + limits.token_ns <= limits.capacity_ns:
        return True     # one is left: whether the excess is unbroken is not decided yet
    if activity.excess_since_ns == 0:
        activity.excess_since_ns = shard.now_ns
        note_often(shard, connection, EVENT_THROTTLED, b"", 0)
    elif shard.now_ns - activity.excess_since_ns >= <int64_t>EXCESS_S * SECOND_NS:
        activity.excess_since_ns = 0
        fail(shard, connection, MESSAGE_RATE_TOO_HIGH)
        return False
    pause_ns = min(lacking_ns - limits.capacity_ns + limits.back_ns, <int64_t>SECOND_NS)
    # Many connections of one principal share its bucket: what they overdraw it by is bounded.
    activity.full_at_ns = shard.now_ns + min(lacking_ns, limits.capacity_ns + <int64_t>SECOND_NS)
    pause(shard, connection, shard.now_ns + pause_ns)
    return True


cdef void slow_down(ShardState* shard, Principal* principal) noexcept nogil:
    if shard.open_grant != NULL and principal == shard.open_grant.principal:
        return      # strangers to each other
    need_activity(principal).slowed_until_ns = shard.now_ns + SLOWED_NS


cdef void slow_start(ShardState* shard, Connection* connection) noexcept nogil:
    cdef Activity* activity = connection.grant.principal.activity
    if activity != NULL and activity.slowed_until_ns > shard.now_ns:
        pause(shard, connection, activity.slowed_until_ns)


# ---------------------------------------------------------------- usage

cdef Usage* list_usage(ShardState* shard, Principal* principal) noexcept nogil:
    cdef Activity* activity = need_activity(principal)
    activity.usage_next = shard.usage_head
    shard.usage_head = principal
    principal.usage = &activity.usage
    principal.refs += 1
    return principal.usage


cdef Principal* next_used(ShardState* shard) noexcept nogil:
    cdef Principal* principal = shard.usage_head
    if principal != NULL:
        shard.usage_head = principal.activity.usage_next
        principal.usage = NULL
    return principal


cdef void count_own(ShardState* shard, Account* account, uint64_t n) noexcept nogil:
    account.messages_left -= 1
    account.bytes_left -= <int64_t>n
    account.own.messages_in += 1
    account.own.bytes_in += n
    if not account.usage_listed:
        account.usage_listed = 1
        account.usage_next = shard.own_usage_head
        shard.own_usage_head = account


cdef Account* next_own_used(ShardState* shard) noexcept nogil:
    cdef Account* account = shard.own_usage_head
    if account != NULL:
        shard.own_usage_head = account.usage_next
        account.usage_listed = 0
    return account


cdef void usage_close(ShardState* shard) noexcept nogil:
    cdef Principal* principal = next_used(shard)
    while principal != NULL:
        release_principal(shard, principal)
        principal = next_used(shard)
    shard.own_usage_head = NULL
