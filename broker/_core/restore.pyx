"""What is on disk becomes the shard's again. See restore.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from broker._core.durable cimport record_loss
from broker._core.inflight cimport keep_unread, put_inflight
from broker._core.keyed_records cimport delete_numbered
from broker._core.model cimport (
    INFLIGHT_PUBLISH_1,
    INFLIGHT_PUBLISH_2,
    Durable,
    InflightBody,
    Journal,
    Session,
    ShardState,
)
from broker._core.parking cimport park
from broker._core.progress cimport pass_over
from broker._core.records cimport (
    FLOW_PUBLISH_1,
    FLOW_PUBLISH_2,
    FLOW_QUEUED,
    NUMBER_MAXIMUM,
    TABLE_FLOWS,
    TABLE_MESSAGES,
    TABLE_META,
    TABLE_SESSIONS,
    TABLE_SUBSCRIPTIONS,
)
from broker._core.recovery cimport FOUND_DONE, Found, Recovery, Restoring, free_recoveries, sort_found
from broker._core.restore_chunks cimport restore_chunk
from broker._core.restore_flows cimport restore_flow, restore_ops
from broker._core.restore_sessions cimport restore_session, restore_subscription
from broker._core.runs cimport make_run
from broker._core.session cimport trim_extra
from broker._core.tracking cimport TRACKED_TAKEN, note


# ---------------------------------------------------------------- numbers

cdef bint read_numbers(ShardState* shard, const uint8_t* at, uint32_t n) noexcept nogil:
    cdef uint64_t message, session
    if n != 16:
        return False
    memcpy(&message, at, 8)
    memcpy(&session, at + 8, 8)
    if not (0 < message <= NUMBER_MAXIMUM and 0 < session <= NUMBER_MAXIMUM):
        return False
    shard.journal.next_message = message
    shard.journal.next_session = session
    return True


cdef bint read_meta(
        ShardState* shard, const uint8_t* key, uint32_t key_bytes, const uint8_t* at, uint32_t n) noexcept nogil:
    if key_bytes == 7 and memcmp(key, b"numbers", 7) == 0:
        return read_numbers(shard, at, n)
    return True


# ---------------------------------------------------------------- rows

cdef bint restore_row(
        ShardState* shard, Restoring* restoring, int table, bytes key, bytes value, known) except -1:
    cdef const uint8_t* k = key
    cdef const uint8_t* v = value
    cdef uint32_t key_bytes = <uint32_t>len(key), n = <uint32_t>len(value)
    if table == TABLE_META:
        return read_meta(shard, k, key_bytes, v, n)
    if table == TABLE_SESSIONS:
        return restore_session(shard, restoring, k, key_bytes, v, n, known)
    if table == TABLE_SUBSCRIPTIONS:
        return restore_subscription(shard, k, key_bytes, v, n)
    if table == TABLE_FLOWS:
        return restore_flow(shard, restoring, key, value)
    if table == TABLE_MESSAGES:
        return restore_chunk(shard, restoring, key, value)
    return restore_ops(shard, restoring, key, value)


cdef uint64_t restore_rows(ShardState* shard, Restoring* restoring, int table, rows, known) except? 0xFFFFFFFF:
    cdef uint64_t wrong = 0
    for key, value in rows:
        if not restore_row(shard, restoring, table, key, value, known):
            wrong += 1
    return wrong


# ---------------------------------------------------------------- the end

cdef void place(ShardState* shard, Recovery* recovery, Found* found) noexcept nogil:
    # One delivery, in the order of sending.
    cdef Session* session = recovery.durable.session
    cdef InflightBody* body = NULL
    if found.state == FLOW_PUBLISH_1 or found.state == FLOW_PUBLISH_2:
        body = put_inflight(
            session, found.packet_id, INFLIGHT_PUBLISH_1 if found.state == FLOW_PUBLISH_1 else INFLIGHT_PUBLISH_2)
    if body != NULL:
        pass_over(shard, session, found.number)    # it may have been sent before what is queued here was offered
        keep_unread(shard, session, body, found.number, found.size, found.retain, found.grouped, found.tracking)
    else:
        park(
            shard, session, found.number, found.size, found.qos, found.retain, found.grouped, found.tracking != 0)
    if found.tracking:
        note(shard, session.principal, found.tracking, found.number, TRACKED_TAKEN, 0)


cdef uint64_t last_gap(Recovery* recovery) noexcept nogil:
    # The highest number that the session has a delivery of which does not wait in its place.
    cdef uint64_t last = recovery.high, before = 0
    cdef uint32_t i
    cdef Found* found
    for i in range(recovery.count):
        found = &recovery.found[i]
        if found.state != FLOW_QUEUED or found.number <= before:
            last = max(last, max(found.number, before))
        before = max(before, found.number)
    return last


cdef void finish_session(ShardState* shard, Recovery* recovery) noexcept nogil:
    cdef Durable* durable = recovery.durable
    cdef uint32_t i, kept = 0
    cdef uint64_t gap = last_gap(recovery)
    cdef bint ordered = True
    for i in range(recovery.count):
        if recovery.found[i].size == 0 or recovery.found[i].state == FOUND_DONE:
            continue        # it is done, whatever an older record says
        ordered = ordered and (kept == 0 or recovery.found[kept - 1].order < recovery.found[i].order)
        recovery.found[kept] = recovery.found[i]
        kept += 1
    if not ordered:
        sort_found(recovery, kept)
    durable.high = max(durable.high, recovery.high)
    for i in range(kept):
        place(shard, recovery, &recovery.found[i])
    durable.whole_from = gap + 1
    if durable.crowded:
        make_run(shard, durable, shard.journal.next_message)
    trim_extra(durable.session)


cdef void delete_dead_chunks(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint32_t i
    for i in range(journal.chunk_count):
        if journal.chunks[i].live == 0:
            delete_numbered(shard, TABLE_MESSAGES, journal.chunks[i].first)
            journal.chunk_bytes -= journal.chunks[i].bytes
            journal.chunks_gone += 1


cdef void skip_identifiers(ShardState* shard) noexcept nogil:
    # What was sent at level `relaxed` in the last second may be on no disk: its receiver may still hold identifiers of
    # it, so others are given first, in each life different ones: by the clock, since a life may leave nothing on disk.
    cdef uint64_t start = <uint64_t>(shard.now_ns + shard.wall_offset_ns) + shard.journal.open_ticket
    cdef uint16_t skipped = <uint16_t>(8192 + (start * <uint64_t>0x9E3779B97F4A7C15 >> 49))
    cdef Durable* durable
    cdef uint32_t i
    for i in range(shard.journal.durable_mask + 1):
        durable = shard.journal.durables[i]
        while durable != NULL:
            durable.session.next_packet_id = <uint16_t>(durable.session.next_packet_id + skipped)
            durable = durable.next


cdef void record_departures(ShardState* shard) noexcept nogil:
    # Who was connected is away from now on, whatever happens to this process.
    cdef Durable* durable
    cdef uint32_t i
    for i in range(shard.journal.durable_mask + 1):
        durable = shard.journal.durables[i]
        while durable != NULL:
            if durable.connected:
                record_loss(shard, durable.session)
            durable = durable.next


cdef void finish_numbers(ShardState* shard, Restoring* restoring) noexcept nogil:
    cdef Journal* journal = &shard.journal
    journal.next_message = max(journal.next_message, restoring.last_message + 1)
    journal.reserved_message = journal.next_message     # the next batch reserves more
    journal.reserved_session = journal.next_session
    journal.sealed_through = journal.next_message - 1
    journal.settled_ticket = journal.open_ticket - 1


cdef void restore_finish(ShardState* shard, Restoring* restoring) noexcept nogil:
    cdef Recovery* recovery = restoring.recoveries
    finish_numbers(shard, restoring)
    while recovery != NULL:
        finish_session(shard, recovery)
        recovery = recovery.next
    delete_dead_chunks(shard)
    skip_identifiers(shard)
    record_departures(shard)


cdef void restoring_close(ShardState* shard, Restoring* restoring) noexcept nogil:
    cdef Session* session
    while restoring.ended != NULL:
        session = restoring.ended
        restoring.ended = session.hash_next
        session.hash_next = shard.ending_head
        shard.ending_head = session
    free_recoveries(restoring)
