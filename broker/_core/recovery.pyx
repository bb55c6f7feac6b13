"""What is found of each session while the shard is restored. See recovery.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memset

from broker._core.inbound_qos2 cimport qos2_add, qos2_known
from broker._core.inflight cimport inflight_state, put_inflight
from broker._core.memory cimport give_memory, resize_memory, take_zeroed
from broker._core.model cimport INFLIGHT_PUBREL, Durable, InflightBody, Session


cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    #define BROKER_TRIM_MEMORY() ((void)malloc_trim(0))
    #else
    #define BROKER_TRIM_MEMORY() ((void)0)
    #endif
    """
    void trim_memory "BROKER_TRIM_MEMORY"() noexcept nogil


cdef enum:
    FIRST_FOUND = 4
    TRIMMED_BYTES = 1024 * 1024


cdef Recovery* need_recovery(Restoring* restoring, Durable* durable) noexcept nogil:
    cdef Recovery* recovery = <Recovery*>durable.restoring
    if recovery == NULL:
        recovery = <Recovery*>take_zeroed(sizeof(Recovery))
        recovery.durable = durable
        recovery.next = restoring.recoveries
        restoring.recoveries = recovery
        durable.restoring = recovery
    return recovery


cdef void free_recoveries(Restoring* restoring) noexcept nogil:
    cdef Recovery* recovery
    cdef size_t given_bytes = 0
    while restoring.recoveries != NULL:
        recovery = restoring.recoveries
        restoring.recoveries = recovery.next
        recovery.durable.restoring = NULL
        given_bytes += recovery.capacity * sizeof(Found)
        give_memory(recovery.found)
        give_memory(recovery.runs)
        give_memory(recovery)
    if given_bytes >= TRIMMED_BYTES:    # malloc would keep it, though as much is never needed again
        trim_memory()


cdef Found* add_found(Recovery* recovery, uint64_t number) noexcept nogil:
    cdef Found* found
    if recovery.count == recovery.capacity:
        recovery.capacity = recovery.capacity * 2 if recovery.capacity else FIRST_FOUND
        recovery.found = <Found*>resize_memory(recovery.found, <size_t>recovery.capacity * sizeof(Found))
    found = &recovery.found[recovery.count]
    memset(found, 0, sizeof(Found))
    found.number = number
    found.order = recovery.next_order << 32
    recovery.next_order += 1
    recovery.count += 1
    return found


cdef void add_listed_run(Recovery* recovery, uint64_t first, uint64_t last) noexcept nogil:
    cdef ListedRun* run
    if recovery.run_count and recovery.runs[recovery.run_count - 1].last >= first:
        return      # it is damaged
    if recovery.run_count == recovery.run_capacity:
        recovery.run_capacity = recovery.run_capacity * 2 if recovery.run_capacity else FIRST_FOUND
        recovery.runs = <ListedRun*>resize_memory(recovery.runs, <size_t>recovery.run_capacity * sizeof(ListedRun))
    run = &recovery.runs[recovery.run_count]
    run.first = first
    run.last = last
    run.order = recovery.next_order << 32
    recovery.next_order += 1
    recovery.run_count += 1


cdef ListedRun* find_listed_run(Recovery* recovery, uint64_t number) noexcept nogil:
    cdef uint32_t low = 0, high = recovery.run_count, middle
    while low < high:
        middle = (low + high) // 2
        if recovery.runs[middle].last < number:
            low = middle + 1
        else:
            high = middle
    return &recovery.runs[low] if low < recovery.run_count and recovery.runs[low].first <= number else NULL


cdef uint32_t first_found(Recovery* recovery, uint64_t number, uint32_t* end) noexcept nogil:
    # Where those with this number begin: a session may have several deliveries of one message, by shared groups.
    cdef uint32_t low = 0, high = recovery.listed, middle
    if number > recovery.high or find_listed_run(recovery, number) != NULL:
        low = recovery.listed
        high = recovery.count
    end[0] = high
    while low < high:
        middle = (low + high) // 2
        if recovery.found[middle].number < number:
            low = middle + 1
        else:
            high = middle
    return low


cdef Found* find_found(Recovery* recovery, uint64_t number, uint16_t packet_id) noexcept nogil:
    cdef uint32_t end
    cdef uint32_t at = first_found(recovery, number, &end)
    cdef Found* sent = NULL
    while at < end and recovery.found[at].number == number:
        if recovery.found[at].state != FOUND_DONE:
            if recovery.found[at].packet_id == packet_id:
                return &recovery.found[at]
            if sent == NULL and packet_id == 0:
                sent = &recovery.found[at]
        at += 1
    return sent


cdef Found* find_unseen(Recovery* recovery, uint64_t number, uint16_t packet_id) noexcept nogil:
    # Of those that a flow record lists; what was sent as it came kept its identifier.
    cdef uint32_t end
    cdef uint32_t at = first_found(recovery, number, &end)
    while at < end and recovery.found[at].number == number:
        if recovery.found[at].size == 0 and (packet_id == 0 or recovery.found[at].packet_id == packet_id):
            return &recovery.found[at]
        at += 1
    return NULL


cdef int by_number(const void* one, const void* other) noexcept nogil:
    cdef uint64_t a = (<const Found*>one).number
    cdef uint64_t b = (<const Found*>other).number
    return (a > b) - (a < b) if a != b else by_order(one, other)


cdef int by_order(const void* one, const void* other) noexcept nogil:
    cdef uint64_t a = (<const Found*>one).order
    cdef uint64_t b = (<const Found*>other).order
    return (a > b) - (a < b)


cdef void sort_listed(Recovery* recovery) noexcept nogil:
    recovery.listed = recovery.count
    if recovery.count:
        qsort(recovery.found, recovery.count, sizeof(Found), by_number)


cdef void sort_found(Recovery* recovery, uint32_t kept) noexcept nogil:
    qsort(recovery.found, kept, sizeof(Found), by_order)


# ---------------------------------------------------------------- packet identifiers

cdef void put_pubrel(Session* session, uint16_t packet_id) noexcept nogil:
    if packet_id:
        put_inflight(session, packet_id, INFLIGHT_PUBREL)


cdef void free_pubrel(Session* session, uint16_t packet_id) noexcept nogil:
    cdef uint32_t slot = packet_id & session.inflight_mask
    if inflight_state(session, packet_id) == INFLIGHT_PUBREL:
        session.inflight[slot] = 0
        session.inflight_count -= 1
        memset(&session.bodies[slot], 0, sizeof(InflightBody))


cdef void take_identifier(Session* session, uint16_t packet_id) noexcept nogil:
    if packet_id and not qos2_known(session, packet_id):
        qos2_add(session, packet_id)
