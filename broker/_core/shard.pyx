"""The shard and its Python face. See shard.pxd, and shard.pyi for what each call promises."""

from zlib import crc32

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from broker._core.acks cimport settle, stage_bytes, ticket_for
from broker._core.arena cimport arena_close
from broker._core.chunks cimport chunk_at
from broker._core.compaction cimport compact, look_for_waste
from broker._core.connect cimport admit_waiting
from broker._core.connection cimport (
    close_connection,
    connections_close,
    connections_open,
    fail,
    find_connection,
    handle_of,
    open_connection,
    outbox_sent,
    outbox_unsent,
)
from broker._core.dispatch cimport feed, is_stopped, lift_barrier
from broker._core.fold cimport fold
from broker._core.events cimport events_close, note_often
from broker._core.figures cimport (
    connection_figures,
    counters,
    drops_of_account,
    drops_of_principal,
    journal_figures,
    open_batch_bytes,
    standing,
)
from broker._core.grants cimport (
    add_grant,
    compile_pattern,
    connections_peak,
    find_account,
    find_grant,
    find_principal,
    forget_policies,
    hold_principal,
    identities_close,
    identities_open,
    limits_with,
    may_publish,
    need_account,
    new_grant,
    new_policy,
    release_grant,
    retire_grant,
    stand_in,
)
from broker._core.journal cimport journal_close, journal_open, newest_ticket
from broker._core.keyed_records cimport delete_record, put_record
from broker._core.listing cimport (
    connection_row,
    page_of_connections,
    page_of_sessions,
    rows_of_connections,
    rows_of_sessions,
)
from broker._core.limiter cimport derive_limits, usage_close
from broker._core.loading cimport ask_again, next_ask, take_in
from broker._core.memory cimport give_memory, take_zeroed
from broker._core.merging cimport look_for_small, take_part
from broker._core.message cimport Outgoing, messages_close, messages_open, outgoing_open
from broker._core.model cimport (
    AUTHENTICATING,
    CLOSING,
    CONNECTED,
    DOOR_INSIDE,
    EVENT_DENIED_SUBSCRIBE,
    FAREWELL_LOST,
    LEVEL_SYNCED,
    LEVELS,
    LOCAL_FD,
    LOCAL_LISTENER,
    PHASE_UPGRADE,
    WITHOUT_END,
    Account,
    AccountLimits,
    CompiledPolicy,
    Connection,
    Grant,
    GrantLimits,
    Limits,
    Principal,
    Session,
    ShardState,
    Subscription,
)
from broker._core.peers cimport set_address
from broker._core.properties cimport PROPERTY_MESSAGE_EXPIRY_INTERVAL
from broker._core.publish cimport REFUSED, continue_publishing, publish_from_server
from broker._core.reasons cimport ADMINISTRATIVE_ACTION, NOT_AUTHORIZED
from broker._core.records cimport (
    CHECKSUM_BYTES,
    TABLE_FLOWS,
    TABLE_MESSAGES,
    TABLE_META,
    TABLE_DEVICES,
    TABLE_OPS,
    TABLE_RETAINED,
    TABLE_SESSIONS,
    TABLE_SUBSCRIPTIONS,
    TABLE_WILLS,
    get_key,
)
from broker._core.records import TABLE_NAMES as _TABLE_NAMES
from broker._core.recovery cimport Restoring
from broker._core.replay cimport pump
from broker._core.retained cimport may_retain, remove_authored, remove_matching, retained_close, retained_open
from broker._core.restore cimport restore_finish, restore_rows, restoring_close
from broker._core.restore_retained cimport restore_messages
from broker._core.restore_wills cimport restore_wills
from broker._core.revocation cimport dismiss_session, end_principal, forget_accounts, judge_principal
from broker._core.rounds cimport free_closed, run_slice
from broker._core.runs cimport make_runs
from broker._core.sealing cimport seal_batch
from broker._core.session cimport find_session, sessions_open
from broker._core.session_end cimport end_subscription, sessions_close
from broker._core.strangers cimport ADDRESS_BYTES, count_stranger
from broker._core.subscribing cimport put_subscription
from broker._core.telling cimport take_answers, take_gathered, take_rare, take_stories, take_tracked, take_usage
from broker._core.timers cimport wheel_next_ns, wheel_open
from broker._core.topic_rules cimport TOPIC_LEVELS_HARD_MAXIMUM, valid_topic_filter, valid_topic_name
from broker._core.topics cimport find_subscription
from broker._core.tracking cimport tracking_close
from broker._core.transport cimport open_transport, open_websocket
from broker._core.verdicts cimport (
    INVALID_TOPIC,
    allows_filter,
    deciding_publish,
    deciding_subscribe,
    publish_verdict,
    subscribe_verdict,
)
from broker._core.websocket cimport answer_upgrade, frame_output, frames_sent, take_bytes
from broker._core.wills cimport record_wills

from broker.errors import BadRequest, PayloadTooLarge, QuotaExceeded, Unavailable, WrongThread

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() nogil


cdef enum:
    WORK_OF_REPLY = 1024    # for the retained messages that follow a SUBACK at once
    WORK_OF_CALL = 16384    # of what Python asks for: about a millisecond
    READ_BYTES = 4 * 1024 * 1024    # of chunks that are read at a time
    FRAMES_PER_CALL = 65536
    KEY_MAXIMUM_BYTES = 511
    POLICIES_MAXIMUM = 256      # compiled, before those that nobody has are looked for


cdef Limits NO_LIMITS
LIMITS = tuple(NO_LIMITS)       # the names of the struct's fields, which are the configuration's
GRANT_LIMITS = (
    "messages_per_s", "burst_messages", "connections_maximum", "sessions_maximum", "subscriptions_maximum",
    "retained_maximum", "payload_maximum_bytes", "queue_maximum_bytes",
)
ACCOUNT_LIMITS = (
    "connections_maximum", "applications_reserved", "sessions_maximum", "retained_maximum", "retained_maximum_bytes",
    "queue_maximum_bytes", "outbox_maximum_bytes", "filters_maximum_bytes", "queue_full_policy",
)


cdef void read_limits(Limits* limits, dict values) except *:
    unknown = set(values) ^ set(LIMITS)
    if unknown:
        raise ValueError(f"limits differ from what the core needs: {sorted(unknown)}")
    limits[0] = values
    limits.connect_packet_maximum_bytes = min(limits.connect_packet_maximum_bytes, limits.maximum_packet_size_bytes)
    if limits.topic_levels_maximum > TOPIC_LEVELS_HARD_MAXIMUM:
        raise ValueError(f"topic_levels_maximum is at most {TOPIC_LEVELS_HARD_MAXIMUM}")
    if limits.outbound_inflight_maximum > 65535 or limits.server_receive_maximum > 65535:
        raise ValueError("packet identifiers end at 65535")


cdef int checked_level(int durability) except -1:
    if not 0 <= durability < LEVELS:
        raise ValueError("a level of durability is 0 (memory), 1 (relaxed) or 2 (synced)")
    return durability


cdef int table_of_others(str table, bytes key) except -1:
    # The number of a table whose records are not the core's own.
    if table not in _TABLE_NAMES or _TABLE_NAMES.index(table) < TABLE_DEVICES:
        raise ValueError(f"records of {table!r} are not written from outside")
    if not 0 < len(key) <= KEY_MAXIMUM_BYTES:
        raise ValueError(f"a key has 1 to {KEY_MAXIMUM_BYTES} bytes")
    return _TABLE_NAMES.index(table)


cdef class Shard:

    def __cinit__(self, limits, *, bytes secret, unsigned long long hash_seed, long long now_ns):
        if len(secret) != 32:
            raise ValueError("the secret has 32 bytes")
        self.owner = PyThread_get_thread_ident()
        self.policies = {}
        self.policies_maximum = POLICIES_MAXIMUM
        self.limits = {}
        self.state = <ShardState*>take_zeroed(sizeof(ShardState))
        memcpy(self.state.secret, <const uint8_t*>secret, 32)
        self.state.hash_seed = hash_seed
        self.state.now_ns = now_ns
        wheel_open(&self.state.wheel, now_ns)
        messages_open(self.state)
        identities_open(self.state)
        sessions_open(self.state)
        connections_open(self.state)
        journal_open(self.state)
        retained_open(self.state)
        self.state.listener_door[<int>LOCAL_LISTENER] = DOOR_INSIDE
        self.state.farewell = FAREWELL_LOST
        memset(self.state.listener_durability, LEVEL_SYNCED, sizeof(self.state.listener_durability))
        read_limits(&self.state.limits, dict(limits))
        derive_limits(self.state, self.state.grant_limits)      # of who has none of his own

    def __dealloc__(self):
        if self.state == NULL:
            return
        while self.state.busy_head != NULL:
            self.state.slice_budget = 1 << 30
            continue_publishing(self.state)
        connections_close(self.state)
        sessions_close(self.state)
        usage_close(self.state)
        events_close(self.state)
        retained_close(self.state)
        identities_close(self.state)
        journal_close(self.state)
        tracking_close(self.state)
        messages_close(self.state)
        arena_close(&self.state.arena)
        give_memory(self.state.receivers)
        give_memory(self.state.matched_groups)
        give_memory(self.state.identifiers)
        give_memory(self.state.forwarded.at)
        give_memory(self.state)

    cdef void check_owner(self) except *:
        if PyThread_get_thread_ident() != self.owner:
            raise WrongThread("the core belongs to the thread of its event loop")

    cdef Connection* need(self, uint64_t handle) except NULL:
        cdef Connection* connection
        self.check_owner()
        connection = find_connection(self.state, handle & 0xFFFFFFFF, handle >> 32)
        if connection == NULL or connection.state == CLOSING:
            raise LookupError("no such connection")
        return connection

    cdef Connection* need_connected(self, uint64_t handle) except NULL:
        # What works on a session or on rights needs one that has them.
        cdef Connection* connection = self.need(handle)
        if connection.state != CONNECTED:
            raise LookupError("not connected yet")
        return connection

    cdef Connection* find(self, uint64_t handle) except? NULL:
        cdef Connection* connection
        self.check_owner()
        connection = find_connection(self.state, handle & 0xFFFFFFFF, handle >> 32)
        return NULL if connection == NULL or connection.state == CLOSING else connection

    # ------------------------------------------------------------ identity

    def put_grant(self, bytes credential, account_id, principal_id, str principal, str device_id, publish, subscribe,
                  *, int durability=LEVEL_SYNCED, limits=()):
        cdef Grant* grant
        self.check_owner()
        if len(credential) != 32:
            raise ValueError("a credential has 32 bytes")
        grant = find_grant(self.state, credential)
        if grant != NULL:
            if grant.principal.principal_id == principal_id \
                    and grant.policy == self.policy_of(tuple(publish), tuple(subscribe)):
                grant.durability = checked_level(durability)    # who is connected keeps what it was told
                grant.limits = grant.principal.limits = self.limits_of(tuple(limits))
                return
            self.remove_grant(credential)
        grant = self.make_grant(
            account_id, principal_id, principal, device_id, publish, subscribe, durability, tuple(limits))
        add_grant(self.state, grant, credential)
        judge_principal(self.state, grant.principal, grant.policy)

    cdef Grant* make_grant(self, account_id, principal_id, str principal, str device_id, publish,
                           subscribe, int durability, tuple limits) except NULL:
        cdef bytes name = principal.encode()
        cdef bytes device = device_id.encode()
        cdef CompiledPolicy* policy = self.policy_of(tuple(publish), tuple(subscribe))
        cdef GrantLimits* figures = self.limits_of(limits)
        cdef uint8_t level = checked_level(durability)
        cdef Account* account
        cdef Principal* held
        cdef Grant* grant
        if len(name) > 65535 or len(device) > 65535:
            raise ValueError("a principal's name has at most 65535 bytes")
        account = need_account(self.state, account_id)
        held = find_principal(self.state, principal_id)
        if held != NULL and (held.account != account or (not held.nameless and device != (
                <char*>held + sizeof(Principal) + held.name_bytes)[:held.device_id_bytes])):
            raise ValueError(f"principal {principal_id} is somebody else: numbers are given once")
        held = hold_principal(
            self.state, account, principal_id, <const uint8_t*>name, <uint32_t>len(name), <const uint8_t*>device,
            <uint32_t>len(device))
        grant = new_grant(held, policy, figures)
        grant.durability = level
        return grant

    cdef CompiledPolicy* policy_of(self, tuple publish, tuple subscribe) except NULL:
        # Rights are compiled once and shared by everybody who has them.
        cdef CompiledPolicy* policy
        cdef bytes text
        key = (publish, subscribe)
        if key in self.policies:
            return <CompiledPolicy*><size_t>self.policies[key]
        if len(self.policies) >= self.policies_maximum:
            self.look_at_policies()
        policy = new_policy(self.state, <uint32_t>len(publish), <uint32_t>len(subscribe))
        for i, pattern in enumerate(publish):
            text = pattern.encode()
            compile_pattern(&policy.publish[<uint32_t>i], <const uint8_t*>text, <uint32_t>len(text))
        for i, pattern in enumerate(subscribe):
            text = pattern.encode()
            compile_pattern(&policy.subscribe[<uint32_t>i], <const uint8_t*>text, <uint32_t>len(text))
        self.policies[key] = <size_t>policy
        return policy

    cdef void look_at_policies(self) except *:
        # As rarely as they double: each time all of them are looked at.
        self.policies = {
            key: at for key, at in self.policies.items() if (<CompiledPolicy*><size_t>at).refs
        }
        forget_policies(self.state)
        self.policies_maximum = max(POLICIES_MAXIMUM, 2 * len(self.policies))

    cdef GrantLimits* limits_of(self, tuple figures) except NULL:
        # One set for all who have the same figures; the empty one is that of who has no limits.
        cdef GrantLimits wanted
        if figures in self.limits:
            return <GrantLimits*><size_t>self.limits[figures]
        if figures and len(figures) != len(GRANT_LIMITS):
            raise ValueError(f"limits are {len(GRANT_LIMITS)} figures: {', '.join(GRANT_LIMITS)}")
        memset(&wanted, 0, sizeof(wanted))
        if figures:
            wanted.messages_per_s, wanted.burst_messages, wanted.connections_maximum, wanted.sessions_maximum, \
                wanted.subscriptions_maximum, wanted.retained_maximum, wanted.payload_maximum_bytes, \
                wanted.queue_maximum_bytes = figures
        derive_limits(self.state, &wanted)
        self.limits[figures] = <size_t>limits_with(self.state, &wanted)
        return <GrantLimits*><size_t>self.limits[figures]

    def remove_grant(self, bytes credential):
        cdef Grant* grant
        cut = 0
        self.check_owner()
        grant = find_grant(self.state, credential) if len(credential) == 32 else NULL
        if grant == NULL:
            return 0
        if grant.principal.grants == 1:     # while no other credential stands for it, nothing of it is published
            grant.principal.revoked = 1
        while grant.first != NULL:      # failing one takes it off the list
            fail(self.state, grant.first, ADMINISTRATIVE_ACTION)
            cut += 1
        retire_grant(self.state, grant)
        return cut

    def revoke_principal(self, principal_id, long long now_ns):
        cdef Principal* principal
        self.check_owner()
        principal = find_principal(self.state, principal_id)
        if principal == NULL:
            return
        self.state.now_ns = now_ns
        self.state.slice_budget = 1024
        end_principal(self.state, principal)

    def put_account(self, account_id, limits):
        cdef Account* account
        cdef AccountLimits* figures
        self.check_owner()
        if len(limits) != len(ACCOUNT_LIMITS):
            raise ValueError(f"limits are {len(ACCOUNT_LIMITS)} figures: {', '.join(ACCOUNT_LIMITS)}")
        account = need_account(self.state, account_id)
        account.known = 1
        figures = &account.limits
        figures.connections_maximum, figures.applications_reserved, figures.sessions_maximum, \
            figures.retained_maximum, figures.retained_maximum_bytes, figures.queue_maximum_bytes, \
            figures.outbox_maximum_bytes, figures.filters_maximum_bytes, figures.queue_full_policy = limits

    def forget_accounts(self, uint32_t first, uint32_t count):
        self.check_owner()
        return forget_accounts(self.state, first, count)

    def set_durability(self, int listener, int durability):
        self.check_owner()
        if not 0 <= listener < 256:
            raise ValueError("listeners are numbered 0 to 255")
        self.state.listener_durability[listener] = checked_level(durability)

    def set_door(self, int listener, int door):
        self.check_owner()
        if not 0 <= listener < LOCAL_LISTENER or not 0 <= door < DOOR_INSIDE:
            raise ValueError("listeners are numbered 0 to 254, doors 0 to 3")
        self.state.listener_door[listener] = <uint8_t>door

    def set_day(self, uint32_t day):
        self.check_owner()
        self.state.day = day

    def open_listener(self, int listener, account_id, principal_id, str principal):
        self.check_owner()
        if not 0 <= listener < 64:
            raise ValueError("open listeners are numbered 0 to 63")
        if self.state.open_grant == NULL:
            self.state.open_grant = self.make_grant(
                account_id, principal_id, principal, "", ("#",), ("#",), LEVEL_SYNCED, ())
            self.state.open_grant.revoked = 0       # outlives its connections
        self.state.open_listeners |= <uint64_t>1 << listener

    def allow_applications(self, int listener):
        self.check_owner()
        if not 0 <= listener < 64:
            raise ValueError("listeners are numbered 0 to 63")
        self.state.application_listeners |= <uint64_t>1 << listener

    def presence(self, principal_id):
        cdef Principal* principal
        self.check_owner()
        principal = find_principal(self.state, principal_id)
        if principal == NULL:
            return 0, 0
        return principal.connections, principal.last_seen_ns

    def credential_used_ns(self, bytes credential):
        cdef Grant* grant
        self.check_owner()
        grant = find_grant(self.state, credential) if len(credential) == 32 else NULL
        return 0 if grant == NULL else grant.used_at_ns

    def credential_may_publish(self, bytes credential, bytes topic_name):
        cdef Grant* grant
        self.check_owner()
        grant = find_grant(self.state, credential) if len(credential) == 32 else NULL
        return grant != NULL and len(topic_name) > 0 and may_publish(grant, topic_name, <uint32_t>len(topic_name))

    def standing(self, principal_id):
        cdef Principal* principal
        self.check_owner()
        principal = find_principal(self.state, principal_id)
        return (0, 0, 0) if principal == NULL else standing(principal)

    def account_connections(self, account_id):
        cdef Account* account
        self.check_owner()
        account = find_account(self.state, account_id)
        if account == NULL:
            return 0, [0] * DOOR_INSIDE
        return connections_peak(self.state, account), [account.by_door[i] for i in range(DOOR_INSIDE)]

    def system_readers(self, uint32_t first, uint32_t count):
        cdef Account* account
        cdef uint32_t bucket = first
        cdef list found = []
        self.check_owner()
        if not self.state.system_filters:
            return found, 0
        while bucket <= self.state.account_mask and bucket - first < count:
            account = self.state.accounts[bucket]
            while account != NULL:
                if account.space.system_filters and account.connections > account.device_connections:
                    found.append(account.account_id)
                account = account.next
            bucket += 1
        return found, bucket if bucket <= self.state.account_mask else 0

    # ------------------------------------------------------------ what happens to devices

    def watch_stories(self):
        self.check_owner()
        self.state.watched = 1

    def take_stories(self, uint32_t at_most=UINT32_MAX):
        self.check_owner()
        return take_stories(self.state, at_most)

    def take_gathered(self, uint32_t at_most=UINT32_MAX):
        self.check_owner()
        return take_gathered(self.state, at_most)

    def gathered(self):
        self.check_owner()
        return self.state.noisy_count

    # ------------------------------------------------------------ connections

    def open_connection(self, int listener, long long now_ns, *, bint from_loopback=True,
                        bytes address=b"", bint websocket=False):
        cdef Connection* connection
        self.check_owner()
        self.state.now_ns = now_ns
        connection = open_connection(self.state, -1, listener)
        if connection == NULL:
            return 0
        connection.from_loopback = from_loopback
        if len(address) == ADDRESS_BYTES:
            set_address(self.state, connection, address)
        if len(address) == ADDRESS_BYTES and not count_stranger(self.state, connection, address):
            self.state.counters.connections_refused += 1
            close_connection(self.state, connection)
            return 0
        if websocket:
            open_transport(connection).phase = PHASE_UPGRADE
            open_websocket(connection.transport)
        return handle_of(connection)

    def feed(self, uint64_t handle, data, long long now_ns, long long deliveries=1 << 40):
        cdef Connection* connection = self.need(handle)
        cdef const uint8_t[::1] view = data
        cdef uint32_t n = <uint32_t>view.shape[0]
        if n == 0:
            return
        self.state.now_ns = now_ns
        self.state.slice_budget = deliveries
        if connection.transport != NULL:
            copy = bytearray(data)      # frames are unmasked in place
            take_bytes(self.state, connection, <uint8_t*>PyByteArray_AS_STRING(copy), n)
            return
        with nogil:
            feed(self.state, connection, &view[0], n)

    def answer_upgrade(self, uint64_t handle, bytes answer, bint accepted):
        cdef Connection* connection = self.find(handle)
        if connection == NULL or connection.transport == NULL or connection.transport.phase != PHASE_UPGRADE \
                or not connection.barrier:
            return False
        answer_upgrade(self.state, connection, answer, <uint32_t>len(answer), accepted)
        return True

    def take_output(self, uint64_t handle, long long at_most=-1):
        cdef Connection* connection
        cdef uint32_t n
        self.check_owner()
        connection = find_connection(self.state, handle & 0xFFFFFFFF, handle >> 32)
        if connection == NULL or connection.gated:
            return b""
        if connection.transport != NULL and connection.transport.websocket != NULL:
            return self.take_frames(connection, at_most)
        n = outbox_unsent(connection)
        if 0 <= at_most < n:
            n = <uint32_t>at_most
        data = PyBytes_FromStringAndSize(<char*>connection.outbox + connection.outbox_start, n)
        if n:
            outbox_sent(self.state, connection, n)
        return data

    cdef bytes take_frames(self, Connection* connection, int64_t at_most):
        cdef bytes taken = b""
        cdef bytearray part
        cdef uint32_t n
        while at_most < 0 or len(taken) < at_most:
            part = bytearray(FRAMES_PER_CALL if at_most < 0 else min(FRAMES_PER_CALL, at_most - len(taken)))
            n = frame_output(connection, <uint8_t*>PyByteArray_AS_STRING(part), <uint32_t>len(part))
            if n == 0:
                break
            frames_sent(self.state, connection, n)
            taken += bytes(part[:n])
        return taken

    def is_open(self, uint64_t handle):
        return self.find(handle) != NULL

    def is_stopped(self, uint64_t handle):
        cdef Connection* connection = self.find(handle)
        return connection != NULL and is_stopped(connection)

    def connections(self, uint32_t cursor, uint32_t at_most, account_id=None):
        self.check_owner()
        return page_of_connections(self.state, cursor, at_most, -1 if account_id is None else account_id)

    def sessions(self, uint32_t cursor, uint32_t at_most, account_id=None):
        self.check_owner()
        return page_of_sessions(self.state, cursor, at_most, -1 if account_id is None else account_id)

    def connections_of(self, principal_id):
        cdef Principal* principal
        self.check_owner()
        principal = find_principal(self.state, principal_id)
        return [] if principal == NULL else rows_of_connections(self.state, principal)

    def sessions_of(self, principal_id):
        cdef Principal* principal
        self.check_owner()
        principal = find_principal(self.state, principal_id)
        return [] if principal == NULL else rows_of_sessions(self.state, principal)

    def connection(self, uint64_t handle):
        cdef Connection* connection = self.find(handle)
        if connection == NULL or connection.state != CONNECTED or connection.fd == LOCAL_FD:
            return None
        return connection_row(self.state, connection)

    def end_session(self, principal_id, bytes client_id, long long now_ns):
        cdef Principal* principal
        cdef Session* session
        self.check_owner()
        principal = find_principal(self.state, principal_id)
        session = NULL if principal == NULL else find_session(
            self.state, principal, client_id, <uint32_t>len(client_id))
        if session == NULL:
            return False
        self.state.now_ns = now_ns
        self.state.slice_budget = WORK_OF_CALL
        dismiss_session(self.state, session)
        return True

    def close_connection(self, uint64_t handle):
        cdef Connection* connection = self.find(handle)
        if connection != NULL:
            close_connection(self.state, connection)

    def fail_connection(self, uint64_t handle, int reason_code):
        cdef Connection* connection = self.find(handle)
        if connection != NULL:
            fail(self.state, connection, <uint8_t>reason_code)

    def fail_all(self, int reason_code):
        cdef uint32_t slot
        self.check_owner()
        for slot in range(self.state.connection_capacity):
            if self.state.connections[slot] != NULL:
                fail(self.state, self.state.connections[slot], <uint8_t>reason_code)

    def describe(self, uint64_t handle):
        cdef Connection* connection
        self.check_owner()
        connection = find_connection(self.state, handle & 0xFFFFFFFF, handle >> 32)
        return None if connection == NULL else connection_figures(connection)

    # ------------------------------------------------------------ rounds

    def run(self, long long now_ns, long long deliveries=1 << 40):
        cdef bint more
        self.check_owner()
        with nogil:
            more = run_slice(self.state, now_ns, deliveries)
        return more

    def collect(self):
        # At the end of a round without a reactor: nobody flushes, so the list of dirty connections is dropped.
        cdef Connection* connection
        self.check_owner()
        connection = self.state.dirty_head
        while connection != NULL:
            connection.dirty = 0
            connection = connection.dirty_next
        self.state.dirty_head = NULL
        self.state.dirty_tail = NULL
        self.state.dirty_count = 0
        free_closed(self.state, NULL)

    def next_deadline_ns(self):
        cdef int64_t deadline
        self.check_owner()
        deadline = wheel_next_ns(&self.state.wheel)
        return None if deadline < 0 else deadline

    cdef list take_rare_packets(self, uint32_t at_most):
        return take_rare(self.state, at_most)

    def take_rare(self):
        self.check_owner()
        return self.take_rare_packets(UINT32_MAX)

    def seal(self):
        self.check_owner()
        if self.state.journal.in_flight:
            raise ValueError("one batch at a time: the one before has to be settled first")
        ticket = self.state.journal.open_ticket
        cdef bint awaited = self.state.journal.urgent
        look_for_waste(self.state)
        look_for_small(self.state)
        make_runs(self.state)
        fold(self.state)
        changes = seal_batch(self.state)
        if changes is not None:
            return ticket, changes
        if awaited:     # for what all have acknowledged meanwhile, so that there is nothing to write
            settle(self.state)
        return None

    def settle(self, uint64_t ticket):
        self.check_owner()
        if not self.state.journal.in_flight or ticket != self.state.journal.open_ticket - 1:
            raise ValueError("a ticket is settled once, after it was sealed")
        settle(self.state)

    def set_refusing(self, bint refusing):
        self.check_owner()
        if self.state.journal.refusing and not refusing:
            self.state.journal.refusing = False
            record_wills(self.state)
        self.state.journal.refusing = refusing

    def erase(self, str table, bytes key):
        self.check_owner()
        delete_record(self.state, <uint8_t>table_of_others(table, key), key, <uint32_t>len(key))

    def put(self, str table, bytes key, bytes value):
        cdef uint8_t* at
        self.check_owner()
        at = put_record(
            self.state, <uint8_t>table_of_others(table, key), key, <uint32_t>len(key), <uint32_t>len(value))
        memcpy(at, <const uint8_t*>value, len(value))

    def set_wall(self, long long now_ns, long long wall_ns):
        self.check_owner()
        self.state.wall_offset_ns = wall_ns - now_ns

    def newest_ticket(self):
        self.check_owner()
        return newest_ticket(&self.state.journal)

    def open_batch_bytes(self):
        self.check_owner()
        return open_batch_bytes(&self.state.journal)

    def restore(self, scan, long long now_ns, long long wall_ns, *, known=None, double restart_grace_s=30.0):
        cdef Restoring restoring
        self.check_owner()
        if self.state.session_count or self.state.journal.open_ticket != 1:
            raise ValueError("a shard is restored once, before anything else has happened")
        memset(&restoring, 0, sizeof(restoring))
        self.state.now_ns = now_ns
        self.state.wall_offset_ns = wall_ns - now_ns
        wrong = {}
        try:
            # What is retained comes first: subscriptions may not have got all of it yet.
            name = _TABLE_NAMES[<int>TABLE_RETAINED]
            wrong[name] = restore_messages(self.state, scan(name), known)
            for table in (TABLE_META, TABLE_SESSIONS, TABLE_SUBSCRIPTIONS, TABLE_FLOWS, TABLE_MESSAGES, TABLE_OPS):
                name = _TABLE_NAMES[table]
                wrong[name] = restore_rows(self.state, &restoring, table, scan(name), known)
            name = _TABLE_NAMES[<int>TABLE_WILLS]
            wrong[name] = restore_wills(
                self.state, scan(name), scan(_TABLE_NAMES[<int>TABLE_SESSIONS]), <int64_t>(restart_grace_s * 1e9))
            restore_finish(self.state, &restoring)
        finally:
            restoring_close(self.state, &restoring)
        return {name: count for name, count in wrong.items() if count}

    def wanted(self, int64_t maximum_bytes=READ_BYTES):
        cdef list keys = []
        cdef uint64_t first
        self.check_owner()
        if self.state.journal.reading:
            return keys
        while maximum_bytes > 0:
            first = next_ask(self.state)
            if first == 0:
                break
            maximum_bytes -= chunk_at(&self.state.journal, first).bytes
            keys.append(first.to_bytes(8, "big"))
        return keys

    def loaded(self, bytes key, chunk):
        cdef bytes value
        cdef const uint8_t* messages
        cdef uint32_t n, lost
        self.check_owner()
        if len(key) != 8:
            raise ValueError("a chunk's key has 8 bytes")
        if chunk is None or len(chunk) < CHECKSUM_BYTES or int.from_bytes(chunk[:4], "little") != crc32(
                memoryview(chunk)[4:]):
            take_part(self.state, get_key(key), NULL, 0)
            return take_in(self.state, get_key(key), NULL, 0)
        value = chunk
        messages = <const uint8_t*>value + CHECKSUM_BYTES
        n = <uint32_t>len(value) - CHECKSUM_BYTES
        lost = take_in(self.state, get_key(key), messages, n)
        compact(self.state, get_key(key), messages, n)
        take_part(self.state, get_key(key), messages, n)
        return lost

    def unread(self, bytes key):
        self.check_owner()
        if len(key) != 8:
            raise ValueError("a chunk's key has 8 bytes")
        ask_again(self.state, get_key(key))

    def set_fold(self, uint64_t ops_bytes):
        self.check_owner()
        self.state.journal.fold_bytes = ops_bytes

    def set_crowded(self, uint32_t deliveries):
        self.check_owner()
        self.state.journal.crowded_at = deliveries

    def set_merging(self, uint32_t small_chunks, uint32_t fewest):
        self.check_owner()
        self.state.journal.small_chunks = small_chunks
        self.state.journal.fewest_merged = fewest

    def settled_ticket(self):
        self.check_owner()
        return self.state.journal.settled_ticket

    def journal(self):
        self.check_owner()
        return journal_figures(&self.state.journal)

    # ------------------------------------------------------------ the engine's answers

    def admit(self, uint64_t handle, account_id, principal_id, str principal, str device_id, publish, subscribe,
              *, int durability=LEVEL_SYNCED, limits=(), bytes credential=b""):
        cdef Connection* connection = self.find(handle)
        cdef Grant* grant
        if len(credential) not in (0, 32):
            raise ValueError("a credential has 32 bytes")
        if connection == NULL or connection.state != AUTHENTICATING:
            return False
        if credential:
            grant = find_grant(self.state, credential)
            if grant == NULL:       # it has ended since it was judged
                fail(self.state, connection, NOT_AUTHORIZED)
                return False
        else:
            grant = self.make_grant(
                account_id, principal_id, principal, device_id, publish, subscribe, durability, tuple(limits))
        grant.connections += 1      # ours, until the connection has taken its own
        admit_waiting(self.state, connection, grant)
        release_grant(self.state, grant)
        lift_barrier(self.state, connection)
        return True

    def subscribe(self, uint64_t handle, bytes topic_filter, int qos, *, bint no_local=False,
                  bint retain_as_published=False, uint32_t identifier=0, int retain_handling=0):
        cdef Connection* connection = self.need_connected(handle)
        return put_subscription(
            self.state, connection.session, topic_filter, <uint32_t>len(topic_filter), <uint8_t>qos, no_local,
            retain_as_published, identifier, retain_handling)

    def unsubscribe(self, uint64_t handle, bytes topic_filter):
        cdef Connection* connection = self.need_connected(handle)
        cdef Session* session = connection.session
        cdef Subscription* subscription = find_subscription(
            self.state, &session.principal.account.space, session, topic_filter, <uint32_t>len(topic_filter))
        if subscription == NULL:
            return False
        end_subscription(self.state, session, subscription)
        return True

    def may_subscribe(self, uint64_t handle, bytes topic_filter):
        cdef Connection* connection = self.need_connected(handle)
        cdef const uint8_t* at = topic_filter
        if allows_filter(connection.grant.policy, connection.grant.principal, at, <uint32_t>len(topic_filter)):
            return True
        note_often(self.state, connection, EVENT_DENIED_SUBSCRIBE, at, <uint32_t>len(topic_filter))
        return False

    def may_publish(self, uint64_t handle, bytes topic_name):
        cdef Connection* connection = self.need_connected(handle)
        return len(topic_name) > 0 and may_publish(connection.grant, topic_name, <uint32_t>len(topic_name))

    def judge(self, account_id, principal_id, str device_id, publish, subscribe, limits, bytes topic, *,
              bint publishes, bint retain=False, uint32_t payload_bytes=0):
        cdef CompiledPolicy* policy
        cdef GrantLimits* figures
        cdef Principal* who
        cdef bytes device = device_id.encode()
        cdef const uint8_t* at = topic
        cdef uint32_t n = <uint32_t>len(topic)
        cdef int verdict, place
        self.check_owner()
        policy = self.policy_of(tuple(publish), tuple(subscribe))
        figures = self.limits_of(tuple(limits))
        who = stand_in(device, <uint32_t>len(device))
        if publishes:
            verdict = publish_verdict(
                self.state, find_account(self.state, account_id), policy, figures, who,
                find_principal(self.state, principal_id), at, n, retain, payload_bytes)
            place = deciding_publish(policy, who, at, n)
        else:
            verdict = subscribe_verdict(self.state, policy, who, at, n)
            place = deciding_subscribe(policy, who, at, n)
        give_memory(who)
        return verdict, None if place < 0 or verdict == INVALID_TOPIC else place

    def valid_topic_filter(self, bytes topic_filter):
        return valid_topic_filter(
            topic_filter, <uint32_t>len(topic_filter), self.state.limits.topic_levels_maximum)

    def valid_topic_name(self, bytes topic_name):
        return valid_topic_name(topic_name, <uint32_t>len(topic_name), self.state.limits.topic_levels_maximum)

    def reply(self, uint64_t handle, bytes packet):
        cdef Connection* connection = self.need(handle)
        cdef uint64_t ticket = 0
        if connection.session != NULL and connection.session.durable != NULL:
            ticket = ticket_for(self.state, connection)
        stage_bytes(self.state, connection, ticket, packet, <uint32_t>len(packet))
        lift_barrier(self.state, connection)
        if connection.session != NULL:      # retained messages, before anything else is routed to it
            self.state.slice_budget = WORK_OF_REPLY
            pump(self.state, connection.session)

    # ------------------------------------------------------------ from inside the process

    def publish(self, account_id, bytes topic_name, payload, int qos, long long now_ns, *, bint retain=False,
                uint32_t expiry_s=0, bytes properties=b"", bint counted=True, uint32_t tracking=0):
        cdef const uint8_t[::1] view
        cdef Account* account
        cdef Outgoing out
        self.check_owner()
        if not self.valid_topic_name(topic_name):
            raise BadRequest("not a topic name", field="topic", provided=topic_name.decode(errors="replace"))
        if qos not in (0, 1, 2):
            raise BadRequest("not a QoS", field="qos", provided=qos, expected="0, 1 or 2")
        if len(payload) > self.state.limits.maximum_payload_bytes:
            raise PayloadTooLarge(f"a payload has at most {self.state.limits.maximum_payload_bytes} bytes")
        outgoing_open(&out)
        if expiry_s:
            properties = bytes((PROPERTY_MESSAGE_EXPIRY_INTERVAL,)) + expiry_s.to_bytes(4, "big") + properties
            out.message_expiry_s = expiry_s
        out.topic.at = topic_name
        out.topic.n = <uint32_t>len(topic_name)
        out.properties.at = properties
        out.properties.n = <uint32_t>len(properties)
        out.payload.at = NULL
        out.payload.n = <uint32_t>len(payload)
        if len(payload):
            view = payload
            out.payload.at = &view[0]
        out.qos = <uint8_t>qos
        out.retain = retain
        out.tracking = tracking
        account = need_account(self.state, account_id)
        if retain and not may_retain(self.state, account, NULL, &out.topic, out.properties.n, out.payload.n):
            raise QuotaExceeded("no more messages can be retained")
        self.state.now_ns = now_ns
        self.state.slice_budget = 1024
        taken = publish_from_server(self.state, account, &out, counted)
        if taken == REFUSED:
            raise Unavailable("the disk takes nothing now: nothing was published")
        return taken

    # ------------------------------------------------------------ what is asked about messages

    def hear_answers(self, account_id):
        self.check_owner()
        need_account(self.state, account_id).heard = 1

    def take_tracked(self):
        self.check_owner()
        return take_tracked(self.state)

    def take_answers(self):
        self.check_owner()
        return take_answers(self.state)

    def clear_retained(self, account_id, bytes topic_filter):
        cdef Account* account
        cdef bint more = False
        self.check_owner()
        if not self.valid_topic_filter(topic_filter):
            raise BadRequest("not a topic filter", field="filter", provided=topic_filter.decode(errors="replace"))
        account = find_account(self.state, account_id)
        if account == NULL:
            return 0, False
        self.state.slice_budget = WORK_OF_CALL
        removed = remove_matching(self.state, account, topic_filter, <uint32_t>len(topic_filter), &more)
        return removed, more

    def clear_authored(self, principal_id):
        cdef Principal* principal
        self.check_owner()
        principal = find_principal(self.state, principal_id)
        if principal == NULL:
            return 0, False
        self.state.slice_budget = WORK_OF_CALL
        removed = remove_authored(self.state, principal)
        return removed, self.state.slice_budget <= 0

    def retained(self, account_id):
        cdef Account* account
        self.check_owner()
        account = find_account(self.state, account_id)
        if account == NULL:
            return 0, 0
        return account.retained.count, account.retained.bytes

    # ------------------------------------------------------------ usage

    def set_quota(self, account_id, messages_left=None, bytes_left=None):
        cdef Account* account
        self.check_owner()
        account = need_account(self.state, account_id)
        account.known = 1
        account.messages_left = WITHOUT_END if messages_left is None else messages_left
        account.bytes_left = WITHOUT_END if bytes_left is None else bytes_left

    def add_quota(self, account_id, messages, bytes_count):
        cdef Account* account
        self.check_owner()
        account = need_account(self.state, account_id)
        account.messages_left += messages
        account.bytes_left += bytes_count

    def quota_left(self, account_id):
        cdef Account* account
        self.check_owner()
        account = find_account(self.state, account_id)
        if account == NULL:
            return None, None
        return (None if account.messages_left > WITHOUT_END // 2 else account.messages_left,
                None if account.bytes_left > WITHOUT_END // 2 else account.bytes_left)

    def take_usage(self, uint32_t at_most=UINT32_MAX):
        self.check_owner()
        return take_usage(self.state, at_most)

    # ------------------------------------------------------------ figures

    def counters(self):
        self.check_owner()
        return counters(self.state, len(self.policies))

    def drops(self, account_id, principal_id=None):
        self.check_owner()
        if principal_id is not None:
            return drops_of_principal(find_principal(self.state, principal_id))
        return drops_of_account(find_account(self.state, account_id))
