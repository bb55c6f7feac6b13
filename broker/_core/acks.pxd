# Acknowledgements both ways: what one from a client frees, and promises that leave when they are durable.
#
# Here belongs every packet that acknowledges. Not here: what was accepted (publish), promises as data (promises).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.journal cimport newest_ticket
from broker._core.model cimport LEVEL_SYNCED, Connection, Message, ShardState

# PUBACK, PUBREC, PUBREL and PUBCOMP from a client.
cdef void handle_ack(
    ShardState* shard, Connection* connection, uint8_t packet_type, const uint8_t* body, uint32_t n) noexcept nogil
# An acknowledgement of ours: it leaves now when nothing holds it, otherwise after its ticket (0: nothing to keep).
# `packet_type` is PUBACK, PUBREC or PUBCOMP.
cdef void stage_ack(
    ShardState* shard, Connection* connection, uint64_t ticket, uint8_t packet_type, uint16_t packet_id,
    uint8_t reason_code) noexcept nogil
# The same for what became of a message: when all who keep it have acknowledged it, it leaves before its ticket.
cdef void stage_ack_of(
    ShardState* shard, Connection* connection, uint64_t ticket, uint8_t packet_type, uint16_t packet_id,
    uint8_t reason_code, Message* message) noexcept nogil
# The ticket of what has just been recorded, for this connection: 0 when its level does not let it wait.
cdef inline uint64_t ticket_for(ShardState* shard, Connection* connection) noexcept nogil:
    return newest_ticket(&shard.journal) if connection.durability == LEVEL_SYNCED else 0
# An acknowledgement that refuses, with words (up to 60 bytes of UTF-8) for a 5.0 client that wants and takes them.
cdef void stage_refusal(
    ShardState* shard, Connection* connection, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code,
    const uint8_t* text, uint32_t n) noexcept nogil
# An encoded acknowledgement (SUBACK, UNSUBACK); the bytes are copied.
cdef void stage_bytes(
    ShardState* shard, Connection* connection, uint64_t ticket, const uint8_t* bytes, uint32_t n) noexcept nogil
# Nothing leaves this connection before its ticket is settled, not even what is staged already.
cdef void gate(ShardState* shard, Connection* connection, uint64_t ticket) noexcept nogil
# The batch that was under way is on disk: its promises leave.
cdef void settle(ShardState* shard) noexcept nogil
# Promises leave whose messages have been acknowledged by all who keep them.
cdef void release_done(ShardState* shard) noexcept nogil
