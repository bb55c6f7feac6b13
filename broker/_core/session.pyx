"""Sessions: their table, queue, outbound inflight and quota. See session.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.grants cimport release_principal
from broker._core.memory cimport give_memory, slab_close, slab_give, slab_open, slab_take, take_memory, take_zeroed
from broker._core.message cimport hold_message, message_bytes, release_message
from broker._core.model cimport (
    DROP_SESSION_ENDED,
    Message,
    Principal,
    Queued,
    Session,
    ShardState,
    Subscription,
)
from broker._core.topic_rules cimport hash_bytes
from broker._core.topics cimport remove_subscription


cdef enum:
    FIRST_BUCKETS = 64
    FIRST_QUEUE = 8
    FIRST_INFLIGHT = 8


cdef void sessions_open(ShardState* shard) noexcept nogil:
    shard.sessions = <Session**>take_zeroed(FIRST_BUCKETS * sizeof(void*))
    shard.session_mask = FIRST_BUCKETS - 1
    slab_open(&shard.session_slab, sizeof(Session), 64)
    slab_open(&shard.subscription_slab, sizeof(Subscription), 256)


cdef void sessions_close(ShardState* shard) noexcept nogil:
    cdef uint32_t i
    for i in range(shard.session_mask + 1):
        while shard.sessions[i] != NULL:
            end_session(shard, shard.sessions[i])
    give_memory(shard.sessions)
    slab_close(&shard.session_slab)
    slab_close(&shard.subscription_slab)


# ---------------------------------------------------------------- the table

cdef inline uint32_t session_hash(
        ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil:
    # The principal's number is unique in the installation, so it stands for the account as well.
    return hash_bytes(client_id, n, shard.hash_seed ^ (<uint64_t>principal.principal_id << 20))


cdef Session* find_session(
        ShardState* shard, Principal* principal, const uint8_t* client_id, uint32_t n) noexcept nogil:
    cdef uint32_t hash = session_hash(shard, principal, client_id, n)
    cdef Session* session = shard.sessions[hash & shard.session_mask]
    while session != NULL:
        if session.hash == hash and session.principal == principal and session.client_id_bytes == n \
                and memcmp(session.client_id, client_id, n) == 0:
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
    session.account = principal.account
    session.client_id = <uint8_t*>take_memory(n)
    memcpy(session.client_id, client_id, n)
    session.client_id_bytes = <uint16_t>n
    session.hash_next = shard.sessions[session.hash & shard.session_mask]
    shard.sessions[session.hash & shard.session_mask] = session
    shard.session_count += 1
    principal.refs += 1
    principal.account.sessions += 1
    return session


cdef void end_session(ShardState* shard, Session* session) noexcept nogil:
    cdef Session** link = &shard.sessions[session.hash & shard.session_mask]
    cdef uint32_t _
    while session.subscriptions != NULL:
        remove_subscription(shard, &session.account.space, session.subscriptions)
    while session.queue_count:
        count_drop(shard, session, DROP_SESSION_ENDED)
        queue_drop_front(shard, session)
    for _ in range(session.inflight_count):     # sent, but nobody knows whether it was taken
        count_drop(shard, session, DROP_SESSION_ENDED)
    while link[0] != session:
        link = &link[0].hash_next
    link[0] = session.hash_next
    shard.session_count -= 1
    session.account.sessions -= 1
    give_memory(session.queue)
    give_memory(session.inflight)
    give_memory(session.client_id)
    release_principal(shard, session.principal)
    slab_give(&shard.session_slab, session)


cdef void count_drop(ShardState* shard, Session* session, int reason) noexcept nogil:
    shard.counters.drops[reason] += 1
    session.account.drops[reason] += 1
    session.principal.drops[reason] += 1


# ---------------------------------------------------------------- the queue

cdef void grow_queue(Session* session) noexcept nogil:
    cdef uint32_t capacity = session.queue_capacity * 2 if session.queue_capacity else FIRST_QUEUE
    cdef Queued* grown = <Queued*>take_memory(<size_t>capacity * sizeof(Queued))
    cdef uint32_t first = session.queue_capacity - session.queue_head
    if first > session.queue_count:
        first = session.queue_count
    if session.queue_count:
        memcpy(grown, session.queue + session.queue_head, first * sizeof(Queued))
        memcpy(grown + first, session.queue, (session.queue_count - first) * sizeof(Queued))
    give_memory(session.queue)
    session.queue = grown
    session.queue_head = 0
    session.queue_capacity = capacity


cdef inline uint64_t queued_size(Message* message, uint32_t identifiers) noexcept nogil:
    return <uint64_t>message_bytes(message) + <uint64_t>identifiers * sizeof(uint32_t)


cdef bint enqueue(
        ShardState* shard, Session* session, Message* message, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    cdef Queued* entry
    if session.queue_count >= shard.limits.queue_messages_maximum or \
            session.queued_bytes + queued_size(message, count) > shard.limits.queue_maximum_bytes:
        return False
    if session.queue_count == session.queue_capacity:
        grow_queue(session)
    entry = &session.queue[(session.queue_head + session.queue_count) & (session.queue_capacity - 1)]
    entry.message = message
    hold_message(message)
    entry.qos = qos
    entry.retain = retain
    entry.identifier_count = count
    entry.identifiers = NULL
    if count:
        entry.identifiers = <uint32_t*>take_memory(count * sizeof(uint32_t))
        memcpy(entry.identifiers, identifiers, count * sizeof(uint32_t))
    session.queue_count += 1
    session.queued_bytes += queued_size(message, count)
    return True


cdef Queued* queue_front(Session* session) noexcept nogil:
    return &session.queue[session.queue_head] if session.queue_count else NULL


cdef void queue_drop_front(ShardState* shard, Session* session) noexcept nogil:
    cdef Queued* entry = &session.queue[session.queue_head]
    session.queued_bytes -= queued_size(entry.message, entry.identifier_count)
    release_message(shard, entry.message)
    give_memory(entry.identifiers)
    session.queue_head = (session.queue_head + 1) & (session.queue_capacity - 1)
    session.queue_count -= 1
    if session.queue_count == 0:
        give_memory(session.queue)      # an idle session owns almost nothing
        session.queue = NULL
        session.queue_head = 0
        session.queue_capacity = 0


# ---------------------------------------------------------------- packet identifiers

cdef void grow_inflight(Session* session) noexcept nogil:
    cdef uint32_t mask = session.inflight_mask * 2 + 1 if session.inflight != NULL else FIRST_INFLIGHT - 1
    cdef uint16_t* grown = <uint16_t*>take_zeroed(<size_t>(mask + 1) * sizeof(uint16_t))
    cdef uint32_t i
    if session.inflight != NULL:
        for i in range(session.inflight_mask + 1):
            if session.inflight[i]:
                grown[session.inflight[i] & mask] = session.inflight[i]
        give_memory(session.inflight)
    session.inflight = grown
    session.inflight_mask = mask


cdef uint16_t take_packet_id(Session* session) noexcept nogil:
    # Identifiers are mostly consecutive, so the ring rarely has a collision; an old identifier that is never
    # acknowledged is stepped over, and the ring grows only when it is half full. [MQTT-2.2.1-4]
    if session.inflight == NULL or (
            session.inflight_count * 2 > session.inflight_mask and session.inflight_mask < 65535):
        grow_inflight(session)
    while True:
        session.next_packet_id += 1
        if session.next_packet_id == 0:
            session.next_packet_id = 1
        if session.inflight[session.next_packet_id & session.inflight_mask] == 0:
            break
    session.inflight[session.next_packet_id & session.inflight_mask] = session.next_packet_id
    session.inflight_count += 1
    session.send_quota -= 1  # [MQTT-4.9.0-1]
    return session.next_packet_id


cdef bint is_inflight(Session* session, uint16_t packet_id) noexcept nogil:
    return session.inflight != NULL and packet_id != 0 and \
        session.inflight[packet_id & session.inflight_mask] == packet_id


cdef bint release_packet_id(Session* session, uint16_t packet_id) noexcept nogil:
    if not is_inflight(session, packet_id):
        return False
    session.inflight[packet_id & session.inflight_mask] = 0
    session.inflight_count -= 1
    session.send_quota += 1  # [MQTT-4.9.0-2]
    return True
