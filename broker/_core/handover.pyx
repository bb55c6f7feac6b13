"""What an ending session leaves to the other members of its shared groups. See handover.pxd."""

from libc.stdint cimport uint16_t, uint32_t

from broker._core.budgets cimport count_drop
from broker._core.deliver cimport deliver_to_group
from broker._core.inflight cimport body_of, inflight_state, list_again, release_packet_id
from broker._core.journal cimport begin_routing, end_routing
from broker._core.message cimport Outgoing, outgoing_afresh, outgoing_close
from broker._core.model cimport (
    DROP_SESSION_ENDED,
    ENDING_LISTED,
    INFLIGHT_PUBLISH_1,
    InflightBody,
    Message,
    Queued,
    Session,
    SessionExtra,
    SharedGroup,
    ShardState,
)
from broker._core.parked cimport bring_body, bring_front
from broker._core.parking cimport drop_parked_front, look_up, parked_front
from broker._core.queue cimport queue_drop_front, queue_front


cdef inline bint is_alive(SharedGroup* group) noexcept nogil:
    return group != NULL and not group.entry.dead


cdef void give(ShardState* shard, Session* session, Message* message, SharedGroup* group) noexcept nogil:
    # The caller ends what the session has of it in the same batch.
    cdef Outgoing out
    outgoing_afresh(&out, message)      # for another session it is another one
    shard.tracking.drop_reason = DROP_SESSION_ENDED     # where the session that had it is told of
    out.handed_over = session.durable != NULL
    begin_routing(shard)
    deliver_to_group(shard, &out, group)
    end_routing(shard, group.members[0].session.principal.account.account_id, &out)
    outgoing_close(shard, &out)


cdef bint hand_over_sent(ShardState* shard, Session* session, uint32_t* left) noexcept nogil:
    # QoS 1 in the order of sending; QoS 2 stays bound to the session, and ends with it. [MQTT-4.8.2-5]
    cdef SessionExtra* extra
    cdef InflightBody* body
    cdef uint16_t packet_id
    if session.bodies == NULL:
        return True
    if session.ending != ENDING_LISTED:
        list_again(session)
        session.ending = ENDING_LISTED
    extra = session.extra
    while session.inflight_count and extra.again_at < extra.again_count:
        if left[0] == 0:
            return False
        left[0] -= 1
        packet_id = extra.again[extra.again_at]
        body = body_of(session, packet_id)
        if inflight_state(session, packet_id) == INFLIGHT_PUBLISH_1 and body.grouped and body.message == NULL \
                and not bring_body(shard, session, packet_id) and inflight_state(session, packet_id):
            return False        # it is being read
        extra.again_at += 1
        if inflight_state(session, packet_id) == INFLIGHT_PUBLISH_1 and is_alive(body.group):
            give(shard, session, body.message, body.group)
            release_packet_id(shard, session, packet_id, True)
    return True


cdef bint hand_over_queued(ShardState* shard, Session* session, uint32_t* left) noexcept nogil:
    cdef Queued* entry = queue_front(session)
    while entry != NULL:
        if left[0] == 0:
            return False
        left[0] -= 1
        if is_alive(entry.group):
            give(shard, session, entry.message, entry.group)
        else:
            count_drop(shard, session, DROP_SESSION_ENDED)
        queue_drop_front(shard, session)
        entry = queue_front(session)
    return True


cdef bint hand_over_parked(ShardState* shard, Session* session, uint32_t* left) noexcept nogil:
    while session.durable != NULL and session.durable.parked_count:
        if left[0] == 0:
            return False
        left[0] -= 1
        if parked_front(session) == NULL:
            if look_up(shard, session):
                return False    # it is being read
        elif not parked_front(session).grouped:
            count_drop(shard, session, DROP_SESSION_ENDED)
            drop_parked_front(shard, session)
        elif bring_front(shard, session):
            if not hand_over_queued(shard, session, left):
                return False
        elif session.durable.parked_count:
            return False        # it is being read
    return True


cdef bint hand_over(ShardState* shard, Session* session, uint32_t* left) noexcept nogil:
    return hand_over_sent(shard, session, left) and hand_over_queued(shard, session, left) and \
        hand_over_parked(shard, session, left)
