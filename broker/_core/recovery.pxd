# What is found of each session while the shard is restored: deliveries, runs and packet identifiers, until all of it is
# known.
#
# Here belong these structures, filled and searched. Not here: what the records say (restore_sessions,
# restore_chunks, restore_flows), what becomes of a delivery in the end (restore).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.model cimport Durable, Session

cdef enum:
    FOUND_DONE = 255                # in place of a state

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

# That of a session, from now on.
cdef Recovery* need_recovery(Restoring* restoring, Durable* durable) noexcept nogil
# Frees them all.
cdef void free_recoveries(Restoring* restoring) noexcept nogil
# A delivery, or a run of them, behind all that was found before.
cdef Found* add_found(Recovery* recovery, uint64_t number) noexcept nogil
cdef void add_listed_run(Recovery* recovery, uint64_t first, uint64_t last) noexcept nogil
# The run that has the number, NULL: none.
cdef ListedRun* find_listed_run(Recovery* recovery, uint64_t number) noexcept nogil
# The delivery that was sent with this identifier; without one, the first that waits, else the first that was sent.
cdef Found* find_found(Recovery* recovery, uint64_t number, uint16_t packet_id) noexcept nogil
# One that a flow record lists and whose message has not been seen; NULL: there is none.
cdef Found* find_unseen(Recovery* recovery, uint64_t number, uint16_t packet_id) noexcept nogil
# All that a flow record lists has been added: it is searched by number from now on.
cdef void sort_listed(Recovery* recovery) noexcept nogil
# The first `kept` of them, in the order of sending.
cdef void sort_found(Recovery* recovery, uint32_t kept) noexcept nogil

# Packet identifiers, which need no more than the session: outbound ones whose PUBREL is under way, inbound ones.
cdef void put_pubrel(Session* session, uint16_t packet_id) noexcept nogil
cdef void free_pubrel(Session* session, uint16_t packet_id) noexcept nogil
cdef void take_identifier(Session* session, uint16_t packet_id) noexcept nogil
