"""A subscription is made or replaced. See subscribing.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from broker._core.durable cimport may_record_subscription, record_subscription
from broker._core.model cimport Session, ShardState, Subscription
from broker._core.replay cimport start_run
from broker._core.topic_rules cimport inner_filter_at
from broker._core.topics cimport add_subscription, find_subscription, has_filter_room


cdef inline uint32_t subscriptions_maximum(ShardState* shard, Session* session) noexcept nogil:
    cdef uint32_t granted = session.principal.limits.subscriptions_maximum
    cdef uint32_t maximum = shard.limits.subscriptions_per_device_session_maximum if session.principal.device_id_bytes \
        else shard.limits.subscriptions_per_application_session_maximum
    return granted if 0 < granted < maximum else maximum


cdef bint put_subscription(
        ShardState* shard, Session* session, const uint8_t* at, uint32_t n, uint8_t qos, bint no_local,
        bint retain_as_published, uint32_t identifier, int retain_handling) noexcept nogil:
    cdef Subscription* subscription
    cdef bint is_new, changes, runs
    subscription = find_subscription(shard, &session.principal.account.space, session, at, n)
    is_new = subscription == NULL
    changes = is_new or subscription.qos != qos or subscription.no_local != no_local or \
        subscription.retain_as_published != retain_as_published or subscription.identifier != identifier
    # Retained messages are for ordinary subscriptions alone. [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    runs = inner_filter_at(at, n) == 0 and (retain_handling == 0 or (retain_handling == 1 and is_new))
    if (changes or runs) and session.durable != NULL and not may_record_subscription(
            shard, session.principal.account, n):
        return False
    if is_new:
        if session.subscription_count >= subscriptions_maximum(shard, session) \
                or not has_filter_room(shard, session.principal.account, n):
            return False
        subscription = add_subscription(shard, &session.principal.account.space, session, at, n)
    subscription.qos = qos
    subscription.no_local = no_local
    subscription.retain_as_published = retain_as_published
    subscription.identifier = identifier
    changes = changes or subscription.has_run
    if runs:
        start_run(shard, session, subscription, at, n)  # [MQTT-3.8.4-4] [v311 MQTT-3.3.1-6]
    if session.durable != NULL and (changes or subscription.has_run):   # else it is on disk as it is
        record_subscription(shard, session, subscription, at, n)
    return True
