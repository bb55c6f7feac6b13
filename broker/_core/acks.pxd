# Acknowledgements both ways: what one from a client frees, and promises that leave when they are durable.
#
# Here belongs every packet that acknowledges. Not here: what was accepted (publish), the ring as data (journal).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.model cimport Connection, ShardState

# PUBACK, PUBREC, PUBREL and PUBCOMP from a client.
cdef void handle_ack(
    ShardState* shard, Connection* connection, uint8_t packet_type, const uint8_t* body, uint32_t n) noexcept nogil
# An acknowledgement of ours: it leaves now when nothing holds it, otherwise after its ticket (0: nothing to keep).
# `packet_type` is PUBACK, PUBREC or PUBCOMP.
cdef void stage_ack(
    ShardState* shard, Connection* connection, uint64_t ticket, uint8_t packet_type, uint16_t packet_id,
    uint8_t reason_code) noexcept nogil
# The receipt of a repetition says that what came before is kept: it leaves when all is that has been recorded.
cdef void stage_receipt_again(ShardState* shard, Connection* connection, uint16_t packet_id) noexcept nogil
# An acknowledgement that refuses, with words (up to 60 bytes of UTF-8) for a 5.0 client that wants and takes them.
cdef void stage_refusal(
    ShardState* shard, Connection* connection, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code,
    const uint8_t* text, uint32_t n) noexcept nogil
# What a PUBLISH asked for could not be made durable: 5.0 is told, 3.1.1 is closed and sends it again.
cdef void not_kept(
    ShardState* shard, Connection* connection, uint8_t packet_type, uint16_t packet_id) noexcept nogil
# An encoded acknowledgement (SUBACK, UNSUBACK); the bytes are copied.
cdef void stage_bytes(
    ShardState* shard, Connection* connection, uint64_t ticket, const uint8_t* bytes, uint32_t n) noexcept nogil
# The Store has answered a ticket: its promises leave, or are refused where it failed.
cdef void settle(ShardState* shard, uint64_t ticket, bint committed) noexcept nogil
