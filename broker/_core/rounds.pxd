# A round of the shard: what the kernel does not show is done for a while, and what has closed is freed at its end.
#
# Here belongs in which order that is. Not here: sockets (reactor), what is done (each in its module).

from libc.stdint cimport int64_t

from broker._core.model cimport Connection, ShardState

# One slice of work that the kernel does not show: timers, fan-outs, ready connections. True when more is due.
cdef bint run_slice(ShardState* shard, int64_t now_ns, int64_t work) noexcept nogil
# Frees closed connections whose socket is gone, up to `unseen` in their list; those that are still on another list wait
# for the next round.
cdef void free_closed(ShardState* shard, Connection* unseen) noexcept nogil
