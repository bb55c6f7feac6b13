# The records of sessions on disk: which sessions are there, and what their records say.
#
# A session is on disk when it is kept and its connection's level is not `memory`. What it owns is written as it
# changes: itself here, its subscriptions one by one, its deliveries with their messages, what happens to those as ops
# (journal).
#
# Here belong the records of a session and of its subscriptions, and who has ended a moment ago. Not here: their
# deletion with the session (session_end), and how they come back (restore_sessions).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport Account, Session, ShardState, Subscription

# From now on this session is on disk, with what it owns: subscriptions and inbound identifiers; it has nothing queued
# or inflight. Its record follows.
cdef void make_durable(ShardState* shard, Session* session) noexcept nogil
# Writes the session's record as the session is now.
cdef void record_session(ShardState* shard, Session* session) noexcept nogil
# The same at the start, of one whose client was connected when the process died: away from now on.
cdef void record_loss(ShardState* shard, Session* session) noexcept nogil
# Writes it under a number of its own, of a session that is not on disk but for its will: it ends with its connection.
cdef void record_bearer(ShardState* shard, Session* session, uint64_t number) noexcept nogil
# A session ends: until that is on disk, somebody who begins anew under its name may not be told that there is none.
cdef void note_end(ShardState* shard, Session* session) noexcept nogil
# The ticket that has the end of the last session with this hash, 0: there is none, or it is on disk.
cdef uint64_t end_ticket(ShardState* shard, uint32_t hash) noexcept nogil
# Whether a subscription with a filter of so many bytes may be written now: while the disk takes nothing, not all that
# an account asks for can wait in memory.
cdef bint may_record_subscription(ShardState* shard, Account* account, uint32_t n) noexcept nogil
# Writes a subscription's record; the filter is as in SUBSCRIBE.
cdef void record_subscription(
    ShardState* shard, Session* session, Subscription* subscription, const uint8_t* filter, uint32_t n) noexcept nogil
