# A session: what survives between a client and the broker apart from any network connection.
#
# Here belong the table of sessions, queue, outbound inflight and quota as data. Not here: bytes (deliver) and
# connections (connection); who may have a session (grants).

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from broker._core.model cimport Message, Principal, Queued, Session, ShardState

cdef void sessions_open(ShardState* shard) noexcept nogil
cdef void sessions_close(ShardState* shard) noexcept nogil

# Sessions are keyed by (account, principal, client id): no principal reaches another's.
cdef Session* find_session(
    ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil
cdef Session* new_session(
    ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil
# Removes subscriptions, drops what is queued (each drop named) and frees it.
cdef void end_session(ShardState* shard, Session* session) noexcept nogil

cdef void count_drop(ShardState* shard, Session* session, int reason) noexcept nogil

# The queue: False when it is full. `identifiers` are copied.
cdef bint enqueue(
    ShardState* shard, Session* session, Message* message, uint8_t qos, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
cdef Queued* queue_front(Session* session) noexcept nogil
cdef void queue_drop_front(ShardState* shard, Session* session) noexcept nogil

# A packet identifier is taken together with one unit of quota, and both are given back together (law 7).
cdef uint16_t take_packet_id(Session* session) noexcept nogil
# False for an identifier that is not inflight.
cdef bint release_packet_id(Session* session, uint16_t packet_id) noexcept nogil
cdef bint is_inflight(Session* session, uint16_t packet_id) noexcept nogil
