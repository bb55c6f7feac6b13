"""Verdicts. See verdicts.pxd."""

from libc.stdint cimport uint32_t, uint8_t

from broker._core.cursor cimport Span
from broker._core.grants cimport pattern_covers, policy_allows_publish, policy_allows_subscribe
from broker._core.limiter cimport within_quota
from broker._core.model cimport Account, CompiledPolicy, GrantLimits, Principal, ShardState
from broker._core.retained cimport may_retain
from broker._core.topic_rules cimport inner_filter_at, valid_topic_filter, valid_topic_name


cdef bint allows_filter(CompiledPolicy* policy, Principal* who, const uint8_t* filter, uint32_t n) noexcept nogil:
    cdef uint32_t inner = inner_filter_at(filter, n)    # 0: the whole
    return inner < n and policy_allows_subscribe(policy, who, filter + inner, n - inner)


cdef int publish_verdict(
        ShardState* shard, Account* account, CompiledPolicy* policy, GrantLimits* limits, Principal* who,
        Principal* known, const uint8_t* topic, uint32_t n, bint retain, uint32_t payload_bytes) noexcept nogil:
    cdef Span name
    if n == 0 or not valid_topic_name(topic, n, shard.limits.topic_levels_maximum):
        return INVALID_TOPIC
    if account != NULL and not within_quota(account):
        return QUOTA_USED_UP
    if payload_bytes > limits.payload_bytes:
        return PAYLOAD_TOO_LARGE
    if not policy_allows_publish(policy, who, topic, n):
        return FORBIDDEN
    name.at = topic
    name.n = n
    if retain and account != NULL and not may_retain(shard, account, known, &name, 0, payload_bytes):
        return RETAINED_FULL
    return ALLOWED


cdef int subscribe_verdict(
        ShardState* shard, CompiledPolicy* policy, Principal* who, const uint8_t* filter, uint32_t n) noexcept nogil:
    if not valid_topic_filter(filter, n, shard.limits.topic_levels_maximum):
        return INVALID_TOPIC
    return ALLOWED if allows_filter(policy, who, filter, n) else FORBIDDEN


cdef int deciding_publish(CompiledPolicy* policy, Principal* who, const uint8_t* topic, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(policy.publish_count):
        if topic[0] != c"$" and pattern_covers(&policy.publish[i], who, topic, n, False):
            return <int>i
    return -1


cdef int deciding_subscribe(CompiledPolicy* policy, Principal* who, const uint8_t* filter, uint32_t n) noexcept nogil:
    cdef uint32_t inner = inner_filter_at(filter, n)
    cdef uint32_t i
    if inner < n:
        for i in range(policy.subscribe_count):
            if pattern_covers(&policy.subscribe[i], who, filter + inner, n - inner, True):
                return <int>i
    return -1
