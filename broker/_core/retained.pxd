# The retained messages of each account, and what may be kept.
#
# Here belong setting, clearing, expiry and quotas. Not here: the tree of topics (retained_tree), walks over it
# (retained_runs), records (retained_records), rights to publish (grants; publish asks before it sets).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.cursor cimport Span
from broker._core.message cimport Outgoing
from broker._core.model cimport Account, Message, Principal, Retained, Session, ShardState, Timer

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
