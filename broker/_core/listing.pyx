"""Rows and pages of connections and sessions. See listing.pxd."""

from libc.stdint cimport int64_t, uint32_t

from broker._core.budgets cimport queued_count
from broker._core.connection cimport handle_of, outbox_unsent
from broker._core.model cimport CONNECTED, LOCAL_FD, Connection, Peer, Principal, Session, ShardState
from broker._core.peers cimport peer_of, shown_address
from broker._core.session cimport client_id_of


cdef enum:
    SLOTS_PER_PAGE = 8192       # looked at, some tens of nanoseconds each
    BUCKETS_PER_PAGE = 4096


cdef tuple names_of(Principal* principal):
    cdef char* name = <char*>principal + sizeof(Principal)
    return (
        principal.account.account_id, principal.principal_id, name[:principal.name_bytes].decode(),
        name[principal.name_bytes:principal.name_bytes + principal.device_id_bytes].decode())


cdef str client_id_text(Session* session):
    return (<char*>client_id_of(session))[:session.client_id_bytes].decode()


cdef tuple connection_row(ShardState* shard, Connection* connection):
    cdef Session* session = connection.session
    cdef Peer* peer = peer_of(shard, connection)
    return (
        handle_of(connection), *names_of(session.principal), client_id_text(session), connection.listener,
        shard.listener_door[connection.listener], connection.version, shown_address(peer.address),
        peer.connected_at_ns + shard.wall_offset_ns, connection.keep_alive_s, session.session_expiry_interval_s,
        session.subscription_count, queued_count(session), session.inflight_count, outbox_unsent(connection),
        connection.durability)


cdef tuple session_row(ShardState* shard, Session* session):
    cdef int64_t ends_at_ns = 0
    if session.extra != NULL and session.extra.ends_at_ns:
        ends_at_ns = session.extra.ends_at_ns + shard.wall_offset_ns
    return (
        *names_of(session.principal), client_id_text(session),
        0 if session.connection == NULL else handle_of(session.connection), session.session_expiry_interval_s,
        ends_at_ns, session.subscription_count, queued_count(session), session.inflight_count,
        session.durable != NULL, session.extra != NULL and session.extra.will.message != NULL)


cdef inline bint is_listed(Connection* connection, long long account_id) noexcept nogil:
    return connection != NULL and connection.state == CONNECTED and connection.fd != LOCAL_FD and (
        account_id < 0 or connection.session.principal.account.account_id == <uint32_t>account_id)


cdef list rows_of_connections(ShardState* shard, Principal* principal):
    cdef Session* session = principal.sessions
    cdef list found = []
    while session != NULL:
        if is_listed(session.connection, -1):
            found.append(connection_row(shard, session.connection))
        session = session.principal_next
    return found


cdef list rows_of_sessions(ShardState* shard, Principal* principal):
    cdef Session* session = principal.sessions
    cdef list found = []
    while session != NULL:
        found.append(session_row(shard, session))
        session = session.principal_next
    return found


cdef tuple page_of_connections(ShardState* shard, uint32_t cursor, uint32_t at_most, long long account_id):
    # A slot is its connection's for as long as that lives.
    cdef list found = []
    cdef uint32_t slot = cursor
    cdef uint32_t looked = 0
    while slot < shard.connection_capacity and len(found) < at_most and looked < SLOTS_PER_PAGE:
        if is_listed(shard.connections[slot], account_id):
            found.append(connection_row(shard, shard.connections[slot]))
        slot += 1
        looked += 1
    return found, slot if slot < shard.connection_capacity else 0


cdef inline uint32_t reversed_bits(uint32_t value) noexcept nogil:
    value = (value >> 1 & 0x55555555) | (value & 0x55555555) << 1
    value = (value >> 2 & 0x33333333) | (value & 0x33333333) << 2
    value = (value >> 4 & 0x0F0F0F0F) | (value & 0x0F0F0F0F) << 4
    value = (value >> 8 & 0x00FF00FF) | (value & 0x00FF00FF) << 8
    return value >> 16 | value << 16


cdef inline uint32_t bucket_behind(uint32_t bucket, uint32_t mask) noexcept nogil:
    # Counts from the highest bit down: when the table doubles, a bucket that was looked at becomes two that still stand
    # before all others.
    return reversed_bits(reversed_bits(bucket | ~mask) + 1)


cdef tuple page_of_sessions(ShardState* shard, uint32_t cursor, uint32_t at_most, long long account_id):
    # Whole buckets, so that the page may be a little longer than was asked for.
    cdef list found = []
    cdef uint32_t bucket = cursor & shard.session_mask
    cdef uint32_t looked = 0
    cdef Session* session
    while len(found) < at_most and looked < BUCKETS_PER_PAGE:
        session = shard.sessions[bucket]
        while session != NULL:
            if account_id < 0 or session.principal.account.account_id == <uint32_t>account_id:
                found.append(session_row(shard, session))
            session = session.hash_next
        bucket = bucket_behind(bucket, shard.session_mask)
        looked += 1
        if bucket == 0:
            break
    return found, bucket
