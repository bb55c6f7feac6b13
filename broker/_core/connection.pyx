"""Network connections without sockets: slots, outboxes, refusals, deadlines, the end. See connection.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from broker._core.aliases cimport free_aliases
from broker._core.budgets cimport count_drop
from broker._core.events cimport list_rare, note_disconnected
from broker._core.grants cimport let_go_of_grant
from broker._core.memory cimport (
    OUTBOX_BUFFER_BYTES,
    give_memory,
    pool_close,
    pool_give,
    pool_take,
    resize_memory,
    slab_close,
    slab_give,
    slab_open,
    slab_take,
    take_memory,
    unlikely_,
)
from broker._core.model cimport (
    AUTHENTICATING,
    AWAIT_CONNECT,
    CLOSING,
    CONNECTED,
    DROP_ACCOUNT_BUDGET_FULL,
    DROP_BROKER_BUDGET_FULL,
    DROP_CLIENT_AWAY,
    DROP_OUTBOX_FULL,
    LOCAL_FD,
    RARE_CLOSED,
    RARE_REFUSED,
    RATED,
    TIMER_CONNECT_DEADLINE,
    TIMER_KEEP_ALIVE,
    TIMER_RATE_PAUSE,
    Account,
    Activity,
    Connection,
    GrantLimits,
    Peer,
    ShardState,
)
from broker._core.packets cimport (
    DISCONNECT_SIZE,
    REASON_STRING_SIZE,
    TOO_MANY_MESSAGES,
    TOO_MANY_MESSAGES_BYTES,
    ConnackFields,
    connack_code_311,
    connack_size,
    encode_connack,
    encode_disconnect,
    put_reason_string,
)
from broker._core.reasons cimport (
    BAD_AUTHENTICATION_METHOD,
    BANNED,
    CONNECTION_RATE_EXCEEDED,
    KEEP_ALIVE_TIMEOUT,
    MESSAGE_RATE_TOO_HIGH,
    PACKET_TOO_LARGE,
    PAYLOAD_FORMAT_INVALID,
    QOS_NOT_SUPPORTED,
    QUOTA_EXCEEDED,
    RETAIN_NOT_SUPPORTED,
    SERVER_MOVED,
    SERVER_SHUTTING_DOWN,
    SERVER_UNAVAILABLE,
    TOPIC_NAME_INVALID,
    UNSPECIFIED_ERROR,
    USE_ANOTHER_SERVER,
)
from broker._core.peers cimport peer_of, peers_close, peers_grow
from broker._core.promises cimport drop_promises, kept_count
from broker._core.session cimport part_session
from broker._core.strangers cimport forget_stranger, strangers_close
from broker._core.timers cimport timer_cancel, timer_set
from broker._core.transport cimport free_transport


cdef enum:
    FIRST_SLOTS = 64
    SECOND_NS = 1000000000
    FIRST_STARVED = 64
    STARVED_PER_RETURN = 8
    UNREAD_GRACE_NS = 100000000


# ---------------------------------------------------------------- slots

cdef void connections_open(ShardState* shard) noexcept nogil:
    slab_open(&shard.connection_slab, sizeof(Connection), 64)


cdef void connections_close(ShardState* shard) noexcept nogil:
    cdef uint32_t slot
    for slot in range(shard.connection_capacity):
        if shard.connections[slot] != NULL:
            close_connection(shard, shard.connections[slot])
            free_connection(shard, shard.connections[slot])
    give_memory(shard.connections)
    give_memory(shard.generations)
    give_memory(shard.free_slots)
    give_memory(shard.rare)
    peers_close(shard)
    give_memory(shard.starved)
    strangers_close(shard)
    slab_close(&shard.connection_slab)
    pool_close(&shard.outbox_pool)


cdef void grow_slots(ShardState* shard) noexcept nogil:
    cdef uint32_t before = shard.connection_capacity
    cdef uint32_t capacity = before * 2 if before else FIRST_SLOTS
    cdef uint32_t slot
    shard.connections = <Connection**>resize_memory(shard.connections, <size_t>capacity * sizeof(void*))
    shard.generations = <uint32_t*>resize_memory(shard.generations, <size_t>capacity * sizeof(uint32_t))
    shard.free_slots = <uint32_t*>resize_memory(shard.free_slots, <size_t>capacity * sizeof(uint32_t))
    peers_grow(shard, before, capacity)
    slot = capacity
    while slot > before:        # the lowest slot is given first
        slot -= 1
        shard.connections[slot] = NULL
        shard.generations[slot] = 1
        shard.free_slots[shard.free_slot_count] = slot
        shard.free_slot_count += 1
    shard.connection_capacity = capacity


cdef Connection* open_connection(ShardState* shard, int fd, uint32_t listener) noexcept nogil:
    cdef Connection* connection
    cdef uint32_t slot
    if fd != LOCAL_FD and (     # a broker that is full can still be spoken to from inside
            shard.connection_count >= shard.limits.connections_maximum or
            shard.unauthenticated_count >= shard.limits.unauthenticated_connections_maximum):
        shard.counters.connections_refused += 1
        return NULL
    if shard.free_slot_count == 0:
        grow_slots(shard)
    shard.free_slot_count -= 1
    slot = shard.free_slots[shard.free_slot_count]
    connection = <Connection*>slab_take(&shard.connection_slab)
    memset(connection, 0, sizeof(Connection))
    connection.slot = slot
    connection.generation = shard.generations[slot]
    connection.fd = fd
    connection.listener = <uint8_t>listener
    connection.state = AWAIT_CONNECT
    connection.request_problem_information = 1
    connection.client_maximum_packet_size_bytes = 0xFFFFFFFF
    connection.timer.owner = connection
    shard.connections[slot] = connection
    memset(peer_of(shard, connection), 0, sizeof(Peer))
    shard.connection_count += 1
    shard.unauthenticated_count += 1
    shard.counters.connections_accepted += 1
    arm_connect_deadline(shard, connection)
    return connection


cdef Connection* find_connection(ShardState* shard, uint32_t slot, uint32_t generation) noexcept nogil:
    if slot >= shard.connection_capacity or shard.generations[slot] != generation:
        return NULL
    return shard.connections[slot]


cdef void free_connection(ShardState* shard, Connection* connection) noexcept nogil:
    cdef uint32_t slot = connection.slot
    if connection.outbox != NULL:
        outbox_release(shard, connection)
    give_memory(connection.inbox)
    free_aliases(connection)
    free_transport(connection)
    timer_cancel(&shard.wheel, &connection.timer)
    shard.connections[slot] = NULL
    shard.generations[slot] += 1    # late answers to the old handle find nothing
    if shard.generations[slot] == 0:
        shard.generations[slot] = 1
    shard.free_slots[shard.free_slot_count] = slot
    shard.free_slot_count += 1
    shard.connection_count -= 1
    slab_give(&shard.connection_slab, connection)


# ---------------------------------------------------------------- lists of work

cdef void mark_dirty(ShardState* shard, Connection* connection) noexcept nogil:
    if connection.dirty:
        return
    connection.dirty = 1
    shard.dirty_count += 1
    connection.dirty_next = NULL
    if shard.dirty_tail != NULL:
        shard.dirty_tail.dirty_next = connection
    else:
        shard.dirty_head = connection
    shard.dirty_tail = connection


cdef Connection* next_dirty(ShardState* shard) noexcept nogil:
    cdef Connection* connection = shard.dirty_head
    if connection != NULL:
        shard.dirty_head = connection.dirty_next
        if shard.dirty_head == NULL:
            shard.dirty_tail = NULL
        connection.dirty = 0
        shard.dirty_count -= 1
    return connection


cdef void mark_ready(ShardState* shard, Connection* connection) noexcept nogil:
    if connection.ready:
        return
    connection.ready = 1
    connection.ready_next = NULL
    if shard.ready_tail != NULL:
        shard.ready_tail.ready_next = connection
    else:
        shard.ready_head = connection
    shard.ready_tail = connection


cdef Connection* next_ready(ShardState* shard) noexcept nogil:
    cdef Connection* connection = shard.ready_head
    if connection != NULL:
        shard.ready_head = connection.ready_next
        if shard.ready_head == NULL:
            shard.ready_tail = NULL
        connection.ready = 0
    return connection


cdef void add_rare(ShardState* shard, Connection* connection, uint8_t kind, uint8_t reason_code) noexcept nogil:
    list_rare(shard, kind, reason_code, connection.slot, connection.generation)


# ---------------------------------------------------------------- outbox

cdef inline bint fits(uint64_t used, uint64_t more, uint64_t maximum) noexcept nogil:
    # Half a budget is there for one message of any size: nothing waits for ever.
    return used + more <= maximum or used <= maximum // 2


cdef inline bint process_fits(ShardState* shard, uint64_t more) noexcept nogil:
    return fits(shard.outbox_bytes, more, shard.limits.outboxes_maximum_bytes)


cdef inline bint account_fits(Connection* connection, uint64_t more) noexcept nogil:
    cdef Account* account
    if connection.grant == NULL:
        return True
    account = connection.grant.principal.account
    return account.limits.outbox_maximum_bytes == 0 or \
        fits(account.outbox_bytes, more, account.limits.outbox_maximum_bytes)


cdef void starve(ShardState* shard, Connection* connection) noexcept nogil:
    if connection.starved_or_lingering:
        return
    connection.starved_or_lingering = 1
    if shard.starved_at + shard.starved_count == shard.starved_capacity:
        if shard.starved_at > shard.starved_count:
            memmove(shard.starved, shard.starved + shard.starved_at, shard.starved_count * sizeof(uint64_t))
            shard.starved_at = 0
        else:
            shard.starved_capacity = shard.starved_capacity * 2 if shard.starved_capacity else FIRST_STARVED
            shard.starved = <uint64_t*>resize_memory(shard.starved, shard.starved_capacity * sizeof(uint64_t))
    shard.starved[shard.starved_at + shard.starved_count] = <uint64_t>connection.generation << 32 | connection.slot
    shard.starved_count += 1


cdef void feed_starved(ShardState* shard) noexcept nogil:
    # A few for each outbox that is given back, in their order; who still finds nothing comes to the end of the list.
    cdef Connection* connection
    cdef uint64_t handle
    cdef int _
    for _ in range(STARVED_PER_RETURN):
        if shard.starved_count == 0:
            shard.starved_at = 0
            return
        handle = shard.starved[shard.starved_at]
        shard.starved_at += 1
        shard.starved_count -= 1
        connection = find_connection(shard, <uint32_t>handle, <uint32_t>(handle >> 32))
        if connection != NULL and connection.state != CLOSING:
            connection.starved_or_lingering = 0
            mark_ready(shard, connection)


cdef bint may_grow(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil:
    cdef uint64_t more = <uint64_t>connection.outbox_capacity + n
    if connection.outbox == NULL and n <= OUTBOX_BUFFER_BYTES:
        return True     # everybody may have a buffer of the pool
    if process_fits(shard, more) and account_fits(connection, more):
        return True
    starve(shard, connection)
    return False


cdef int why_no_outbox(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil:
    cdef uint32_t unsent = outbox_unsent(connection)
    if unsent and unsent + n > shard.limits.outbox_soft_limit_bytes:
        return DROP_OUTBOX_FULL
    if not account_fits(connection, <uint64_t>connection.outbox_capacity + n):
        return DROP_ACCOUNT_BUDGET_FULL
    return DROP_BROKER_BUDGET_FULL


cdef inline void count_outbox(ShardState* shard, Connection* connection, int64_t more) noexcept nogil:
    connection.outbox_capacity += more
    shard.outbox_bytes += more
    if connection.grant != NULL:
        connection.grant.principal.account.outbox_bytes += more


cdef void outbox_release(ShardState* shard, Connection* connection) noexcept nogil:
    pool_give(&shard.outbox_pool, connection.outbox, connection.outbox_capacity)
    count_outbox(shard, connection, -<int64_t>connection.outbox_capacity)
    connection.outbox = NULL
    connection.outbox_start = 0
    connection.outbox_end = 0
    if unlikely_(shard.starved_count):
        feed_starved(shard)


cdef void outbox_grow(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil:
    cdef uint32_t unsent = outbox_unsent(connection)
    cdef uint32_t capacity
    cdef uint8_t* grown
    if connection.outbox == NULL:
        capacity = max(n, <uint32_t>OUTBOX_BUFFER_BYTES)
        connection.outbox = pool_take(&shard.outbox_pool) if capacity == OUTBOX_BUFFER_BYTES \
            else <uint8_t*>take_memory(capacity)
        count_outbox(shard, connection, capacity)
        return
    if unsent + n <= connection.outbox_capacity and connection.outbox_start >= unsent:
        memcpy(connection.outbox, connection.outbox + connection.outbox_start, unsent)
    else:
        capacity = connection.outbox_capacity * 2
        while capacity < unsent + n:
            capacity *= 2
        grown = <uint8_t*>take_memory(capacity)
        memcpy(grown, connection.outbox + connection.outbox_start, unsent)
        pool_give(&shard.outbox_pool, connection.outbox, connection.outbox_capacity)
        connection.outbox = grown
        count_outbox(shard, connection, <int64_t>capacity - connection.outbox_capacity)
    connection.outbox_start = 0
    connection.outbox_end = unsent


cdef uint8_t* outbox_reserve(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil:
    cdef uint8_t* at
    if unlikely_(connection.outbox == NULL or connection.outbox_end + n > connection.outbox_capacity):
        outbox_grow(shard, connection, n)
    mark_dirty(shard, connection)
    at = connection.outbox + connection.outbox_end
    connection.outbox_end += n
    return at


cdef void outbox_put(ShardState* shard, Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil:
    memcpy(outbox_reserve(shard, connection, n), bytes, n)


cdef void outbox_sent(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil:
    connection.outbox_start += n
    shard.counters.bytes_sent += n
    if connection.outbox_start == connection.outbox_end:
        outbox_release(shard, connection)
        if connection.held_back or (connection.session != NULL and connection.session.waiting):
            mark_ready(shard, connection)       # what waited for room may go on, even if the socket never blocked


# ---------------------------------------------------------------- inbox

cdef void keep_in_inbox(Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil:
    # Grows with what has arrived, never with what a length claims.
    cdef uint32_t needed = connection.inbox_bytes + n
    cdef uint32_t capacity
    if needed > connection.inbox_capacity:
        capacity = connection.inbox_capacity * 2
        if capacity < needed:
            capacity = needed
        connection.inbox = <uint8_t*>resize_memory(connection.inbox, capacity)
        connection.inbox_capacity = capacity
    memcpy(connection.inbox + connection.inbox_bytes, bytes, n)
    connection.inbox_bytes = needed


cdef void inbox_consumed(Connection* connection, uint32_t n) noexcept nogil:
    connection.inbox_bytes -= n
    if connection.inbox_bytes:
        memmove(connection.inbox, connection.inbox + n, connection.inbox_bytes)
        return
    give_memory(connection.inbox)
    connection.inbox = NULL
    connection.inbox_capacity = 0


# ---------------------------------------------------------------- the end

cdef uint8_t connack_code_5(uint8_t reason_code) noexcept nogil:
    # DISCONNECT has reasons that CONNACK may not give (table 3-1).
    if reason_code == SERVER_SHUTTING_DOWN:
        return SERVER_UNAVAILABLE
    if reason_code <= BANNED or reason_code in (
            BAD_AUTHENTICATION_METHOD, TOPIC_NAME_INVALID, PACKET_TOO_LARGE, QUOTA_EXCEEDED, PAYLOAD_FORMAT_INVALID,
            RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED, USE_ANOTHER_SERVER, SERVER_MOVED, CONNECTION_RATE_EXCEEDED):
        return reason_code
    return UNSPECIFIED_ERROR


cdef void refuse_connect(ShardState* shard, Connection* connection, uint8_t reason_code) noexcept nogil:
    cdef ConnackFields connack
    cdef uint32_t size
    if connection.version == 0 or (connection.version == 4 and connack_code_311(reason_code) < 0):
        return      # nobody there who would understand an answer
    memset(&connack, 0, sizeof(connack))
    connack.reason_code = reason_code if connection.version == 4 else connack_code_5(reason_code)
    size = connack_size(connection.version, &connack)
    if size <= connection.client_maximum_packet_size_bytes:  # [MQTT-3.1.2-24]
        encode_connack(outbox_reserve(shard, connection, size), connection.version, &connack)


cdef void put_disconnect(ShardState* shard, Connection* connection, uint8_t reason_code) noexcept nogil:
    cdef uint8_t[DISCONNECT_SIZE + REASON_STRING_SIZE] bytes
    cdef uint8_t* end = encode_disconnect(bytes, reason_code)
    if reason_code == MESSAGE_RATE_TOO_HIGH and \
            DISCONNECT_SIZE + REASON_STRING_SIZE <= connection.client_maximum_packet_size_bytes:  # [MQTT-3.14.2-3]
        end = put_reason_string(end, TOO_MANY_MESSAGES, TOO_MANY_MESSAGES_BYTES)
        bytes[1] = <uint8_t>(end - bytes - 2)
    outbox_put(shard, connection, bytes, <uint32_t>(end - bytes))


cdef void fail(ShardState* shard, Connection* connection, uint8_t reason_code) noexcept nogil:
    if connection.state == CLOSING:
        return
    connection.close_reason = reason_code
    if reason_code != SERVER_SHUTTING_DOWN:     # said once, by whoever stops
        add_rare(shard, connection, RARE_CLOSED if connection.state == CONNECTED else RARE_REFUSED, reason_code)
    if connection.state != CONNECTED:
        shard.counters.connections_refused += 1
        refuse_connect(shard, connection, reason_code)
    elif connection.version == 5 and not connection.gated:  # [MQTT-4.13.2-1]: 3.1.1 knows no server DISCONNECT
        put_disconnect(shard, connection, reason_code)
    close_connection(shard, connection)  # [MQTT-4.8.0-1]


cdef void drop_held(ShardState* shard, Connection* connection) noexcept nogil:
    cdef uint32_t _
    for _ in range(kept_count(connection)):
        count_drop(shard, connection.session, DROP_CLIENT_AWAY)
    drop_promises(shard, connection)


cdef void close_connection(ShardState* shard, Connection* connection) noexcept nogil:
    if connection.state == CLOSING:
        return
    if connection.state != CONNECTED:
        shard.unauthenticated_count -= 1
        forget_stranger(shard, connection)
    else:
        shard.connected[connection.durability] -= 1
        note_disconnected(shard, connection)
    connection.state = CLOSING
    drop_held(shard, connection)
    if connection.gated:        # its CONNACK is not true yet, and nothing may leave before it
        connection.gated = 0
        if connection.outbox != NULL:
            outbox_release(shard, connection)
    connection.starved_or_lingering = 0
    timer_cancel(&shard.wheel, &connection.timer)
    if connection.fan_out != NULL:      # what was accepted is still routed, but nobody waits for the acknowledgement
        connection.fan_out.publisher = NULL
        connection.fan_out.account.orphans += 1
        connection.fan_out = NULL
    if connection.session != NULL:
        part_session(shard, connection.session)
        connection.session = NULL
    if connection.grant != NULL:
        connection.grant.principal.last_seen_ns = shard.now_ns
        let_go_of_grant(shard, connection)
    give_memory(connection.inbox)
    connection.inbox = NULL
    connection.inbox_bytes = 0
    connection.inbox_capacity = 0
    connection.barrier = 0
    list_closing(shard, connection)


cdef void list_closing(ShardState* shard, Connection* connection) noexcept nogil:
    if connection.closing_listed:
        return
    connection.closing_listed = 1
    connection.closing_next = shard.closing_head
    shard.closing_head = connection


# ---------------------------------------------------------------- deadlines

cdef void arm_connect_deadline(ShardState* shard, Connection* connection) noexcept nogil:
    connection.timer.kind = TIMER_CONNECT_DEADLINE
    timer_set(&shard.wheel, &connection.timer, shard.now_ns + shard.limits.connect_timeout_ns)


cdef void arm_keep_alive(ShardState* shard, Connection* connection) noexcept nogil:
    if connection.keep_alive_s == 0 or connection.fd == LOCAL_FD:      # nobody is lost inside a process
        timer_cancel(&shard.wheel, &connection.timer)
        return
    connection.timer.kind = TIMER_KEEP_ALIVE
    timer_set(  # [MQTT-3.1.2-22]: one and a half times
        &shard.wheel, &connection.timer,
        connection.last_packet_at_ns + <int64_t>connection.keep_alive_s * (SECOND_NS + SECOND_NS // 2))


cdef void note_delay(ShardState* shard, Connection* connection) noexcept nogil:
    # What the bucket got back because this process was late to read somebody again is not his moderation.
    cdef Activity* activity = connection.grant.principal.activity
    cdef GrantLimits* limits = connection.grant.limits
    if activity != NULL:
        activity.late_ns = max(limits.capacity_ns - (activity.full_at_ns - shard.now_ns) - limits.back_ns, 0)


cdef void connection_timer(ShardState* shard, Connection* connection, uint8_t kind) noexcept nogil:
    cdef int64_t allowed_ns, idle_ns
    if connection.state == CLOSING:
        return
    if kind == TIMER_RATE_PAUSE:
        note_delay(shard, connection)
        connection.held_back &= ~<uint8_t>RATED
        connection.resumes = 1
        connection.last_packet_at_ns = shard.now_ns
        arm_keep_alive(shard, connection)
        mark_ready(shard, connection)
        return
    if kind == TIMER_CONNECT_DEADLINE:
        # Nothing was proven in time. A CONNECT that waits for the Authenticator gets an answer, silence gets silence.
        fail(shard, connection, SERVER_UNAVAILABLE if connection.state == AUTHENTICATING else KEEP_ALIVE_TIMEOUT)
        return
    allowed_ns = <int64_t>connection.keep_alive_s * (SECOND_NS + SECOND_NS // 2)
    if connection.barrier or connection.fan_out != NULL or connection.held_back or connection.resumes:
        connection.last_packet_at_ns = shard.now_ns     # while we do not read a client, its clock stands
    idle_ns = shard.now_ns - connection.last_packet_at_ns
    if idle_ns < allowed_ns:
        arm_keep_alive(shard, connection)
    elif shard.reads_cut and idle_ns < 2 * allowed_ns:
        # Its packet may lie in a socket that this round had no time for, as after a stall of the whole process.
        timer_set(&shard.wheel, &connection.timer, shard.now_ns + UNREAD_GRACE_NS)
    else:
        fail(shard, connection, KEEP_ALIVE_TIMEOUT)
