# What the core would decide about a publish or a subscription of somebody, asked of the functions that decide it.
#
# Here belongs the order in which an answer is looked for, which is law 9's. Not here: any rule of its own, and words
# (broker.admin.policy_check).

from libc.stdint cimport uint32_t, uint8_t

from broker._core.model cimport Account, CompiledPolicy, GrantLimits, Principal, ShardState

cdef enum Verdict:              # the same numbers as broker.stories.Verdict
    ALLOWED = 0
    INVALID_TOPIC = 1
    QUOTA_USED_UP = 2
    PAYLOAD_TOO_LARGE = 3
    FORBIDDEN = 4
    RETAINED_FULL = 5

# `who` has the device id that patterns mean; `known` is the principal that the core has, or NULL.
cdef int publish_verdict(
    ShardState* shard, Account* account, CompiledPolicy* policy, GrantLimits* limits, Principal* who,
    Principal* known, const uint8_t* topic, uint32_t n, bint retain, uint32_t payload_bytes) noexcept nogil
cdef int subscribe_verdict(
    ShardState* shard, CompiledPolicy* policy, Principal* who, const uint8_t* filter, uint32_t n) noexcept nogil
# The pattern that decides, by its place; -1: none covers it.
cdef int deciding_publish(CompiledPolicy* policy, Principal* who, const uint8_t* topic, uint32_t n) noexcept nogil
cdef int deciding_subscribe(CompiledPolicy* policy, Principal* who, const uint8_t* filter, uint32_t n) noexcept nogil
# Whether everything that a filter can match is allowed; a shared one is judged by its inner filter.
cdef bint allows_filter(CompiledPolicy* policy, Principal* who, const uint8_t* filter, uint32_t n) noexcept nogil
