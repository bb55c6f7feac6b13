"""Wills on disk. See wills.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from broker._core.durable cimport record_bearer
from broker._core.keyed_records cimport delete_numbered, put_numbered
from broker._core.message cimport release_message
from broker._core.model cimport LEVEL_MEMORY, Session, ShardState, Will
from broker._core.records cimport TABLE_SESSIONS, TABLE_WILLS, WillHead, message_record_bytes, put_message


cdef void put_will(ShardState* shard, Will* will) noexcept nogil:
    cdef WillHead head
    cdef uint8_t* at = put_numbered(
        shard, TABLE_WILLS, will.number, <uint32_t>sizeof(head) + message_record_bytes(will.message))
    head.delay_s = will.delay_s
    head.spare = 0
    memcpy(at, &head, sizeof(head))
    put_message(shard, at + sizeof(head), will.message)


cdef void record_will(ShardState* shard, Session* session) noexcept nogil:
    cdef Will* will = &session.extra.will
    will.written = session.connection.durability != LEVEL_MEMORY
    if not will.written or shard.journal.refusing:
        return
    if session.durable != NULL:
        will.number = session.durable.number
    else:
        will.number = shard.journal.next_session
        shard.journal.next_session += 1
        record_bearer(shard, session, will.number)
    put_will(shard, will)


cdef void record_wills(ShardState* shard) noexcept nogil:
    cdef Session* session
    cdef uint32_t i
    for i in range(shard.session_mask + 1):
        session = shard.sessions[i]
        while session != NULL:
            if session.connection != NULL and session.extra != NULL and session.extra.will.message != NULL and \
                    session.extra.will.number == 0:
                record_will(shard, session)
            session = session.hash_next


cdef void erase_will(ShardState* shard, Session* session) noexcept nogil:
    cdef Will* will = &session.extra.will
    if will.number == 0:
        return
    delete_numbered(shard, TABLE_WILLS, will.number)
    if session.durable == NULL or session.durable.number != will.number:
        delete_numbered(shard, TABLE_SESSIONS, will.number)
    will.number = 0


cdef void drop_will(ShardState* shard, Session* session) noexcept nogil:
    if session.extra != NULL and session.extra.will.message != NULL:
        erase_will(shard, session)
        release_message(shard, session.extra.will.message)
        session.extra.will.message = NULL
        session.extra.will_at_ns = 0
