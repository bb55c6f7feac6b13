"""Chunks of messages come back from disk. See restore_chunks.pxd."""

import zlib

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.chunks cimport add_chunk
from broker._core.durable_table cimport find_durable
from broker._core.message cimport NEVER_EXPIRES
from broker._core.model cimport Chunk, Durable, Journal, ShardState
from broker._core.records cimport (
    CHECKSUM_BYTES,
    FLOW_PUBLISH_1,
    FLOW_PUBLISH_2,
    FLOW_QUEUED,
    NUMBER_MAXIMUM,
    PAIR_GROUP,
    PAIR_RETAIN,
    PairRecord,
    Record,
    delivery_size,
    get_key,
    next_pair,
    next_record,
)
from broker._core.recovery cimport (
    Found,
    ListedRun,
    Recovery,
    Restoring,
    add_found,
    find_listed_run,
    find_unseen,
    need_recovery,
)


cdef enum:
    SECOND_NS = 1000000000


# ---------------------------------------------------------------- deliveries

cdef Found* find_delivery(Recovery* recovery, const Record* record, const PairRecord* pair) noexcept nogil:
    # NULL: it is done.
    cdef uint64_t number = record.head.number
    cdef ListedRun* run = find_listed_run(recovery, number)
    cdef Found* found
    if run == NULL and number <= recovery.high:
        return find_unseen(recovery, number, pair.head.packet_id)
    if recovery.count > recovery.listed and recovery.found[recovery.count - 1].number > number:
        return NULL
    found = add_found(recovery, number)
    if run != NULL:
        found.order = run.order
        run.order += 1
    if pair.head.packet_id:
        found.packet_id = pair.head.packet_id
        found.state = FLOW_PUBLISH_1 if pair.head.flags & 3 == 1 else FLOW_PUBLISH_2
        recovery.last_sent = number
        recovery.durable.session.next_packet_id = pair.head.packet_id
    return found


cdef bint take_pair(
        ShardState* shard, Restoring* restoring, const Record* record, const PairRecord* pair) noexcept nogil:
    cdef Durable* durable = find_durable(shard, pair.head.session)
    cdef Found* found
    if durable == NULL or not 1 <= pair.head.flags & 3 <= 2:
        return False
    found = find_delivery(need_recovery(restoring, durable), record, pair)
    if found == NULL:
        return False
    found.size = delivery_size(record, pair)
    found.qos = pair.head.flags & 3
    if found.state != FLOW_QUEUED:
        found.qos = 1 if found.state == FLOW_PUBLISH_1 else 2
    found.retain = pair.head.flags & PAIR_RETAIN != 0
    found.grouped = pair.head.flags & PAIR_GROUP != 0
    found.tracking = record.message.tracking
    durable.grouped |= found.grouped
    return True


# ---------------------------------------------------------------- messages and chunks

cdef inline int64_t record_expires_at_ns(ShardState* shard, const Record* record) noexcept nogil:
    if record.message.expiry_s == NEVER_EXPIRES:
        return 0
    return max(1, record.message.received_at_wall_ns - shard.wall_offset_ns
               + <int64_t>record.message.expiry_s * SECOND_NS)


cdef uint32_t take_message(ShardState* shard, Restoring* restoring, Chunk* chunk, const Record* record) noexcept nogil:
    # Returns how many deliveries it has, dead ones too.
    cdef const uint8_t* at = record.pairs
    cdef int64_t expires = record_expires_at_ns(shard, record)
    cdef PairRecord pair
    cdef uint32_t count = 0
    while next_pair(&at, record.end, &pair):
        count += 1
        chunk.live += take_pair(shard, restoring, record, &pair)
    chunk.pairs += count
    chunk.last = record.head.number
    if expires and (chunk.expires_at_ns == 0 or expires < chunk.expires_at_ns):
        chunk.expires_at_ns = expires
    return count


cdef bint read_chunk(
        ShardState* shard, Restoring* restoring, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil:
    # False: it is not what it should be from some point on; what stands before that counts.
    cdef Journal* journal = &shard.journal
    cdef const uint8_t* end = at + n
    cdef uint64_t last = restoring.last_message
    cdef uint32_t expected, messages = 0
    cdef Record record
    cdef Chunk* chunk
    if n < CHECKSUM_BYTES or key <= last or key > NUMBER_MAXIMUM:
        return False
    memcpy(&expected, at + 4, 4)
    at += CHECKSUM_BYTES
    chunk = add_chunk(shard, key, key)
    chunk.bytes = n
    while next_record(&at, end, &record):
        if record.head.number <= last or record.head.number < key:
            break
        last = record.head.number
        messages += 1
        if take_message(shard, restoring, chunk, &record) != record.head.pair_count:
            break
    restoring.last_message = chunk.last
    journal.pairs_live += chunk.live
    journal.chunk_bytes += n
    return messages == expected and at == end


cdef bint is_whole(bytes value) except -1:
    # As sealing.checksum left it.
    cdef const uint8_t* at = value
    cdef uint32_t crc
    if len(value) < CHECKSUM_BYTES:
        return False
    memcpy(&crc, at, 4)
    return crc == zlib.crc32(memoryview(value)[4:])


cdef bint restore_chunk(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1:
    if len(key) != 8 or not is_whole(value):
        return False
    return read_chunk(shard, restoring, get_key(key), value, <uint32_t>len(value))
