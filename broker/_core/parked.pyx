"""What a session needs from the disk, and asking for it. See parked.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.budgets cimport count_drop
from broker._core.chunks cimport find_chunk, wait_for_chunk
from broker._core.grants cimport policy_allows_subscribe
from broker._core.inflight cimport body_of, fill_body, inflight_state, release_packet_id
from broker._core.journal cimport find_unwritten
from broker._core.memory cimport give_memory, take_memory
from broker._core.message cimport message_topic
from broker._core.model cimport (
    DROP_LOST,
    DROP_NOT_AUTHORIZED,
    INFLIGHT_PUBREL,
    WAITING_AGAIN,
    WAITING_LOAD,
    WORK_RECEIVERS,
    Chunk,
    InflightBody,
    JournalEntry,
    Message,
    Session,
    SessionExtra,
    SharedGroup,
    ShardState,
)
from broker._core.parking cimport drop_parked_front, look_up, parked_front, unpark_front
from broker._core.records cimport PairRecord, next_pair
from broker._core.topic_rules cimport SHARE_NAME_AT
from broker._core.topics cimport find_shared_group


cdef SharedGroup* read_pair(
        ShardState* shard, Session* session, const PairRecord* pair, uint32_t* identifiers) noexcept nogil:
    cdef SharedGroup* group
    cdef uint8_t* filter
    memcpy(identifiers, pair.identifiers, pair.head.identifiers * sizeof(uint32_t))
    if pair.group_bytes == 0:
        return NULL
    filter = <uint8_t*>take_memory(SHARE_NAME_AT + <uint32_t>pair.group_bytes)
    memcpy(filter, b"$share/", SHARE_NAME_AT)
    memcpy(filter + SHARE_NAME_AT, pair.group, pair.group_bytes)
    group = find_shared_group(
        shard, &session.principal.account.space, filter, SHARE_NAME_AT + <uint32_t>pair.group_bytes)
    give_memory(filter)
    return group


cdef bint still_allowed(Session* session, Message* message) noexcept nogil:
    return session.policy == NULL or policy_allows_subscribe(
        session.policy, session.principal, message_topic(message), message.topic_bytes)


cdef bint find_pair(
        ShardState* shard, Session* session, JournalEntry* entry, const uint8_t* at, PairRecord* pair) noexcept nogil:
    cdef const uint8_t* end = at + entry.pairs_bytes
    shard.slice_budget -= entry.pair_count // WORK_RECEIVERS
    while next_pair(&at, end, pair):
        if pair.head.session == session.durable.number:
            return True
    return False


cdef bint is_unread(Session* session, uint16_t packet_id) noexcept nogil:
    cdef uint32_t state = inflight_state(session, packet_id)
    cdef InflightBody* body = body_of(session, packet_id)
    return state != 0 and state != INFLIGHT_PUBREL and body.message == NULL and body.number != 0


cdef uint64_t next_needed(Session* session, uint32_t* at) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    if session.waiting & WAITING_AGAIN:
        at[0] = max(at[0], extra.again_at)
        while at[0] < extra.again_count:
            if is_unread(session, extra.again[at[0]]):
                return body_of(session, extra.again[at[0]]).number
            at[0] += 1
    if session.durable.parked_count == 0 or parked_front(session) == NULL:  # what has to be looked up has no number yet
        return 0
    return parked_front(session).number


cdef void lose_next(ShardState* shard, Session* session, uint32_t at) noexcept nogil:
    count_drop(shard, session, DROP_LOST)
    if session.waiting & WAITING_AGAIN and at < session.extra.again_count:
        release_packet_id(shard, session, session.extra.again[at], True)
    else:
        drop_parked_front(shard, session)


cdef bint ask(ShardState* shard, Session* session, uint64_t number) noexcept nogil:
    # False: it is nowhere.
    cdef Chunk* chunk = find_chunk(&shard.journal, number)
    if chunk == NULL:
        return False
    session.waiting |= WAITING_LOAD
    wait_for_chunk(shard, session.durable, chunk)
    return True


cdef bint bring_front(ShardState* shard, Session* session) noexcept nogil:
    cdef uint32_t[PAIR_IDENTIFIERS] identifiers
    cdef SharedGroup* group
    cdef JournalEntry* entry
    cdef const uint8_t* pairs
    cdef PairRecord pair
    while session.durable.parked_count:
        if parked_front(session) == NULL:
            if look_up(shard, session):
                return False
            continue
        entry = find_unwritten(&shard.journal, parked_front(session).number, &pairs)
        if entry != NULL and not still_allowed(session, entry.message):
            count_drop(shard, session, DROP_NOT_AUTHORIZED)     # its rights have changed while it waited
            drop_parked_front(shard, session)
            continue
        if entry != NULL and find_pair(shard, session, entry, pairs, &pair):
            group = read_pair(shard, session, &pair, identifiers)
            unpark_front(shard, session, entry.message, group, identifiers, pair.head.identifiers)
            return True
        if ask(shard, session, parked_front(session).number):
            return False
        count_drop(shard, session, DROP_LOST)
        drop_parked_front(shard, session)
    return False


cdef bint bring_body(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil:
    cdef InflightBody* body = body_of(session, packet_id)
    cdef uint32_t[PAIR_IDENTIFIERS] identifiers
    cdef SharedGroup* group
    cdef const uint8_t* pairs
    cdef PairRecord pair
    cdef JournalEntry* entry = find_unwritten(&shard.journal, body.number, &pairs)
    if entry != NULL and find_pair(shard, session, entry, pairs, &pair):
        group = read_pair(shard, session, &pair, identifiers)
        fill_body(body, entry.message, group, identifiers, pair.head.identifiers)
        return True
    if not ask(shard, session, body.number):
        count_drop(shard, session, DROP_LOST)
        release_packet_id(shard, session, packet_id, True)
    return False
