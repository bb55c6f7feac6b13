# What is on disk becomes the shard's again, once, before anything else happens: sessions, subscriptions, deliveries.
#
# The tables are read in this order: META, SESSIONS, SUBSCRIPTIONS, FLOWS, MESSAGES, OPS. Nothing in them is trusted: a
# record that is none is left out and counted. Bodies of messages stay where they are (see parked).
#
# Here belong the order of it, and what becomes of all that was found when everything has been read. Not here: what the
# records of each table mean (restore_sessions, restore_chunks, restore_flows), retained messages and wills.

from libc.stdint cimport uint64_t

from broker._core.model cimport ShardState
from broker._core.recovery cimport Restoring

# Reads all rows of one table, (key, value) each; returns how many were left out.
cdef uint64_t restore_rows(ShardState* shard, Restoring* restoring, int table, rows, known) except? 0xFFFFFFFF
# After the last table.
cdef void restore_finish(ShardState* shard, Restoring* restoring) noexcept nogil
# Frees what was gathered; sessions that only hand over what they have begin to end.
cdef void restoring_close(ShardState* shard, Restoring* restoring) noexcept nogil
