# What a session has been sent and has not acknowledged: packet identifiers with their quota, and the messages of those
# that may have to be sent again.
#
# Here belong taking an identifier and giving it back, in one place (law 7), and the order of what is sent again. Not
# here: sending (deliver), acknowledgements (acks), reading a message from disk (parked).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.model cimport INFLIGHT_STATE, InflightBody, Message, Session, ShardState, SharedGroup

# A packet identifier is taken together with one unit of quota, and both are given back together (law 7). `state` is
# one of InflightState.
cdef uint16_t take_packet_id(Session* session, uint32_t state) noexcept nogil
# False for an identifier that is not inflight. It was acknowledged, or dropped for a reason that has just been counted.
cdef bint release_packet_id(ShardState* shard, Session* session, uint16_t packet_id, bint dropped) noexcept nogil
# The InflightState of an identifier without its flags, 0: not inflight.
cdef inline uint32_t inflight_state(Session* session, uint16_t packet_id) noexcept nogil:
    cdef uint32_t entry
    if session.inflight == NULL or packet_id == 0:
        return 0
    entry = session.inflight[packet_id & session.inflight_mask]
    return entry & INFLIGHT_STATE if (entry & 0xFFFF) == packet_id else 0
# Keeps what is needed to send an inflight delivery again. `identifiers` are copied, the message is held.
cdef void keep_body(
    ShardState* shard, Session* session, uint16_t packet_id, Message* message, SharedGroup* group, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
cdef InflightBody* body_of(Session* session, uint16_t packet_id) noexcept nogil
# An identifier is inflight again, as it was before a restart, behind those that already are; NULL: it is already.
cdef InflightBody* put_inflight(Session* session, uint16_t packet_id, uint32_t state) noexcept nogil
# Its message is on disk; and then in memory again. `identifiers` are copied, the message is held.
cdef void keep_unread(
    ShardState* shard, Session* session, InflightBody* body, uint64_t number, uint32_t size, uint8_t retain,
    bint grouped, uint32_t tracking) noexcept nogil
cdef void fill_body(
    InflightBody* body, Message* message, SharedGroup* group, const uint32_t* identifiers, uint32_t count
) noexcept nogil
# The client has gone: messages that are on disk are not kept in memory as well.
cdef void park_bodies(ShardState* shard, Session* session) noexcept nogil
# PUBREC came: from now on a PUBREL is what is inflight, and the message is let go.
cdef void enter_pubrel(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil
# All that is inflight has to be sent again, oldest first. [MQTT-4.4.0-1] [MQTT-4.6.0-1]
cdef void list_again(Session* session) noexcept nogil
# This one is about to be sent again, or was acknowledged before that: it holds a unit of quota from now on.
cdef void mark_sent(Session* session, uint16_t packet_id) noexcept nogil
# The session ends with all that is inflight.
cdef void drop_inflight(ShardState* shard, Session* session) noexcept nogil
