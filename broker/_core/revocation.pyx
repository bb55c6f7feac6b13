"""The end and the change of rights. See revocation.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from broker._core.budgets cimport count_drop
from broker._core.connection cimport fail
from broker._core.grants cimport hold_policy, policy_allows_subscribe, release_principal
from broker._core.lifetime cimport end_session
from broker._core.memory cimport give_memory, take_memory
from broker._core.message cimport message_topic
from broker._core.model cimport (
    DROP_NOT_AUTHORIZED,
    Account,
    CompiledPolicy,
    Principal,
    Queued,
    Session,
    ShardState,
    Subscription,
)
from broker._core.queue cimport queue_drop_front, queue_front, queue_rotate
from broker._core.reasons cimport ADMINISTRATIVE_ACTION
from broker._core.retained cimport close_space
from broker._core.session_end cimport end_subscription
from broker._core.topics cimport filter_of, space_close
from broker._core.wills cimport drop_will


cdef enum:
    FILTER_BYTES = 65536        # and a separator


cdef void dismiss_session(ShardState* shard, Session* session) noexcept nogil:
    if session.connection != NULL:
        fail(shard, session.connection, ADMINISTRATIVE_ACTION)
    if session.parted:      # nothing is left to decide
        shard.parted[session.parted - 1] = NULL
        session.parted = 0
    end_session(shard, session)


cdef void end_principal(ShardState* shard, Principal* principal) noexcept nogil:
    cdef Session* session
    principal.revoked = 1
    principal.refs += 1     # its last session may be all that holds it
    while principal.sessions != NULL:
        session = principal.sessions
        drop_will(shard, session)
        dismiss_session(shard, session)
    release_principal(shard, principal)


cdef void judge_subscriptions(ShardState* shard, Session* session, CompiledPolicy* policy) noexcept nogil:
    cdef uint8_t* filter = <uint8_t*>take_memory(FILTER_BYTES)
    cdef Subscription* subscription = session.subscriptions
    cdef Subscription* following
    cdef uint32_t n
    while subscription != NULL:
        following = subscription.next
        n = filter_of(subscription, filter)
        if not policy_allows_subscribe(policy, session.principal, filter, n):
            end_subscription(shard, session, subscription)
        subscription = following
    give_memory(filter)


cdef void judge_queue(ShardState* shard, Session* session, CompiledPolicy* policy) noexcept nogil:
    # Each entry is looked at once and, where it may stay, goes behind the others: afterwards they are in their order.
    cdef uint32_t _, count = session.queue.count if session.queue != NULL else 0   # what is parked: see parked
    cdef Queued* entry
    for _ in range(count):
        entry = queue_front(session)
        if policy_allows_subscribe(
                policy, session.principal, message_topic(entry.message), entry.message.topic_bytes):
            queue_rotate(session)
        else:
            count_drop(shard, session, DROP_NOT_AUTHORIZED)
            queue_drop_front(shard, session)


cdef void judge_again(ShardState* shard, Session* session, CompiledPolicy* policy) noexcept nogil:
    if session.policy == policy:
        return
    hold_policy(&session.policy, policy)
    if session.subscriptions != NULL:
        judge_subscriptions(shard, session, policy)
    judge_queue(shard, session, policy)


cdef void judge_principal(ShardState* shard, Principal* principal, CompiledPolicy* policy) noexcept nogil:
    cdef Session* session = principal.sessions
    while session != NULL:
        judge_again(shard, session, policy)
        session = session.principal_next


# ---------------------------------------------------------------- accounts

cdef inline bint is_deserted(Account* account) noexcept nogil:
    # Sessions and grants hold their principal; what is retained may outlive its author.
    return not (
        account.known or account.principals or account.retained.count or account.busy or account.usage_listed
    ) and account.fan_outs == NULL


cdef uint32_t forget_accounts(ShardState* shard, uint32_t first, uint32_t count) noexcept nogil:
    cdef Account** link
    cdef Account* account
    cdef uint32_t bucket = first
    while bucket <= shard.account_mask and bucket - first < count:
        link = &shard.accounts[bucket]
        while link[0] != NULL:
            account = link[0]
            if is_deserted(account):
                link[0] = account.next
                shard.account_count -= 1
                close_space(shard, account)
                space_close(shard, &account.space)
                give_memory(account)
            else:
                link = &account.next
        bucket += 1
    return bucket if bucket <= shard.account_mask else 0
