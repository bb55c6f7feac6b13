"""Chunks written again without what is done. See compaction.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.budgets cimport count_drop
from broker._core.chunks cimport ask_for, find_chunk
from broker._core.cursor cimport put_bytes
from broker._core.durable_table cimport find_durable
from broker._core.fold cimport first_unoffered
from broker._core.keyed_records cimport put_numbered
from broker._core.memory cimport give_memory, take_memory
from broker._core.message cimport NEVER_EXPIRES
from broker._core.model cimport (
    DROP_MESSAGE_EXPIRED,
    Chunk,
    Durable,
    Journal,
    Queue,
    Remains,
    Session,
    ShardState,
)
from broker._core.parking cimport drop_parked, is_parked
from broker._core.records cimport (
    CHECKSUM_BYTES,
    TABLE_MESSAGES,
    PairRecord,
    Record,
    RecordHead,
    delivery_size,
    next_pair,
    next_record,
)


cdef enum:
    CHUNKS_PER_BATCH = 1024     # that are looked at
    ASKED_PER_BATCH = 4
    SPARSE = 4                  # of so many deliveries one is needed: it is written again
    SECOND_NS = 1000000000


# ---------------------------------------------------------------- which

cdef inline bint is_waste(ShardState* shard, Chunk* chunk) noexcept nogil:
    if chunk.live == 0 or chunk.rewrite or chunk.asked or chunk.merges or chunk.stays:
        return False
    if chunk.expires_at_ns and chunk.expires_at_ns <= shard.now_ns:
        return True
    return not is_young(shard, chunk) and <uint64_t>chunk.live * SPARSE < chunk.pairs


cdef void look_for_waste(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint32_t asked = 0, _
    cdef Chunk* chunk
    for _ in range(min(<uint32_t>CHUNKS_PER_BATCH, journal.chunk_count)):
        if asked == ASKED_PER_BATCH:
            return
        if journal.sweep_at >= journal.chunk_count:
            journal.sweep_at = 0
        chunk = &journal.chunks[journal.sweep_at]
        if is_waste(shard, chunk):
            chunk.rewrite = 1
            ask_for(shard, chunk)
            asked += 1
        journal.sweep_at += 1


# ---------------------------------------------------------------- what stays

cdef bint is_inflight(Session* session, uint64_t number) noexcept nogil:
    cdef uint32_t i
    if session.bodies == NULL:
        return False
    for i in range(<uint32_t>session.inflight_mask + 1):
        if session.bodies[i].number == number:
            return True
    return False


cdef bint is_queued(Session* session, uint64_t number) noexcept nogil:
    # Of numbers that have been passed: where all came in order, none is.
    cdef Queue* queue = session.queue
    cdef uint32_t i
    if not session.durable.unordered:
        return False
    if queue != NULL:
        for i in range(queue.count):
            if queue.entries[(queue.head + i) & (queue.capacity - 1)].message.number == number:
                return True
    return is_parked(session, number)


cdef bint is_needed(Session* session, uint64_t number) noexcept nogil:
    return number > session.durable.high or is_inflight(session, number) or is_queued(session, number)


cdef bint drop_expired(
        ShardState* shard, Session* session, const Record* record, const PairRecord* pair) noexcept nogil:
    # What is in memory is looked at when it is sent.
    cdef uint64_t number = record.head.number
    if not is_parked(session, number):
        return False
    count_drop(shard, session, DROP_MESSAGE_EXPIRED)  # [MQTT-3.3.2-5]
    return drop_parked(shard, session, number, delivery_size(record, pair), record.message.tracking != 0)


cdef inline int64_t expires_at_ns(ShardState* shard, const Record* record) noexcept nogil:
    if record.message.expiry_s == NEVER_EXPIRES:
        return 0
    return max(1, record.message.received_at_wall_ns - shard.wall_offset_ns
               + <int64_t>record.message.expiry_s * SECOND_NS)


cdef void keep_pairs(
        ShardState* shard, Remains* remains, const Record* record, bint expired, RecordHead* head) noexcept nogil:
    cdef const uint8_t* at = record.pairs
    cdef const uint8_t* before = at
    cdef PairRecord pair
    cdef Durable* durable
    while next_pair(&at, record.end, &pair):
        durable = find_durable(shard, pair.head.session)
        if durable != NULL and is_needed(durable.session, record.head.number):
            if not (expired and drop_expired(shard, durable.session, record, &pair)):
                remains.at = put_bytes(remains.at, before, <uint32_t>(at - before))
                head.pair_count += 1
        before = at


cdef void keep_record(
        ShardState* shard, Remains* remains, const Record* record, bint drops_expired) noexcept nogil:
    cdef uint8_t* start = remains.at
    cdef int64_t expires = expires_at_ns(shard, record)
    cdef bint expired = drops_expired and expires != 0 and expires <= shard.now_ns
    cdef RecordHead head = record.head
    head.pair_count = 0
    remains.at = put_bytes(start + sizeof(head), record.body, <uint32_t>(record.pairs - record.body))
    keep_pairs(shard, remains, record, expired, &head)
    if head.pair_count == 0:
        remains.at = start
        return
    head.record_bytes = <uint32_t>(remains.at - start)
    memcpy(start, &head, sizeof(head))
    remains.messages += 1
    remains.pairs += head.pair_count
    if expires and not expired and (remains.expires_at_ns == 0 or expires < remains.expires_at_ns):
        remains.expires_at_ns = expires


cdef void write_again(ShardState* shard, Chunk* chunk, const Remains* remains, const uint8_t* begin) noexcept nogil:
    cdef uint32_t n = CHECKSUM_BYTES + <uint32_t>(remains.at - begin)
    cdef uint8_t* at = put_numbered(shard, TABLE_MESSAGES, chunk.first, n)  # its checksum follows at the batch's end
    memcpy(at + 4, &remains.messages, 4)
    memcpy(at + CHECKSUM_BYTES, begin, n - CHECKSUM_BYTES)
    chunk.changed = shard.journal.open_ticket
    chunk.pairs = remains.pairs
    shard.journal.chunk_bytes -= chunk.bytes
    chunk.bytes = n
    shard.journal.chunk_bytes += n


cdef bint is_whole(const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef Record record
    while next_record(&at, end, &record):
        pass
    return at == end


cdef void compact(ShardState* shard, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil:
    cdef Chunk* chunk = find_chunk(&shard.journal, key)
    cdef const uint8_t* end = at + n
    cdef uint8_t* buffer
    cdef Remains remains
    cdef Record record
    if chunk == NULL or chunk.first != key or not chunk.rewrite:
        return
    chunk.rewrite = 0
    if at == NULL or chunk.last >= first_unoffered(shard):
        return
    if not is_whole(at, end):
        chunk.stays = 1     # what is dropped from it would still be there
        return
    buffer = <uint8_t*>take_memory(<size_t>n + 1)
    remains.at = buffer
    remains.messages = remains.pairs = 0
    remains.expires_at_ns = 0
    while next_record(&at, end, &record):
        keep_record(shard, &remains, &record, True)
    chunk = find_chunk(&shard.journal, key)     # else it has gone meanwhile
    if chunk != NULL and remains.messages:
        chunk.expires_at_ns = remains.expires_at_ns
        write_again(shard, chunk, &remains, buffer)
    give_memory(buffer)
