# Wills come back from disk, behind their sessions, and are given the moment at which they are due.
#
# A client that was connected when the process ended has lost its connection with it, and may be back soon: its will is
# due when its delay and the grace of a restart have passed, many of them one after another. Whoever had gone before
# keeps his moment, but has as much of his delay as the grace allows: meanwhile he could not come back.
# No will is due later than its session ends. [MQTT-3.1.3-9]
#
# Here belongs reading records of wills. Not here: writing them (wills), publishing them (lifetime, publish).

from libc.stdint cimport int64_t, uint64_t

from broker._core.model cimport ShardState

# `wills` and `sessions` are rows of those tables, whose sessions are there already; wills that have lost theirs are
# deleted. Returns how many records could not be read.
cdef uint64_t restore_wills(ShardState* shard, object wills, object sessions, int64_t grace_ns) except? 0xFFFFFFFF
