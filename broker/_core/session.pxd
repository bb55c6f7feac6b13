# A session: what survives between a client and the broker apart from any network connection.
#
# Here belong the table of sessions, queue, outbound inflight, inbound QoS 2 identifiers and quota as data. Not here:
# bytes (deliver), connections (connection), when a session begins and ends (lifetime), who may have one (grants).

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.message cimport Outgoing
from broker._core.model cimport (
    INFLIGHT_STATE,
    Account,
    Durable,
    InflightBody,
    Message,
    Parked,
    ParkedRing,
    Principal,
    Queued,
    QueueRun,
    Session,
    SessionExtra,
    SharedGroup,
    ShardState,
    Subscription,
)
from broker._core.parked_ring cimport first_ring, ring_at

cdef void sessions_open(ShardState* shard) noexcept nogil
cdef void sessions_close(ShardState* shard) noexcept nogil

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
# Removes up to `left` subscriptions of an unlinked session; True when none is left.
cdef bint drop_subscriptions(ShardState* shard, Session* session, uint32_t* left) noexcept nogil
cdef void free_session(ShardState* shard, Session* session) noexcept nogil
# Removes a subscription, from disk as well.
cdef void end_subscription(ShardState* shard, Session* session, Subscription* subscription) noexcept nogil
# Deletes everything that is on disk of a session.
cdef void erase_session(ShardState* shard, Durable* durable) noexcept nogil
# Its connection has gone: it stands on the list of those about which lifetime decides.
cdef void part_session(ShardState* shard, Session* session) noexcept nogil

cdef SessionExtra* need_extra(Session* session) noexcept nogil
# Forgets the extra when nothing in it is in use.
cdef void trim_extra(Session* session) noexcept nogil
cdef void drop_will(ShardState* shard, Session* session) noexcept nogil
# Deletes what is on disk of a will, and of the session if it was there for its will alone.
cdef void erase_will(ShardState* shard, Session* session) noexcept nogil

cdef void count_drop(ShardState* shard, Session* session, int reason) noexcept nogil
# Of a delivery that no session was chosen for.
cdef void count_account_drop(ShardState* shard, Account* account, int reason) noexcept nogil

# What happens to a message of this account for a session that has no room.
cdef inline uint8_t queue_full_policy(ShardState* shard, Account* account) noexcept nogil:
    return account.limits.queue_full_policy - 1 if account.limits.queue_full_policy else shard.limits.queue_full_policy
# The DropReason for which the queue does not take so many bytes more, -1: it takes them.
cdef int why_no_room(ShardState* shard, Session* session, uint64_t size) noexcept nogil
# The queue: -1 when it took the message, else the DropReason. `identifiers` are copied.
cdef int enqueue(
    ShardState* shard, Session* session, Outgoing* out, SharedGroup* group, uint8_t qos, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
# The front of what is in memory, NULL: nothing is.
cdef Queued* queue_front(Session* session) noexcept nogil
# The front is not delivered any more, or it was sent: what is on disk of it ends, or goes on as inflight.
cdef void queue_drop_front(ShardState* shard, Session* session) noexcept nogil
cdef void queue_sent_front(ShardState* shard, Session* session) noexcept nogil
# The front goes to the end: for who looks at all of it.
cdef void queue_rotate(Session* session) noexcept nogil
cdef inline uint32_t queued_count(Session* session) noexcept nogil:
    return (0 if session.queue == NULL else session.queue.count) + \
        (0 if session.durable == NULL else session.durable.parked_count)
# A delivery that was recorded is not taken: what is queued stands behind it from now on.
cdef void pass_over(ShardState* shard, Session* session, uint64_t number) noexcept nogil
# What is on disk alone, and there must be something: the front of it, NULL: it has to be looked up (runs); and its end.
cdef inline Parked* parked_front(Session* session) noexcept nogil:
    cdef ParkedRing* ring = first_ring(session.durable)
    return ring_at(ring, 0) if ring != NULL else NULL
# Asks for the chunk in which the first of the runs that a queue begins with begins. False: there is none any more, and
# what the run had is lost.
cdef bint look_up(ShardState* shard, Session* session) noexcept nogil
cdef void drop_parked_front(ShardState* shard, Session* session) noexcept nogil
# Whether a number waits there, of those that are recorded for the session. And taken out, together with its delivery's
# record, which is not to be found any more when this batch is on disk; `size` and `tracked` as in that. False: it does
# not wait.
cdef bint is_parked(Session* session, uint64_t number) noexcept nogil
cdef bint drop_parked(
    ShardState* shard, Session* session, uint64_t number, uint32_t size, bint tracked) noexcept nogil
# What is left of a run is dropped, and nobody knows which messages that is.
cdef void forget_run(ShardState* shard, Session* session, QueueRun* run, int reason) noexcept nogil
# Puts a delivery with a number behind everything that is queued, without its message.
cdef void park(
    ShardState* shard, Session* session, uint64_t number, uint32_t size, uint8_t qos, uint8_t retain,
    bint grouped, bint tracked) noexcept nogil
# The client has gone: what it has queued and in flight is on disk alone, as before it came.
cdef void park_all(ShardState* shard, Session* session) noexcept nogil
# The front of what is parked comes into memory, with its message, behind what is there.
cdef void unpark_front(
    ShardState* shard, Session* session, Message* message, SharedGroup* group, const uint32_t* identifiers,
    uint32_t count) noexcept nogil

# A packet identifier is taken together with one unit of quota, and both are given back together (law 7). `state` is
# one of InflightState.
cdef uint16_t take_packet_id(Session* session, uint32_t state) noexcept nogil
# False for an identifier that is not inflight. It was acknowledged, or dropped for a reason that has just been counted.
cdef bint release_packet_id(ShardState* shard, Session* session, uint16_t packet_id, bint dropped) noexcept nogil
# The InflightState of an identifier without its flags, 0: not inflight.
cdef inline uint32_t inflight_state(Session* session, uint16_t packet_id) noexcept nogil:
    cdef uint32_t entry
    if session.inflight == NULL or packet_id == 0:
        return 0
    entry = session.inflight[packet_id & session.inflight_mask]
    return entry & INFLIGHT_STATE if (entry & 0xFFFF) == packet_id else 0
# Why a delivery may not be kept until it is acknowledged: a DropReason, or -1: it may.
cdef int why_not_kept(ShardState* shard, Session* session, Message* message, uint32_t identifiers) noexcept nogil
# The same for so many bytes.
cdef int why_not_inflight(ShardState* shard, Session* session, uint64_t size) noexcept nogil
# Counts bytes against the budgets of device, account and process, or takes them back (-1).
cdef void count_kept(ShardState* shard, Session* session, uint64_t size, int sign) noexcept nogil
# Keeps what is needed to send an inflight delivery again. `identifiers` are copied, the message is held.
cdef void keep_body(
    ShardState* shard, Session* session, uint16_t packet_id, Message* message, SharedGroup* group, uint8_t retain,
    const uint32_t* identifiers, uint32_t count) noexcept nogil
cdef InflightBody* body_of(Session* session, uint16_t packet_id) noexcept nogil
# An identifier is inflight again, as it was before a restart, behind those that already are; NULL: it is already.
cdef InflightBody* put_inflight(Session* session, uint16_t packet_id, uint32_t state) noexcept nogil
# Its message is on disk; and then in memory again. `identifiers` are copied, the message is held.
cdef void keep_unread(
    ShardState* shard, Session* session, InflightBody* body, uint64_t number, uint32_t size, uint8_t retain,
    bint grouped, uint32_t tracking) noexcept nogil
cdef void fill_body(
    InflightBody* body, Message* message, SharedGroup* group, const uint32_t* identifiers, uint32_t count
) noexcept nogil
# PUBREC came: from now on a PUBREL is what is inflight, and the message is let go.
cdef void enter_pubrel(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil
# All that is inflight has to be sent again, oldest first. [MQTT-4.4.0-1] [MQTT-4.6.0-1]
cdef void list_again(Session* session) noexcept nogil
# This one is about to be sent again, or was acknowledged before that: it holds a unit of quota from now on.
cdef void mark_sent(Session* session, uint16_t packet_id) noexcept nogil

# Inbound QoS 2: identifiers that were taken and whose PUBREL has not come.
cdef bint qos2_known(Session* session, uint16_t packet_id) noexcept nogil
cdef void qos2_add(Session* session, uint16_t packet_id) noexcept nogil
cdef bint qos2_remove(Session* session, uint16_t packet_id) noexcept nogil
# All of them: qos2_count.
cdef void take_qos2_ids(Session* session, uint16_t* ids) noexcept nogil
cdef inline uint32_t qos2_count(Session* session) noexcept nogil:
    return 0 if session.extra == NULL else session.extra.qos2_count
