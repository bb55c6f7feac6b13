# Messages that are on disk alone come back into memory, a page at a time, when their session can send them.
#
# Here belong what a session needs next, and asking for it. Not here: taking in what was read (loading), reading the
# disk (the Store), what is then sent (deliver).

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from broker._core.model cimport Message, Session, SharedGroup, ShardState
from broker._core.records cimport PairRecord

cdef enum:
    PAIR_IDENTIFIERS = 255      # subscription identifiers that a delivery has at most

# Whether a session may still be sent what was meant for it once: its rights may have changed since. (Law 10.)
cdef bint still_allowed(Session* session, Message* message) noexcept nogil
# Brings the front of what is parked into memory, where nothing else is queued. True: it is there. False: nothing is
# parked any more, or it was asked for, and the session is looked at again when it comes.
cdef bint bring_front(ShardState* shard, Session* session) noexcept nogil
# The same for the message of an inflight delivery. False, and it is not inflight any more: its message is lost.
cdef bint bring_body(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil
# The number of what a session needs next, 0: nothing. `at` is the place in the list of what is sent again from which on
# it is looked for, and where it was found.
cdef uint64_t next_needed(Session* session, uint32_t* at) noexcept nogil
# What is needed next cannot be read any more.
cdef void lose_next(ShardState* shard, Session* session, uint32_t at) noexcept nogil
# What stands in a delivery's record beside its message: subscription identifiers, aligned, and the group if there still
# is one.
cdef SharedGroup* read_pair(
    ShardState* shard, Session* session, const PairRecord* pair, uint32_t* identifiers) noexcept nogil
