# What is left of rights that have gone: sessions of a principal that is no more, subscriptions that are not allowed any
# more, and messages that wait because of them; accounts that nobody is in any more.
#
# Here belongs what the end or the change of rights does to what was begun with them. Not here: the rights (grants), the
# connections that came in with a grant (the shard closes them), the will, which is judged when it is published.

from libc.stdint cimport uint32_t

from broker._core.model cimport CompiledPolicy, Principal, Session, ShardState

# The principal is no more: its connections are closed with 0x98, its sessions end, and nothing of it is published.
cdef void end_principal(ShardState* shard, Principal* principal) noexcept nogil
# Ends a session that somebody has sent away, and its connection with 0x98. Its will is published.
cdef void dismiss_session(ShardState* shard, Session* session) noexcept nogil
# Ends subscriptions that this policy does not cover, and drops what waits on topics that it does not cover.
cdef void judge_again(ShardState* shard, Session* session, CompiledPolicy* policy) noexcept nogil
# The same for all sessions of a principal.
cdef void judge_principal(ShardState* shard, Principal* principal, CompiledPolicy* policy) noexcept nogil
# Accounts that only somebody's grants have brought here, and that nobody and nothing is in any more, are freed: those
# in `count` buckets of the table from `first` on. Returns the next bucket, 0: that was all. Never while the core is at
# work.
cdef uint32_t forget_accounts(ShardState* shard, uint32_t first, uint32_t count) noexcept nogil
