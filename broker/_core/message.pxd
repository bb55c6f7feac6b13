# Application messages in slab memory, and the bytes of a PUBLISH: encoded once per layout, patched per receiver.
#
# Here belongs what a message is and how it becomes bytes. Not here: who gets it (deliver) and when it may leave.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.aliases cimport AliasUse
from broker._core.cursor cimport Span
from broker._core.model cimport Message, ShardState

cdef enum:
    NEVER_EXPIRES = 0xFFFFFFFF

# One message on its way to its receivers. `layouts` are filled when first needed and live until the next message.
cdef struct Outgoing:
    Span topic
    Span properties             # forwardable: without Topic Alias
    Span payload
    Message* message            # the kept copy, NULL until somebody needs one
    uint8_t qos
    uint8_t retain
    uint8_t version
    uint8_t known               # its delivery to this receiver is in the message's record already
    uint8_t closed              # its record is complete: who is still to get it gets a message of its own
    uint8_t insists             # nobody is there to whom it could be refused
    uint8_t refused             # it would need the disk, which takes nothing now: nothing was done
    uint8_t handed_over         # a session on disk that ends had it, and has it no more with the open batch
    uint32_t message_expiry_s
    uint32_t expiry_offset
    uint32_t tracking           # its Message's, 0: nobody asks
    uint32_t topic_hash         # 0: not computed yet; for receivers that know aliases
    uint64_t ticket             # of its record, 0: it has none
    int64_t received_at_ns
    const uint8_t* layout_at[4]
    uint32_t layout_bytes[4]
    uint32_t packet_id_offset[4]

cdef inline uint8_t* message_topic(Message* message) noexcept nogil:
    return <uint8_t*>message + sizeof(Message)

cdef inline uint8_t* message_properties(Message* message) noexcept nogil:
    return <uint8_t*>message + sizeof(Message) + message.topic_bytes

cdef inline uint8_t* message_payload(Message* message) noexcept nogil:
    return <uint8_t*>message + sizeof(Message) + message.topic_bytes + message.properties_bytes

cdef inline uint32_t message_bytes(Message* message) noexcept nogil:
    return <uint32_t>sizeof(Message) + message.topic_bytes + message.properties_bytes + message.payload_bytes

cdef void messages_open(ShardState* shard) noexcept nogil
cdef void messages_close(ShardState* shard) noexcept nogil

# The kept copy of what is going out, made at the first call. The Outgoing holds one reference: see outgoing_close.
cdef Message* keep_message(ShardState* shard, Outgoing* out) noexcept nogil
cdef void release_message(ShardState* shard, Message* message) noexcept nogil
cdef inline void hold_message(Message* message) noexcept nogil:
    message.refs += 1

cdef void outgoing_open(Outgoing* out) noexcept nogil
cdef void outgoing_from_message(Outgoing* out, Message* message) noexcept nogil
# The same bytes, on their way as a message of its own: with a number and a record of its own when it needs them. The
# message has to outlive it.
cdef void outgoing_afresh(Outgoing* out, Message* message) noexcept nogil
cdef void outgoing_close(ShardState* shard, Outgoing* out) noexcept nogil

# Seconds left of the Message Expiry Interval; 0: it has expired. NEVER_EXPIRES when it has none. [MQTT-3.3.2-6]
cdef uint32_t expiry_left_s(Outgoing* out, int64_t now_ns) noexcept nogil

# Fills the layout for (version 5) * 2 + (QoS above 0) if it is not there yet.
cdef void need_layout(ShardState* shard, Outgoing* out, int layout) noexcept nogil
# The size of a version 5 PUBLISH with subscription identifiers and an alias, and its bytes; for those that have some.
cdef uint32_t identified_bytes(
    Outgoing* out, bint with_packet_id, const uint32_t* identifiers, uint32_t count, AliasUse alias) noexcept nogil
cdef void encode_identified(
    uint8_t* at, Outgoing* out, uint8_t first_byte, uint16_t packet_id, const uint32_t* identifiers, uint32_t count,
    AliasUse alias, uint32_t expiry_s) noexcept nogil
