"""What has happened to deliveries comes back from disk. See restore_flows.pxd."""

import zlib

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.chunks cimport find_chunk
from broker._core.durable_table cimport find_durable, mark_flow
from broker._core.inbound_qos2 cimport qos2_remove
from broker._core.keyed_records cimport delete_record
from broker._core.model cimport Chunk, Durable, Session, ShardState
from broker._core.records cimport (
    CHECKSUM_BYTES,
    FLOW_CRC_AT,
    FLOW_PUBLISH_1,
    FLOW_PUBLISH_2,
    FLOW_PUBREL,
    FLOW_QUEUED,
    FLOW_RUN,
    NUMBER_MAXIMUM,
    OP_DONE,
    OP_FREED,
    OP_RECEIVED,
    OP_RELEASED,
    OP_SENT,
    OP_TAKEN,
    TABLE_FLOWS,
    FlowEntry,
    FlowHead,
    Op,
    get_key,
)
from broker._core.recovery cimport (
    FOUND_DONE,
    Found,
    Recovery,
    Restoring,
    add_found,
    add_listed_run,
    find_found,
    free_pubrel,
    need_recovery,
    put_pubrel,
    sort_listed,
    take_identifier,
)
from broker._core.restore_chunks cimport is_whole
from broker._core.sealing cimport add_ops_record


# ---------------------------------------------------------------- flow records

cdef bint is_flow(const uint8_t* at, uint32_t n) noexcept nogil:
    cdef FlowHead head
    if n < sizeof(FlowHead):
        return False
    memcpy(&head, at, sizeof(FlowHead))
    if head.as_of > NUMBER_MAXIMUM or head.high > NUMBER_MAXIMUM:
        return False
    return n == sizeof(FlowHead) + <uint64_t>head.listed * sizeof(FlowEntry) + <uint64_t>head.qos2_ids * 2


cdef void list_entry(Recovery* recovery, const FlowEntry* entry) noexcept nogil:
    cdef Found* found
    if entry.state == FLOW_PUBREL:
        put_pubrel(recovery.durable.session, entry.packet_id)
    elif entry.state == FLOW_RUN:
        if 0 < entry.number and entry.number + entry.more <= NUMBER_MAXIMUM and entry.packet_id == 0:
            add_listed_run(recovery, entry.number, entry.number + entry.more)
    elif entry.state < FLOW_PUBREL and 0 < entry.number <= recovery.high and \
            (entry.packet_id != 0) == (entry.state != FLOW_QUEUED):
        found = add_found(recovery, entry.number)
        found.packet_id = entry.packet_id
        found.state = entry.state


cdef void read_flow(ShardState* shard, Recovery* recovery, const uint8_t* at) noexcept nogil:
    cdef Session* session = recovery.durable.session
    cdef FlowHead head
    cdef FlowEntry entry
    cdef uint16_t packet_id
    cdef uint32_t i
    memcpy(&head, at, sizeof(FlowHead))
    at += sizeof(FlowHead)
    recovery.as_of = head.as_of
    recovery.high = head.high
    session.next_packet_id = head.next_packet_id
    shard.journal.open_ticket = max(shard.journal.open_ticket, head.as_of + 1)
    for i in range(head.listed):
        memcpy(&entry, at + i * sizeof(FlowEntry), sizeof(FlowEntry))
        list_entry(recovery, &entry)
    at += head.listed * sizeof(FlowEntry)
    for i in range(head.qos2_ids):
        memcpy(&packet_id, at + 2 * i, 2)
        take_identifier(session, packet_id)
    sort_listed(recovery)


cdef bint restore_flow(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1:
    cdef const uint8_t* at = value
    cdef Durable* durable
    cdef uint32_t crc
    if len(key) != 8 or not is_flow(at, <uint32_t>len(value)):
        return False
    memcpy(&crc, at + FLOW_CRC_AT, 4)
    if crc != zlib.crc32(memoryview(value)[FLOW_CRC_AT + 4:], zlib.crc32(memoryview(value)[:FLOW_CRC_AT])):
        return False
    durable = find_durable(shard, get_key(key))
    if durable == NULL:
        delete_record(shard, TABLE_FLOWS, key, 8)
        return True
    durable.has_flow = 1
    read_flow(shard, need_recovery(restoring, durable), at)
    return True


# ---------------------------------------------------------------- ops

cdef void end_found(ShardState* shard, Found* found) noexcept nogil:
    cdef Chunk* chunk
    if found.size:
        chunk = find_chunk(&shard.journal, found.number)
        chunk.live -= 1
        shard.journal.pairs_live -= 1
    found.state = FOUND_DONE


cdef void found_sent(Recovery* recovery, Found* found, const Op* op) noexcept nogil:
    cdef Session* session = recovery.durable.session
    recovery.sent += 1
    if op.number >= recovery.last_sent:
        recovery.last_sent = op.number
        session.next_packet_id = op.packet_id
    if found == NULL or op.packet_id == 0:
        return
    found.packet_id = op.packet_id
    found.state = FLOW_PUBLISH_1 if found.qos == 1 else FLOW_PUBLISH_2
    found.order = max(found.order >> 32, recovery.last_order >> 32) << 32 | recovery.sent
    recovery.last_order = found.order


cdef void apply_op(ShardState* shard, Recovery* recovery, const Op* op) noexcept nogil:
    cdef Session* session = recovery.durable.session
    cdef Found* found = NULL
    if op.number:
        found = find_found(recovery, op.number, op.packet_id if op.kind != OP_SENT else 0)
    recovery.durable.high = max(recovery.durable.high, op.number)
    if op.kind == OP_SENT:
        found_sent(recovery, found, op)
    elif op.kind == OP_DONE or op.kind == OP_RECEIVED:
        if found != NULL:
            end_found(shard, found)
        if op.kind == OP_RECEIVED:
            put_pubrel(session, op.packet_id)
    elif op.kind == OP_FREED:
        free_pubrel(session, op.packet_id)
    elif op.kind == OP_TAKEN:
        take_identifier(session, op.packet_id)
    elif op.kind == OP_RELEASED:
        qos2_remove(session, op.packet_id)


cdef void read_ops(
        ShardState* shard, Restoring* restoring, uint64_t ticket, const uint8_t* at, uint32_t count) noexcept nogil:
    cdef Durable* durable
    cdef Recovery* recovery
    cdef uint32_t i
    cdef Op op
    for i in range(count):
        memcpy(&op, at + i * sizeof(Op), sizeof(Op))
        durable = find_durable(shard, op.session)
        if durable == NULL:
            continue
        recovery = need_recovery(restoring, durable)
        if ticket > recovery.as_of:
            apply_op(shard, recovery, &op)
            mark_flow(shard, durable)


cdef bint restore_ops(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1:
    cdef const uint8_t* at = value
    cdef uint32_t count
    cdef uint64_t ticket
    if len(key) != 8:
        return False
    ticket = get_key(key)
    if ticket > NUMBER_MAXIMUM:
        return False
    shard.journal.open_ticket = max(shard.journal.open_ticket, ticket + 1)
    add_ops_record(&shard.journal, ticket, <uint32_t>len(value))
    if not is_whole(value):
        return False
    memcpy(&count, at + 4, 4)
    if len(value) != CHECKSUM_BYTES + <uint64_t>count * sizeof(Op):
        return False
    read_ops(shard, restoring, ticket, at + CHECKSUM_BYTES, count)
    return True
