"""The records of retained messages. See retained_records.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from broker._core.memory cimport give_memory, resize_memory
from broker._core.model cimport Account, Journal, Retained, RetainedChange, ShardState
from broker._core.records cimport NO_AUTHOR, RetainedHead, message_record_bytes, numbered_key, put_message


cdef enum:
    FIRST_CHANGES = 64
    CHANGES_KEPT = 4096


cdef inline uint32_t record_bytes(Retained* retained) noexcept nogil:
    return <uint32_t>sizeof(RetainedHead) + message_record_bytes(retained.message)


cdef void tidy(Journal* journal) noexcept nogil:
    # Gone ones are taken out.
    cdef uint32_t i, kept = 0
    for i in range(journal.retained_count):
        if journal.retained[i].retained != NULL:
            journal.retained[kept] = journal.retained[i]
            kept += 1
            journal.retained[i].retained.change = kept
    journal.retained_count = kept
    journal.retained_gone = 0


cdef void make_room(Journal* journal) noexcept nogil:
    if journal.retained_gone * 2 > journal.retained_count:
        tidy(journal)
        return
    journal.retained_capacity = journal.retained_capacity * 2 if journal.retained_capacity else FIRST_CHANGES
    journal.retained = <RetainedChange*>resize_memory(
        journal.retained, <size_t>journal.retained_capacity * sizeof(RetainedChange))


cdef void mark_retained(ShardState* shard, Account* account, Retained* retained) noexcept nogil:
    cdef Journal* journal = &shard.journal
    if retained.change == 0:
        if journal.retained_count == journal.retained_capacity:
            make_room(journal)
        journal.retained[journal.retained_count].retained = retained
        journal.retained[journal.retained_count].account_id = account.account_id
        journal.retained_count += 1
        retained.change = journal.retained_count
    journal.retained_bytes += record_bytes(retained)


cdef void unmark_retained(ShardState* shard, Retained* retained) noexcept nogil:
    cdef Journal* journal = &shard.journal
    if retained.change == 0:
        return
    journal.retained[retained.change - 1].retained = NULL
    retained.change = 0
    journal.retained_gone += 1
    journal.retained_bytes -= record_bytes(retained)
    if journal.retained_gone == journal.retained_count:
        journal.retained_count = 0
        journal.retained_gone = 0


cdef uint32_t author_of(Retained* retained) noexcept nogil:
    # A client inside the process has its number for as long as it is there: what it sets is the server's.
    if retained.author == NULL or retained.author.principal_id >= LOCAL_PRINCIPALS:
        return NO_AUTHOR
    return retained.author.principal_id


cdef bytes record_of(ShardState* shard, Retained* retained, uint32_t account_id):
    cdef bytes value = PyBytes_FromStringAndSize(NULL, record_bytes(retained))
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(value)   # nobody has seen it yet
    cdef RetainedHead head
    head.account_id = account_id
    head.author = author_of(retained)
    memcpy(at, &head, sizeof(head))
    put_message(shard, at + sizeof(head), retained.message)
    return value


cdef void take_retained(ShardState* shard, str table, list changes):
    cdef Journal* journal = &shard.journal
    cdef Retained* retained
    cdef uint32_t i
    for i in range(journal.retained_count):
        retained = journal.retained[i].retained
        if retained == NULL:
            continue
        retained.change = 0
        if retained.number == 0:
            retained.number = journal.next_retained
            journal.next_retained += 1
        changes.append(
            (table, numbered_key(retained.number), record_of(shard, retained, journal.retained[i].account_id)))
    journal.retained_count = 0
    journal.retained_gone = 0
    journal.retained_bytes = 0
    if journal.retained_capacity > CHANGES_KEPT:
        give_memory(journal.retained)
        journal.retained = NULL
        journal.retained_capacity = 0
