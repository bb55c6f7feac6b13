"""The records of sessions on disk. See durable.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.cursor cimport put_bytes
from broker._core.durable_table cimport add_durable
from broker._core.inbound_qos2 cimport qos2_count, take_qos2_ids
from broker._core.journal cimport add_op
from broker._core.keyed_records cimport put_numbered, put_record
from broker._core.memory cimport give_memory, take_memory, take_zeroed
from broker._core.model cimport (
    Account,
    Durable,
    EndedSession,
    Journal,
    Principal,
    Session,
    ShardState,
    Subscription,
)
from broker._core.records cimport (
    OP_TAKEN,
    RECORD_VERSION,
    SESSION_CONNECTED,
    SESSION_ENDED,
    SESSION_LOST,
    SESSION_WITH_CONNECTION,
    TABLE_SESSIONS,
    TABLE_SUBSCRIPTIONS,
    SessionHead,
    SubscriptionHead,
    put_subscription_key,
)
from broker._core.session cimport client_id_of
from broker._core.topics cimport subscribed_filter


cdef enum:
    FILTER_BYTES = 65536
    SUBSCRIPTION_KEY_BYTES = 24
    FIRST_ENDED = 64            # places of the table of those that have ended
    # of subscriptions, while the disk takes nothing
    ACCOUNT_RECORDS_BYTES = 4 * 1024 * 1024
    ALL_RECORDS_BYTES = 256 * 1024 * 1024


cdef void record_identifiers(ShardState* shard, Session* session) noexcept nogil:
    # Of exchanges of QoS 2 that began while it was kept in memory alone.
    cdef uint32_t i, count = qos2_count(session)
    cdef uint16_t* ids
    if count == 0:
        return
    ids = <uint16_t*>take_memory(count * sizeof(uint16_t))
    take_qos2_ids(session, ids)
    for i in range(count):
        add_op(shard, OP_TAKEN, session.durable.number, 0, ids[i])
    give_memory(ids)


cdef void make_durable(ShardState* shard, Session* session) noexcept nogil:
    cdef Durable* durable = <Durable*>take_zeroed(sizeof(Durable))
    cdef Subscription* subscription = session.subscriptions
    cdef uint8_t* filter
    cdef uint32_t n
    durable.number = shard.journal.next_session
    shard.journal.next_session += 1
    durable.session = session
    durable.since_ticket = shard.journal.open_ticket
    session.durable = durable
    add_durable(shard, durable)
    record_identifiers(shard, session)
    if subscription == NULL:
        return
    filter = <uint8_t*>take_memory(FILTER_BYTES)
    while subscription != NULL:
        n = subscribed_filter(subscription, filter)
        record_subscription(shard, session, subscription, filter, n)
        subscription = subscription.next
    give_memory(filter)


cdef inline uint32_t session_bytes(Session* session) noexcept nogil:
    return <uint32_t>sizeof(SessionHead) + session.client_id_bytes + session.principal.name_bytes + \
        session.principal.device_id_bytes


cdef uint8_t* put_own(ShardState* shard, Session* session) noexcept nogil:
    # Room for its record; a batch has one of each session, however often its client comes and goes meanwhile.
    cdef Journal* journal = &shard.journal
    cdef Durable* durable = session.durable
    cdef uint32_t n = session_bytes(session)
    cdef uint8_t* at
    if durable.put_ticket == journal.open_ticket and durable.put_bytes == n:
        return journal.puts + durable.put_at
    at = put_numbered(shard, TABLE_SESSIONS, durable.number, n)
    durable.put_ticket = journal.open_ticket
    durable.put_at = <uint32_t>(at - journal.puts)
    durable.put_bytes = n
    return at


cdef void put_session(
        ShardState* shard, Session* session, uint8_t* at, uint32_t expiry_s, uint8_t presence) noexcept nogil:
    # Presence: SESSION_CONNECTED, SESSION_LOST, or 0 for a client that went by itself.
    cdef Principal* principal = session.principal
    cdef SessionHead head
    head.version = RECORD_VERSION
    head.flags = presence | (SESSION_WITH_CONNECTION if expiry_s == 0 else 0) | (
        SESSION_ENDED if session.ending else 0)
    head.client_id_bytes = session.client_id_bytes
    head.account_id = principal.account.account_id
    head.principal_id = principal.principal_id
    head.expiry_s = expiry_s
    head.away_since_wall_ns = 0 if presence == SESSION_CONNECTED else shard.now_ns + shard.wall_offset_ns
    head.name_bytes = principal.name_bytes
    head.device_id_bytes = principal.device_id_bytes
    head.spare = 0
    memcpy(at, &head, sizeof(head))
    at = put_bytes(at + sizeof(head), client_id_of(session), session.client_id_bytes)
    put_bytes(at, <uint8_t*>principal + sizeof(Principal), <uint32_t>principal.name_bytes + principal.device_id_bytes)


cdef void record_session(ShardState* shard, Session* session) noexcept nogil:
    cdef Durable* durable = session.durable
    durable.connected = session.connection != NULL
    put_session(
        shard, session, put_own(shard, session), session.session_expiry_interval_s,
        SESSION_CONNECTED if durable.connected else 0)


cdef void record_loss(ShardState* shard, Session* session) noexcept nogil:
    session.durable.connected = 0
    put_session(shard, session, put_own(shard, session), session.session_expiry_interval_s, SESSION_LOST)


cdef void record_bearer(ShardState* shard, Session* session, uint64_t number) noexcept nogil:
    put_session(
        shard, session, put_numbered(shard, TABLE_SESSIONS, number, session_bytes(session)), 0, SESSION_CONNECTED)


cdef inline uint32_t subscription_bytes(uint32_t n) noexcept nogil:
    return SUBSCRIPTION_KEY_BYTES + <uint32_t>sizeof(SubscriptionHead) + n


cdef bint may_record_subscription(ShardState* shard, Account* account, uint32_t n) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint64_t had = account.recorded_bytes if account.recorded_ticket == journal.open_ticket else 0
    return not journal.refusing or (
        had + subscription_bytes(n) <= ACCOUNT_RECORDS_BYTES and journal.puts_bytes <= ALL_RECORDS_BYTES)


cdef void record_subscription(
        ShardState* shard, Session* session, Subscription* subscription, const uint8_t* filter, uint32_t n
) noexcept nogil:
    cdef SubscriptionHead head
    cdef Account* account = session.principal.account
    cdef uint8_t[SUBSCRIPTION_KEY_BYTES] key
    cdef uint8_t* at
    if account.recorded_ticket != shard.journal.open_ticket:
        account.recorded_ticket = shard.journal.open_ticket
        account.recorded_bytes = 0
    account.recorded_bytes += subscription_bytes(n)
    put_subscription_key(key, session.durable.number, filter, n)
    at = put_record(shard, TABLE_SUBSCRIPTIONS, key, SUBSCRIPTION_KEY_BYTES, <uint32_t>sizeof(head) + n)
    head.version = RECORD_VERSION
    head.options = subscription.qos | subscription.no_local << 2 | subscription.retain_as_published << 3 | (
        subscription.has_run << 4)
    head.spare = 0
    head.identifier = subscription.identifier
    memcpy(at, &head, sizeof(head))
    put_bytes(at + sizeof(head), filter, n)


# ---------------------------------------------------------------- those that have ended

cdef void forget_ends(Journal* journal) noexcept nogil:
    give_memory(journal.ended)
    journal.ended = NULL
    journal.ended_mask = 0
    journal.ended_count = 0


cdef EndedSession* place_of(Journal* journal, uint32_t hash) noexcept nogil:
    # Where it stands, or the free place where it would.
    cdef uint32_t at = hash & journal.ended_mask
    while journal.ended[at].ticket and journal.ended[at].hash != hash:
        at = (at + 1) & journal.ended_mask
    return &journal.ended[at]


cdef void grow_ended(Journal* journal) noexcept nogil:
    # Those whose end is on disk by now are left behind, so that it stays as large as a batch or two.
    cdef EndedSession* before = journal.ended
    cdef uint32_t i, count = journal.ended_mask + 1 if before != NULL else 0, live = 0
    cdef uint32_t places = FIRST_ENDED
    for i in range(count):
        live += before[i].ticket > journal.settled_ticket
    while places < 4 * live:
        places *= 2
    journal.ended = <EndedSession*>take_zeroed(<size_t>places * sizeof(EndedSession))
    journal.ended_mask = places - 1
    journal.ended_count = live
    for i in range(count):
        if before[i].ticket > journal.settled_ticket:
            place_of(journal, before[i].hash)[0] = before[i]
    give_memory(before)


cdef void note_end(ShardState* shard, Session* session) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef EndedSession* place
    if session.durable.bearer:
        return      # it was promised to nobody
    if journal.ended == NULL or 2 * journal.ended_count > journal.ended_mask:
        grow_ended(journal)
    place = place_of(journal, session.hash)
    journal.ended_count += place.ticket == 0
    place.hash = session.hash
    place.ticket = journal.open_ticket
    journal.ended_ticket = journal.open_ticket


cdef uint64_t end_ticket(ShardState* shard, uint32_t hash) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint64_t ticket
    if journal.ended == NULL:
        return 0
    if journal.ended_ticket <= journal.settled_ticket:
        forget_ends(journal)
        return 0
    ticket = place_of(journal, hash).ticket
    return ticket if ticket > journal.settled_ticket else 0
