"""Room for connections and sessions. See admission.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from broker._core.lifetime cimport depart
from broker._core.model cimport LOCAL_FD, Account, Connection, Grant, Principal, Session, ShardState
from broker._core.reasons cimport QUOTA_EXCEEDED
from broker._core.session cimport find_session


cdef bint has_connection_left(Grant* grant) noexcept nogil:
    cdef Principal* principal = grant.principal
    cdef Account* account = principal.account
    cdef uint32_t maximum = account.limits.connections_maximum
    if grant.limits.connections_maximum and principal.connections >= grant.limits.connections_maximum:
        return False
    if maximum == 0:
        return True
    if account.connections >= maximum:
        return False
    # The last ones are for applications: devices can not keep those out who would look after them.
    return principal.device_id_bytes == 0 or \
        account.device_connections + account.limits.applications_reserved < maximum


cdef void decide_about_parted(ShardState* shard, Principal* principal) noexcept nogil:
    # Sessions whose connection has just gone do not count before it is decided whether they are kept.
    cdef Session* session = principal.sessions
    cdef Session* following
    while session != NULL:
        following = session.principal_next
        if session.parted:
            depart(shard, session)
        session = following


cdef bint has_session_left(ShardState* shard, Grant* grant) noexcept nogil:
    cdef Principal* principal = grant.principal
    cdef uint32_t maximum = grant.limits.sessions_maximum
    if shard.session_count >= shard.limits.sessions_maximum:
        return False
    if principal.account.limits.sessions_maximum and \
            principal.account.sessions >= principal.account.limits.sessions_maximum:
        return False
    if maximum and principal.session_count >= maximum:
        decide_about_parted(shard, principal)
    return maximum == 0 or principal.session_count < maximum


cdef int why_full(
        ShardState* shard, Connection* connection, Grant* grant, const uint8_t* client_id, uint32_t n) noexcept nogil:
    cdef Session* session
    if connection.fd == LOCAL_FD:
        return 0
    session = find_session(shard, grant.principal, client_id, n)
    if session != NULL and session.connection != NULL:
        return 0
    if not has_connection_left(grant) or (session == NULL and not has_session_left(shard, grant)):
        return QUOTA_EXCEEDED
    return 0
