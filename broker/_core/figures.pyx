"""Figures of the core as Python reads them. See figures.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from broker._core.budgets cimport queued_count
from broker._core.inbound_qos2 cimport qos2_count
from broker._core.model cimport (
    DROP_REASONS,
    LEVELS,
    MESSAGE_SIZE_CLASSES,
    Account,
    Connection,
    Journal,
    Principal,
    Session,
    ShardState,
)
from broker._core.promises cimport promises_held
from broker._core.session cimport client_id_of


cdef dict counters(ShardState* shard, Py_ssize_t policies):
    return {
        "packets_received": shard.counters.packets_received, "bytes_received": shard.counters.bytes_received,
        "bytes_sent": shard.counters.bytes_sent, "messages_received": shard.counters.messages_received,
        "messages_sent": shard.counters.messages_sent,
        "connections_accepted": shard.counters.connections_accepted,
        "connections_refused": shard.counters.connections_refused,
        "connections": shard.connection_count, "queued_bytes": shard.queued_bytes,
        "outbox_bytes": shard.outbox_bytes, "unauthenticated_connections": shard.unauthenticated_count,
        "sessions": shard.session_count, "grants": shard.grants.count, "principals": shard.principals.count,
        "subscriptions": shard.subscription_count, "filter_bytes": shard.filter_bytes,
        "accounts": shard.account_count, "policies": policies,
        "messages_kept": sum([shard.message_slabs[i].live for i in range(MESSAGE_SIZE_CLASSES)]),
        "retained_count": shard.retained_count, "retained_bytes": shard.retained_bytes,
        "drops": [shard.counters.drops[i] for i in range(DROP_REASONS)],
        "connected": [shard.connected[i] for i in range(LEVELS)],
        "events_lost": shard.counters.events_lost, "tracked_lost": shard.tracking.lost,
        "timers": shard.wheel.armed, "promises": shard.journal.promise_count, "match_steps": shard.match_steps,
    }


cdef uint64_t open_batch_bytes(Journal* journal) noexcept nogil:
    return journal.entry_bytes + journal.ops_bytes + journal.puts_bytes + journal.retained_bytes


cdef dict journal_figures(Journal* journal):
    return {
        "settled_ticket": journal.settled_ticket,
        "in_flight": bool(journal.in_flight),
        "refusing": bool(journal.refusing),
        "batch_bytes": open_batch_bytes(journal),
        "promises": journal.promise_count, "sessions": journal.durable_count,
        "chunks": journal.chunk_count - journal.chunks_gone,
        "chunk_bytes": journal.chunk_bytes, "deliveries": journal.pairs_live,
        "ops_bytes": journal.ops_on_disk, "flows": journal.dirty_count,
    }


cdef dict connection_figures(Connection* connection):
    cdef Session* session = connection.session
    return {
        "listener": connection.listener, "protocol_version": connection.version,
        "state": connection.state, "keep_alive_s": connection.keep_alive_s,
        "close_reason": connection.close_reason,
        "request_problem_information": bool(connection.request_problem_information),
        "client_id": "" if session == NULL else client_id_of(session)[:session.client_id_bytes].decode(),
        "principal_id": 0 if session == NULL else session.principal.principal_id,
        "subscriptions": 0 if session == NULL else session.subscription_count,
        "queued_messages": 0 if session == NULL else queued_count(session),
        "outbound_inflight": 0 if session == NULL else session.inflight_count,
        "inbound_qos2_ids": 0 if session == NULL else qos2_count(session),
        "session_expiry_interval_s": 0 if session == NULL else session.session_expiry_interval_s,
        "promises_held": promises_held(connection), "durability": connection.durability,
    }


cdef tuple standing(Principal* principal):
    cdef Session* session = principal.sessions
    cdef uint32_t persistent = 0
    cdef uint64_t queued = 0
    while session != NULL:
        persistent += session.session_expiry_interval_s != 0
        queued += queued_count(session)
        session = session.principal_next
    return principal.connections, persistent, queued


cdef list drops_of_principal(Principal* principal):
    if principal == NULL or principal.activity == NULL:
        return [0] * DROP_REASONS
    return [principal.activity.drops[i] for i in range(DROP_REASONS)]


cdef list drops_of_account(Account* account):
    if account == NULL:
        return [0] * DROP_REASONS
    return [account.drops[i] for i in range(DROP_REASONS)]
