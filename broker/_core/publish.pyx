"""The inbound PUBLISH. See publish.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.acks cimport stage_ack, stage_ack_of, stage_refusal, ticket_for
from broker._core.aliases cimport resolve_alias
from broker._core.budgets cimport count_drop, queue_full_policy
from broker._core.connection cimport fail, mark_ready
from broker._core.cursor cimport Cursor, Span, take_binary, take_bytes, take_u8, varint_size
from broker._core.deliver cimport continue_fan_out, free_fan_out, make_busy, next_busy, route, somebody_is_full
from broker._core.events cimport note_often
from broker._core.framing cimport PUBACK, PUBREC
from broker._core.grants cimport may_publish, policy_allows_publish
from broker._core.inbound_qos2 cimport qos2_add, qos2_count, qos2_known
from broker._core.journal cimport add_op, newest_ticket
from broker._core.limiter cimport count_in, count_own, slow_down, take_token, within_quota
from broker._core.memory cimport resize_memory, unlikely_
from broker._core.message cimport (
    NEVER_EXPIRES,
    Outgoing,
    outgoing_close,
    outgoing_from_message,
    outgoing_open,
    release_message,
)
from broker._core.model cimport (
    DROP_NOT_AUTHORIZED,
    DROP_PACKET_TOO_LARGE,
    DROP_QUEUE_FULL,
    DROP_QUOTA_EXCEEDED,
    DROP_RETAINED_FULL,
    EVENT_DENIED_PUBLISH,
    EVENT_QUOTA,
    LEVEL_MEMORY,
    LEVEL_SYNCED,
    QUEUE_REFUSES,
    Account,
    Connection,
    FanOut,
    Message,
    Principal,
    Session,
    ShardState,
    Subscription,
)
from broker._core.packets cimport TOO_MANY_MESSAGES, TOO_MANY_MESSAGES_BYTES, PublishFields, parse_publish
from broker._core.promises cimport publishes_held
from broker._core.properties cimport (
    PROPERTY_MESSAGE_EXPIRY_INTERVAL,
    PROPERTY_PAYLOAD_FORMAT_INDICATOR,
    PROPERTY_TOPIC_ALIAS,
    PROPERTY_USER_PROPERTY,
    forwardable_properties,
    has,
)
from broker._core.reasons cimport (
    MALFORMED_PACKET,
    NO_MATCHING_SUBSCRIBERS,
    NOT_AUTHORIZED,
    PROTOCOL_ERROR,
    QUOTA_EXCEEDED,
    RECEIVE_MAXIMUM_EXCEEDED,
    SUCCESS,
    TOPIC_NAME_INVALID,
)
from broker._core.records cimport OP_TAKEN
from broker._core.retained cimport may_retain, retain_message
from broker._core.topic_rules cimport valid_topic_name
from broker._core.topics cimport match_topic
from broker._core.tracking cimport note_answer
from broker._core.utf8 cimport valid_utf8
from broker._core.wills cimport erase_will


cdef enum:
    DELIVERIES_PER_TURN = 128       # of one account, before the next one's fan-outs go on (law 11)


cdef int why_invalid(const Span* topic_name) noexcept nogil:
    if topic_name.n == 0:
        return PROTOCOL_ERROR  # [MQTT-4.7.3-1]: without an alias
    if not valid_utf8(topic_name.at, topic_name.n):
        return MALFORMED_PACKET  # [MQTT-1.5.4-1] [MQTT-1.5.4-2]
    return TOPIC_NAME_INVALID  # [MQTT-3.3.2-2]


cdef int check(ShardState* shard, Connection* connection, PublishFields* fields) noexcept nogil:
    # What closes the connection; 0 when the PUBLISH may go on. The order is law 9's.
    cdef int reason_code
    if unlikely_(connection.version == 5 and has(&fields.values, PROPERTY_TOPIC_ALIAS)):
        reason_code = resolve_alias(
            connection, shard.limits.topic_alias_maximum, fields.values.topic_alias, &fields.topic_name)
        if reason_code:
            return reason_code
    if unlikely_(not valid_topic_name(fields.topic_name.at, fields.topic_name.n, shard.limits.topic_levels_maximum)):
        return why_invalid(&fields.topic_name)
    return 0


cdef inline bint over_receive_maximum(ShardState* shard, Connection* connection) noexcept nogil:
    # 3.1.1 cannot be told a Receive Maximum: what it may have open is bounded all the same.
    cdef uint32_t open_count = publishes_held(connection) + qos2_count(connection.session)
    if connection.version == 5:
        return open_count >= shard.limits.server_receive_maximum  # [MQTT-3.3.4-9]
    return open_count >= shard.limits.unannounced_receive_maximum and \
        qos2_count(connection.session) >= shard.limits.unannounced_receive_maximum


cdef inline uint8_t ack_type(uint8_t qos) noexcept nogil:
    return <uint8_t>(PUBACK + qos - 1)      # PUBACK, PUBREC


cdef void refuse(
        ShardState* shard, Connection* connection, PublishFields* fields, uint8_t reason_code, int drop) noexcept nogil:
    # Refused but not a breach of the protocol: QoS 1 and 2 are told, QoS 0 is dropped with its reason counted.
    if fields.qos == 0:
        count_drop(shard, connection.session, drop)
    elif connection.version == 5:
        stage_ack(shard, connection, 0, ack_type(fields.qos), fields.packet_id, reason_code)  # [MQTT-3.3.5-2]
    else:
        slow_down(shard, connection.grant.principal)    # it will come back and try again
        fail(shard, connection, reason_code)    # never acknowledge what was not accepted [v311 MQTT-3.3.5-2]


cdef void refuse_topic(ShardState* shard, Connection* connection, PublishFields* fields) noexcept nogil:
    note_often(shard, connection, EVENT_DENIED_PUBLISH, fields.topic_name.at, fields.topic_name.n)
    refuse(shard, connection, fields, NOT_AUTHORIZED, DROP_NOT_AUTHORIZED)


cdef void refuse_month(ShardState* shard, Connection* connection, PublishFields* fields) noexcept nogil:
    # The month's messages or bandwidth are used up, in words where they may be said.
    note_often(shard, connection, EVENT_QUOTA, b"", 0)
    if fields.qos and connection.version == 5:
        stage_refusal(
            shard, connection, ack_type(fields.qos), fields.packet_id, QUOTA_EXCEEDED, TOO_MANY_MESSAGES,
            TOO_MANY_MESSAGES_BYTES)
    else:
        refuse(shard, connection, fields, QUOTA_EXCEEDED, DROP_QUOTA_EXCEEDED)


cdef uint32_t expiry_offset(const Span* properties) noexcept nogil:
    # Where the interval's four bytes lie; the properties are valid, so each can be stepped over by its type.
    cdef Cursor cursor
    cdef uint8_t identifier = 0
    cdef Span skipped
    cursor.at = properties.at
    cursor.end = properties.at + properties.n
    while take_u8(&cursor, &identifier) and identifier != PROPERTY_MESSAGE_EXPIRY_INTERVAL:
        if identifier == PROPERTY_PAYLOAD_FORMAT_INDICATOR:
            take_bytes(&cursor, 1, &skipped)
        else:
            take_binary(&cursor, &skipped)
            if identifier == PROPERTY_USER_PROPERTY:
                take_binary(&cursor, &skipped)
    return <uint32_t>(cursor.at - properties.at)


cdef void leave_out_alias(ShardState* shard, Span* properties) noexcept nogil:
    # An alias is a matter between two neighbours. The bytes without it live until the next message.
    if shard.forwarded.capacity < properties.n:
        shard.forwarded.capacity = properties.n
        shard.forwarded.at = <uint8_t*>resize_memory(shard.forwarded.at, properties.n)
    properties.n = forwardable_properties(properties, shard.forwarded.at)
    properties.at = shard.forwarded.at


cdef void fill(
        Outgoing* out, ShardState* shard, Connection* connection, PublishFields* fields, const uint8_t* packet,
        uint32_t total, uint32_t header) noexcept nogil:
    cdef int layout = (2 if connection.version == 5 else 0) + (1 if fields.qos else 0)
    cdef bint aliased = layout >= 2 and has(&fields.values, PROPERTY_TOPIC_ALIAS)
    outgoing_open(out)
    out.topic = fields.topic_name
    out.properties = fields.properties
    out.payload = fields.payload
    out.qos = fields.qos
    out.retain = fields.retain
    out.version = connection.version
    out.received_at_ns = shard.now_ns
    if unlikely_(aliased):
        leave_out_alias(shard, &out.properties)
    if layout >= 2 and unlikely_(has(&fields.values, PROPERTY_MESSAGE_EXPIRY_INTERVAL)):
        out.message_expiry_s = fields.values.message_expiry_s
        out.expiry_offset = expiry_offset(&out.properties)
    if unlikely_(aliased):
        return      # its bytes are nobody else's
    # What came in is already what receivers of the same version and QoS get, packet identifier and flags apart.
    out.layout_at[layout] = packet
    out.layout_bytes[layout] = total
    out.packet_id_offset[layout] = header + 2 + fields.topic_name.n


cdef bint needs_disk(
        ShardState* shard, Account* account, Outgoing* out, Session* publisher, bint written) noexcept nogil:
    # Whether somebody would be promised something that has to be written: asked before anything has happened.
    cdef Subscription* subscription
    cdef uint32_t i
    if out.qos == 0:
        return False
    if (out.retain and written) or (out.qos == 2 and publisher != NULL and publisher.durable != NULL):
        return True
    match_topic(shard, &account.space, out.topic.at, out.topic.n, publisher)
    for i in range(shard.receiver_count):
        subscription = shard.receivers[i].subscription
        if shard.receivers[i].qos and (subscription.session == NULL or subscription.session.durable != NULL):
            return True
    return False


cdef void retain(
        ShardState* shard, Account* account, Outgoing* out, Session* publisher, bint written) noexcept nogil:
    # Who clears what another has just cleared waits for that as well.
    retain_message(shard, account, out, publisher, written)
    if written:
        out.ticket = newest_ticket(&shard.journal)


cdef inline uint32_t publish_message(
        ShardState* shard, Account* account, Outgoing* out, Session* publisher, bint written, FanOut** rest
) noexcept nogil:
    # `written`: what is retained goes to disk.
    rest[0] = NULL
    if unlikely_(shard.journal.refusing and not out.insists and needs_disk(shard, account, out, publisher, written)):
        out.refused = 1
        return 0
    if unlikely_(out.retain):  # [MQTT-3.3.1-8]
        retain(shard, account, out, publisher, written)
    return route(shard, account, out, publisher, rest)


cdef void finish(
        ShardState* shard, Connection* connection, uint64_t ticket, uint8_t packet_type, uint16_t packet_id,
        bint matched, Message* message) noexcept nogil:
    # A receipt says that its identifier is kept, too, or what is retained: it waits whoever has acknowledged meanwhile.
    stage_ack_of(  # [MQTT-3.4.2-1] [MQTT-3.5.2-1]
        shard, connection, ticket if connection.durability == LEVEL_SYNCED else 0, packet_type, packet_id,
        SUCCESS if matched else NO_MATCHING_SUBSCRIBERS, message if packet_type == PUBACK else NULL)


cdef inline uint64_t take_identifier(ShardState* shard, Session* session, uint16_t packet_id) noexcept nogil:
    # Returns the ticket of its record, 0: it is kept in memory.
    qos2_add(session, packet_id)
    if session.durable == NULL:
        return 0
    add_op(shard, OP_TAKEN, session.durable.number, 0, packet_id)
    return shard.journal.open_ticket


cdef bint repeated(ShardState* shard, Connection* connection, PublishFields* fields) noexcept nogil:
    # Taken before: acknowledged again, and to nobody delivered again. [MQTT-4.3.3-10] [v311 MQTT-4.3.3-2]
    if fields.qos != 2 or not qos2_known(connection.session, fields.packet_id):
        return False
    # Which ticket the first receipt has is not known any more: it may have been owed on another connection.
    stage_ack(shard, connection, ticket_for(shard, connection), PUBREC, fields.packet_id, SUCCESS)
    take_token(shard, connection)
    return True


cdef bint may_go_on(ShardState* shard, Connection* connection, PublishFields* fields) noexcept nogil:
    # Laws of one PUBLISH that do not need its bytes any more; what it is refused for has been answered.
    cdef Principal* author
    if unlikely_(fields.qos and over_receive_maximum(shard, connection)):
        fail(shard, connection, RECEIVE_MAXIMUM_EXCEEDED)
        return False
    shard.counters.messages_received += 1
    if unlikely_(not take_token(shard, connection)):
        return False
    if unlikely_(not within_quota(connection.grant.principal.account)):
        refuse_month(shard, connection, fields)
        return False
    if unlikely_(fields.payload.n > connection.grant.limits.payload_bytes):
        refuse(shard, connection, fields, QUOTA_EXCEEDED, DROP_PACKET_TOO_LARGE)
        return False
    if unlikely_(not may_publish(connection.grant, fields.topic_name.at, fields.topic_name.n)):
        refuse_topic(shard, connection, fields)
        return False
    author = connection.session.principal
    if unlikely_(fields.retain and not may_retain(
            shard, author.account, author, &fields.topic_name, fields.properties.n, fields.payload.n)):
        refuse(shard, connection, fields, QUOTA_EXCEEDED, DROP_RETAINED_FULL)
        return False
    return True


cdef void handle_publish(
        ShardState* shard, Connection* connection, const uint8_t* packet, uint32_t total, uint32_t header
) noexcept nogil:
    cdef PublishFields fields
    cdef Outgoing out
    cdef FanOut* rest
    cdef int reason_code = parse_publish(packet[0], packet + header, total - header, connection.version, &fields)
    if not reason_code:
        reason_code = check(shard, connection, &fields)
    if unlikely_(reason_code):
        fail(shard, connection, <uint8_t>reason_code)
        return
    if repeated(shard, connection, &fields) or not may_go_on(shard, connection, &fields):
        return
    fill(&out, shard, connection, &fields, packet, total, header)
    if unlikely_(fields.qos and queue_full_policy(shard, connection.session.principal.account) == QUEUE_REFUSES
                 and somebody_is_full(shard, connection.session.principal.account, &out, connection.session)):
        refuse(shard, connection, &fields, QUOTA_EXCEEDED, DROP_QUEUE_FULL)
        return      # nothing of it was kept
    publish_message(
        shard, connection.session.principal.account, &out, connection.session, connection.durability != LEVEL_MEMORY,
        &rest)
    if unlikely_(out.refused):
        refuse(shard, connection, &fields, QUOTA_EXCEEDED, DROP_QUOTA_EXCEEDED)
        outgoing_close(shard, &out)
        return
    count_in(shard, connection.grant.principal, total)      # what is refused is not used
    if fields.qos == 2:
        out.ticket = max(out.ticket, take_identifier(shard, connection.session, fields.packet_id))
    if unlikely_(connection.session.principal.account.heard) and note_answer(
            shard, connection.session.principal, &fields.topic_name, &fields.payload):
        shard.journal.urgent = True     # Python takes it before the open batch is sealed, and records it there
        out.closed = 1
        out.ticket = shard.journal.open_ticket
    if unlikely_(rest != NULL):
        rest.publisher = connection
        rest.packet_id = fields.packet_id
        rest.ticket = out.ticket
        rest.acknowledge = ack_type(fields.qos) if fields.qos else 0
        connection.fan_out = rest       # its publisher is not parsed until this has ended
    elif fields.qos:
        finish(
            shard, connection, out.ticket, ack_type(fields.qos), fields.packet_id, shard.receiver_count > 0,
            NULL if out.retain or out.closed else out.message)  # kept by more than its receivers, or not it alone
    outgoing_close(shard, &out)


cdef inline uint64_t wire_bytes(Outgoing* out) noexcept nogil:
    # What came in as something else than a PUBLISH is counted by what its PUBLISH would have had.
    cdef uint64_t body = 2 + out.topic.n + (2 if out.qos else 0) + out.payload.n
    if out.version == 5:
        body += varint_size(out.properties.n) + out.properties.n
    return 1 + varint_size(<uint32_t>body) + body


cdef uint32_t publish_unattended(
        ShardState* shard, Account* account, Outgoing* out, Session* publisher, bint written) noexcept nogil:
    cdef FanOut* rest
    cdef uint32_t taken = publish_message(shard, account, out, publisher, written, &rest)
    if rest != NULL:
        taken += rest.count     # offered in later slices
        account.orphans += 1
    return taken


cdef uint32_t publish_from_server(ShardState* shard, Account* account, Outgoing* out, bint counted) noexcept nogil:
    cdef uint32_t taken
    out.version = 5
    out.received_at_ns = shard.now_ns
    if out.message_expiry_s != NEVER_EXPIRES:
        out.expiry_offset = expiry_offset(&out.properties)
    if counted:
        count_own(shard, account, wire_bytes(out))
    taken = publish_unattended(shard, account, out, NULL, True)
    outgoing_close(shard, out)
    return REFUSED if out.refused else taken


cdef int why_will_dropped(ShardState* shard, Principal* principal, Outgoing* out) noexcept nogil:
    # A DropReason, or -1. Its rights are looked at once more: they may have gone since the CONNECT. Of a principal whom
    # nobody has judged since the start they are those of its CONNECT.
    if principal.revoked or (principal.policy != NULL and not policy_allows_publish(
            principal.policy, principal, out.topic.at, out.topic.n)):
        return DROP_NOT_AUTHORIZED
    if not within_quota(principal.account):
        return DROP_QUOTA_EXCEEDED
    if out.retain and not may_retain(
            shard, principal.account, principal, &out.topic, out.properties.n, out.payload.n):
        return DROP_RETAINED_FULL
    return -1


cdef void publish_will(ShardState* shard, Session* session) noexcept nogil:
    # Its record goes with the batch that has what becomes of it.
    cdef Message* message = session.extra.will.message
    cdef bint written = session.extra.will.written or session.extra.will.number != 0
    cdef Outgoing out
    cdef int reason
    erase_will(shard, session)
    session.extra.will.message = NULL
    session.extra.will_at_ns = 0
    outgoing_from_message(&out, message)
    reason = why_will_dropped(shard, session.principal, &out)
    if reason >= 0:
        count_drop(shard, session, reason)
    else:
        message.received_at_ns = shard.now_ns       # its expiry begins when it is published
        out.received_at_ns = shard.now_ns
        out.insists = 1
        count_in(shard, session.principal, wire_bytes(&out))
        # [MQTT-3.1.2-14] [MQTT-3.1.2-15]
        publish_unattended(shard, session.principal.account, &out, session, written)
    outgoing_close(shard, &out)
    release_message(shard, message)


cdef void end_fan_out(ShardState* shard, FanOut* fan_out) noexcept nogil:
    cdef Connection* publisher = fan_out.publisher
    if publisher != NULL:
        publisher.fan_out = NULL
        publisher.resumes = 1
        if fan_out.acknowledge:
            finish(
                shard, publisher, fan_out.ticket, fan_out.acknowledge, fan_out.packet_id, True, NULL)
        mark_ready(shard, publisher)
    free_fan_out(shard, fan_out)


cdef void continue_account(ShardState* shard, Account* account, int64_t deliveries) noexcept nogil:
    cdef int64_t others = shard.slice_budget - deliveries
    if others < 0:
        others = 0
    shard.slice_budget -= others
    while account.fan_outs != NULL and continue_fan_out(shard, account.fan_outs):
        end_fan_out(shard, account.fan_outs)
    shard.slice_budget += others


cdef void continue_publishing(ShardState* shard) noexcept nogil:
    cdef Account* account
    while shard.slice_budget > 0:
        account = next_busy(shard)
        if account == NULL:
            return
        continue_account(shard, account, DELIVERIES_PER_TURN)
        if account.fan_outs != NULL:
            make_busy(shard, account)
