"""CONNECT and CONNACK. See connect.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from broker._core.acks cimport gate, ticket_for
from broker._core.admission cimport why_full
from broker._core.aliases cimport OUTBOUND_ALIASES_MAXIMUM
from broker._core.blake2b cimport Blake2b, blake2b_close, blake2b_open, blake2b_update, credential_of
from broker._core.budgets cimport queued_count
from broker._core.connection cimport (
    add_rare,
    arm_connect_deadline,
    arm_keep_alive,
    fail,
    mark_ready,
    outbox_reserve,
)
from broker._core.cursor cimport Span, put_binary, put_u8
from broker._core.durable cimport end_ticket, make_durable, record_session
from broker._core.events cimport explain_rare, note_connected, note_refused, note_takeover
from broker._core.framing cimport read_header
from broker._core.grants cimport find_grant, hold_grant, hold_policy, may_publish
from broker._core.lifetime cimport depart, end_session, open_quota, resume_session
from broker._core.limiter cimport slow_start
from broker._core.memory cimport give_memory, take_memory, unlikely_
from broker._core.message cimport Outgoing, keep_message, outgoing_open
from broker._core.model cimport (
    AUTHENTICATING,
    CONNECTED,
    LEVEL_MEMORY,
    LEVEL_RELAXED,
    LEVEL_SYNCED,
    LOCAL_FD,
    RARE_CONNECT,
    RARE_REFUSED,
    REFUSED_DISK,
    REFUSED_FROM_ELSEWHERE,
    REFUSED_PACKET_SIZE,
    REFUSED_WILL_SIZE,
    REFUSED_WILL_TOPIC,
    TIMER_DAMPED,
    Connection,
    Grant,
    Principal,
    Session,
    SessionExtra,
    ShardState,
)
from broker._core.packets cimport ConnackFields, ConnectFields, connack_size, encode_connack, parse_connect
from broker._core.properties cimport (
    PROPERTY_ASSIGNED_CLIENT_IDENTIFIER,
    PROPERTY_AUTHENTICATION_METHOD,
    PROPERTY_MAXIMUM_PACKET_SIZE,
    PROPERTY_MESSAGE_EXPIRY_INTERVAL,
    PROPERTY_RECEIVE_MAXIMUM,
    PROPERTY_REQUEST_PROBLEM_INFORMATION,
    PROPERTY_SERVER_KEEP_ALIVE,
    PROPERTY_SESSION_EXPIRY_INTERVAL,
    PROPERTY_TOPIC_ALIAS_MAXIMUM,
    PROPERTY_USER_PROPERTY,
    PROPERTY_WILL_DELAY_INTERVAL,
    has,
    mark,
    without_property,
)
from broker._core.publish cimport expiry_offset
from broker._core.reasons cimport (
    BAD_AUTHENTICATION_METHOD,
    CLIENT_IDENTIFIER_NOT_VALID,
    NOT_AUTHORIZED,
    PACKET_TOO_LARGE,
    QUOTA_EXCEEDED,
    SERVER_UNAVAILABLE,
    SESSION_TAKEN_OVER,
    TOPIC_NAME_INVALID,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from broker._core.revocation cimport judge_again
from broker._core.session cimport find_session, need_extra, new_session, session_hash
from broker._core.timers cimport timer_set
from broker._core.strangers cimport forget_stranger
from broker._core.topic_rules cimport valid_topic_name
from broker._core.wills cimport drop_will, has_recorded_will, record_will


cdef enum:
    ASSIGNED_ID_BYTES = 37      # "auto-" and 32 hexadecimal digits
    LEVEL_BYTES = 32            # room for the user property that names a level
    DAMPING_NS = 1000000000     # two that take each other's session change places once in this time
    DAMPING_STEPS = DAMPING_NS >> 26


cdef uint8_t answerable_version(ConnectFields* fields) noexcept nogil:
    # Who speaks MQTT of another level still understands a refusal: in the form of 5.0 above it, of 3.1.1 below.
    if fields.version or not fields.name_valid:
        return fields.version
    return 5 if fields.level > 5 else 4


cdef int check_will(ShardState* shard, ConnectFields* fields) noexcept nogil:
    if not valid_topic_name(fields.will_topic.at, fields.will_topic.n, shard.limits.topic_levels_maximum):
        return TOPIC_NAME_INVALID
    if fields.will_payload.n > shard.limits.maximum_payload_bytes:
        return PACKET_TOO_LARGE
    return 0


cdef int check(ShardState* shard, ConnectFields* fields) noexcept nogil:
    if has(&fields.values, PROPERTY_AUTHENTICATION_METHOD):
        return BAD_AUTHENTICATION_METHOD  # [MQTT-4.12.0-1]
    if fields.client_id.n > shard.limits.client_id_maximum_bytes:
        return CLIENT_IDENTIFIER_NOT_VALID  # [MQTT-3.1.3-8]
    return check_will(shard, fields) if fields.has_will else 0


cdef void assign_client_id(ShardState* shard, uint8_t* at) noexcept nogil:
    # Unique and unguessable: a keyed digest of a counter.
    cdef Blake2b state
    cdef uint8_t[32] digest
    cdef int i
    shard.assigned_ids += 1
    blake2b_open(&state, shard.secret, 32)
    blake2b_update(&state, <uint8_t*>&shard.assigned_ids, 8)
    blake2b_update(&state, <uint8_t*>&shard.hash_seed, 8)
    blake2b_close(&state, digest)
    memcpy(at, b"auto-", 5)
    for i in range(16):
        at[5 + 2 * i] = b"0123456789abcdef"[digest[i] >> 4]
        at[6 + 2 * i] = b"0123456789abcdef"[digest[i] & 15]


cdef uint16_t server_keep_alive(ShardState* shard, ConnectFields* fields) noexcept nogil:
    # 5.0 can be told a shorter one; 3.1.1 keeps what it asked for. [MQTT-3.2.2-21]
    cdef uint16_t maximum = shard.limits.keep_alive_maximum_s
    if fields.version == 5 and maximum and (fields.keep_alive_s == 0 or fields.keep_alive_s > maximum):
        return maximum
    return fields.keep_alive_s


cdef void announce(
        ShardState* shard, Grant* grant, ConnectFields* fields, uint16_t keep_alive_s, ConnackFields* connack
) noexcept nogil:
    # What this broker enforces, from the object it enforces it with.
    connack.values.receive_maximum = shard.limits.server_receive_maximum
    mark(&connack.values, PROPERTY_RECEIVE_MAXIMUM)
    connack.values.maximum_packet_size = grant.limits.packet_bytes
    mark(&connack.values, PROPERTY_MAXIMUM_PACKET_SIZE)
    if shard.limits.topic_alias_maximum:
        connack.values.topic_alias_maximum = shard.limits.topic_alias_maximum
        mark(&connack.values, PROPERTY_TOPIC_ALIAS_MAXIMUM)
    if keep_alive_s != fields.keep_alive_s:
        connack.values.server_keep_alive = keep_alive_s
        mark(&connack.values, PROPERTY_SERVER_KEEP_ALIVE)
    if fields.session_expiry_interval_s > shard.limits.session_expiry_maximum_s:
        connack.values.session_expiry_interval_s = shard.limits.session_expiry_maximum_s
        mark(&connack.values, PROPERTY_SESSION_EXPIRY_INTERVAL)  # [MQTT-3.2.2-17]: what it gets instead


cdef uint8_t* put_level(uint8_t* at, uint8_t durability) noexcept nogil:
    at = put_binary(put_u8(at, PROPERTY_USER_PROPERTY), b"durability", 10)
    if durability == LEVEL_SYNCED:
        return put_binary(at, b"synced", 6)
    return put_binary(at, b"relaxed", 7) if durability == LEVEL_RELAXED else put_binary(at, b"memory", 6)


cdef void announce_level(Connection* connection, uint8_t* room, ConnackFields* connack) noexcept nogil:
    # Where it fits into what the client takes. [MQTT-3.2.2-20]
    connack.user_properties.at = room
    connack.user_properties.n = <uint32_t>(put_level(room, connection.durability) - room)
    if connack_size(5, connack) > connection.client_maximum_packet_size_bytes:
        connack.user_properties.n = 0


cdef void take_limits(Connection* connection, ConnectFields* fields) noexcept nogil:
    # Before anything is answered: a refusal has to fit as well.
    connection.client_receive_maximum = 65535
    if fields.version == 5:
        if has(&fields.values, PROPERTY_RECEIVE_MAXIMUM):
            connection.client_receive_maximum = <uint16_t>fields.values.receive_maximum
        if has(&fields.values, PROPERTY_TOPIC_ALIAS_MAXIMUM):
            connection.client_topic_alias_maximum = <uint16_t>min(
                fields.values.topic_alias_maximum, <uint32_t>OUTBOUND_ALIASES_MAXIMUM)
        if has(&fields.values, PROPERTY_MAXIMUM_PACKET_SIZE):
            connection.client_maximum_packet_size_bytes = fields.values.maximum_packet_size
        if has(&fields.values, PROPERTY_REQUEST_PROBLEM_INFORMATION):
            connection.request_problem_information = <uint8_t>fields.values.request_problem_information


cdef bint may_enter(ShardState* shard, Connection* connection, Grant* grant) noexcept nogil:
    # An application's key opens a whole account: in clear text it is taken from this machine alone, unless configured.
    if grant.principal.device_id_bytes or grant == shard.open_grant or connection.from_loopback:
        return True
    return (shard.application_listeners >> connection.listener) & 1


cdef inline uint16_t coarse_now(ShardState* shard) noexcept nogil:
    # In steps of 64 ms, never 0; it comes round after an hour, and who is taken for young then waits for a second.
    return <uint16_t>((shard.now_ns >> 26) | 1)


cdef Session* unexpired_session(ShardState* shard, Principal* principal, const Span* client_id) noexcept nogil:
    # Its timer fires with the next tick, and after a restart not before the first. But the life before that may have
    # ended it already and routed nothing more to it: who came back to it would find it with a gap. [MQTT-3.1.2-23]
    cdef Session* session = find_session(shard, principal, client_id.at, client_id.n)
    if session == NULL or session.connection != NULL or session.session_expiry_interval_s == 0 or \
            session.extra == NULL or session.extra.ends_at_ns == 0 or session.extra.ends_at_ns > shard.now_ns:
        return session
    end_session(shard, session)
    return NULL


cdef Session* take_over(
        ShardState* shard, Connection* connection, Grant* grant, const Span* client_id) noexcept nogil:
    # The session of this client, after its older connection has gone; NULL: there is none any more. [MQTT-3.1.4-3]
    cdef Session* session = find_session(shard, grant.principal, client_id.at, client_id.n)
    if session == NULL:
        return NULL
    if session.connection != NULL:
        note_takeover(shard, session, connection)
        fail(shard, session.connection, SESSION_TAKEN_OVER)
        connection.took_over_at = coarse_now(shard)
    if session.parted:
        depart(shard, session)
        session = find_session(shard, grant.principal, client_id.at, client_id.n)
    return session


cdef void keep_on_disk(ShardState* shard, Connection* connection, Session* session) noexcept nogil:
    # Its level decides when it begins; one that was kept in memory alone may follow when nothing is under way.
    if session.durable == NULL and session.session_expiry_interval_s and connection.durability != LEVEL_MEMORY and \
            session.inflight_count == 0 and queued_count(session) == 0:
        make_durable(shard, session)
    if session.durable != NULL:
        record_session(shard, session)


cdef inline bint goes_on(Session* session, ConnectFields* fields) noexcept nogil:
    # One that ends with its connection is not taken over, but ended.
    return session != NULL and session.session_expiry_interval_s != 0 and not fields.clean_start


cdef inline bint is_on_disk(ShardState* shard, Session* session) noexcept nogil:
    return session != NULL and session.durable != NULL and \
        session.durable.since_ticket <= shard.journal.settled_ticket


cdef bint needs_disk(
        ShardState* shard, Connection* connection, Session* session, ConnectFields* fields, uint64_t ended
) noexcept nogil:
    # Whether this client is to be promised a session on disk that is not there yet, or that one is gone, or a will. One
    # of QoS 0 promises nothing: it is recorded when the disk is well. [MQTT-3.1.2-4]
    if connection.durability == LEVEL_MEMORY:
        return False
    if fields.has_will and fields.will_qos:
        return True
    if goes_on(session, fields) and session.durable != NULL:
        return not is_on_disk(shard, session)
    return fields.session_expiry_interval_s != 0 or ended != 0 or (
        session != NULL and session.durable != NULL and not session.durable.bearer)


cdef inline uint64_t end_of_predecessor(
        ShardState* shard, Connection* connection, Principal* principal, const Span* client_id) noexcept nogil:
    # The ticket that has the end of the session that this client had before, 0: it waits for none. Nobody inside this
    # process has one.
    if connection.durability != LEVEL_SYNCED or connection.fd == LOCAL_FD:
        return 0
    return end_ticket(shard, session_hash(shard, principal, client_id.at, client_id.n))


cdef bint enter_session(
        ShardState* shard, Connection* connection, Grant* grant, const Span* client_id, ConnectFields* fields
) noexcept nogil:
    # True: an earlier session goes on.
    cdef Session* session = take_over(shard, connection, grant, client_id)
    cdef bint present
    if session != NULL and session.extra != NULL and session.extra.will.lost_in_crash:
        drop_will(shard, session)       # its client had not gone: it is back in time
    # One that ends with its connection is there for the will of a client that was lost with the process.
    present = session != NULL and not fields.clean_start and session.session_expiry_interval_s != 0
    if present:
        judge_again(shard, session, grant.policy)
        resume_session(shard, session, connection)  # [MQTT-3.1.2-5]
        drop_will(shard, session)       # one that was waiting: its client is back in time [MQTT-3.1.3-9]
    else:
        if session != NULL:
            end_session(shard, session)  # [MQTT-3.1.2-4]
        session = new_session(shard, grant.principal, client_id.at, client_id.n)
        session.connection = connection
        connection.session = session
        open_quota(shard, session, connection)
    session.session_expiry_interval_s = min(fields.session_expiry_interval_s, shard.limits.session_expiry_maximum_s)
    keep_on_disk(shard, connection, session)
    hold_policy(&session.policy, grant.policy)
    hold_grant(shard, grant, connection)
    grant.used_at_ns = shard.now_ns
    grant.principal.last_seen_ns = shard.now_ns
    return present


cdef void leave_will(ShardState* shard, Session* session, ConnectFields* fields) noexcept nogil:
    cdef Outgoing out
    cdef SessionExtra* extra = need_extra(session)
    cdef uint8_t* properties = <uint8_t*>take_memory(fields.will_properties.n + 1)
    outgoing_open(&out)
    out.topic = fields.will_topic
    out.payload = fields.will_payload
    out.properties.at = properties
    out.properties.n = without_property(&fields.will_properties, PROPERTY_WILL_DELAY_INTERVAL, properties)
    out.qos = fields.will_qos
    out.retain = fields.will_retain
    out.version = fields.version
    out.received_at_ns = shard.now_ns
    if has(&fields.will_values, PROPERTY_MESSAGE_EXPIRY_INTERVAL):
        out.message_expiry_s = fields.will_values.message_expiry_s
        out.expiry_offset = expiry_offset(&out.properties)
    extra.will.message = keep_message(shard, &out)
    extra.will.number = 0
    extra.will.lost_in_crash = 0
    extra.will.delay_s = 0
    if has(&fields.will_values, PROPERTY_WILL_DELAY_INTERVAL):
        extra.will.delay_s = min(fields.will_values.will_delay_s, shard.limits.will_delay_maximum_s)
    give_memory(properties)
    record_will(shard, session)


cdef int why_no_entry(
        ShardState* shard, Connection* connection, ConnectFields* fields, Grant* grant) noexcept nogil:
    # A Refusal, or 0.
    if not may_enter(shard, connection, grant):
        return REFUSED_FROM_ELSEWHERE
    if fields.has_will and not may_publish(grant, fields.will_topic.at, fields.will_topic.n):
        return REFUSED_WILL_TOPIC
    if fields.has_will and fields.will_payload.n > grant.limits.payload_bytes:
        return REFUSED_WILL_SIZE
    return 0


cdef void turn_away(
        ShardState* shard, Connection* connection, Grant* grant, const Span* client_id, int refusal,
        uint8_t reason_code) noexcept nogil:
    note_refused(shard, connection, grant.principal, <uint8_t>refusal, client_id.at, client_id.n)
    fail(shard, connection, reason_code)
    explain_rare(shard, RARE_REFUSED, <uint8_t>refusal, connection.slot, connection.generation)


cdef void admit(
        ShardState* shard, Connection* connection, ConnectFields* fields, Grant* grant) noexcept nogil:
    cdef uint8_t[ASSIGNED_ID_BYTES] assigned
    cdef uint8_t[LEVEL_BYTES] level
    cdef ConnackFields connack
    cdef Span client_id = fields.client_id
    cdef uint32_t size
    cdef uint64_t ticket = 0
    cdef bint present
    cdef Session* session
    cdef int refusal = why_no_entry(shard, connection, fields, grant)
    if refusal:
        turn_away(
            shard, connection, grant, &client_id, refusal,
            PACKET_TOO_LARGE if refusal == REFUSED_WILL_SIZE else NOT_AUTHORIZED)
        return
    memset(&connack, 0, sizeof(connack))
    if client_id.n == 0:
        assign_client_id(shard, assigned)
        client_id.at = assigned
        client_id.n = ASSIGNED_ID_BYTES
        connack.values.assigned_client_id = client_id  # [MQTT-3.1.3-7] [MQTT-3.2.2-16]
        mark(&connack.values, PROPERTY_ASSIGNED_CLIENT_IDENTIFIER)
    refusal = why_full(shard, connection, grant, client_id.at, client_id.n)
    if refusal:
        turn_away(shard, connection, grant, &client_id, refusal, QUOTA_EXCEEDED)
        return
    connection.durability = min(shard.listener_durability[connection.listener], grant.durability)
    session = unexpired_session(shard, grant.principal, &client_id)
    if unlikely_(shard.journal.refusing and needs_disk(
            shard, connection, session, fields, end_of_predecessor(shard, connection, grant.principal, &client_id))):
        turn_away(shard, connection, grant, &client_id, REFUSED_DISK, SERVER_UNAVAILABLE)
        return
    connection.keep_alive_s = server_keep_alive(shard, fields)
    if fields.version == 5:
        announce(shard, grant, fields, connection.keep_alive_s, &connack)
        announce_level(connection, level, &connack)
    size = connack_size(fields.version, &connack)
    if size > connection.client_maximum_packet_size_bytes:
        turn_away(shard, connection, grant, &client_id, REFUSED_PACKET_SIZE, PACKET_TOO_LARGE)
        return
    forget_stranger(shard, connection)
    present = goes_on(session, fields)
    connack.session_present = enter_session(shard, connection, grant, &client_id, fields)  # [MQTT-3.2.2-2]
    if fields.has_will:
        leave_will(shard, connection.session, fields)  # [MQTT-3.1.2-7]
    connection.state = CONNECTED
    note_connected(shard, connection, connack.session_present)
    shard.unauthenticated_count -= 1
    shard.connected[connection.durability] += 1
    encode_connack(outbox_reserve(shard, connection, size), fields.version, &connack)  # [MQTT-3.2.0-1]
    if connection.session.durable != NULL or has_recorded_will(connection.session):
        ticket = ticket_for(shard, connection)
    elif not present:       # that there is no session any more, whoever has ended it
        ticket = end_of_predecessor(shard, connection, grant.principal, &client_id)
    if not shard.journal.refusing:
        gate(shard, connection, ticket)
    arm_keep_alive(shard, connection)
    slow_start(shard, connection)
    if connection.session.waiting:
        mark_ready(shard, connection)       # what waited for this client follows its CONNACK


cdef inline bint is_open_listener(ShardState* shard, Connection* connection) noexcept nogil:
    return connection.listener < 64 and (shard.open_listeners >> connection.listener) & 1


cdef bint is_damped(ShardState* shard, ConnectFields* fields, Grant* grant) noexcept nogil:
    # Taking over is for a client that has lost its connection. When the one that would go has itself just taken over,
    # two clients are more likely using one identifier, and each will come back as soon as it is sent away.
    cdef Session* session = find_session(shard, grant.principal, fields.client_id.at, fields.client_id.n)
    return session != NULL and session.connection != NULL and session.connection.took_over_at != 0 and \
        <uint16_t>(coarse_now(shard) - session.connection.took_over_at) < DAMPING_STEPS


cdef void wait_for_python(ShardState* shard, Connection* connection) noexcept nogil:
    connection.state = AUTHENTICATING
    connection.barrier = 1
    add_rare(shard, connection, RARE_CONNECT, 0)


cdef Grant* known(ShardState* shard, ConnectFields* fields) noexcept nogil:
    cdef uint8_t[32] credential
    if not fields.has_user_name or not fields.has_password:
        return NULL
    credential_of(
        shard.secret, fields.user_name.at, fields.user_name.n, fields.password.at, fields.password.n, credential)
    return find_grant(shard, credential)


cdef void handle_connect(
        ShardState* shard, Connection* connection, const uint8_t* body, uint32_t n) noexcept nogil:
    cdef bint open_listener = is_open_listener(shard, connection)
    cdef ConnectFields fields
    cdef Grant* grant
    cdef int reason_code = parse_connect(body, n, &fields)
    connection.version = answerable_version(&fields)
    if fields.is_31 and reason_code == UNSUPPORTED_PROTOCOL_VERSION and not open_listener and \
            known(shard, &fields) == NULL:
        reason_code = NOT_AUTHORIZED    # a library that falls back to 3.1 must not take a bad login for a bad version
    if not reason_code:
        take_limits(connection, &fields)
        reason_code = check(shard, &fields)
    if reason_code:
        fail(shard, connection, <uint8_t>reason_code)  # [MQTT-3.1.4-1]
        return
    grant = shard.open_grant if open_listener else known(shard, &fields)
    if connection.transport != NULL and connection.transport.asked and not open_listener:
        grant = NULL        # its certificate may name somebody, or lack: that is for Python to judge
    if grant == NULL:
        wait_for_python(shard, connection)
    elif unlikely_(is_damped(shard, &fields, grant)):
        connection.state = AUTHENTICATING
        connection.barrier = 1
        connection.timer.kind = TIMER_DAMPED
        timer_set(&shard.wheel, &connection.timer, shard.now_ns + DAMPING_NS)
    else:
        admit(shard, connection, &fields, grant)


cdef void connect_damped(ShardState* shard, Connection* connection) noexcept nogil:
    cdef ConnectFields fields
    cdef Grant* grant
    cdef uint32_t header = 0, remaining = 0
    read_header(connection.inbox, connection.inbox_bytes, &header, &remaining)
    parse_connect(connection.inbox + header, remaining, &fields)    # it was valid when it came
    grant = shard.open_grant if is_open_listener(shard, connection) else known(shard, &fields)
    if grant != NULL:
        admit(shard, connection, &fields, grant)
    else:       # its credential has ended meanwhile
        arm_connect_deadline(shard, connection)
        wait_for_python(shard, connection)


cdef void admit_waiting(ShardState* shard, Connection* connection, Grant* grant) noexcept nogil:
    cdef ConnectFields fields
    cdef Grant* table = NULL
    cdef uint32_t header = 0, remaining = 0
    read_header(connection.inbox, connection.inbox_bytes, &header, &remaining)
    parse_connect(connection.inbox + header, remaining, &fields)    # it was valid when it came
    if grant.revoked:       # in no table; its user name and password may be, by now or though it was asked about:
        table = known(shard, &fields)       # whoever ends that grant ends this connection with it
    admit(shard, connection, &fields, table if table != NULL and table.principal == grant.principal else grant)
