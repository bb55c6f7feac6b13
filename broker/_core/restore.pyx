"""What is on disk becomes the shard's again. See restore.pxd."""

import zlib

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memset

from broker._core.chunks cimport add_chunk, find_chunk
from broker._core.durable cimport record_loss
from broker._core.durable_table cimport add_durable, find_durable, mark_flow
from broker._core.grants cimport (
    find_principal,
    hold_policy,
    hold_principal,
    need_account,
    policy_allows_subscribe,
    release_principal,
)
from broker._core.inbound_qos2 cimport qos2_add, qos2_known, qos2_remove
from broker._core.inflight cimport inflight_state, keep_unread, put_inflight
from broker._core.keyed_records cimport delete_numbered, delete_record
from broker._core.memory cimport give_memory, resize_memory, take_zeroed
from broker._core.message cimport NEVER_EXPIRES
from broker._core.model cimport (
    INFLIGHT_PUBLISH_1,
    INFLIGHT_PUBLISH_2,
    INFLIGHT_PUBREL,
    Account,
    Chunk,
    Durable,
    InflightBody,
    Journal,
    Principal,
    Session,
    SessionExtra,
    ShardState,
    Subscription,
)
from broker._core.parking cimport park
from broker._core.progress cimport pass_over
from broker._core.records cimport (
    CHECKSUM_BYTES,
    FLOW_CRC_AT,
    FLOW_PUBLISH_1,
    FLOW_PUBLISH_2,
    FLOW_PUBREL,
    FLOW_QUEUED,
    FLOW_RUN,
    IDENTIFIER_MAXIMUM,
    NUMBER_MAXIMUM,
    OP_DONE,
    OP_FREED,
    OP_RECEIVED,
    OP_RELEASED,
    OP_SENT,
    OP_TAKEN,
    PAIR_GROUP,
    PAIR_RETAIN,
    RECORD_VERSION,
    SESSION_CONNECTED,
    SESSION_ENDED,
    SESSION_WITH_CONNECTION,
    TABLE_FLOWS,
    TABLE_MESSAGES,
    TABLE_META,
    TABLE_SESSIONS,
    TABLE_SUBSCRIPTIONS,
    FlowEntry,
    FlowHead,
    Op,
    PairRecord,
    Record,
    SessionHead,
    SubscriptionHead,
    delivery_size,
    get_key,
    next_pair,
    next_record,
    put_subscription_key,
)
from broker._core.replay cimport restart_run
from broker._core.runs cimport make_run
from broker._core.sealing cimport add_ops_record
from broker._core.session cimport find_session, need_extra, new_session, trim_extra, unlink_session
from broker._core.timers cimport timer_cancel, timer_set
from broker._core.topic_rules cimport inner_filter_at, valid_topic_filter
from broker._core.topics cimport add_subscription, find_subscription
from broker._core.tracking cimport TRACKED_TAKEN, note

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
    SECOND_NS = 1000000000
    NEVER = 0xFFFFFFFF
    OWN_PRINCIPALS = 0x80000000     # from here on numbers are not the directory's: see broker.ports
    FIRST_FOUND = 4
    TRIMMED_BYTES = 1024 * 1024
    FOUND_DONE = 255                # in place of a state


# ---------------------------------------------------------------- numbers

cdef bint read_numbers(ShardState* shard, const uint8_t* at, uint32_t n) noexcept nogil:
    cdef uint64_t message, session
    if n != 16:
        return False
    memcpy(&message, at, 8)
    memcpy(&session, at + 8, 8)
    if not (0 < message <= NUMBER_MAXIMUM and 0 < session <= NUMBER_MAXIMUM):
        return False
    shard.journal.next_message = message
    shard.journal.next_session = session
    return True


cdef bint read_meta(
        ShardState* shard, const uint8_t* key, uint32_t key_bytes, const uint8_t* at, uint32_t n) noexcept nogil:
    if key_bytes == 7 and memcmp(key, b"numbers", 7) == 0:
        return read_numbers(shard, at, n)
    return True


# ---------------------------------------------------------------- sessions

cdef bint session_head(
        const uint8_t* key, uint32_t key_bytes, const uint8_t* at, uint32_t n, SessionHead* head) noexcept nogil:
    if key_bytes != 8 or n < sizeof(SessionHead):
        return False
    memcpy(head, at, sizeof(SessionHead))
    if not (0 < get_key(key) <= NUMBER_MAXIMUM and 0 <= head.away_since_wall_ns <= NUMBER_MAXIMUM):
        return False
    return head.version == RECORD_VERSION and head.client_id_bytes != 0 and \
        n == sizeof(SessionHead) + <uint64_t>head.client_id_bytes + head.name_bytes + head.device_id_bytes


cdef Principal* principal_of(ShardState* shard, const SessionHead* head, const uint8_t* name) noexcept nogil:
    # With one reference; NULL: its number is somebody else's by now.
    cdef Principal* principal = find_principal(shard, head.principal_id)
    cdef Account* account
    if principal != NULL and not principal.nameless and (
            principal.account.account_id != head.account_id or principal.device_id_bytes != head.device_id_bytes or
            memcmp(<uint8_t*>principal + sizeof(Principal) + principal.name_bytes, name + head.name_bytes,
                   head.device_id_bytes) != 0):
        return NULL
    account = need_account(shard, head.account_id)
    return hold_principal(
        shard, account, head.principal_id, name, head.name_bytes, name + head.name_bytes, head.device_id_bytes)


cdef void set_aside(Restoring* restoring, ShardState* shard, Session* session) noexcept nogil:
    # It is not there for its client any more: it hands over what it has when all is restored.
    if session.extra != NULL:
        timer_cancel(&shard.wheel, &session.extra.timer)
    unlink_session(shard, session)
    session.hash_next = restoring.ended
    restoring.ended = session


cdef void set_end(ShardState* shard, Session* session, const SessionHead* head) noexcept nogil:
    # From when its client went; who was connected at the crash is away from now on. [MQTT-3.1.2-23]
    cdef SessionExtra* extra
    cdef int64_t since_ns = head.away_since_wall_ns - shard.wall_offset_ns
    if head.flags & SESSION_CONNECTED or since_ns > shard.now_ns:
        since_ns = shard.now_ns
    if head.expiry_s == NEVER:
        return
    extra = need_extra(session)
    extra.ends_at_ns = max(since_ns + <int64_t>head.expiry_s * SECOND_NS, shard.now_ns)
    timer_set(&shard.wheel, &extra.timer, extra.ends_at_ns)


cdef bint read_session(
        ShardState* shard, Restoring* restoring, const uint8_t* key, const uint8_t* at, const SessionHead* head
) noexcept nogil:
    cdef const uint8_t* client_id = at + sizeof(SessionHead)
    cdef Principal* principal = principal_of(shard, head, client_id + head.client_id_bytes)
    cdef Session* session
    cdef Durable* durable
    if principal == NULL:
        return False
    session = find_session(shard, principal, client_id, head.client_id_bytes)
    if session != NULL:     # the one with the higher number came later
        set_aside(restoring, shard, session)
    session = new_session(shard, principal, client_id, head.client_id_bytes)
    release_principal(shard, principal)     # the session holds it
    session.session_expiry_interval_s = 0 if head.flags & SESSION_WITH_CONNECTION else head.expiry_s
    hold_policy(&session.policy, principal.policy)
    if principal.policy == NULL and 0 < principal.principal_id < OWN_PRINCIPALS:
        principal.revoked = 1       # the directory knows it, and lets it do nothing at the moment
    durable = <Durable*>take_zeroed(sizeof(Durable))
    durable.number = get_key(key)
    durable.session = session
    durable.connected = head.flags & SESSION_CONNECTED
    durable.bearer = head.flags & SESSION_WITH_CONNECTION != 0
    session.durable = durable
    add_durable(shard, durable)
    shard.journal.next_session = max(shard.journal.next_session, durable.number + 1)
    if head.flags & SESSION_ENDED:
        set_aside(restoring, shard, session)
    else:
        set_end(shard, session, head)
    return True


cdef bint restore_session(
        ShardState* shard, Restoring* restoring, const uint8_t* key, uint32_t key_bytes, const uint8_t* at, uint32_t n,
        known) except -1:
    cdef SessionHead head
    cdef Principal* principal
    if not session_head(key, key_bytes, at, n, &head):
        return False
    principal = find_principal(shard, head.principal_id)
    if known is not None and head.principal_id < OWN_PRINCIPALS and (principal == NULL or principal.nameless) and \
            not head.flags & SESSION_ENDED and not known(head.principal_id):    # what has ended still hands over
        delete_record(shard, TABLE_SESSIONS, key, 8)    # whose principal is no more
        return True
    return read_session(shard, restoring, key, at, &head)


# ---------------------------------------------------------------- subscriptions

cdef bint is_subscription(
        ShardState* shard, const uint8_t* key, uint32_t key_bytes, const uint8_t* at, uint32_t n) noexcept nogil:
    cdef SubscriptionHead head
    cdef uint8_t[24] expected
    if key_bytes != 24 or n <= sizeof(SubscriptionHead):
        return False
    memcpy(&head, at, sizeof(SubscriptionHead))
    if head.version != RECORD_VERSION or head.options & 3 == 3 or head.identifier > IDENTIFIER_MAXIMUM:
        return False
    at += sizeof(SubscriptionHead)
    n -= sizeof(SubscriptionHead)
    put_subscription_key(expected, get_key(key), at, n)
    return memcmp(expected, key, 24) == 0 and valid_topic_filter(at, n, shard.limits.topic_levels_maximum)


cdef bint restore_subscription(
        ShardState* shard, const uint8_t* key, uint32_t key_bytes, const uint8_t* at, uint32_t n) noexcept nogil:
    cdef SubscriptionHead head
    cdef Subscription* subscription
    cdef Session* session
    cdef uint32_t inner
    cdef Durable* durable
    if not is_subscription(shard, key, key_bytes, at, n):
        return False
    durable = find_durable(shard, get_key(key))
    memcpy(&head, at, sizeof(head))
    at += sizeof(head)
    n -= sizeof(head)
    inner = inner_filter_at(at, n)
    if durable == NULL or durable.session.ending or (
            durable.session.policy != NULL and not policy_allows_subscribe(
                durable.session.policy, durable.session.principal, at + inner, n - inner)):
        delete_record(shard, TABLE_SUBSCRIPTIONS, key, 24)
        return True
    session = durable.session
    if find_subscription(shard, &session.principal.account.space, session, at, n) != NULL:
        return False
    subscription = add_subscription(shard, &session.principal.account.space, session, at, n)
    subscription.qos = head.options & 3
    subscription.no_local = head.options >> 2 & 1
    subscription.retain_as_published = head.options >> 3 & 1
    subscription.identifier = head.identifier
    if head.options & 16 and inner == 0:    # retained messages that it had not been sent: all of them again
        restart_run(shard, session, subscription, at, n)
    return True


# ---------------------------------------------------------------- deliveries, by session

cdef Recovery* need_recovery(Restoring* restoring, Durable* durable) noexcept nogil:
    cdef Recovery* recovery = <Recovery*>durable.restoring
    if recovery == NULL:
        recovery = <Recovery*>take_zeroed(sizeof(Recovery))
        recovery.durable = durable
        recovery.next = restoring.recoveries
        restoring.recoveries = recovery
        durable.restoring = recovery
    return recovery


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
    # The one that was sent with this identifier; without one, the first that waits, else the first that was sent.
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


# ---------------------------------------------------------------- flow records

cdef bint is_flow(const uint8_t* at, uint32_t n) noexcept nogil:
    cdef FlowHead head
    if n < sizeof(FlowHead):
        return False
    memcpy(&head, at, sizeof(FlowHead))
    if head.as_of > NUMBER_MAXIMUM or head.high > NUMBER_MAXIMUM:
        return False
    return n == sizeof(FlowHead) + <uint64_t>head.listed * sizeof(FlowEntry) + <uint64_t>head.qos2_ids * 2


cdef void list_entry(Recovery* recovery, const FlowEntry* entry) noexcept nogil:
    cdef Found* found
    if entry.state == FLOW_PUBREL:
        put_pubrel(recovery.durable.session, entry.packet_id)
    elif entry.state == FLOW_RUN:
        if 0 < entry.number and entry.number + entry.more <= NUMBER_MAXIMUM and entry.packet_id == 0:
            add_listed_run(recovery, entry.number, entry.number + entry.more)
    elif entry.state < FLOW_PUBREL and 0 < entry.number <= recovery.high and \
            (entry.packet_id != 0) == (entry.state != FLOW_QUEUED):
        found = add_found(recovery, entry.number)
        found.packet_id = entry.packet_id
        found.state = entry.state


cdef void read_flow(ShardState* shard, Recovery* recovery, const uint8_t* at) noexcept nogil:
    cdef Session* session = recovery.durable.session
    cdef FlowHead head
    cdef FlowEntry entry
    cdef uint16_t packet_id
    cdef uint32_t i
    memcpy(&head, at, sizeof(FlowHead))
    at += sizeof(FlowHead)
    recovery.as_of = head.as_of
    recovery.high = head.high
    session.next_packet_id = head.next_packet_id
    shard.journal.open_ticket = max(shard.journal.open_ticket, head.as_of + 1)
    for i in range(head.listed):
        memcpy(&entry, at + i * sizeof(FlowEntry), sizeof(FlowEntry))
        list_entry(recovery, &entry)
    at += head.listed * sizeof(FlowEntry)
    for i in range(head.qos2_ids):
        memcpy(&packet_id, at + 2 * i, 2)
        take_identifier(session, packet_id)
    recovery.listed = recovery.count
    if recovery.count:
        qsort(recovery.found, recovery.count, sizeof(Found), by_number)


cdef bint restore_flow(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1:
    cdef const uint8_t* at = value
    cdef Durable* durable
    cdef uint32_t crc
    if len(key) != 8 or not is_flow(at, <uint32_t>len(value)):
        return False
    memcpy(&crc, at + FLOW_CRC_AT, 4)
    if crc != zlib.crc32(memoryview(value)[FLOW_CRC_AT + 4:], zlib.crc32(memoryview(value)[:FLOW_CRC_AT])):
        return False
    durable = find_durable(shard, get_key(key))
    if durable == NULL:
        delete_record(shard, TABLE_FLOWS, key, 8)
        return True
    durable.has_flow = 1
    read_flow(shard, need_recovery(restoring, durable), at)
    return True


# ---------------------------------------------------------------- messages

cdef Found* find_delivery(Recovery* recovery, const Record* record, const PairRecord* pair) noexcept nogil:
    # NULL: it is done.
    cdef uint64_t number = record.head.number
    cdef ListedRun* run = find_listed_run(recovery, number)
    cdef Found* found
    if run == NULL and number <= recovery.high:
        return find_unseen(recovery, number, pair.head.packet_id)
    if recovery.count > recovery.listed and recovery.found[recovery.count - 1].number > number:
        return NULL
    found = add_found(recovery, number)
    if run != NULL:
        found.order = run.order
        run.order += 1
    if pair.head.packet_id:
        found.packet_id = pair.head.packet_id
        found.state = FLOW_PUBLISH_1 if pair.head.flags & 3 == 1 else FLOW_PUBLISH_2
        recovery.last_sent = number
        recovery.durable.session.next_packet_id = pair.head.packet_id
    return found


cdef bint take_pair(
        ShardState* shard, Restoring* restoring, const Record* record, const PairRecord* pair) noexcept nogil:
    cdef Durable* durable = find_durable(shard, pair.head.session)
    cdef Found* found
    if durable == NULL or not 1 <= pair.head.flags & 3 <= 2:
        return False
    found = find_delivery(need_recovery(restoring, durable), record, pair)
    if found == NULL:
        return False
    found.size = delivery_size(record, pair)
    found.qos = pair.head.flags & 3
    if found.state != FLOW_QUEUED:
        found.qos = 1 if found.state == FLOW_PUBLISH_1 else 2
    found.retain = pair.head.flags & PAIR_RETAIN != 0
    found.grouped = pair.head.flags & PAIR_GROUP != 0
    found.tracking = record.message.tracking
    durable.grouped |= found.grouped
    return True


cdef inline int64_t record_expires_at_ns(ShardState* shard, const Record* record) noexcept nogil:
    if record.message.expiry_s == NEVER_EXPIRES:
        return 0
    return max(1, record.message.received_at_wall_ns - shard.wall_offset_ns
               + <int64_t>record.message.expiry_s * SECOND_NS)


cdef uint32_t take_message(ShardState* shard, Restoring* restoring, Chunk* chunk, const Record* record) noexcept nogil:
    # Returns how many deliveries it has, dead ones too.
    cdef const uint8_t* at = record.pairs
    cdef int64_t expires = record_expires_at_ns(shard, record)
    cdef PairRecord pair
    cdef uint32_t count = 0
    while next_pair(&at, record.end, &pair):
        count += 1
        chunk.live += take_pair(shard, restoring, record, &pair)
    chunk.pairs += count
    chunk.last = record.head.number
    if expires and (chunk.expires_at_ns == 0 or expires < chunk.expires_at_ns):
        chunk.expires_at_ns = expires
    return count


cdef bint read_chunk(
        ShardState* shard, Restoring* restoring, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil:
    # False: it is not what it should be from some point on; what stands before that counts.
    cdef Journal* journal = &shard.journal
    cdef const uint8_t* end = at + n
    cdef uint64_t last = restoring.last_message
    cdef uint32_t expected, messages = 0
    cdef Record record
    cdef Chunk* chunk
    if n < CHECKSUM_BYTES or key <= last or key > NUMBER_MAXIMUM:
        return False
    memcpy(&expected, at + 4, 4)
    at += CHECKSUM_BYTES
    chunk = add_chunk(shard, key, key)
    chunk.bytes = n
    while next_record(&at, end, &record):
        if record.head.number <= last or record.head.number < key:
            break
        last = record.head.number
        messages += 1
        if take_message(shard, restoring, chunk, &record) != record.head.pair_count:
            break
    restoring.last_message = chunk.last
    journal.pairs_live += chunk.live
    journal.chunk_bytes += n
    return messages == expected and at == end


cdef bint is_whole(bytes value) except -1:
    # As journal.checksum left it.
    cdef const uint8_t* at = value
    cdef uint32_t crc
    if len(value) < CHECKSUM_BYTES:
        return False
    memcpy(&crc, at, 4)
    return crc == zlib.crc32(memoryview(value)[4:])


cdef bint restore_chunk(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1:
    if len(key) != 8 or not is_whole(value):
        return False
    return read_chunk(shard, restoring, get_key(key), value, <uint32_t>len(value))


# ---------------------------------------------------------------- what happened to them

cdef void end_found(ShardState* shard, Found* found) noexcept nogil:
    cdef Chunk* chunk
    if found.size:
        chunk = find_chunk(&shard.journal, found.number)
        chunk.live -= 1
        shard.journal.pairs_live -= 1
    found.state = FOUND_DONE


cdef void found_sent(Recovery* recovery, Found* found, const Op* op) noexcept nogil:
    cdef Session* session = recovery.durable.session
    recovery.sent += 1
    if op.number >= recovery.last_sent:
        recovery.last_sent = op.number
        session.next_packet_id = op.packet_id
    if found == NULL or op.packet_id == 0:
        return
    found.packet_id = op.packet_id
    found.state = FLOW_PUBLISH_1 if found.qos == 1 else FLOW_PUBLISH_2
    found.order = max(found.order >> 32, recovery.last_order >> 32) << 32 | recovery.sent
    recovery.last_order = found.order


cdef void apply_op(ShardState* shard, Recovery* recovery, const Op* op) noexcept nogil:
    cdef Session* session = recovery.durable.session
    cdef Found* found = NULL
    if op.number:
        found = find_found(recovery, op.number, op.packet_id if op.kind != OP_SENT else 0)
    recovery.durable.high = max(recovery.durable.high, op.number)
    if op.kind == OP_SENT:
        found_sent(recovery, found, op)
    elif op.kind == OP_DONE or op.kind == OP_RECEIVED:
        if found != NULL:
            end_found(shard, found)
        if op.kind == OP_RECEIVED:
            put_pubrel(session, op.packet_id)
    elif op.kind == OP_FREED:
        free_pubrel(session, op.packet_id)
    elif op.kind == OP_TAKEN:
        take_identifier(session, op.packet_id)
    elif op.kind == OP_RELEASED:
        qos2_remove(session, op.packet_id)


cdef void read_ops(
        ShardState* shard, Restoring* restoring, uint64_t ticket, const uint8_t* at, uint32_t count) noexcept nogil:
    cdef Durable* durable
    cdef Recovery* recovery
    cdef uint32_t i
    cdef Op op
    for i in range(count):
        memcpy(&op, at + i * sizeof(Op), sizeof(Op))
        durable = find_durable(shard, op.session)
        if durable == NULL:
            continue
        recovery = need_recovery(restoring, durable)
        if ticket > recovery.as_of:
            apply_op(shard, recovery, &op)
            mark_flow(shard, durable)


cdef bint restore_ops(ShardState* shard, Restoring* restoring, bytes key, bytes value) except -1:
    cdef const uint8_t* at = value
    cdef uint32_t count
    cdef uint64_t ticket
    if len(key) != 8:
        return False
    ticket = get_key(key)
    if ticket > NUMBER_MAXIMUM:
        return False
    shard.journal.open_ticket = max(shard.journal.open_ticket, ticket + 1)
    add_ops_record(&shard.journal, ticket, <uint32_t>len(value))
    if not is_whole(value):
        return False
    memcpy(&count, at + 4, 4)
    if len(value) != CHECKSUM_BYTES + <uint64_t>count * sizeof(Op):
        return False
    read_ops(shard, restoring, ticket, at + CHECKSUM_BYTES, count)
    return True


# ---------------------------------------------------------------- rows

cdef bint restore_row(
        ShardState* shard, Restoring* restoring, int table, bytes key, bytes value, known) except -1:
    cdef const uint8_t* k = key
    cdef const uint8_t* v = value
    cdef uint32_t key_bytes = <uint32_t>len(key), n = <uint32_t>len(value)
    if table == TABLE_META:
        return read_meta(shard, k, key_bytes, v, n)
    if table == TABLE_SESSIONS:
        return restore_session(shard, restoring, k, key_bytes, v, n, known)
    if table == TABLE_SUBSCRIPTIONS:
        return restore_subscription(shard, k, key_bytes, v, n)
    if table == TABLE_FLOWS:
        return restore_flow(shard, restoring, key, value)
    if table == TABLE_MESSAGES:
        return restore_chunk(shard, restoring, key, value)
    return restore_ops(shard, restoring, key, value)


cdef uint64_t restore_rows(ShardState* shard, Restoring* restoring, int table, rows, known) except? 0xFFFFFFFF:
    cdef uint64_t wrong = 0
    for key, value in rows:
        if not restore_row(shard, restoring, table, key, value, known):
            wrong += 1
    return wrong


# ---------------------------------------------------------------- the end

cdef void place(ShardState* shard, Recovery* recovery, Found* found) noexcept nogil:
    # One delivery, in the order of sending.
    cdef Session* session = recovery.durable.session
    cdef InflightBody* body = NULL
    if found.state == FLOW_PUBLISH_1 or found.state == FLOW_PUBLISH_2:
        body = put_inflight(
            session, found.packet_id, INFLIGHT_PUBLISH_1 if found.state == FLOW_PUBLISH_1 else INFLIGHT_PUBLISH_2)
    if body != NULL:
        pass_over(shard, session, found.number)    # it may have been sent before what is queued here was offered
        keep_unread(shard, session, body, found.number, found.size, found.retain, found.grouped, found.tracking)
    else:
        park(
            shard, session, found.number, found.size, found.qos, found.retain, found.grouped, found.tracking != 0)
    if found.tracking:
        note(shard, session.principal, found.tracking, found.number, TRACKED_TAKEN, 0)


cdef uint64_t last_gap(Recovery* recovery) noexcept nogil:
    # The highest number that the session has a delivery of which does not wait in its place.
    cdef uint64_t last = recovery.high, before = 0
    cdef uint32_t i
    cdef Found* found
    for i in range(recovery.count):
        found = &recovery.found[i]
        if found.state != FLOW_QUEUED or found.number <= before:
            last = max(last, max(found.number, before))
        before = max(before, found.number)
    return last


cdef void finish_session(ShardState* shard, Recovery* recovery) noexcept nogil:
    cdef Durable* durable = recovery.durable
    cdef uint32_t i, kept = 0
    cdef uint64_t gap = last_gap(recovery)
    cdef bint ordered = True
    for i in range(recovery.count):
        if recovery.found[i].size == 0 or recovery.found[i].state == FOUND_DONE:
            continue        # it is done, whatever an older record says
        ordered = ordered and (kept == 0 or recovery.found[kept - 1].order < recovery.found[i].order)
        recovery.found[kept] = recovery.found[i]
        kept += 1
    if not ordered:
        qsort(recovery.found, kept, sizeof(Found), by_order)
    durable.high = max(durable.high, recovery.high)
    for i in range(kept):
        place(shard, recovery, &recovery.found[i])
    durable.whole_from = gap + 1
    if durable.crowded:
        make_run(shard, durable, shard.journal.next_message)
    trim_extra(durable.session)


cdef void delete_dead_chunks(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint32_t i
    for i in range(journal.chunk_count):
        if journal.chunks[i].live == 0:
            delete_numbered(shard, TABLE_MESSAGES, journal.chunks[i].first)
            journal.chunk_bytes -= journal.chunks[i].bytes
            journal.chunks_gone += 1


cdef void skip_identifiers(ShardState* shard) noexcept nogil:
    # What was sent at level `relaxed` in the last second may be on no disk: its receiver may still hold identifiers of
    # it, so others are given first, in each life different ones: by the clock, since a life may leave nothing on disk.
    cdef uint64_t start = <uint64_t>(shard.now_ns + shard.wall_offset_ns) + shard.journal.open_ticket
    cdef uint16_t skipped = <uint16_t>(8192 + (start * <uint64_t>0x9E3779B97F4A7C15 >> 49))
    cdef Durable* durable
    cdef uint32_t i
    for i in range(shard.journal.durable_mask + 1):
        durable = shard.journal.durables[i]
        while durable != NULL:
            durable.session.next_packet_id = <uint16_t>(durable.session.next_packet_id + skipped)
            durable = durable.next


cdef void record_departures(ShardState* shard) noexcept nogil:
    # Who was connected is away from now on, whatever happens to this process.
    cdef Durable* durable
    cdef uint32_t i
    for i in range(shard.journal.durable_mask + 1):
        durable = shard.journal.durables[i]
        while durable != NULL:
            if durable.connected:
                record_loss(shard, durable.session)
            durable = durable.next


cdef void finish_numbers(ShardState* shard, Restoring* restoring) noexcept nogil:
    cdef Journal* journal = &shard.journal
    journal.next_message = max(journal.next_message, restoring.last_message + 1)
    journal.reserved_message = journal.next_message     # the next batch reserves more
    journal.reserved_session = journal.next_session
    journal.sealed_through = journal.next_message - 1
    journal.settled_ticket = journal.open_ticket - 1


cdef void restore_finish(ShardState* shard, Restoring* restoring) noexcept nogil:
    cdef Recovery* recovery = restoring.recoveries
    finish_numbers(shard, restoring)
    while recovery != NULL:
        finish_session(shard, recovery)
        recovery = recovery.next
    delete_dead_chunks(shard)
    skip_identifiers(shard)
    record_departures(shard)


cdef void restoring_close(ShardState* shard, Restoring* restoring) noexcept nogil:
    cdef Recovery* recovery
    cdef Session* session
    cdef size_t given_bytes = 0
    while restoring.ended != NULL:
        session = restoring.ended
        restoring.ended = session.hash_next
        session.hash_next = shard.ending_head
        shard.ending_head = session
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
