# Inbound QoS 2: the packet identifiers of a session that were taken and whose PUBREL has not come.
#
# Few are a table with open addressing, in which neighbours stand side by side. Many are a bit for each identifier: a
# table would be searched through all of them, by whoever chooses his identifiers accordingly.
#
# Here belongs the set. Not here: what a repetition or a PUBREL means (publish, acks), its record (durable, fold).

from libc.stdint cimport uint16_t, uint32_t

from broker._core.model cimport Session

cdef bint qos2_known(Session* session, uint16_t packet_id) noexcept nogil
cdef void qos2_add(Session* session, uint16_t packet_id) noexcept nogil
cdef bint qos2_remove(Session* session, uint16_t packet_id) noexcept nogil
# All of them: qos2_count.
cdef void take_qos2_ids(Session* session, uint16_t* ids) noexcept nogil
cdef inline uint32_t qos2_count(Session* session) noexcept nogil:
    return 0 if session.extra == NULL else session.extra.qos2_count
