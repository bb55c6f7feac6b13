"""Sessions: their table, how one begins, and what few of them have. See session.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.chunks cimport stop_waiting
from broker._core.memory cimport give_memory, resize_memory, slab_open, slab_take, take_memory, take_zeroed
from broker._core.model cimport ENDING, TIMER_SESSION, WAITING_LOAD, Principal, Session, SessionExtra, ShardState
from broker._core.topic_rules cimport hash_bytes


cdef enum:
    FIRST_BUCKETS = 64
    FIRST_PARTED = 16


cdef void sessions_open(ShardState* shard) noexcept nogil:
    shard.sessions = <Session**>take_zeroed(FIRST_BUCKETS * sizeof(void*))
    shard.session_mask = FIRST_BUCKETS - 1
    slab_open(&shard.session_slab, sizeof(Session), 64)


# ---------------------------------------------------------------- the table

cdef uint32_t session_hash(
        ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil:
    # The principal's number is unique in the installation, so it stands for the account as well.
    return hash_bytes(client_id, n, shard.hash_seed ^ (<uint64_t>principal.principal_id << 20))


cdef Session* find_session(
        ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil:
    cdef uint32_t hash = session_hash(shard, principal, client_id, n)
    cdef Session* session = shard.sessions[hash & shard.session_mask]
    while session != NULL:
        if session.hash == hash and session.principal == principal and session.client_id_bytes == n \
                and memcmp(client_id_of(session), client_id, n) == 0:
            return session
        session = session.hash_next
    return NULL


cdef void grow_sessions(ShardState* shard) noexcept nogil:
    cdef uint32_t mask = shard.session_mask * 2 + 1
    cdef Session** table = <Session**>take_zeroed(<size_t>(mask + 1) * sizeof(void*))
    cdef Session* session
    cdef Session* following
    cdef uint32_t i
    for i in range(shard.session_mask + 1):
        session = shard.sessions[i]
        while session != NULL:
            following = session.hash_next
            session.hash_next = table[session.hash & mask]
            table[session.hash & mask] = session
            session = following
    give_memory(shard.sessions)
    shard.sessions = table
    shard.session_mask = mask


cdef Session* new_session(
        ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil:
    cdef Session* session = <Session*>slab_take(&shard.session_slab)
    if shard.session_count > shard.session_mask:
        grow_sessions(shard)
    memset(session, 0, sizeof(Session))
    session.hash = session_hash(shard, principal, client_id, n)
    session.principal = principal
    session.client_id_bytes = <uint16_t>n
    if n > sizeof(session.client_id):
        (<uint8_t**>session.client_id)[0] = <uint8_t*>take_memory(n)
    memcpy(client_id_of(session), client_id, n)
    session.hash_next = shard.sessions[session.hash & shard.session_mask]
    shard.sessions[session.hash & shard.session_mask] = session
    shard.session_count += 1
    session.principal_next = principal.sessions
    if principal.sessions != NULL:
        principal.sessions.principal_previous = session
    principal.sessions = session
    principal.session_count += 1
    principal.refs += 1
    principal.account.sessions += 1
    return session


cdef void wait_no_more(ShardState* shard, Session* session) noexcept nogil:
    if session.waiting & WAITING_LOAD:
        stop_waiting(shard, session.durable)
        session.waiting &= ~<uint8_t>WAITING_LOAD


cdef void unlink_session(ShardState* shard, Session* session) noexcept nogil:
    cdef Session** link = &shard.sessions[session.hash & shard.session_mask]
    while link[0] != session:
        link = &link[0].hash_next
    link[0] = session.hash_next
    shard.session_count -= 1
    session.principal.account.sessions -= 1
    if session.principal_previous != NULL:
        session.principal_previous.principal_next = session.principal_next
    else:
        session.principal.sessions = session.principal_next
    if session.principal_next != NULL:
        session.principal_next.principal_previous = session.principal_previous
    session.principal.session_count -= 1
    session.ending = ENDING
    wait_no_more(shard, session)


cdef void part_session(ShardState* shard, Session* session) noexcept nogil:
    session.connection = NULL
    wait_no_more(shard, session)
    if session.parted:
        return
    if shard.parted_count == shard.parted_capacity:
        shard.parted_capacity = shard.parted_capacity * 2 if shard.parted_capacity else FIRST_PARTED
        shard.parted = <Session**>resize_memory(shard.parted, shard.parted_capacity * sizeof(void*))
    shard.parted[shard.parted_count] = session
    shard.parted_count += 1
    session.parted = shard.parted_count


# ---------------------------------------------------------------- what few have

cdef SessionExtra* need_extra(Session* session) noexcept nogil:
    if session.extra == NULL:
        session.extra = <SessionExtra*>take_zeroed(sizeof(SessionExtra))
        session.extra.timer.owner = session
        session.extra.timer.kind = TIMER_SESSION
    return session.extra


cdef void trim_extra(Session* session) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    if extra == NULL or extra.timer.armed or extra.will.message != NULL or extra.qos2_count or extra.again_count \
            or extra.runs != NULL or extra.bench_count:
        return
    give_memory(extra.qos2_ids)
    give_memory(extra.again)
    give_memory(extra.bench)
    give_memory(extra)
    session.extra = NULL
