"""Budgets of queues, and drops as they are counted. See budgets.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from broker._core.events cimport note_drop
from broker._core.grants cimport need_activity
from broker._core.model cimport (
    DROP_ACCOUNT_BUDGET_FULL,
    DROP_BROKER_BUDGET_FULL,
    DROP_DEVICE_BUDGET_FULL,
    DROP_QUEUE_FULL,
    Account,
    Message,
    Principal,
    Session,
    ShardState,
)


cdef void count_account_drop(ShardState* shard, Account* account, int reason) noexcept nogil:
    shard.counters.drops[reason] += 1
    account.drops[reason] += 1


cdef void count_drop(ShardState* shard, Session* session, int reason) noexcept nogil:
    shard.tracking.drop_reason = reason
    count_account_drop(shard, session.principal.account, reason)
    need_activity(session.principal).drops[reason] += 1
    note_drop(shard, session.principal, reason)


cdef int why_no_room_after(ShardState* shard, Session* session, uint64_t size, uint64_t gone) noexcept nogil:
    # The narrowest budget first, so that a drop names what its owner can change; -1: there is room. `gone`: as if so
    # many bytes of its queue, all or none of them, had gone.
    cdef Principal* principal = session.principal
    cdef Account* account = principal.account
    if gone == 0 and queued_count(session) >= shard.limits.queue_messages_maximum:
        return DROP_QUEUE_FULL
    if session.inflight_bytes + waiting_bytes(session) + size > shard.limits.queue_maximum_bytes + gone:
        return DROP_QUEUE_FULL
    if principal.limits.queue_maximum_bytes and principal.activity != NULL and \
            principal.activity.queued_bytes + size > principal.limits.queue_maximum_bytes + gone:
        return DROP_DEVICE_BUDGET_FULL
    if account.limits.queue_maximum_bytes and \
            account.queued_bytes + size > account.limits.queue_maximum_bytes + gone:
        return DROP_ACCOUNT_BUDGET_FULL
    if shard.queued_bytes + size > shard.limits.queues_maximum_bytes + gone:
        return DROP_BROKER_BUDGET_FULL
    return -1


cdef int why_no_room(ShardState* shard, Session* session, uint64_t size) noexcept nogil:
    return why_no_room_after(shard, session, size, 0)


cdef int why_not_kept(ShardState* shard, Session* session, Message* message, uint32_t identifiers) noexcept nogil:
    return why_not_inflight(shard, session, queued_size(message, identifiers))


cdef int why_not_inflight(ShardState* shard, Session* session, uint64_t size) noexcept nogil:
    # Who acknowledges has little inflight, and does not depend on budgets that others have used up.
    cdef uint64_t free = min(shard.limits.outbox_soft_limit_bytes, shard.limits.queue_maximum_bytes)
    if session.inflight_bytes == 0 or session.inflight_bytes + size <= free:
        return -1
    return why_no_room(shard, session, size)
