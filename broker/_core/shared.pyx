"""Which member of a shared group gets a message. See shared.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.connection cimport has_room
from broker._core.groups cimport group_of, lose_turn, take_turn
from broker._core.memory cimport likely_, resize_memory, unlikely_
from broker._core.message cimport Outgoing
from broker._core.model cimport (
    WAITING_FIRST,
    WAITING_TURN,
    WORK_RECEIVERS,
    Message,
    Session,
    SessionExtra,
    SharedGroup,
    ShardState,
    Subscription,
)
from broker._core.promises cimport may_hold
from broker._core.queue_intake cimport why_no_room
from broker._core.session cimport need_extra


cdef enum:
    LOSING_MAXIMUM = 1024       # members that one message may find unable: each is found once for each return
    TAKERS_MAXIMUM = 96         # members asked whether they could take a message
    CANDIDATES = 32             # of those that were unable before, looked at for one message
    FIRST_BENCH = 4
    HEADER_BYTES = 16           # at most: fixed header, packet identifier, lengths, a subscription identifier


cdef inline uint8_t qos_for(Subscription* member, Outgoing* out) noexcept nogil:
    return member.qos if member.qos < out.qos else out.qos  # [MQTT-4.8.2-3]


cdef inline bint fits(Session* session, Outgoing* out) noexcept nogil:
    # What is too large for one may be taken by another.
    return <uint64_t>out.topic.n + out.properties.n + out.payload.n + HEADER_BYTES <= \
        session.connection.client_maximum_packet_size_bytes


cdef inline bint is_able(ShardState* shard, Session* session, Outgoing* out, uint8_t qos) noexcept nogil:
    if session.connection == NULL or not has_room(shard, session.connection, out.payload.n):
        return False
    if qos == 0:
        return not out.handed_over or may_hold(shard, session.connection, out.payload.n)
    return session.waiting & WAITING_FIRST == 0 and session.send_quota > 0


cdef inline bint may_queue(ShardState* shard, Session* session, Outgoing* out) noexcept nogil:
    cdef uint64_t size = sizeof(Message) + <uint64_t>out.topic.n + out.properties.n + out.payload.n + sizeof(uint32_t)
    return why_no_room(shard, session, size) < 0


# ---------------------------------------------------------------- the bench

cdef void bench(SharedGroup* group, Subscription* member) noexcept nogil:
    cdef SessionExtra* extra
    lose_turn(group, member, member.session.connection == NULL)
    if member.benched:
        return
    extra = need_extra(member.session)
    if extra.bench_count == extra.bench_capacity:
        extra.bench_capacity = extra.bench_capacity * 2 if extra.bench_capacity else FIRST_BENCH
        extra.bench = <Subscription**>resize_memory(extra.bench, <size_t>extra.bench_capacity * sizeof(void*))
    extra.bench[extra.bench_count] = member
    extra.bench_count += 1
    member.benched = 1
    member.session.waiting |= WAITING_TURN


cdef void leave_benches(Session* session) noexcept nogil:
    cdef SessionExtra* extra = session.extra
    cdef uint32_t i
    if not session.waiting & WAITING_TURN:
        return
    for i in range(extra.bench_count):
        extra.bench[i].benched = 0
        take_turn(group_of(extra.bench[i]), extra.bench[i])
    extra.bench_count = 0
    session.waiting &= ~<uint8_t>WAITING_TURN


cdef void look_at_bench(ShardState* shard, Session* session) noexcept nogil:
    if session.waiting & WAITING_FIRST == 0 and session.send_quota > 0 and has_room(shard, session.connection, 0):
        leave_benches(session)


# ---------------------------------------------------------------- the choice

cdef Subscription* next_able(ShardState* shard, SharedGroup* group, Outgoing* out, uint32_t* steps) noexcept nogil:
    # A member that is not able makes room for another: only what is too large for everybody is offered in a circle.
    cdef Subscription* member
    cdef uint32_t turns = group.able
    while group.able and turns and steps[0] < LOSING_MAXIMUM:
        steps[0] += 1
        turns -= 1
        if group.next_able >= group.able:
            group.next_able = 0
        member = group.members[group.next_able]
        if unlikely_(not is_able(shard, member.session, out, qos_for(member, out))):
            bench(group, member)
            continue
        group.next_able += 1
        if likely_(fits(member.session, out)):
            return member
    return NULL


cdef Subscription* next_full(ShardState* shard, SharedGroup* group, Outgoing* out, uint32_t* steps) noexcept nogil:
    cdef Subscription* member
    cdef Session* session
    cdef uint8_t qos
    cdef uint32_t turns = group.connected - group.able
    if turns > CANDIDATES:
        turns = CANDIDATES
    while turns and group.connected > group.able:
        steps[0] += 1
        turns -= 1
        if group.next_full >= group.connected - group.able:
            group.next_full = 0
        member = group.members[group.able + group.next_full]
        session = member.session
        if session.connection == NULL:
            bench(group, member)
            continue
        group.next_full += 1
        qos = qos_for(member, out)
        if fits(session, out) and (is_able(shard, session, out, qos) or (qos and may_queue(shard, session, out))):
            return member
    return NULL


cdef Subscription* next_away(ShardState* shard, SharedGroup* group, Outgoing* out, uint32_t* steps) noexcept nogil:
    cdef Subscription* member
    cdef Session* session
    cdef uint32_t turns = group.count - group.connected
    if turns > CANDIDATES:
        turns = CANDIDATES
    while turns:
        steps[0] += 1
        turns -= 1
        if group.next_away >= group.count - group.connected:
            group.next_away = 0
        member = group.members[group.connected + group.next_away]
        group.next_away += 1
        session = member.session
        if qos_for(member, out) and session.session_expiry_interval_s and not session.ending \
                and session.connection == NULL and may_queue(shard, session, out):
            return member
    return NULL


cdef Subscription* choose_member(ShardState* shard, SharedGroup* group, Outgoing* out) noexcept nogil:
    cdef uint32_t steps = 0
    cdef Subscription* member = next_able(shard, group, out, &steps)
    if unlikely_(member == NULL):
        member = next_full(shard, group, out, &steps)
    if unlikely_(member == NULL):
        member = next_away(shard, group, out, &steps)
    shard.slice_budget -= steps // WORK_RECEIVERS
    return member


cdef bint could_take(ShardState* shard, Subscription* member, Outgoing* out) noexcept nogil:
    cdef Session* session = member.session
    cdef uint8_t qos = qos_for(member, out)
    if session.connection == NULL:
        return qos and session.session_expiry_interval_s and not session.ending and may_queue(shard, session, out)
    return fits(session, out) and (is_able(shard, session, out, qos) or (qos and may_queue(shard, session, out)))


cdef bint has_taker(ShardState* shard, SharedGroup* group, Outgoing* out) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t looks = min(group.count, <uint32_t>TAKERS_MAXIMUM)
    shard.slice_budget -= looks // WORK_RECEIVERS
    for i in range(looks):
        if could_take(shard, group.members[(group.next_able + i) % group.count], out):
            return True
    return False
