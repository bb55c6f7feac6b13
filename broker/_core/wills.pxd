# Wills on disk: each is recorded before its client is let in, and deleted with the batch that has what became of it.
#
# A will stands under its session's number. That of a session which is not on disk gets a number of its own, and with it
# a record of the session, which says who it was and that it ended with its connection.
#
# Here belong when a will is recorded, and what goes with it. Not here: when it is published (lifetime, publish), how it
# comes back (restore_wills).

from broker._core.model cimport Session, ShardState

# The will of a session whose client is there, unless its level is `memory` or the disk takes nothing now.
cdef void record_will(ShardState* shard, Session* session) noexcept nogil
# The disk takes everything again: so it does the wills of those who came meanwhile.
cdef void record_wills(ShardState* shard) noexcept nogil
cdef inline bint has_recorded_will(Session* session) noexcept nogil:
    return session.extra != NULL and session.extra.will.number != 0
cdef void drop_will(ShardState* shard, Session* session) noexcept nogil
# Deletes what is on disk of a will, and of the session if it was there for its will alone.
cdef void erase_will(ShardState* shard, Session* session) noexcept nogil
