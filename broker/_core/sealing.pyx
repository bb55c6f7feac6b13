"""A batch as it is handed to the store. See sealing.pxd."""

import zlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.chunks cimport add_chunk, expires_at_ns, expires_with
from broker._core.cursor cimport put_bytes
from broker._core.journal cimport TIDY_FIRST, has_batch, release_entries
from broker._core.keyed_records cimport PutHead, put_record
from broker._core.memory cimport resize_memory
from broker._core.model cimport Chunk, Journal, JournalEntry, OpsRecord, ShardState
from broker._core.records cimport (
    CHECKSUM_BYTES,
    CHUNK_BYTES,
    FLOW_CRC_AT,
    TABLE_FLOWS,
    TABLE_MESSAGES,
    TABLE_META,
    TABLE_OPS,
    TABLE_RETAINED,
    FlowHead,
    Op,
    RecordHead,
    message_record_bytes,
    numbered_key,
    put_message,
)
from broker._core.records import TABLE_NAMES as _TABLE_NAMES
from broker._core.retained_records cimport take_retained


cdef enum:
    FIRST_OPS_RECORDS = 64
    MESSAGES_RESERVED = 1 << 20     # numbers that may be given before the disk is told again
    SESSIONS_RESERVED = 1 << 12


# ---------------------------------------------------------------- chunks

cdef inline uint32_t entry_size(JournalEntry* entry) noexcept nogil:
    return <uint32_t>sizeof(RecordHead) + message_record_bytes(entry.message) + entry.pairs_bytes


cdef uint32_t chunk_size(Journal* journal, uint32_t* end, uint32_t* messages) noexcept nogil:
    # Of the entries from `end` on, as many as belong into one; `end` moves behind them.
    cdef JournalEntry* entry
    cdef uint32_t total = CHECKSUM_BYTES
    messages[0] = 0
    while end[0] < journal.entry_count:
        entry = &journal.entries[end[0]]
        if entry.message != NULL:
            if messages[0] and <uint64_t>total + entry_size(entry) > CHUNK_BYTES:
                return total
            total += entry_size(entry)
            messages[0] += 1
        end[0] += 1
    return total


cdef uint8_t* put_entry(ShardState* shard, uint8_t* at, JournalEntry* entry) noexcept nogil:
    cdef RecordHead head
    head.record_bytes = entry_size(entry)
    head.pair_count = entry.pair_count
    head.number = entry.message.number
    head.account_id = entry.account_id
    head.spare = 0
    memcpy(at, &head, sizeof(head))
    at = put_message(shard, at + sizeof(head), entry.message)
    return put_bytes(at, shard.journal.pairs + entry.pairs_at, entry.pairs_bytes)


cdef Chunk* write_chunk(ShardState* shard, uint8_t* at, uint32_t begin, uint32_t end) noexcept nogil:
    # Into `at`, which has the room that chunk_size asked for; the entries are the sealed batch's afterwards.
    cdef Journal* journal = &shard.journal
    cdef JournalEntry* entry
    cdef Chunk* chunk = NULL
    cdef uint32_t i
    for i in range(begin, end):
        entry = &journal.entries[i]
        if entry.message == NULL:
            continue
        if chunk == NULL:
            chunk = add_chunk(shard, entry.message.number, entry.message.number)
            chunk.ticket = journal.open_ticket
        at = put_entry(shard, at, entry)
        chunk.last = entry.message.number
        chunk.pairs += entry.pair_count
        chunk.live += entry.message.outstanding
        expires_with(chunk, expires_at_ns(entry.message))
    journal.pairs_live += chunk.live
    return chunk


cdef void swap_entries(Journal* journal) noexcept nogil:
    cdef JournalEntry* empty = journal.sealed
    cdef uint32_t capacity = journal.sealed_capacity
    cdef uint8_t* pairs = journal.sealed_pairs
    cdef uint32_t pairs_capacity = journal.sealed_pairs_capacity
    journal.sealed_pairs = journal.pairs        # who is to be sent what, until it can be read from the disk
    journal.sealed_pairs_capacity = journal.pairs_capacity
    journal.pairs = pairs
    journal.pairs_capacity = pairs_capacity
    journal.sealed = journal.entries
    journal.sealed_count = journal.entry_count
    journal.sealed_capacity = journal.entry_capacity
    journal.entries = empty
    journal.entry_capacity = capacity
    journal.entry_count = 0
    journal.live_entries = 0
    journal.pairs_bytes = 0
    journal.entry_bytes = 0
    journal.tidy_at = TIDY_FIRST
    journal.sealed_through = journal.next_message - 1


cdef void take_chunks(ShardState* shard, list changes):
    # Who needs a message has all of its chunk read and looked through: a large batch is several.
    cdef Journal* journal = &shard.journal
    cdef uint32_t begin = 0, end = 0, messages = 0
    cdef uint32_t n = chunk_size(journal, &end, &messages)
    cdef Chunk* chunk
    cdef bytes value
    while messages:
        value = PyBytes_FromStringAndSize(NULL, n)
        chunk = write_chunk(shard, <uint8_t*>PyBytes_AS_STRING(value) + CHECKSUM_BYTES, begin, end)
        chunk.bytes = n
        journal.chunk_bytes += n
        checksum(value, messages)
        changes.append((_TABLE_NAMES[<int>TABLE_MESSAGES], numbered_key(chunk.first), value))
        begin = end
        n = chunk_size(journal, &end, &messages)


# ---------------------------------------------------------------- ops and keyed records

cdef void add_ops_record(Journal* journal, uint64_t ticket, uint32_t n) noexcept nogil:
    cdef OpsRecord* record
    if journal.ops_record_count == journal.ops_record_capacity:
        journal.ops_record_capacity = journal.ops_record_capacity * 2 if journal.ops_record_capacity \
            else FIRST_OPS_RECORDS
        journal.ops_records = <OpsRecord*>resize_memory(
            journal.ops_records, <size_t>journal.ops_record_capacity * sizeof(OpsRecord))
    record = &journal.ops_records[journal.ops_record_count]
    record.ticket = ticket
    record.bytes = n
    journal.ops_record_count += 1
    journal.ops_on_disk += n


cdef tuple take_ops(ShardState* shard):
    cdef Journal* journal = &shard.journal
    cdef bytes value = PyBytes_FromStringAndSize(NULL, CHECKSUM_BYTES + journal.ops_bytes)
    memcpy(PyBytes_AS_STRING(value) + CHECKSUM_BYTES, journal.ops, journal.ops_bytes)
    checksum(value, journal.ops_bytes // <uint32_t>sizeof(Op))
    add_ops_record(journal, journal.open_ticket, journal.ops_bytes)
    journal.ops_bytes = 0
    return _TABLE_NAMES[<int>TABLE_OPS], numbered_key(journal.open_ticket), value


cdef void take_puts(Journal* journal, list changes):
    cdef PutHead head
    cdef uint8_t* at = journal.puts
    cdef uint32_t _
    for _ in range(journal.put_count):
        memcpy(&head, at, sizeof(head))
        at += sizeof(head)
        key = PyBytes_FromStringAndSize(<char*>at, head.key_bytes)
        at += head.key_bytes
        value = None if head.deletes else PyBytes_FromStringAndSize(<char*>at, head.value_bytes)
        if head.table == TABLE_FLOWS and value is not None:
            checksum_flow(value)
        elif head.table == TABLE_MESSAGES and value is not None:
            checksum_chunk(value)
        at += head.value_bytes
        changes.append((_TABLE_NAMES[head.table], key, value))
    journal.puts_bytes = 0
    journal.put_count = 0


cdef void reserve_numbers(ShardState* shard) noexcept nogil:
    # What is given out has to be below what the disk was told, or told with it: no number is ever given twice.
    cdef Journal* journal = &shard.journal
    cdef uint8_t* at
    if journal.next_message < journal.reserved_message and journal.next_session < journal.reserved_session:
        return
    journal.reserved_message = journal.next_message + MESSAGES_RESERVED
    journal.reserved_session = journal.next_session + SESSIONS_RESERVED
    at = put_record(shard, TABLE_META, b"numbers", 7, 16)
    memcpy(at, &journal.reserved_message, 8)
    memcpy(at + 8, &journal.reserved_session, 8)


# ---------------------------------------------------------------- checksums

cdef void checksum(bytes value, uint32_t count):
    # The value was made here and nobody has seen it yet.
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(value)
    cdef uint32_t crc
    memcpy(at + 4, &count, 4)
    crc = zlib.crc32(memoryview(value)[4:])
    memcpy(at, &crc, 4)


cdef void checksum_chunk(bytes value):
    cdef uint32_t crc = zlib.crc32(memoryview(value)[4:])
    memcpy(PyBytes_AS_STRING(value), &crc, 4)


cdef void checksum_flow(bytes value):
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(value)
    cdef uint32_t crc = zlib.crc32(memoryview(value)[sizeof(FlowHead):], zlib.crc32(memoryview(value)[:FLOW_CRC_AT]))
    memcpy(at + FLOW_CRC_AT, &crc, 4)


# ---------------------------------------------------------------- the batch

cdef list seal_batch(ShardState* shard):
    cdef Journal* journal = &shard.journal
    cdef list changes = []
    if not has_batch(journal):
        journal.open_ticket += journal.urgent       # settled by the caller
        journal.urgent = 0
        return None
    journal.urgent = 0
    reserve_numbers(shard)
    if journal.live_entries:
        take_chunks(shard, changes)
    swap_entries(journal)
    if journal.ops_bytes:
        changes.append(take_ops(shard))
    take_puts(journal, changes)
    take_retained(shard, _TABLE_NAMES[<int>TABLE_RETAINED], changes)
    journal.open_ticket += 1
    journal.in_flight = 1
    return changes


cdef void batch_committed(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef JournalEntry* entries = journal.sealed
    cdef uint32_t count = journal.sealed_count
    journal.sealed_count = 0
    journal.in_flight = 0
    journal.settled_ticket = journal.open_ticket - 1
    release_entries(shard, entries, count)
