# The retained messages of each account: a tree of topic levels, what may be kept in it, and walks over it.
#
# Here belong setting, clearing, expiry, quotas, and runs that survive any change of the tree between two steps. Not
# here: bytes and quota of a receiver (replay), rights to publish (grants; publish asks before it sets).

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from broker._core.cursor cimport Span
from broker._core.message cimport Outgoing
from broker._core.model cimport (
    Account,
    Message,
    Principal,
    Retained,
    RetainedRun,
    Session,
    ShardState,
    Subscription,
    Timer,
)

cdef void retained_open(ShardState* shard) noexcept nogil
# Forgets everything that is retained, in all accounts or in one; no run is left.
cdef void retained_close(ShardState* shard) noexcept nogil
cdef void close_space(ShardState* shard, Account* account) noexcept nogil

# Whether the quotas of author (NULL: the server), account and process have room for it; an empty payload always has.
cdef bint may_retain(
    ShardState* shard, Account* account, Principal* author, const Span* topic, uint32_t properties_bytes,
    uint32_t payload_bytes) noexcept nogil
# Sets or, with an empty payload, clears the topic's message; the quotas were asked before. `publisher` may be NULL.
# `written`: on disk as well, else nothing of this topic stays there. The newest ticket is that of the change.
cdef void retain_message(
    ShardState* shard, Account* account, Outgoing* out, Session* publisher, bint written) noexcept nogil
# The same for one that was read from disk, under the number of its record; `author` may be NULL. What the topic has is
# older, and goes.
cdef void restore_message(
    ShardState* shard, Account* account, Message* message, Principal* author, uint64_t number) noexcept nogil
cdef void remove_retained(ShardState* shard, Account* account, Retained* retained) noexcept nogil
# What a principal has set, or what a filter matches, while there is budget; returns how many went. `more`: the budget
# ended first. Of what a principal has set some is left then as well.
cdef uint32_t remove_authored(ShardState* shard, Principal* principal) noexcept nogil
cdef uint32_t remove_matching(
    ShardState* shard, Account* account, const uint8_t* filter, uint32_t n, bint* more) noexcept nogil
cdef void retained_timer(ShardState* shard, Timer* timer) noexcept nogil

# A walk over what matches a filter and is set by now. NULL: there is nothing retained at all.
cdef RetainedRun* open_run(
    ShardState* shard, Account* account, Subscription* subscription, const uint8_t* filter, uint32_t n) noexcept nogil
cdef void close_run(ShardState* shard, Account* account, RetainedRun* run) noexcept nogil
# The next one that matches, without going past it; NULL: at the end (run.at is NULL), or the budget is down to `until`.
cdef Retained* find_retained(
    ShardState* shard, Account* account, RetainedRun* run, int64_t until) noexcept nogil
cdef void step_run(ShardState* shard, Account* account, RetainedRun* run) noexcept nogil
