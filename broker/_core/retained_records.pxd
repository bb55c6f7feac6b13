# The records of retained messages: which ones are to be written with the open batch, and as what.
#
# A change is remembered, not its bytes: what is set a thousand times before a batch is sealed is written once, and what
# has gone by then never. So whatever is set while the disk takes nothing, no more waits for it than is retained. A
# topic's record keeps its number while the topic has a retained message; of two with one topic, the higher is newer.
#
# Here belongs the list of changes. Not here: what is retained (retained), and how it comes back (restore_retained).

from broker._core.model cimport Account, Retained, ShardState

cdef enum PrincipalNumbers:     # the same as broker.ports.OWN_PRINCIPALS and LOCAL_PRINCIPALS
    OWN_PRINCIPALS = 0x80000000
    LOCAL_PRINCIPALS = 0xC0000000

# Its record is written with the open batch, as it is by then. The message is there.
cdef void mark_retained(ShardState* shard, Account* account, Retained* retained) noexcept nogil
# It is not, whatever was said before; what is on disk stays there.
cdef void unmark_retained(ShardState* shard, Retained* retained) noexcept nogil
# Appends what is to be written, and forgets that it is.
cdef void take_retained(ShardState* shard, str table, list changes)
