# Walks over the retained messages that a filter matches, in as many steps as there is budget for.
#
# Here belong runs, which survive any change of the tree between two steps. Not here: the tree (retained_tree), bytes
# and quota of a receiver (replay).

from libc.stdint cimport int64_t, uint8_t, uint32_t

from broker._core.model cimport Account, Retained, RetainedRun, ShardState, Subscription

# A walk over what matches a filter and is set by now. NULL: there is nothing retained at all.
cdef RetainedRun* open_run(
    ShardState* shard, Account* account, Subscription* subscription, const uint8_t* filter, uint32_t n) noexcept nogil
cdef void close_run(ShardState* shard, Account* account, RetainedRun* run) noexcept nogil
# The next one that matches, without going past it; NULL: at the end (run.at is NULL), or the budget is down to `until`.
cdef Retained* find_retained(
    ShardState* shard, Account* account, RetainedRun* run, int64_t until) noexcept nogil
cdef void step_run(ShardState* shard, Account* account, RetainedRun* run) noexcept nogil
