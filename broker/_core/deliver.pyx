"""Routing and delivery. See deliver.pxd.

Nothing here closes a connection or ends a session: the list of receivers stays valid while it is walked.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.aliases cimport AliasUse, find_alias, remember_alias
from broker._core.budgets cimport count_account_drop, count_drop, count_kept
from broker._core.connection cimport has_room, outbox_reserve, why_no_outbox
from broker._core.framing cimport PUBREL
from broker._core.inflight cimport body_of, inflight_state, keep_body, mark_sent, release_packet_id, take_packet_id
from broker._core.journal cimport add_op, add_pair, begin_routing, end_pair, end_routing, newest_ticket
from broker._core.limiter cimport count_out
from broker._core.memory cimport give_memory, likely_, resize_memory, take_memory, take_zeroed, unlikely_
from broker._core.message cimport (
    NEVER_EXPIRES,
    Outgoing,
    encode_identified,
    expiry_left_s,
    identified_bytes,
    keep_message,
    need_layout,
    outgoing_afresh,
    outgoing_close,
    outgoing_from_message,
    release_message,
)
from broker._core.model cimport (
    CONNECTED,
    DROP_CLIENT_AWAY,
    DROP_MESSAGE_EXPIRED,
    DROP_NO_MEMBER,
    DROP_NOT_AUTHORIZED,
    DROP_PACKET_TOO_LARGE,
    DROP_SESSION_ENDED,
    INFLIGHT_HELD,
    INFLIGHT_PUBLISH_1,
    INFLIGHT_PUBLISH_2,
    INFLIGHT_PUBREL,
    LEVEL_SYNCED,
    PROMISE_PUBLISH,
    WAITING_AGAIN,
    WAITING_FIRST,
    WAITING_PARKED,
    WORK_BYTES,
    WORK_RECEIVERS,
    WORK_STEPS,
    Account,
    Connection,
    FanOut,
    InflightBody,
    Message,
    Promise,
    Queued,
    Receiver,
    Session,
    SessionExtra,
    SharedGroup,
    ShardState,
    Subscription,
)
from broker._core.packets cimport encode_ack
from broker._core.parked cimport bring_body, bring_front, still_allowed
from broker._core.progress cimport pass_over
from broker._core.promises cimport hold, hold_once, leaves_now
from broker._core.queue cimport queue_drop_front, queue_front, queue_sent_front
from broker._core.queue_intake cimport enqueue, why_no_room, why_not_inflight, why_not_kept
from broker._core.records cimport OP_DONE, OP_SENT
from broker._core.session cimport trim_extra
from broker._core.shared cimport choose_member, has_taker
from broker._core.topic_rules cimport hash_bytes
from broker._core.topics cimport match_topic, release_subscription
from broker._core.tracking cimport TRACKED_REFUSED, TRACKED_SENT, TRACKED_SENT_ONCE, TRACKED_TAKEN, note


cdef extern from *:
    """
    /* what is inline in this module is meant to be: the compiler's limit lies just below one delivery's way */
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    """


cdef enum:
    FIRST_IDENTIFIERS = 16
    WIDE_FAN_OUT = 1024     # receivers that no cache holds: each may cost ten times what it costs in a small fan-out
    WIDE_FIRST_SLICE = 256
    DUP = 8


cdef AliasUse NO_ALIAS


cdef inline uint8_t first_byte_of(uint8_t qos, uint8_t retain) noexcept nogil:
    return <uint8_t>(0x30 | qos << 1 | retain)


cdef inline bint is_kept(Session* session, SharedGroup* group) noexcept nogil:
    # What may have to be sent again is kept with its identifier: a session that ends with its connection keeps nothing.
    return session.session_expiry_interval_s != 0 or group != NULL or session.durable != NULL


cdef inline uint16_t next_packet_id(
        ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    cdef uint16_t packet_id = take_packet_id(session, INFLIGHT_PUBLISH_1 if qos == 1 else INFLIGHT_PUBLISH_2)
    if qos == 2:
        group = NULL    # bound to this session from now on [MQTT-4.8.2-4] [MQTT-4.8.2-5]
    if unlikely_(session.durable != NULL):
        if out.known:
            add_op(shard, OP_SENT, session.durable.number, out.message.number, packet_id)
        else:
            add_pair(shard, out, session.durable, packet_id, qos, retain, identifiers, count, group)
            session.durable.grouped |= group != NULL
    if unlikely_(is_kept(session, group) or out.tracking != 0):
        keep_body(shard, session, packet_id, keep_message(shard, out), group, retain, identifiers, count)
    return packet_id


cdef uint32_t choose_alias(
        ShardState* shard, Outgoing* out, Connection* connection, bint with_packet_id, const uint32_t* identifiers,
        uint32_t count, AliasUse* alias) noexcept nogil:
    # Returns the size of the packet with the alias that it will have, if any. [MQTT-3.1.2-27]
    cdef uint32_t total
    alias.number = 0
    alias.known = False
    if connection.client_topic_alias_maximum:
        if out.topic_hash == 0:
            out.topic_hash = hash_bytes(out.topic.at, out.topic.n, shard.hash_seed) | 1
        alias[0] = find_alias(connection, &out.topic, out.topic_hash)
    total = identified_bytes(out, with_packet_id, identifiers, count, alias[0])
    if unlikely_(total > connection.client_maximum_packet_size_bytes and alias.number and not alias.known):
        alias.number = 0        # what is too large with a new alias may fit without
        total = identified_bytes(out, with_packet_id, identifiers, count, alias[0])
    return total


cdef void write_identified(
        ShardState* shard, Outgoing* out, Connection* connection, uint32_t total, uint8_t first_byte,
        uint16_t packet_id, const uint32_t* identifiers, uint32_t count, AliasUse alias) noexcept nogil:
    encode_identified(
        outbox_reserve(shard, connection, total), out, first_byte, packet_id, identifiers, count, alias,
        expiry_left_s(out, shard.now_ns))
    if alias.number and not alias.known:
        remember_alias(connection, &out.topic, out.topic_hash, alias)


cdef inline void count_sent(ShardState* shard, Outgoing* out, Session* session, uint32_t total) noexcept nogil:
    # Topics with `$` are the broker's own: its figures are nobody's usage.
    if likely_(out.topic.at[0] != c"$"):
        count_out(shard, session, total)


cdef bint send_identified(
        ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    # The bytes differ from other receivers': subscription identifiers, an alias, or an expiry that has gone on.
    cdef Connection* connection = session.connection
    cdef AliasUse alias
    cdef uint32_t total = choose_alias(shard, out, connection, qos > 0, identifiers, count, &alias)
    cdef uint16_t packet_id = 0
    if total > connection.client_maximum_packet_size_bytes:
        count_drop(shard, session, DROP_PACKET_TOO_LARGE)
        return False
    if qos:
        packet_id = next_packet_id(shard, out, session, group, qos, retain, identifiers, count)
    elif not has_room(shard, connection, total):
        count_drop(shard, session, why_no_outbox(shard, connection, total))
        return False
    shard.slice_budget -= total // WORK_BYTES
    count_sent(shard, out, session, total)
    write_identified(
        shard, out, connection, total, first_byte_of(qos, retain), packet_id, identifiers, count, alias)
    shard.counters.messages_sent += 1
    return True


cdef void hold_publish(ShardState* shard, Session* session, uint64_t ticket, uint16_t packet_id) noexcept nogil:
    # It leaves when its identifier is on disk: after a crash the same message has the same one. [MQTT-4.3.3-1]
    cdef Promise* promise = hold(shard, session.connection, ticket, PROMISE_PUBLISH)
    promise.packet_id = packet_id


cdef bint send_later(
        ShardState* shard, Outgoing* out, Session* session, uint8_t retain, const uint32_t* identifiers,
        uint32_t count) noexcept nogil:
    cdef Connection* connection = session.connection
    cdef uint32_t total = identified_bytes(out, True, identifiers, count, NO_ALIAS)
    cdef uint16_t packet_id
    if total > connection.client_maximum_packet_size_bytes:
        count_drop(shard, session, DROP_PACKET_TOO_LARGE)
        return False
    packet_id = next_packet_id(shard, out, session, NULL, 2, retain, identifiers, count)
    session.inflight[packet_id & session.inflight_mask] |= INFLIGHT_HELD
    shard.slice_budget -= total // WORK_BYTES
    count_sent(shard, out, session, total)
    hold_publish(shard, session, shard.journal.open_ticket, packet_id)      # of what was recorded just now
    return True


cdef inline bint send_here(
        ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    # The caller has made sure that there is a connection, and quota for QoS above 0.
    cdef Connection* connection = session.connection
    cdef int layout = (2 if connection.version == 5 else 0) + (1 if qos else 0)
    cdef uint32_t total
    cdef uint16_t packet_id
    cdef uint8_t* at
    if unlikely_(qos == 2 and session.durable != NULL and connection.durability == LEVEL_SYNCED):
        return send_later(shard, out, session, retain, identifiers, count)
    if layout >= 2 and (count or connection.client_topic_alias_maximum or (
            out.message_expiry_s != NEVER_EXPIRES and out.received_at_ns != shard.now_ns)):
        return send_identified(shard, out, session, group, qos, retain, identifiers, count)
    if unlikely_(out.layout_at[layout] == NULL):
        need_layout(shard, out, layout)
    total = out.layout_bytes[layout]
    if unlikely_(total > connection.client_maximum_packet_size_bytes):  # [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        count_drop(shard, session, DROP_PACKET_TOO_LARGE)
        return False
    if qos == 0 and unlikely_(not has_room(shard, connection, total)):
        count_drop(shard, session, why_no_outbox(shard, connection, total))
        return False
    at = outbox_reserve(shard, connection, total)
    memcpy(at, out.layout_at[layout], total)
    shard.slice_budget -= total // WORK_BYTES
    count_sent(shard, out, session, total)
    at[0] = first_byte_of(qos, retain)  # DUP is 0 on a first delivery [MQTT-3.3.1-1]
    if qos:
        packet_id = next_packet_id(shard, out, session, group, qos, retain, identifiers, count)
        at += out.packet_id_offset[layout]
        at[0] = <uint8_t>(packet_id >> 8)
        at[1] = <uint8_t>(packet_id & 255)
    shard.counters.messages_sent += 1
    return True


cdef bint send(
        ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    return send_here(shard, out, session, group, qos, retain, identifiers, count)


cdef void send_unasked(
        ShardState* shard, Outgoing* out, Session* session, uint8_t qos, const uint32_t* identifiers, uint32_t count
) noexcept nogil:
    taken(shard, out, session, qos, send_here(shard, out, session, NULL, qos, 1, identifiers, count), True)


cdef inline bint may_send_now(ShardState* shard, Session* session, uint32_t n) noexcept nogil:
    return session.waiting & WAITING_FIRST == 0 and session.send_quota > 0 and has_room(shard, session.connection, n)


cdef inline bint may_keep(
        ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint32_t count) noexcept nogil:
    return likely_(not is_kept(session, group) and out.tracking == 0) or \
        why_not_kept(shard, session, keep_message(shard, out), count) < 0


cdef bint put_by(
        ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    # What cannot be sent now: queued, or dropped for a reason.
    cdef int reason
    if session.connection == NULL and (session.ending or session.session_expiry_interval_s == 0):
        reason = DROP_SESSION_ENDED
    elif session.connection == NULL and qos == 0:
        reason = DROP_CLIENT_AWAY
    else:
        reason = enqueue(shard, session, out, group, qos, retain, identifiers, count)
    if reason >= 0:
        count_drop(shard, session, reason)
    return reason < 0


cdef inline bint is_held(Session* session, uint16_t packet_id) noexcept nogil:
    # Its bytes have never left.
    return inflight_state(session, packet_id) == INFLIGHT_PUBLISH_2 and \
        session.inflight[packet_id & session.inflight_mask] & INFLIGHT_HELD != 0


cdef void note_offer(
        ShardState* shard, Outgoing* out, Session* session, uint8_t qos, bint is_taken, bint sent) noexcept nogil:
    # Why it was not taken has just been counted.
    cdef uint64_t number = out.message.number if out.message != NULL else 0
    if not is_taken:
        note(shard, session.principal, out.tracking, number, TRACKED_REFUSED, shard.tracking.drop_reason)
    elif qos == 0:
        note(shard, session.principal, out.tracking, number, TRACKED_SENT_ONCE, 0)
    else:
        note(shard, session.principal, out.tracking, number, TRACKED_TAKEN, 0)
        if sent and not is_held(session, session.next_packet_id):
            note(shard, session.principal, out.tracking, number, TRACKED_SENT, 0)


cdef inline bint taken(
        ShardState* shard, Outgoing* out, Session* session, uint8_t qos, bint is_taken, bint sent) noexcept nogil:
    # What was recorded before it was offered, and is not taken, is not needed any more.
    if unlikely_(out.tracking != 0):
        note_offer(shard, out, session, qos, is_taken, sent)
    if unlikely_(out.known and not is_taken):
        end_pair(shard, session.durable.number, out.message.number, out.message, OP_DONE, 0, session.ending != 0)
        pass_over(shard, session, out.message.number)
    return is_taken


cdef inline bint offer_here(
        ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    if qos > out.qos:
        qos = out.qos  # [MQTT-3.8.4-8]
    if likely_(session.connection != NULL and (qos == 0 or (
            may_send_now(shard, session, out.payload.n) and may_keep(shard, out, session, group, count)))):
        return taken(
            shard, out, session, qos, send_here(shard, out, session, group, qos, retain, identifiers, count), True)
    return taken(
        shard, out, session, qos, put_by(shard, out, session, group, qos, retain, identifiers, count), False)


cdef bint offer(
        ShardState* shard, Outgoing* out, Session* session, SharedGroup* group, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count) noexcept nogil:
    return offer_here(shard, out, session, group, qos, retain, identifiers, count)


cdef uint32_t gather_identifiers(ShardState* shard, Receiver* receivers, uint32_t first) noexcept nogil:
    # Subscription identifiers of everything that was merged into this delivery, into the scratch; returns how many.
    # [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    cdef uint32_t count = 0
    cdef int32_t at = <int32_t>first
    while at >= 0:
        if receivers[at].subscription.identifier and not receivers[at].subscription.dead:
            if count == shard.identifier_capacity:
                shard.identifier_capacity = count * 2 if count else FIRST_IDENTIFIERS
                shard.identifiers = <uint32_t*>resize_memory(
                    shard.identifiers, shard.identifier_capacity * sizeof(uint32_t))
            shard.identifiers[count] = receivers[at].subscription.identifier
            count += 1
        at = receivers[at].also
    return count


cdef bint deliver_to_group(ShardState* shard, Outgoing* out, SharedGroup* group) noexcept nogil:
    # The member is chosen now, and not when the topic was matched: who left meanwhile gets nothing.
    cdef Account* account = group.members[0].session.principal.account
    cdef Subscription* member
    if unlikely_(expiry_left_s(out, shard.now_ns) == 0):  # [MQTT-3.3.2-5]
        count_account_drop(shard, account, DROP_MESSAGE_EXPIRED)
        return False
    member = choose_member(shard, group, out)
    if member == NULL:
        count_account_drop(shard, account, DROP_NO_MEMBER)
        return False
    if unlikely_(out.handed_over and member.qos == 0 and member.session.connection.durability == LEVEL_SYNCED):
        deliver_once(shard, out, member)
        return True
    if unlikely_(needs_record_of_its_own(out, member.session)):
        return deliver_apart(shard, out, group, member)
    return offer_member(shard, out, group, member)


cdef void deliver_once(ShardState* shard, Outgoing* out, Subscription* member) noexcept nogil:
    # At most once: a crash before the end of the other session's delivery is on disk would have it handed over again.
    cdef Promise* promise = hold_once(
        shard, member.session.connection, shard.journal.open_ticket, keep_message(shard, out))
    promise.retain = out.retain & member.retain_as_published
    promise.identifier = member.identifier


cdef void publish_once(ShardState* shard, Session* session, Promise* promise) noexcept nogil:
    cdef Outgoing out
    outgoing_from_message(&out, promise.kept)
    if expiry_left_s(&out, shard.now_ns) == 0:  # [MQTT-3.3.2-5]
        count_drop(shard, session, DROP_MESSAGE_EXPIRED)
    elif not still_allowed(session, promise.kept):      # rights may have changed while it waited
        count_drop(shard, session, DROP_NOT_AUTHORIZED)
    else:
        send(
            shard, &out, session, NULL, 0, promise.retain, &promise.identifier, 1 if promise.identifier else 0)
    outgoing_close(shard, &out)


cdef inline bint offer_member(
        ShardState* shard, Outgoing* out, SharedGroup* group, Subscription* member) noexcept nogil:
    return offer(
        shard, out, member.session, group, member.qos, out.retain & member.retain_as_published, &member.identifier,
        1 if member.identifier else 0)


cdef inline bint needs_record_of_its_own(Outgoing* out, Session* session) noexcept nogil:
    # On disk a message has one delivery for a session at most; by its groups a client may get it several times.
    return session.durable != NULL and out.message != NULL and out.message.number != 0 and (
        out.closed or session.durable.recorded == out.message.number)


cdef bint deliver_apart(
        ShardState* shard, Outgoing* out, SharedGroup* group, Subscription* member) noexcept nogil:
    # With the deliveries before it the message's record is complete; this one and what follows it have their own.
    cdef uint32_t account_id = member.session.principal.account.account_id
    cdef Outgoing apart
    cdef bint is_taken
    out.ticket = max(out.ticket, end_routing(shard, account_id, out))
    out.closed = 1
    outgoing_afresh(&apart, out.message)
    begin_routing(shard)
    is_taken = offer_member(shard, &apart, group, member)
    out.ticket = max(out.ticket, end_routing(shard, account_id, &apart))
    outgoing_close(shard, &apart)
    begin_routing(shard)
    return is_taken


cdef bint deliver_one(ShardState* shard, Outgoing* out, Receiver* receivers, uint32_t at) noexcept nogil:
    cdef Receiver* receiver = &receivers[at]
    cdef Session* session = receiver.subscription.session
    cdef uint32_t count = 0
    if unlikely_(session == NULL):
        return deliver_to_group(shard, out, <SharedGroup*>receiver.subscription)
    if unlikely_(receiver.also >= 0 or receiver.subscription.identifier):
        count = gather_identifiers(shard, receivers, at)
    return offer_here(
        shard, out, session, NULL, receiver.qos, out.retain & receiver.retain_as_published, shard.identifiers, count)


# ---------------------------------------------------------------- is there room for it

cdef inline bint is_put_by(ShardState* shard, Session* session, Outgoing* out) noexcept nogil:
    # Whether a delivery of QoS above 0 would have to wait; what is dropped for another reason needs no room.
    if session.connection == NULL:
        return session.session_expiry_interval_s != 0 and not session.ending
    return not may_send_now(shard, session, out.payload.n)


cdef uint64_t room_needed(ShardState* shard, Outgoing* out, uint32_t at) noexcept nogil:
    # Bytes that the delivery to this receiver would be counted with, 0: none.
    cdef Receiver* receiver = &shard.receivers[at]
    cdef Session* session = receiver.subscription.session
    cdef uint64_t size = sizeof(Message) + <uint64_t>out.topic.n + out.properties.n + out.payload.n
    if receiver.merged or receiver.qos == 0 or session == NULL:
        return 0
    if not is_put_by(shard, session, out) and (session.connection == NULL or not is_kept(session, NULL)):
        return 0
    return size + gather_identifiers(shard, shard.receivers, at) * sizeof(uint32_t)


cdef inline bint has_no_room(ShardState* shard, Outgoing* out, uint32_t at, uint64_t size) noexcept nogil:
    cdef Session* session = shard.receivers[at].subscription.session
    if session == NULL:
        return not has_taker(shard, <SharedGroup*>shard.receivers[at].subscription, out)
    if size == 0:
        return False
    return (why_no_room(shard, session, size) if is_put_by(shard, session, out)
            else why_not_inflight(shard, session, size)) >= 0


cdef bint somebody_is_full(ShardState* shard, Account* account, Outgoing* out, Session* publisher) noexcept nogil:
    # Who was looked at is counted with what he would take until all have been: many share one budget.
    cdef uint32_t i, looked_at = 0
    cdef uint64_t size
    cdef bint full = False
    match_topic(shard, &account.space, out.topic.at, out.topic.n, publisher)
    while looked_at < shard.receiver_count and not full:
        size = room_needed(shard, out, looked_at)
        full = has_no_room(shard, out, looked_at, size)
        if size and not full:
            count_kept(shard, shard.receivers[looked_at].subscription.session, size, 1)
        looked_at += not full
    for i in range(looked_at):
        size = room_needed(shard, out, i)
        if size:
            count_kept(shard, shard.receivers[i].subscription.session, size, -1)
    shard.slice_budget -= shard.receiver_count // WORK_RECEIVERS
    return full


# ---------------------------------------------------------------- routing

cdef void serve_groups(ShardState* shard, Outgoing* out, uint32_t at) noexcept nogil:
    # Whose turn it is in a shared group is not left to a later slice: it has to be on disk with the rest of the record,
    # and with the identifier of a publisher of QoS 2, who would not be routed again.
    cdef uint32_t i
    for i in range(at, shard.receiver_count):
        if shard.receivers[i].subscription.session == NULL and not shard.receivers[i].merged:
            deliver_to_group(shard, out, <SharedGroup*>shard.receivers[i].subscription)
            shard.receivers[i].merged = 1
            shard.slice_budget -= 1


cdef void record_rest(ShardState* shard, Outgoing* out, uint32_t at) noexcept nogil:
    # What is left of a routing is recorded before it is offered: a crash between two slices loses none of it.
    cdef Receiver* receiver
    cdef Session* session
    cdef uint32_t i, count
    for i in range(at, shard.receiver_count):
        receiver = &shard.receivers[i]
        session = receiver.subscription.session
        if receiver.merged or receiver.qos == 0 or session == NULL or session.durable == NULL:
            continue
        count = gather_identifiers(shard, shard.receivers, i)
        add_pair(
            shard, out, session.durable, 0, min(receiver.qos, out.qos),
            out.retain & receiver.retain_as_published, shard.identifiers, count, NULL)
        receiver.recorded = 1


cdef FanOut* keep_rest(ShardState* shard, Account* account, Outgoing* out, uint32_t at) noexcept nogil:
    # What is left becomes a fan-out of its own, which names every subscription it still has to look at.
    cdef FanOut* rest = <FanOut*>take_zeroed(sizeof(FanOut))
    cdef uint32_t i
    if out.qos:
        record_rest(shard, out, at)
        serve_groups(shard, out, at)
    rest.message = keep_message(shard, out)
    rest.message.refs += 1
    rest.count = shard.receiver_count - at
    rest.receivers = <Receiver*>take_memory(rest.count * sizeof(Receiver))
    memcpy(rest.receivers, shard.receivers + at, rest.count * sizeof(Receiver))
    for i in range(rest.count):
        rest.receivers[i].subscription.refs += 1
        if rest.receivers[i].also >= 0:
            rest.receivers[i].also -= <int32_t>at
    rest.account = account
    rest.previous = account.fan_out_tail
    if account.fan_out_tail != NULL:
        account.fan_out_tail.next = rest
    else:
        account.fan_outs = rest
    account.fan_out_tail = rest
    make_busy(shard, account)
    return rest


cdef void make_busy(ShardState* shard, Account* account) noexcept nogil:
    if account.busy:
        return
    account.busy = 1
    account.busy_next = NULL
    if shard.busy_tail != NULL:
        shard.busy_tail.busy_next = account
    else:
        shard.busy_head = account
    shard.busy_tail = account


cdef Account* next_busy(ShardState* shard) noexcept nogil:
    cdef Account* account = shard.busy_head
    if account != NULL:
        shard.busy_head = account.busy_next
        if shard.busy_head == NULL:
            shard.busy_tail = NULL
        account.busy = 0
    return account


cdef uint32_t route(
        ShardState* shard, Account* account, Outgoing* out, Session* publisher, FanOut** rest) noexcept nogil:
    cdef uint32_t taken
    if out.qos:         # of QoS 0 nobody keeps anything
        begin_routing(shard)
    taken = route_some(shard, account, out, publisher, rest)
    if out.qos:
        out.ticket = max(out.ticket, end_routing(shard, account.account_id, out))
    return taken


cdef inline uint32_t route_some(
        ShardState* shard, Account* account, Outgoing* out, Session* publisher, FanOut** rest) noexcept nogil:
    cdef uint32_t taken = 0, at = 0
    rest[0] = NULL
    cdef uint64_t steps = shard.match_steps
    match_topic(shard, &account.space, out.topic.at, out.topic.n, publisher)
    if unlikely_(account.orphans and shard.receiver_count):     # behind what came before it [MQTT-4.6.0-6]
        rest[0] = keep_rest(shard, account, out, 0)
        return 0
    if unlikely_(shard.receiver_count > WIDE_FAN_OUT and shard.slice_budget > WIDE_FIRST_SLICE):
        shard.slice_budget = WIDE_FIRST_SLICE
    while at < shard.receiver_count:
        if unlikely_(shard.slice_budget <= 0):
            rest[0] = keep_rest(shard, account, out, at)
            return taken
        if not shard.receivers[at].merged:
            shard.slice_budget -= 1
            taken += deliver_one(shard, out, shard.receivers, at)
        at += 1
    # What reaches nobody has cost something too.
    shard.slice_budget -= 1 + <int64_t>(shard.match_steps - steps) // WORK_STEPS
    shard.slice_budget -= shard.receiver_count // WORK_RECEIVERS
    return taken


cdef bint still_wanted(FanOut* fan_out, uint32_t at) noexcept nogil:
    # A subscription may have gone between slices; another of the same session may still want the message. What is
    # recorded for it stands: after a crash it would come as it is on disk, and perhaps once more. [MQTT-3.10.4-3]
    cdef Receiver* receiver = &fan_out.receivers[at]
    cdef Subscription* other
    cdef int32_t also = receiver.also
    cdef bint wanted = False
    if receiver.merged:
        return False
    if not receiver.subscription.dead and also < 0:
        return True
    if not receiver.recorded:
        receiver.qos = 0
        receiver.retain_as_published = 0
    also = <int32_t>at
    while also >= 0:
        other = fan_out.receivers[also].subscription
        if not other.dead:
            wanted = True
            if not receiver.recorded:
                receiver.qos = max(receiver.qos, other.qos)
                receiver.retain_as_published |= other.retain_as_published
        also = fan_out.receivers[also].also
    return wanted


cdef inline Subscription* living(FanOut* fan_out, uint32_t at) noexcept nogil:
    cdef int32_t i = <int32_t>at
    while fan_out.receivers[i].subscription.dead:
        i = fan_out.receivers[i].also
    return fan_out.receivers[i].subscription


cdef inline bint is_for_disk(FanOut* fan_out, uint32_t at) noexcept nogil:
    cdef Subscription* subscription = living(fan_out, at)
    return fan_out.message.qos > 0 and (subscription.session == NULL or subscription.session.durable != NULL)


cdef void deliver_rest(ShardState* shard, Outgoing* out, FanOut* fan_out, uint32_t at) noexcept nogil:
    cdef Receiver* receiver = &fan_out.receivers[at]
    cdef Subscription* subscription = living(fan_out, at)
    cdef uint32_t count
    out.known = receiver.recorded
    receiver.recorded = 0
    if subscription.session == NULL:
        deliver_to_group(shard, out, <SharedGroup*>subscription)
        return
    if unlikely_(expiry_left_s(out, shard.now_ns) == 0):  # [MQTT-3.3.2-5]
        count_drop(shard, subscription.session, DROP_MESSAGE_EXPIRED)
        taken(shard, out, subscription.session, 1, False, False)
        return
    count = gather_identifiers(shard, fan_out.receivers, at)
    offer(
        shard, out, subscription.session, NULL, receiver.qos,
        out.retain & receiver.retain_as_published, shard.identifiers, count)


cdef void deliver_unrecorded(ShardState* shard, FanOut* fan_out) noexcept nogil:
    # Who is not in the message's record: a shared group, or who has come to be on disk since. A record of its own.
    cdef Outgoing out
    outgoing_afresh(&out, fan_out.message)
    begin_routing(shard)
    deliver_rest(shard, &out, fan_out, fan_out.at)
    fan_out.ticket = max(fan_out.ticket, end_routing(shard, fan_out.account.account_id, &out))
    outgoing_close(shard, &out)


cdef bint continue_fan_out(ShardState* shard, FanOut* fan_out) noexcept nogil:
    cdef Outgoing out
    outgoing_from_message(&out, fan_out.message)
    while fan_out.at < fan_out.count and shard.slice_budget > 0:
        if still_wanted(fan_out, fan_out.at):
            shard.slice_budget -= 1
            if fan_out.receivers[fan_out.at].recorded or not is_for_disk(fan_out, fan_out.at):
                deliver_rest(shard, &out, fan_out, fan_out.at)
            else:
                deliver_unrecorded(shard, fan_out)
        elif fan_out.receivers[fan_out.at].recorded:
            end_pair(shard, 0, fan_out.message.number, fan_out.message, 0, 0, True)
        fan_out.at += 1
    outgoing_close(shard, &out)
    return fan_out.at == fan_out.count


cdef void free_fan_out(ShardState* shard, FanOut* fan_out) noexcept nogil:
    cdef Account* account = fan_out.account
    cdef uint32_t i
    for i in range(fan_out.count):
        release_subscription(shard, fan_out.receivers[i].subscription)
    if fan_out.publisher == NULL:
        account.orphans -= 1
    if fan_out.previous != NULL:
        fan_out.previous.next = fan_out.next
    else:
        account.fan_outs = fan_out.next
    if fan_out.next != NULL:
        fan_out.next.previous = fan_out.previous
    else:
        account.fan_out_tail = fan_out.previous
    release_message(shard, fan_out.message)
    give_memory(fan_out.receivers)
    give_memory(fan_out)


# ---------------------------------------------------------------- what waits

cdef void publish_inflight(
        ShardState* shard, Session* session, uint16_t packet_id, InflightBody* body, uint8_t duplicate) noexcept nogil:
    # With the packet identifier that it has. [MQTT-4.4.0-1] [MQTT-3.3.1-1]
    cdef Outgoing out
    cdef Connection* connection = session.connection
    cdef uint8_t qos = 1 if inflight_state(session, packet_id) == INFLIGHT_PUBLISH_1 else 2
    cdef uint8_t first_byte = first_byte_of(qos, body.retain) | duplicate
    cdef int layout = (2 if connection.version == 5 else 0) + 1
    cdef uint32_t count = body.identifiers[0] if body.identifiers != NULL else 0
    cdef uint32_t* identifiers = body.identifiers + 1 if body.identifiers != NULL else NULL
    cdef uint32_t total
    cdef AliasUse alias
    cdef uint8_t* at
    outgoing_from_message(&out, body.message)
    if layout == 3:
        total = choose_alias(shard, &out, connection, True, identifiers, count, &alias)
    else:
        need_layout(shard, &out, layout)
        total = out.layout_bytes[layout]
    if total <= connection.client_maximum_packet_size_bytes:
        if unlikely_(body.tracking != 0 and is_held(session, packet_id)):
            note(shard, session.principal, body.tracking, body.number, TRACKED_SENT, 0)
        mark_sent(session, packet_id)
        session.inflight[packet_id & session.inflight_mask] &= ~<uint32_t>INFLIGHT_HELD
        if layout == 3:
            write_identified(shard, &out, connection, total, first_byte, packet_id, identifiers, count, alias)
        else:
            at = outbox_reserve(shard, connection, total)
            memcpy(at, out.layout_at[layout], total)
            at[0] = first_byte
            at += out.packet_id_offset[layout]
            at[0] = <uint8_t>(packet_id >> 8)
            at[1] = <uint8_t>(packet_id & 255)
        shard.slice_budget -= 1 + total // WORK_BYTES
        shard.counters.messages_sent += 1
    else:       # this connection takes less than the one before it [MQTT-3.1.2-25]
        count_drop(shard, session, DROP_PACKET_TOO_LARGE)
        release_packet_id(shard, session, packet_id, True)
    outgoing_close(shard, &out)


cdef void publish_first(ShardState* shard, Session* session, uint16_t packet_id, InflightBody* body) noexcept nogil:
    # Nobody has seen it or its identifier yet, and rights may have changed while it waited.
    if still_allowed(session, body.message):
        publish_inflight(shard, session, packet_id, body, 0)
    else:
        count_drop(shard, session, DROP_NOT_AUTHORIZED)
        release_packet_id(shard, session, packet_id, True)


cdef void publish_held(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil:
    if is_held(session, packet_id):
        publish_first(shard, session, packet_id, body_of(session, packet_id))


cdef void publish_again(ShardState* shard, Session* session, uint16_t packet_id, InflightBody* body) noexcept nogil:
    # What has been sent is sent again whatever its receiver may have by now: it may have it already, and an exchange of
    # QoS 2 has to come to its end.
    if not is_held(session, packet_id):
        publish_inflight(shard, session, packet_id, body, DUP)
    elif leaves_now(shard, session.connection, newest_ticket(&shard.journal)):
        publish_first(shard, session, packet_id, body)
    else:       # on the connection before this one it waited for the disk, and it still may have to
        mark_sent(session, packet_id)
        hold_publish(shard, session, newest_ticket(&shard.journal), packet_id)


cdef void release_again(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil:
    # PUBREL, which may not leave before its PUBREC is on disk either.
    cdef Connection* connection = session.connection
    cdef uint64_t ticket = newest_ticket(&shard.journal) if session.durable != NULL else 0
    mark_sent(session, packet_id)
    if connection.durability != LEVEL_SYNCED or leaves_now(shard, connection, ticket):
        encode_ack(outbox_reserve(shard, connection, 4), PUBREL, packet_id, 0, connection.version)
    else:
        hold(shard, connection, ticket, PUBREL).packet_id = packet_id


cdef bint send_again(ShardState* shard, Session* session) noexcept nogil:
    # What an earlier connection left, oldest first; False when quota or room ended before it did.
    cdef SessionExtra* extra = session.extra
    cdef uint16_t packet_id
    cdef uint32_t state
    cdef InflightBody* body
    while extra.again_at < extra.again_count:
        packet_id = extra.again[extra.again_at]
        state = inflight_state(session, packet_id)
        body = body_of(session, packet_id)
        if state == INFLIGHT_PUBREL:
            release_again(shard, session, packet_id)
        elif state:     # not acknowledged meanwhile
            if session.send_quota <= 0 or not has_room(shard, session.connection, body.size):
                return False
            if body.message != NULL or bring_body(shard, session, packet_id):
                publish_again(shard, session, packet_id, body)
            elif inflight_state(session, packet_id):
                return False        # it is being read
        extra.again_at += 1
    give_memory(extra.again)
    extra.again = NULL
    extra.again_at = 0
    extra.again_count = 0
    session.waiting &= ~<uint8_t>WAITING_AGAIN
    trim_extra(session)
    return True


cdef bint send_front(ShardState* shard, Session* session) noexcept nogil:
    # The first of the queue in memory; False: there is no room for it.
    cdef Queued* entry = queue_front(session)
    cdef Outgoing out
    cdef bint sent = False
    if not has_room(shard, session.connection, entry.message.payload_bytes):
        return False
    outgoing_from_message(&out, entry.message)
    if expiry_left_s(&out, shard.now_ns) == 0:  # [MQTT-3.3.2-5]
        count_drop(shard, session, DROP_MESSAGE_EXPIRED)
    else:
        sent = send(
            shard, &out, session, entry.group, entry.qos, entry.retain, entry.identifiers, entry.identifier_count)
    if sent:
        if unlikely_(out.tracking != 0 and not is_held(session, session.next_packet_id)):
            note(shard, session.principal, out.tracking, entry.message.number, TRACKED_SENT, 0)
        queue_sent_front(shard, session)
    else:
        queue_drop_front(shard, session)
    outgoing_close(shard, &out)
    return True


cdef bint send_waiting(ShardState* shard, Session* session) noexcept nogil:
    if session.connection == NULL or session.connection.state != CONNECTED:
        return False
    if session.waiting & WAITING_AGAIN and not send_again(shard, session):
        return False
    while session.send_quota > 0 and (session.queue != NULL or (
            session.waiting & WAITING_PARKED and bring_front(shard, session))):
        if not send_front(shard, session):
            return False
    return session.queue == NULL and not session.waiting & WAITING_PARKED
