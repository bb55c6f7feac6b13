# From one message to its receivers: match, choose, offer; and what waits until there is quota or room.
#
# Here belong routing and delivery, and the fan-outs that did not fit into a slice. Not here: whether a client may
# publish (publish), acknowledgements (acks), bytes of a PUBLISH (message).

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from broker._core.message cimport Outgoing
from broker._core.model cimport Account, Connection, FanOut, Promise, Session, SharedGroup, ShardState

# Routes to everybody who matches; returns how many sessions took it. When the slice's budget ends first, the rest goes
# on as a fan-out: `rest` is set, and the caller says what follows when it is done.
cdef uint32_t route(
    ShardState* shard, Account* account, Outgoing* out, Session* publisher, FanOut** rest) noexcept nogil
# Whether somebody who would get it has no room for it, asked before anything has happened: true at that moment for all
# of its receivers together.
cdef bint somebody_is_full(ShardState* shard, Account* account, Outgoing* out, Session* publisher) noexcept nogil
# Goes on with one fan-out while there is budget; True when nothing is left of it.
cdef bint continue_fan_out(ShardState* shard, FanOut* fan_out) noexcept nogil
cdef void free_fan_out(ShardState* shard, FanOut* fan_out) noexcept nogil
# The account whose unfinished fan-outs are due, taken off the list; make_busy puts it at the list's end again.
cdef Account* next_busy(ShardState* shard) noexcept nogil
cdef void make_busy(ShardState* shard, Account* account) noexcept nogil
# One message for one session: sent, queued, or dropped for a counted reason. True when the session took it.
cdef bint offer(
    ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
# The same for a shared group: one of its members gets it.
cdef bint deliver_to_group(ShardState* shard, Outgoing* out, SharedGroup* group) noexcept nogil
# Encodes into the outbox of a connected session with quota for it; False when it was dropped for a counted reason.
cdef bint send(
    ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
# The same of a retained message, which nobody has offered to the session before.
cdef void send_unasked(
    ShardState* shard, Outgoing* out, Session* session, uint8_t qos, const uint32_t* identifiers, uint32_t count
) noexcept nogil
# The PUBLISH of QoS 2 with this identifier may leave, if it is still wanted.
cdef void publish_held(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil
# The PUBLISH of QoS 0 that waited may leave, if it is still wanted.
cdef void publish_once(ShardState* shard, Session* session, Promise* promise) noexcept nogil
# Sends what was offered before, first of all what an earlier connection left; True when nothing of it waits any more.
cdef bint send_waiting(ShardState* shard, Session* session) noexcept nogil
