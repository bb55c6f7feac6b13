"""Application messages and the bytes of a PUBLISH. See message.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from broker._core.aliases cimport ALIAS_BYTES, AliasUse
from broker._core.cursor cimport put_bytes, put_u16, put_u32, put_varint, varint_size
from broker._core.memory cimport give_memory, resize_memory, slab_close, slab_give, slab_open, slab_take, take_memory
from broker._core.model cimport LAYOUTS, MESSAGE_SIZE_CLASSES, Message, ShardState


cdef enum:
    SMALLEST_MESSAGE_BYTES = 128
    NOT_POOLED = 255
    SUBSCRIPTION_IDENTIFIER = 0x0B
    TOPIC_ALIAS = 0x23


cdef void messages_open(ShardState* shard) noexcept nogil:
    cdef int i
    for i in range(MESSAGE_SIZE_CLASSES):
        slab_open(&shard.message_slabs[i], SMALLEST_MESSAGE_BYTES << i, 64 if i < 3 else 16)


cdef void messages_close(ShardState* shard) noexcept nogil:
    cdef int i
    for i in range(MESSAGE_SIZE_CLASSES):
        slab_close(&shard.message_slabs[i])
    for i in range(LAYOUTS):
        give_memory(shard.layouts[i].at)
        shard.layouts[i].at = NULL


cdef Message* take_message(ShardState* shard, uint32_t size) noexcept nogil:
    cdef Message* message
    cdef int i
    for i in range(MESSAGE_SIZE_CLASSES):
        if size <= <uint32_t>(SMALLEST_MESSAGE_BYTES << i):
            message = <Message*>slab_take(&shard.message_slabs[i])
            message.size_class = i
            return message
    message = <Message*>take_memory(size)
    message.size_class = NOT_POOLED
    return message


cdef Message* keep_message(ShardState* shard, Outgoing* out) noexcept nogil:
    cdef Message* message = out.message
    cdef uint8_t* at
    if message != NULL:
        return message
    message = take_message(shard, <uint32_t>sizeof(Message) + out.topic.n + out.properties.n + out.payload.n)
    message.refs = 1        # the Outgoing's own
    message.topic_bytes = out.topic.n
    message.properties_bytes = out.properties.n
    message.payload_bytes = out.payload.n
    message.qos = out.qos
    message.retain = out.retain
    message.version = out.version
    message.message_expiry_s = out.message_expiry_s
    message.expiry_offset = out.expiry_offset
    message.received_at_ns = out.received_at_ns
    message.publisher = 0
    message.number = 0
    message.promise = NULL
    message.outstanding = 0
    message.tracking = out.tracking
    at = message_topic(message)
    at = put_bytes(at, out.topic.at, out.topic.n)
    at = put_bytes(at, out.properties.at, out.properties.n)
    put_bytes(at, out.payload.at, out.payload.n)
    out.message = message
    return message


cdef void release_message(ShardState* shard, Message* message) noexcept nogil:
    message.refs -= 1
    if message.refs:
        return
    if message.size_class == NOT_POOLED:
        give_memory(message)
    else:
        slab_give(&shard.message_slabs[message.size_class], message)


cdef void outgoing_open(Outgoing* out) noexcept nogil:
    cdef int i
    out.message = NULL
    out.message_expiry_s = NEVER_EXPIRES
    out.expiry_offset = 0
    out.tracking = 0
    out.topic_hash = 0
    out.ticket = 0
    out.known = 0
    out.closed = 0
    out.insists = 0
    out.refused = 0
    out.handed_over = 0
    for i in range(LAYOUTS):
        out.layout_at[i] = NULL


cdef void outgoing_afresh(Outgoing* out, Message* message) noexcept nogil:
    outgoing_open(out)
    out.topic.at = message_topic(message)
    out.topic.n = message.topic_bytes
    out.properties.at = message_properties(message)
    out.properties.n = message.properties_bytes
    out.payload.at = message_payload(message)
    out.payload.n = message.payload_bytes
    out.qos = message.qos
    out.retain = message.retain
    out.version = message.version
    out.message_expiry_s = message.message_expiry_s
    out.expiry_offset = message.expiry_offset
    out.received_at_ns = message.received_at_ns
    out.tracking = message.tracking


cdef void outgoing_from_message(Outgoing* out, Message* message) noexcept nogil:
    outgoing_afresh(out, message)
    out.known = message.number != 0
    out.message = message
    message.refs += 1


cdef void outgoing_close(ShardState* shard, Outgoing* out) noexcept nogil:
    if out.message != NULL:
        release_message(shard, out.message)
        out.message = NULL


cdef uint32_t expiry_left_s(Outgoing* out, int64_t now_ns) noexcept nogil:
    cdef int64_t waited_s
    if out.message_expiry_s == NEVER_EXPIRES:
        return NEVER_EXPIRES
    waited_s = (now_ns - out.received_at_ns) // 1000000000
    return 0 if waited_s >= out.message_expiry_s else <uint32_t>(out.message_expiry_s - waited_s)


# ---------------------------------------------------------------- bytes

cdef void need_layout(ShardState* shard, Outgoing* out, int layout) noexcept nogil:
    cdef bint version_5 = layout >= 2
    cdef uint32_t packet_id_bytes = 2 if layout & 1 else 0
    cdef uint32_t remaining, total
    cdef uint8_t* at
    if out.layout_at[layout] != NULL:
        return
    remaining = 2 + out.topic.n + packet_id_bytes + out.payload.n
    if version_5:
        remaining += varint_size(out.properties.n) + out.properties.n
    total = 1 + varint_size(remaining) + remaining
    if shard.layouts[layout].capacity < total:
        shard.layouts[layout].capacity = total if total > 4096 else 4096
        shard.layouts[layout].at = <uint8_t*>resize_memory(
            shard.layouts[layout].at, shard.layouts[layout].capacity)
    at = shard.layouts[layout].at
    at[0] = 0x30
    at = put_varint(at + 1, remaining)
    at = put_u16(at, <uint16_t>out.topic.n)
    at = put_bytes(at, out.topic.at, out.topic.n)
    out.packet_id_offset[layout] = <uint32_t>(at - shard.layouts[layout].at)
    at += packet_id_bytes
    if version_5:
        at = put_varint(at, out.properties.n)
        at = put_bytes(at, out.properties.at, out.properties.n)
    put_bytes(at, out.payload.at, out.payload.n)
    out.layout_at[layout] = shard.layouts[layout].at
    out.layout_bytes[layout] = total


cdef uint32_t identifiers_bytes(const uint32_t* identifiers, uint32_t count) noexcept nogil:
    cdef uint32_t total = 0, i
    for i in range(count):
        total += 1 + varint_size(identifiers[i])
    return total


cdef inline uint32_t added_bytes(const uint32_t* identifiers, uint32_t count, AliasUse alias) noexcept nogil:
    return identifiers_bytes(identifiers, count) + (ALIAS_BYTES if alias.number else 0)


cdef uint32_t identified_remaining(
        Outgoing* out, bint with_packet_id, const uint32_t* identifiers, uint32_t count, AliasUse alias) noexcept nogil:
    cdef uint32_t properties = out.properties.n + added_bytes(identifiers, count, alias)
    cdef uint32_t topic = 0 if alias.known else out.topic.n
    return 2 + topic + (2 if with_packet_id else 0) + varint_size(properties) + properties + out.payload.n


cdef uint32_t identified_bytes(
        Outgoing* out, bint with_packet_id, const uint32_t* identifiers, uint32_t count, AliasUse alias) noexcept nogil:
    cdef uint32_t remaining = identified_remaining(out, with_packet_id, identifiers, count, alias)
    return 1 + varint_size(remaining) + remaining


cdef void encode_identified(
        uint8_t* at, Outgoing* out, uint8_t first_byte, uint16_t packet_id, const uint32_t* identifiers, uint32_t count,
        AliasUse alias, uint32_t expiry_s) noexcept nogil:
    cdef uint32_t remaining = identified_remaining(out, packet_id != 0, identifiers, count, alias)
    cdef uint32_t topic_bytes = 0 if alias.known else out.topic.n
    cdef uint32_t i
    cdef uint8_t* properties
    at[0] = first_byte
    at = put_varint(at + 1, remaining)
    at = put_u16(at, <uint16_t>topic_bytes)
    at = put_bytes(at, out.topic.at, topic_bytes)
    if packet_id:
        at = put_u16(at, packet_id)
    at = put_varint(at, out.properties.n + added_bytes(identifiers, count, alias))
    properties = at
    at = put_bytes(at, out.properties.at, out.properties.n)
    if out.message_expiry_s != NEVER_EXPIRES:
        put_u32(properties + out.expiry_offset, expiry_s)  # [MQTT-3.3.2-6]
    if alias.number:
        at[0] = TOPIC_ALIAS
        at = put_u16(at + 1, alias.number)
    for i in range(count):  # [MQTT-3.3.4-3]
        at[0] = SUBSCRIPTION_IDENTIFIER
        at = put_varint(at + 1, identifiers[i])
    put_bytes(at, out.payload.at, out.payload.n)
