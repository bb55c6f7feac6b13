# Chunks of messages come back from disk: which deliveries they have, and which of those a session still waits for.
# Bodies of messages stay where they are (see parked).
#
# Here belongs what a chunk means after a restart. Not here: writing one (sealing, compaction, merging), reading one for
# who waits for it (loading), retained messages (restore_retained).

from broker._core.model cimport ShardState
from broker._core.recovery cimport Restoring

# Reads one row. False: it is not what it should be from some point on; what stands before that counts.
cdef bint restore_chunk(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1
# Whether a chunk, or a record of ops, is as it was written.
cdef bint is_whole(bytes value) except -1
