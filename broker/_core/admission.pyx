"""Room for connections and sessions. See admission.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from broker._core.lifetime cimport depart
from broker._core.model cimport (
    LOCAL_FD,
    REFUSED_ACCOUNT_CONNECTIONS,
    REFUSED_ACCOUNT_SESSIONS,
    REFUSED_BROKER_SESSIONS,
    REFUSED_DEVICE_CONNECTIONS,
    REFUSED_DEVICE_SESSIONS,
    Account,
    Connection,
    Grant,
    Principal,
    Session,
    ShardState,
)
from broker._core.session cimport find_session


cdef int why_no_connection(Grant* grant) noexcept nogil:
    cdef Principal* principal = grant.principal
    cdef Account* account = principal.account
    cdef uint32_t maximum = account.limits.connections_maximum
    if grant.limits.connections_maximum and principal.connections >= grant.limits.connections_maximum:
        return REFUSED_DEVICE_CONNECTIONS
    if maximum == 0:
        return 0
    if account.connections >= maximum:
        return REFUSED_ACCOUNT_CONNECTIONS
    # The last ones are for applications: devices can not keep those out who would look after them.
    if principal.device_id_bytes and account.device_connections + account.limits.applications_reserved >= maximum:
        return REFUSED_ACCOUNT_CONNECTIONS
    return 0


cdef void decide_about_parted(ShardState* shard, Principal* principal) noexcept nogil:
    # Sessions whose connection has just gone do not count before it is decided whether they are kept.
    cdef Session* session = principal.sessions
    cdef Session* following
    while session != NULL:
        following = session.principal_next
        if session.parted:
            depart(shard, session)
        session = following


cdef int why_no_session(ShardState* shard, Grant* grant) noexcept nogil:
    cdef Principal* principal = grant.principal
    cdef uint32_t maximum = grant.limits.sessions_maximum
    if shard.session_count >= shard.limits.sessions_maximum:
        return REFUSED_BROKER_SESSIONS
    if principal.account.limits.sessions_maximum and \
            principal.account.sessions >= principal.account.limits.sessions_maximum:
        return REFUSED_ACCOUNT_SESSIONS
    if maximum and principal.session_count >= maximum:
        decide_about_parted(shard, principal)
    return REFUSED_DEVICE_SESSIONS if maximum and principal.session_count >= maximum else 0


cdef int why_full(
        ShardState* shard, Connection* connection, Grant* grant, const uint8_t* client_id, uint32_t n) noexcept nogil:
    cdef Session* session
    cdef int refusal
    if connection.fd == LOCAL_FD:
        return 0
    session = find_session(shard, grant.principal, client_id, n)
    if session != NULL and session.connection != NULL:
        return 0
    refusal = why_no_connection(grant)
    return why_no_session(shard, grant) if refusal == 0 and session == NULL else refusal
