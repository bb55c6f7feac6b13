"""Ops on disk, folded into flow records. See fold.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset

from broker._core.durable_table cimport unmark_flow
from broker._core.inbound_qos2 cimport qos2_count, take_qos2_ids
from broker._core.journal cimport has_batch
from broker._core.keyed_records cimport delete_numbered, put_numbered
from broker._core.memory cimport give_memory, take_memory
from broker._core.model cimport (
    INFLIGHT_PUBLISH_1,
    INFLIGHT_PUBREL,
    INFLIGHT_STATE,
    Account,
    Durable,
    FanOut,
    Journal,
    ParkedRing,
    Queue,
    QueueRun,
    Session,
    ShardState,
)
from broker._core.parked_ring cimport ring_at
from broker._core.records cimport (
    FLOW_PUBLISH_1,
    FLOW_PUBLISH_2,
    FLOW_PUBREL,
    FLOW_QUEUED,
    FLOW_RUN,
    TABLE_FLOWS,
    TABLE_OPS,
    FlowEntry,
    FlowHead,
)


cdef enum:
    STEPS_PER_BATCH = 8192      # entries of flow records that are looked at for one batch
    DELETIONS_PER_BATCH = 1024


cdef struct Aged:
    uint32_t age                # how many have been sent since
    uint32_t slot


cdef int by_age(const void* one, const void* other) noexcept nogil:
    cdef uint32_t a = (<const Aged*>one).age
    cdef uint32_t b = (<const Aged*>other).age
    return (a < b) - (a > b)


# ---------------------------------------------------------------- a session's flow record

cdef uint8_t* put_entry(
        uint8_t* at, uint64_t number, uint16_t packet_id, uint8_t state, uint32_t more) noexcept nogil:
    cdef FlowEntry entry
    memset(&entry, 0, sizeof(entry))
    entry.number = number
    entry.packet_id = packet_id
    entry.state = state
    entry.more = more
    memcpy(at, &entry, sizeof(entry))
    return at + sizeof(entry)


cdef uint8_t* put_inflight_entry(uint8_t* at, Session* session, uint32_t slot) noexcept nogil:
    cdef uint32_t state = session.inflight[slot] & INFLIGHT_STATE
    cdef uint16_t packet_id = <uint16_t>(session.inflight[slot] & 0xFFFF)
    if state == INFLIGHT_PUBREL:
        return put_entry(at, 0, packet_id, FLOW_PUBREL, 0)
    return put_entry(
        at, session.bodies[slot].number, packet_id,
        FLOW_PUBLISH_1 if state == INFLIGHT_PUBLISH_1 else FLOW_PUBLISH_2, 0)


cdef bint is_on_disk(Session* session, uint32_t slot) noexcept nogil:
    return session.inflight[slot] != 0 and session.bodies != NULL and (
        session.bodies[slot].number != 0 or (session.inflight[slot] & INFLIGHT_STATE) == INFLIGHT_PUBREL)


cdef uint8_t* put_inflight_entries(uint8_t* at, Session* session, uint32_t* count) noexcept nogil:
    # In the order of sending.
    cdef Aged* aged
    cdef uint32_t i, found = 0
    if session.inflight_count == 0:
        return at
    aged = <Aged*>take_memory(<size_t>session.inflight_count * sizeof(Aged))
    for i in range(<uint32_t>session.inflight_mask + 1):
        if is_on_disk(session, i):
            aged[found].age = session.inflight_serial - session.bodies[i].serial
            aged[found].slot = i
            found += 1
    qsort(aged, found, sizeof(Aged), by_age)
    for i in range(found):
        at = put_inflight_entry(at, session, aged[i].slot)
    give_memory(aged)
    count[0] += found
    return at


cdef uint8_t* put_ring(uint8_t* at, Durable* durable, ParkedRing* ring, uint32_t* count) noexcept nogil:
    cdef uint64_t number
    cdef uint32_t i
    for i in range(ring.count):
        number = ring_at(ring, i).number
        if number <= durable.high:
            at = put_entry(at, number, 0, FLOW_QUEUED, 0)
            count[0] += 1
    return at


cdef uint8_t* put_runs(uint8_t* at, Durable* durable, uint32_t* count) noexcept nogil:
    cdef QueueRun* run
    cdef uint32_t i
    at = put_ring(at, durable, &durable.runs.front, count)
    for i in range(durable.runs.count):
        run = &durable.runs.runs[i]
        if run.first <= durable.high:
            at = put_entry(at, run.first, 0, FLOW_RUN, <uint32_t>(run.last - run.first))
            count[0] += 1
    return at


cdef uint8_t* put_queued_entries(uint8_t* at, Session* session, uint32_t* count) noexcept nogil:
    # Those above `high` need not be listed: they are queued as long as nothing else is said.
    cdef Durable* durable = session.durable
    cdef Queue* queue = session.queue
    cdef uint64_t number
    cdef uint32_t i
    if queue != NULL:
        for i in range(queue.count):
            number = queue.entries[(queue.head + i) & (queue.capacity - 1)].message.number
            if 0 < number <= durable.high:
                at = put_entry(at, number, 0, FLOW_QUEUED, 0)
                count[0] += 1
    if durable.runs != NULL:
        at = put_runs(at, durable, count)
    return put_ring(at, durable, &durable.parked, count)


cdef uint32_t entries_at_most(Session* session) noexcept nogil:
    cdef Durable* durable = session.durable
    cdef uint32_t count = <uint32_t>session.inflight_count + durable.parked.count + (
        session.queue.count if session.queue != NULL else 0)
    return count if durable.runs == NULL else count + durable.runs.count + durable.runs.front.count


cdef void put_flow(ShardState* shard, Session* session) noexcept nogil:
    cdef uint32_t ids = qos2_count(session)
    cdef uint8_t* entries = <uint8_t*>take_memory(<size_t>entries_at_most(session) * sizeof(FlowEntry) + 2 * ids + 1)
    cdef uint8_t* end
    cdef uint8_t* at
    cdef FlowHead head
    memset(&head, 0, sizeof(head))
    head.as_of = shard.journal.open_ticket
    head.high = session.durable.high
    head.qos2_ids = ids
    head.next_packet_id = session.next_packet_id
    end = put_inflight_entries(entries, session, &head.listed)
    end = put_queued_entries(end, session, &head.listed)
    if ids:
        take_qos2_ids(session, <uint16_t*>end)
        end += 2 * ids
    at = put_numbered(shard, TABLE_FLOWS, session.durable.number, <uint32_t>(sizeof(head) + (end - entries)))
    memcpy(at, &head, sizeof(head))     # its checksum follows when the batch is sealed
    memcpy(at + sizeof(head), entries, <size_t>(end - entries))
    give_memory(entries)
    session.durable.has_flow = 1


# ---------------------------------------------------------------- which, and when

cdef uint64_t first_unoffered(ShardState* shard) noexcept nogil:
    cdef Account* account = shard.busy_head
    cdef FanOut* fan_out
    cdef uint64_t lowest = <uint64_t>-1
    while account != NULL:
        fan_out = account.fan_outs
        while fan_out != NULL:
            if fan_out.message.number:
                lowest = min(lowest, fan_out.message.number)
            fan_out = fan_out.next
        account = account.busy_next
    return lowest


cdef void begin(Journal* journal) noexcept nogil:
    # All who have ops on disk, or in this batch.
    journal.fold_until = journal.open_ticket
    journal.folding_head = journal.dirty_head
    journal.dirty_head = NULL


cdef void write_flows(ShardState* shard) noexcept nogil:
    cdef Durable* durable = shard.journal.folding_head
    cdef Durable* following
    cdef uint64_t unoffered = first_unoffered(shard)
    cdef int64_t left = STEPS_PER_BATCH
    while durable != NULL and left > 0:
        following = durable.dirty_next
        left -= 8
        if durable.high < unoffered:    # else its turn comes with a later batch
            left -= entries_at_most(durable.session)
            put_flow(shard, durable.session)
            unmark_flow(shard, durable)
        durable = following


cdef void delete_ops(ShardState* shard) noexcept nogil:
    # Every flow record that is concerned is younger.
    cdef Journal* journal = &shard.journal
    cdef uint32_t i, gone = 0
    while gone < journal.ops_record_count and gone < DELETIONS_PER_BATCH and \
            journal.ops_records[gone].ticket <= journal.fold_until:
        delete_numbered(shard, TABLE_OPS, journal.ops_records[gone].ticket)
        journal.ops_on_disk -= journal.ops_records[gone].bytes
        gone += 1
    journal.ops_record_count -= gone
    for i in range(journal.ops_record_count):
        journal.ops_records[i] = journal.ops_records[gone + i]
    if journal.ops_record_count == 0 or journal.ops_records[0].ticket > journal.fold_until:
        journal.fold_until = 0


cdef void fold(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    if journal.fold_until == 0:
        if journal.ops_on_disk <= journal.fold_bytes or not has_batch(journal):
            return
        begin(journal)
    write_flows(shard)
    if journal.folding_head == NULL:
        delete_ops(shard)
