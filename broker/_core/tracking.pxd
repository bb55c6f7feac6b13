# What becomes of messages that somebody asks about: they carry a tracking number; and what devices answer to them.
#
# Here belong the notes that Python takes, and their bounds. Not here: when something happens to a delivery (queue,
# parking, inflight, deliver, retained: they say so here), and what it means for the message
# (`broker/accounts/messages.py`).

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from broker._core.cursor cimport Span
from broker._core.model cimport Principal, ShardState

cdef enum TrackedKind:          # the same numbers as broker.ports.TrackedKind
    TRACKED_TAKEN = 1           # a session has it: queued, or in flight
    TRACKED_SENT = 2            # for the first time, by a session that has it
    TRACKED_ACKNOWLEDGED = 3    # a session has it no more: PUBACK came, or PUBREC
    TRACKED_DROPPED = 4         # a session has it no more: a DropReason
    TRACKED_SENT_ONCE = 5       # with QoS 0: nothing more is heard of it
    TRACKED_REFUSED = 6         # a session did not take it: a DropReason
    TRACKED_RETAINED = 7        # it waits for whoever subscribes
    TRACKED_RELEASED = 8        # it does not any more

cdef void tracking_close(ShardState* shard) noexcept nogil

# Notes what happened. `tracking` 0: it was on disk alone, and its number says which it is. Nothing is noted of
# deliveries to applications: what is told is what a device gets. `principal` NULL: nobody's delivery.
cdef void note(
    ShardState* shard, Principal* principal, uint32_t tracking, uint64_t number, uint8_t kind, int32_t reason
) noexcept nogil

# A device of an account that asks for it has published: notes it if it is an answer to a message. True: it is one.
cdef bint note_answer(ShardState* shard, Principal* principal, const Span* topic, const Span* payload) noexcept nogil
