# What has happened to deliveries comes back from disk: the flow record of each session, and the ops behind it.
#
# Here belongs what these records mean after a restart. Not here: writing them (fold, sealing), which deliveries there
# are (restore_chunks).
#
# Each reads one row. False: it is left out, since it is not what it should be.

from broker._core.model cimport ShardState
from broker._core.recovery cimport Restoring

cdef bint restore_flow(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1
cdef bint restore_ops(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1
