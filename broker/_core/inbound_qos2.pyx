"""Packet identifiers of QoS 2 that a client has in use. See inbound_qos2.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t

from broker._core.memory cimport give_memory, take_zeroed
from broker._core.model cimport Session, SessionExtra
from broker._core.session cimport need_extra


cdef enum:
    FIRST_QOS2_IDS = 8
    TABLE_MAXIMUM = 512         # slots of it
    BITMAP_MASK = 0xFFFF        # in place of a table's
    BITMAP_BYTES = 65536 // 8


cdef inline bint is_bitmap(SessionExtra* extra) noexcept nogil:
    return extra.qos2_mask == BITMAP_MASK


cdef inline uint16_t bit_of(uint16_t packet_id) noexcept nogil:
    return <uint16_t>(1 << (packet_id & 15))


cdef inline uint32_t qos2_slot(SessionExtra* extra, uint16_t packet_id) noexcept nogil:
    # Where the identifier is, or the free slot where it would be.
    cdef uint32_t slot = packet_id & extra.qos2_mask
    while extra.qos2_ids[slot] != 0 and extra.qos2_ids[slot] != packet_id:
        slot = (slot + 1) & extra.qos2_mask
    return slot


cdef bint qos2_known(Session* session, uint16_t packet_id) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    if extra == NULL or extra.qos2_count == 0:
        return False
    if is_bitmap(extra):
        return extra.qos2_ids[packet_id >> 4] & bit_of(packet_id) != 0
    return extra.qos2_ids[qos2_slot(extra, packet_id)] == packet_id


cdef void grow_qos2(SessionExtra* extra) noexcept nogil:
    cdef uint16_t* before = extra.qos2_ids
    cdef uint32_t i, slots = extra.qos2_mask + 1 if before != NULL else 0
    extra.qos2_mask = slots * 2 - 1 if slots else FIRST_QOS2_IDS - 1
    extra.qos2_ids = <uint16_t*>take_zeroed(<size_t>(extra.qos2_mask + 1) * sizeof(uint16_t))
    for i in range(slots):
        if before[i]:
            extra.qos2_ids[qos2_slot(extra, before[i])] = before[i]
    give_memory(before)


cdef void become_bitmap(SessionExtra* extra) noexcept nogil:
    cdef uint16_t* before = extra.qos2_ids
    cdef uint32_t i
    extra.qos2_ids = <uint16_t*>take_zeroed(BITMAP_BYTES)
    for i in range(extra.qos2_mask + 1):
        if before[i]:
            extra.qos2_ids[before[i] >> 4] |= bit_of(before[i])
    extra.qos2_mask = BITMAP_MASK
    give_memory(before)


cdef void qos2_add(Session* session, uint16_t packet_id) noexcept nogil:
    cdef SessionExtra* extra = need_extra(session)
    if extra.qos2_ids == NULL or extra.qos2_count * 2 > extra.qos2_mask:    # never more than half full
        if extra.qos2_mask + 1 < TABLE_MAXIMUM:
            grow_qos2(extra)
        elif not is_bitmap(extra):
            become_bitmap(extra)
    extra.qos2_count += 1
    if is_bitmap(extra):
        extra.qos2_ids[packet_id >> 4] |= bit_of(packet_id)
    else:
        extra.qos2_ids[qos2_slot(extra, packet_id)] = packet_id


cdef void take_qos2_ids(Session* session, uint16_t* ids) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    cdef uint32_t i, count = 0
    if is_bitmap(extra):
        for i in range(1, 65536):
            if extra.qos2_ids[i >> 4] & bit_of(<uint16_t>i):
                ids[count] = <uint16_t>i
                count += 1
        return
    for i in range(extra.qos2_mask + 1):
        if extra.qos2_ids[i]:
            ids[count] = extra.qos2_ids[i]
            count += 1


cdef bint qos2_remove(Session* session, uint16_t packet_id) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    cdef uint32_t hole, slot, home
    if not qos2_known(session, packet_id):
        return False
    if is_bitmap(extra):
        extra.qos2_ids[packet_id >> 4] &= ~bit_of(packet_id)
        extra.qos2_count -= 1
        return True
    hole = qos2_slot(extra, packet_id)
    slot = hole
    while True:     # what was pushed past the hole moves back into it
        slot = (slot + 1) & extra.qos2_mask
        if extra.qos2_ids[slot] == 0:
            break
        home = extra.qos2_ids[slot] & extra.qos2_mask
        if ((slot - home) & extra.qos2_mask) >= ((slot - hole) & extra.qos2_mask):
            extra.qos2_ids[hole] = extra.qos2_ids[slot]
            hole = slot
    extra.qos2_ids[hole] = 0
    extra.qos2_count -= 1
    return True
