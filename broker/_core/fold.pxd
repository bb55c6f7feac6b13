# What happened to deliveries, folded: when ops on disk are many, each session's flow is written as it is now, and ops
# go.
#
# Here belong a session's flow record, and when which of them is written. Not here: ops one by one (journal), how both
# come back (restore_flows).

from libc.stdint cimport uint64_t

from broker._core.model cimport ShardState

# For the batch that is sealed next, and nothing may be recorded between: flow records of some sessions, and the
# deletion of ops that all of them contain.
cdef void fold(ShardState* shard) noexcept nogil
# Deliveries from this number on may be recorded while their fan-outs have not come to them.
cdef uint64_t first_unoffered(ShardState* shard) noexcept nogil
