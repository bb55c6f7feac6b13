"""CONNECT and CONNACK. See connect.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from broker._core.blake2b cimport Blake2b, blake2b_close, blake2b_open, blake2b_update, credential_of
from broker._core.connection cimport add_rare, arm_keep_alive, fail, outbox_reserve
from broker._core.cursor cimport Span
from broker._core.framing cimport read_header
from broker._core.grants cimport find_grant, hold_grant
from broker._core.model cimport (
    AUTHENTICATING,
    CONNECTED,
    RARE_CONNECT,
    Connection,
    Grant,
    Session,
    ShardState,
)
from broker._core.packets cimport ConnackFields, ConnectFields, connack_size, encode_connack, parse_connect
from broker._core.properties cimport (
    PROPERTY_ASSIGNED_CLIENT_IDENTIFIER,
    PROPERTY_AUTHENTICATION_METHOD,
    PROPERTY_MAXIMUM_PACKET_SIZE,
    PROPERTY_MAXIMUM_QOS,
    PROPERTY_RECEIVE_MAXIMUM,
    PROPERTY_REQUEST_PROBLEM_INFORMATION,
    PROPERTY_RETAIN_AVAILABLE,
    PROPERTY_SERVER_KEEP_ALIVE,
    PROPERTY_SESSION_EXPIRY_INTERVAL,
    PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE,
    has,
    mark,
)
from broker._core.reasons cimport (
    BAD_AUTHENTICATION_METHOD,
    CLIENT_IDENTIFIER_NOT_VALID,
    IMPLEMENTATION_SPECIFIC_ERROR,
    NOT_AUTHORIZED,
    PACKET_TOO_LARGE,
    SERVER_UNAVAILABLE,
    SESSION_TAKEN_OVER,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from broker._core.session cimport find_session, new_session


cdef enum:
    ASSIGNED_ID_BYTES = 37      # "auto-" and 32 hexadecimal digits


cdef uint8_t answerable_version(ConnectFields* fields) noexcept nogil:
    # Who speaks MQTT of another level still understands a refusal: in the form of 5.0 above it, of 3.1.1 below.
    if fields.version or not fields.name_valid:
        return fields.version
    return 5 if fields.level > 5 else 4


cdef int check(ShardState* shard, ConnectFields* fields) noexcept nogil:
    if has(&fields.values, PROPERTY_AUTHENTICATION_METHOD):
        return BAD_AUTHENTICATION_METHOD  # [MQTT-4.12.0-1]
    if fields.client_id.n > shard.limits.client_id_maximum_bytes:
        return CLIENT_IDENTIFIER_NOT_VALID  # [MQTT-3.1.3-8]
    if fields.has_will:
        # Wills are not available yet: better refused than forgotten.
        return IMPLEMENTATION_SPECIFIC_ERROR if fields.version == 5 else SERVER_UNAVAILABLE
    return 0


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
        ShardState* shard, ConnectFields* fields, uint16_t keep_alive_s, ConnackFields* connack) noexcept nogil:
    # What this broker enforces, from the object it enforces it with.
    connack.values.receive_maximum = shard.limits.server_receive_maximum
    mark(&connack.values, PROPERTY_RECEIVE_MAXIMUM)
    connack.values.maximum_qos = 1
    mark(&connack.values, PROPERTY_MAXIMUM_QOS)
    connack.values.retain_available = 0
    mark(&connack.values, PROPERTY_RETAIN_AVAILABLE)
    connack.values.maximum_packet_size = shard.limits.maximum_packet_size_bytes
    mark(&connack.values, PROPERTY_MAXIMUM_PACKET_SIZE)
    connack.values.shared_subscription_available = 0
    mark(&connack.values, PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE)
    if keep_alive_s != fields.keep_alive_s:
        connack.values.server_keep_alive = keep_alive_s
        mark(&connack.values, PROPERTY_SERVER_KEEP_ALIVE)
    if fields.session_expiry_interval_s:
        connack.values.session_expiry_interval_s = 0        # sessions end with their connection
        mark(&connack.values, PROPERTY_SESSION_EXPIRY_INTERVAL)


cdef void take_limits(Connection* connection, ConnectFields* fields) noexcept nogil:
    # Before anything is answered: a refusal has to fit as well.
    connection.client_receive_maximum = 65535
    if fields.version == 5:
        if has(&fields.values, PROPERTY_RECEIVE_MAXIMUM):
            connection.client_receive_maximum = <uint16_t>fields.values.receive_maximum
        if has(&fields.values, PROPERTY_MAXIMUM_PACKET_SIZE):
            connection.client_maximum_packet_size_bytes = fields.values.maximum_packet_size
        if has(&fields.values, PROPERTY_REQUEST_PROBLEM_INFORMATION):
            connection.request_problem_information = <uint8_t>fields.values.request_problem_information


cdef bint may_enter(ShardState* shard, Connection* connection, Grant* grant) noexcept nogil:
    # An application's key opens a whole account: in clear text it is taken from this machine alone, unless configured.
    if grant.principal.device_id_bytes or grant == shard.open_grant or connection.from_loopback:
        return True
    return (shard.application_listeners >> connection.listener) & 1


cdef void take_over(ShardState* shard, Grant* grant, const Span* client_id) noexcept nogil:
    # The older session ends with its connection: there is nothing to resume. [MQTT-3.1.4-3]
    cdef Session* older = find_session(shard, grant.principal, client_id.at, client_id.n)
    if older != NULL:
        fail(shard, older.connection, SESSION_TAKEN_OVER)


cdef void begin_session(
        ShardState* shard, Connection* connection, Grant* grant, const Span* client_id) noexcept nogil:
    cdef Session* session = new_session(shard, grant.principal, client_id.at, client_id.n)
    cdef uint32_t quota = shard.limits.outbound_inflight_maximum
    session.connection = connection
    session.send_quota = quota if quota < connection.client_receive_maximum else connection.client_receive_maximum
    connection.session = session
    hold_grant(grant, connection)
    grant.principal.connections += 1
    grant.principal.last_seen_ns = shard.now_ns


cdef void admit(
        ShardState* shard, Connection* connection, ConnectFields* fields, Grant* grant) noexcept nogil:
    cdef uint8_t[ASSIGNED_ID_BYTES] assigned
    cdef ConnackFields connack
    cdef Span client_id = fields.client_id
    cdef uint32_t size
    if not may_enter(shard, connection, grant):
        fail(shard, connection, NOT_AUTHORIZED)
        return
    memset(&connack, 0, sizeof(connack))
    if client_id.n == 0:
        assign_client_id(shard, assigned)
        client_id.at = assigned
        client_id.n = ASSIGNED_ID_BYTES
        connack.values.assigned_client_id = client_id  # [MQTT-3.1.3-7] [MQTT-3.2.2-16]
        mark(&connack.values, PROPERTY_ASSIGNED_CLIENT_IDENTIFIER)
    connection.keep_alive_s = server_keep_alive(shard, fields)
    if fields.version == 5:
        announce(shard, fields, connection.keep_alive_s, &connack)
    size = connack_size(fields.version, &connack)
    if size > connection.client_maximum_packet_size_bytes:
        fail(shard, connection, PACKET_TOO_LARGE)
        return
    take_over(shard, grant, &client_id)
    begin_session(shard, connection, grant, &client_id)
    connection.state = CONNECTED
    shard.unauthenticated_count -= 1
    encode_connack(outbox_reserve(shard, connection, size), fields.version, &connack)  # [MQTT-3.2.0-1]
    arm_keep_alive(shard, connection)


cdef Grant* known(ShardState* shard, ConnectFields* fields) noexcept nogil:
    cdef uint8_t[32] credential
    if not fields.has_user_name or not fields.has_password:
        return NULL
    credential_of(
        shard.secret, fields.user_name.at, fields.user_name.n, fields.password.at, fields.password.n, credential)
    return find_grant(shard, credential)


cdef void handle_connect(
        ShardState* shard, Connection* connection, const uint8_t* body, uint32_t n, bint open_listener) noexcept nogil:
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
    if grant != NULL:
        admit(shard, connection, &fields, grant)
        return
    connection.state = AUTHENTICATING
    connection.barrier = 1
    add_rare(shard, connection, RARE_CONNECT, 0)


cdef void admit_waiting(ShardState* shard, Connection* connection, Grant* grant) noexcept nogil:
    cdef ConnectFields fields
    cdef Grant* table
    cdef uint32_t header = 0, remaining = 0
    read_header(connection.inbox, connection.inbox_bytes, &header, &remaining)
    parse_connect(connection.inbox + header, remaining, &fields)    # it was valid when it came
    table = known(shard, &fields)       # became known meanwhile: whoever ends that grant ends this connection with it
    admit(shard, connection, &fields, grant if table == NULL else table)
