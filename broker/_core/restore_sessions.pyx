"""Sessions and subscriptions come back from disk. See restore_sessions.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from broker._core.durable_table cimport add_durable, find_durable
from broker._core.grants cimport (
    find_principal,
    hold_policy,
    hold_principal,
    need_account,
    policy_allows_subscribe,
    release_principal,
)
from broker._core.keyed_records cimport delete_record
from broker._core.memory cimport take_zeroed
from broker._core.model cimport Account, Durable, Principal, Session, SessionExtra, ShardState, Subscription
from broker._core.records cimport (
    IDENTIFIER_MAXIMUM,
    NUMBER_MAXIMUM,
    RECORD_VERSION,
    SESSION_CONNECTED,
    SESSION_ENDED,
    SESSION_WITH_CONNECTION,
    TABLE_SESSIONS,
    TABLE_SUBSCRIPTIONS,
    SessionHead,
    SubscriptionHead,
    get_key,
    put_subscription_key,
)
from broker._core.recovery cimport Restoring
from broker._core.replay cimport restart_run
from broker._core.session cimport find_session, need_extra, new_session, unlink_session
from broker._core.timers cimport timer_cancel, timer_set
from broker._core.topic_rules cimport inner_filter_at, valid_topic_filter
from broker._core.topics cimport add_subscription, find_subscription


cdef enum:
    SECOND_NS = 1000000000
    NEVER = 0xFFFFFFFF
    OWN_PRINCIPALS = 0x80000000     # from here on numbers are not the directory's: see broker.ports


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
