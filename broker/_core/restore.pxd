# What is on disk becomes the shard's again, once, before anything else happens: sessions, subscriptions, deliveries.
#
# The tables are read in this order: META, SESSIONS, SUBSCRIPTIONS, FLOWS, MESSAGES, OPS. Nothing in them is trusted: a
# record that is none is left out and counted. Bodies of messages stay where they are (see parked).
#
# Here belongs what the records of those tables mean after a restart. Not here: their shapes (records), retained
# messages and wills.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.model cimport Durable, Session, ShardState

cdef struct Found:              # a delivery that is on disk
    uint64_t number             # of its message
    uint64_t order              # in which it was sent, or waits
    uint32_t size               # as it is counted in budgets, 0: its message was not seen
    uint32_t tracking           # its message's
    uint16_t packet_id
    uint8_t state               # as in a flow record
    uint8_t qos
    uint8_t retain
    uint8_t grouped

cdef struct ListedRun:          # of a flow record: all between two numbers wait
    uint64_t first
    uint64_t last
    uint64_t order              # of the first of them

cdef struct Recovery:           # what was found of one session
    Recovery* next
    Durable* durable
    Found* found                # those listed in its flow record, by number; then those in its runs, or above `high`
    ListedRun* runs             # by number
    uint32_t run_count
    uint32_t run_capacity
    uint32_t listed
    uint32_t count
    uint32_t capacity
    uint32_t sent               # of ops
    uint64_t as_of
    uint64_t high               # of its flow record
    uint64_t next_order         # of what is found next, in the upper half
    uint64_t last_order         # of what was sent last
    uint64_t last_sent          # the highest number that has been sent

cdef struct Restoring:          # while it lasts
    Recovery* recoveries
    Session* ended              # those that only have to hand over what they have
    uint64_t last_message       # the highest number that was seen

# Reads all rows of one table, (key, value) each; returns how many were left out.
cdef uint64_t restore_rows(ShardState* shard, Restoring* restoring, int table, rows, known) except? 0xFFFFFFFF
# After the last table.
cdef void restore_finish(ShardState* shard, Restoring* restoring) noexcept nogil
# Frees what was gathered; sessions that only hand over what they have begin to end.
cdef void restoring_close(ShardState* shard, Restoring* restoring) noexcept nogil
