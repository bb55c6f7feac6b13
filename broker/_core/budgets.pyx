"""Budgets of queues, and drops as they are counted. See budgets.pxd."""

from broker._core.events cimport note_drop
from broker._core.grants cimport need_activity
from broker._core.model cimport Account, Session, ShardState


cdef void count_account_drop(ShardState* shard, Account* account, int reason) noexcept nogil:
    shard.counters.drops[reason] += 1
    account.drops[reason] += 1


cdef void count_drop(ShardState* shard, Session* session, int reason) noexcept nogil:
    shard.tracking.drop_reason = reason
    count_account_drop(shard, session.principal.account, reason)
    need_activity(session.principal).drops[reason] += 1
    note_drop(shard, session.principal, reason)
