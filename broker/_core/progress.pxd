# How far the deliveries have come that are recorded for a session on disk: which were taken out, and where a gap is.
#
# `high` is the highest number that was taken out, `unordered` says that what waits is not in the order of numbers, and
# no run reaches across `whole_from`. A restart tells from that and from ops what still waits (see restore_flows).
#
# Here belong these marks. Not here: what waits (queue, parking), ops (journal), chunks.

from libc.stdint cimport uint8_t, uint16_t, uint64_t

from broker._core.budgets cimport queued_count
from broker._core.journal cimport end_pair
from broker._core.model cimport Durable, Message, Session, ShardState

# Something is recorded for it that does not wait, or not in its place: no run may reach across that.
cdef inline void leave_gap(ShardState* shard, Durable* durable) noexcept nogil:
    durable.whole_from = shard.journal.next_message

cdef inline void taken_out(Session* session, uint64_t number) noexcept nogil:
    if number > session.durable.high:
        session.durable.high = number

# A delivery that was recorded is not taken: what is queued stands behind it from now on.
cdef inline void pass_over(ShardState* shard, Session* session, uint64_t number) noexcept nogil:
    leave_gap(shard, session.durable)
    if number > session.durable.high:
        session.durable.high = number
        session.durable.unordered |= queued_count(session) != 0

# A delivery needs its message no more. `op` is the kind of what is recorded of that.
cdef inline void end_record(
        ShardState* shard, Session* session, uint64_t number, Message* message, uint8_t op, uint16_t packet_id
) noexcept nogil:
    # Of a session whose records are deleted nothing needs to be said.
    end_pair(
        shard, session.durable.number, number, message, 0 if session.durable.ended else op, packet_id,
        session.ending != 0)
