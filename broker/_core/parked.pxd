# Messages that are on disk alone come back into memory, a page at a time, when their session can send them.
#
# Here belongs asking for them and taking them in. Not here: reading the disk (the Store), what is then sent (deliver).

from broker._core.model cimport Session, ShardState

# Brings what the session sends next into memory: inflight messages that have to be sent again, or the front of its
# parked queue. True: it is there. False: it was asked for, and the session is pumped when it comes.
cdef bint bring_back(ShardState* shard, Session* session) noexcept nogil
