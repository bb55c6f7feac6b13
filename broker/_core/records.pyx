"""Records on disk. See records.pxd."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.blake2b cimport Blake2b, blake2b_close, blake2b_open, blake2b_update
from broker._core.cursor cimport put_bytes
from broker._core.message cimport NEVER_EXPIRES, Outgoing, keep_message, message_topic, outgoing_open
from broker._core.model cimport Message, ShardState


TABLE_NAMES = (
    "meta", "sessions", "subscriptions", "wills", "flows", "messages", "ops", "retained", "devices", "seen",
    "passwords_used", "answers", "timeline", "online", "tracked",
)


cdef uint8_t* put_message(ShardState* shard, uint8_t* at, Message* message) noexcept nogil:
    cdef MessageHead head
    head.qos = message.qos
    head.retain = message.retain
    head.version = message.version
    head.spare = 0
    head.topic_bytes = message.topic_bytes
    head.properties_bytes = message.properties_bytes
    head.payload_bytes = message.payload_bytes
    head.expiry_s = message.message_expiry_s
    head.expiry_offset = message.expiry_offset
    head.publisher = message.publisher
    head.tracking = message.tracking
    head.received_at_wall_ns = message.received_at_ns + shard.wall_offset_ns
    memcpy(at, &head, sizeof(head))
    return put_bytes(
        at + sizeof(head), message_topic(message),
        message.topic_bytes + message.properties_bytes + message.payload_bytes)


cdef inline bint is_message(const MessageHead* head) noexcept nogil:
    # What the bytes behind it are relied on for.
    if head.qos > 2 or head.topic_bytes > 65535 or not 0 <= head.received_at_wall_ns <= NUMBER_MAXIMUM:
        return False
    return head.expiry_s == NEVER_EXPIRES or <uint64_t>head.expiry_offset + 4 <= head.properties_bytes


cdef Message* get_message(ShardState* shard, const uint8_t* at, uint32_t n, uint32_t* used) noexcept nogil:
    cdef MessageHead head
    cdef Outgoing out
    cdef uint64_t size
    if n < sizeof(head):
        return NULL
    memcpy(&head, at, sizeof(head))
    size = sizeof(head) + <uint64_t>head.topic_bytes + head.properties_bytes + head.payload_bytes
    if size > n or not is_message(&head):
        return NULL
    if head.expiry_s != NEVER_EXPIRES and <uint64_t>head.expiry_offset + 4 > head.properties_bytes:
        return NULL     # its interval would be written elsewhere
    outgoing_open(&out)
    out.topic.at = at + sizeof(head)
    out.topic.n = head.topic_bytes
    out.properties.at = out.topic.at + head.topic_bytes
    out.properties.n = head.properties_bytes
    out.payload.at = out.properties.at + head.properties_bytes
    out.payload.n = head.payload_bytes
    out.qos = head.qos
    out.retain = head.retain
    out.version = head.version
    out.message_expiry_s = head.expiry_s
    out.expiry_offset = head.expiry_offset
    out.received_at_ns = min(head.received_at_wall_ns - shard.wall_offset_ns, shard.now_ns)     # a clock that went back
    out.tracking = head.tracking
    used[0] = <uint32_t>size
    keep_message(shard, &out)
    out.message.publisher = head.publisher
    return out.message      # its one reference is the caller's


cdef bytes numbered_key(uint64_t number):
    cdef uint8_t[8] key
    put_key(key, number)
    return PyBytes_FromStringAndSize(<char*>key, 8)


cdef bint next_record(const uint8_t** at, const uint8_t* end, Record* record) noexcept nogil:
    cdef uint64_t left = <uint64_t>(end - at[0]), size
    if left < sizeof(RecordHead) + sizeof(MessageHead):
        return False
    memcpy(&record.head, at[0], sizeof(RecordHead))
    memcpy(&record.message, at[0] + sizeof(RecordHead), sizeof(MessageHead))
    size = sizeof(RecordHead) + sizeof(MessageHead) + <uint64_t>record.message.topic_bytes + \
        record.message.properties_bytes + record.message.payload_bytes
    if record.head.record_bytes > left or size > record.head.record_bytes:
        return False
    if not is_message(&record.message) or not 0 < record.head.number <= NUMBER_MAXIMUM:
        return False
    record.body = at[0] + sizeof(RecordHead)
    record.pairs = at[0] + size
    at[0] += record.head.record_bytes
    record.end = at[0]
    return True


cdef inline bint are_identifiers(const uint8_t* at, uint32_t count) noexcept nogil:
    cdef uint32_t identifier, i
    for i in range(count):
        memcpy(&identifier, at + i * sizeof(uint32_t), sizeof(uint32_t))
        if not 0 < identifier <= IDENTIFIER_MAXIMUM:
            return False
    return True


cdef bint next_pair(const uint8_t** at, const uint8_t* end, PairRecord* pair) noexcept nogil:
    cdef uint64_t left = <uint64_t>(end - at[0]), size
    if left < PAIR_BYTES:
        return False
    memcpy(&pair.head, at[0], PAIR_BYTES)
    size = PAIR_BYTES + <uint64_t>pair.head.identifiers * sizeof(uint32_t)
    pair.identifiers = at[0] + PAIR_BYTES
    pair.group_bytes = 0
    if pair.head.flags & PAIR_GROUP:
        if left < size + 2:
            return False
        memcpy(&pair.group_bytes, at[0] + size, 2)
        pair.group = at[0] + size + 2
        size += 2 + <uint64_t>pair.group_bytes
    if left < size or not are_identifiers(pair.identifiers, pair.head.identifiers):
        return False
    at[0] += size
    return True


cdef void put_subscription_key(uint8_t* at, uint64_t session, const uint8_t* filter, uint32_t n) noexcept nogil:
    # Filters are longer than keys may be.
    cdef Blake2b state
    cdef uint8_t[32] digest
    blake2b_open(&state, NULL, 0)
    blake2b_update(&state, filter, n)
    blake2b_close(&state, digest)
    put_key(at, session)
    memcpy(at + 8, digest, 16)
