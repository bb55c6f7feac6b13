# A session: what survives between a client and the broker apart from any network connection.
#
# Here belong the table of sessions, how one begins and goes out of it, and the extra that few have. Not here: what a
# session owns (queue, parking, inflight, inbound_qos2) and how all of that goes with it (session_end), when it begins
# and ends (lifetime), who may have one (grants).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Principal, Session, SessionExtra, ShardState

cdef void sessions_open(ShardState* shard) noexcept nogil

# Sessions are keyed by (account, principal, client id): no principal reaches another's.
cdef uint32_t session_hash(
    ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil
cdef Session* find_session(
    ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil
cdef Session* new_session(
    ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil
cdef inline uint8_t* client_id_of(Session* session) noexcept nogil:
    # Most are short: memory of their own would cost more than they are long.
    if session.client_id_bytes <= sizeof(session.client_id):
        return <uint8_t*>session.client_id
    return (<uint8_t**>session.client_id)[0]
# Out of the table and out of its principal's list: nobody finds it any more.
cdef void unlink_session(ShardState* shard, Session* session) noexcept nogil
# It waits for no chunk of messages any more.
cdef void wait_no_more(ShardState* shard, Session* session) noexcept nogil
# Its connection has gone: it stands on the list of those about which lifetime decides.
cdef void part_session(ShardState* shard, Session* session) noexcept nogil

cdef SessionExtra* need_extra(Session* session) noexcept nogil
# Forgets the extra when nothing in it is in use.
cdef void trim_extra(Session* session) noexcept nogil
