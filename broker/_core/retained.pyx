"""Retained messages: set, cleared and expired, within quotas. See retained.pxd."""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from broker._core.cursor cimport Span
from broker._core.grants cimport need_activity, release_principal
from broker._core.keyed_records cimport delete_numbered
from broker._core.memory cimport give_memory, slab_close, slab_give, slab_open, slab_take, take_zeroed, unlikely_
from broker._core.message cimport NEVER_EXPIRES, Outgoing, hold_message, keep_message, message_topic, release_message
from broker._core.model cimport (
    TIMER_RETAINED,
    WORK_COLD,
    Account,
    Message,
    Principal,
    Retained,
    RetainedExpiry,
    RetainedNode,
    RetainedRun,
    Session,
    ShardState,
    Timer,
)
from broker._core.records cimport TABLE_RETAINED
from broker._core.retained_records cimport mark_retained, unmark_retained
from broker._core.retained_runs cimport close_run, find_retained, open_run
from broker._core.retained_tree cimport prune, walk_topic
from broker._core.timers cimport timer_cancel, timer_set
from broker._core.tracking cimport TRACKED_RELEASED, TRACKED_RETAINED, note


cdef enum:
    SECOND_NS = 1000000000


cdef void retained_open(ShardState* shard) noexcept nogil:
    slab_open(&shard.retained_slab, sizeof(Retained), 64)


# ---------------------------------------------------------------- quotas

cdef uint64_t retained_size(const uint8_t* topic, uint32_t n, uint32_t others) noexcept nogil:
    # What it may take at most, properties and payload being the others: as if it shared no level with another topic.
    cdef uint32_t levels = 1, i
    for i in range(n):
        levels += topic[i] == c"/"
    return sizeof(Message) + sizeof(Retained) + 2 * <uint64_t>n + others + levels * <uint64_t>sizeof(RetainedNode)


cdef inline uint64_t size_of(Message* message) noexcept nogil:
    return retained_size(
        message_topic(message), message.topic_bytes, message.properties_bytes + message.payload_bytes)


cdef bint may_author(Principal* author, Retained* before) noexcept nogil:
    cdef uint32_t maximum = author.limits.retained_maximum
    if maximum == 0 or author.activity == NULL or (before != NULL and before.author == author):
        return True
    return author.activity.retained_count < maximum


cdef bint may_retain(
        ShardState* shard, Account* account, Principal* author, const Span* topic, uint32_t properties_bytes,
        uint32_t payload_bytes) noexcept nogil:
    cdef RetainedNode* node
    cdef Retained* before
    cdef uint64_t size, had = 0
    if payload_bytes == 0:
        return True
    node = walk_topic(shard, &account.retained, topic, False)
    before = NULL if node == NULL else node.retained
    if author != NULL and not may_author(author, before):
        return False
    if before != NULL:
        had = size_of(before.message)
    elif account.limits.retained_maximum and account.retained.count >= account.limits.retained_maximum:
        return False
    size = retained_size(topic.at, topic.n, properties_bytes + payload_bytes)
    if size <= had:
        return True
    if account.limits.retained_maximum_bytes and \
            account.retained.bytes + size - had > account.limits.retained_maximum_bytes:
        return False
    return shard.retained_bytes + size - had <= shard.limits.retained_maximum_bytes


cdef void count_retained(ShardState* shard, Account* account, Message* message, int sign) noexcept nogil:
    cdef uint64_t size = size_of(message)
    account.retained.count += sign
    account.retained.bytes += sign * size
    shard.retained_count += sign
    shard.retained_bytes += sign * size


# ---------------------------------------------------------------- authors and expiry

cdef void set_author(Retained* retained, Principal* author) noexcept nogil:
    retained.author = author
    if author == NULL:
        return
    author.refs += 1
    retained.author_previous = NULL
    retained.author_next = need_activity(author).authored
    if retained.author_next != NULL:
        retained.author_next.author_previous = retained
    author.activity.authored = retained
    author.activity.retained_count += 1


cdef void drop_author(ShardState* shard, Retained* retained) noexcept nogil:
    cdef Principal* author = retained.author
    if author == NULL:
        return
    if retained.author_previous != NULL:
        retained.author_previous.author_next = retained.author_next
    else:
        author.activity.authored = retained.author_next
    if retained.author_next != NULL:
        retained.author_next.author_previous = retained.author_previous
    author.activity.retained_count -= 1
    retained.author = NULL
    release_principal(shard, author)


cdef void set_expiry(ShardState* shard, Account* account, Retained* retained) noexcept nogil:
    cdef Message* message = retained.message
    if message.message_expiry_s == NEVER_EXPIRES:
        drop_expiry(shard, retained)
        return
    if retained.expiry == NULL:
        retained.expiry = <RetainedExpiry*>take_zeroed(sizeof(RetainedExpiry))
        retained.expiry.timer.owner = retained
        retained.expiry.timer.kind = TIMER_RETAINED
        retained.expiry.account = account
    timer_set(
        &shard.wheel, &retained.expiry.timer,
        message.received_at_ns + <int64_t>message.message_expiry_s * SECOND_NS)


cdef void drop_expiry(ShardState* shard, Retained* retained) noexcept nogil:
    if retained.expiry != NULL:
        timer_cancel(&shard.wheel, &retained.expiry.timer)
        give_memory(retained.expiry)
        retained.expiry = NULL


cdef void retained_timer(ShardState* shard, Timer* timer) noexcept nogil:
    cdef Retained* retained = <Retained*>timer.owner
    remove_retained(shard, retained.expiry.account, retained)  # [MQTT-3.3.2-5]


# ---------------------------------------------------------------- set and clear

cdef void erase_record(ShardState* shard, Retained* retained) noexcept nogil:
    if retained.number:
        delete_numbered(shard, TABLE_RETAINED, retained.number)
        retained.number = 0


cdef void let_go(ShardState* shard, Account* account, Retained* retained) noexcept nogil:
    # Of the message and of whoever set it.
    unmark_retained(shard, retained)
    if unlikely_(retained.message.tracking != 0):
        note(shard, NULL, retained.message.tracking, 0, TRACKED_RELEASED, 0)
    count_retained(shard, account, retained.message, -1)
    release_message(shard, retained.message)
    drop_author(shard, retained)


cdef void remove_retained(ShardState* shard, Account* account, Retained* retained) noexcept nogil:
    cdef RetainedNode* node = retained.node
    shard.slice_budget -= 2 * WORK_COLD
    drop_expiry(shard, retained)
    let_go(shard, account, retained)
    erase_record(shard, retained)
    slab_give(&shard.retained_slab, retained)
    node.retained = NULL
    prune(&account.retained, node)


cdef Retained* need_retained(ShardState* shard, Account* account, RetainedNode* node) noexcept nogil:
    # Without a message: what was there is let go.
    cdef Retained* retained = node.retained
    if retained != NULL:
        let_go(shard, account, retained)  # [MQTT-3.3.1-5] [v311 MQTT-3.3.1-7]
        return retained
    retained = <Retained*>slab_take(&shard.retained_slab)
    memset(retained, 0, sizeof(Retained))
    retained.node = node
    node.retained = retained
    return retained


cdef void set_message(
        ShardState* shard, Account* account, Retained* retained, Message* message, Principal* author) noexcept nogil:
    retained.message = message
    hold_message(message)
    if unlikely_(message.tracking != 0):
        note(shard, NULL, message.tracking, 0, TRACKED_RETAINED, 0)
    count_retained(shard, account, message, 1)
    set_author(retained, author)
    set_expiry(shard, account, retained)
    shard.retained_serial += 1
    retained.serial = shard.retained_serial


cdef void retain_message(
        ShardState* shard, Account* account, Outgoing* out, Session* publisher, bint written) noexcept nogil:
    cdef RetainedNode* node = walk_topic(shard, &account.retained, &out.topic, out.payload.n > 0)
    cdef Retained* retained
    shard.slice_budget -= WORK_COLD
    if out.payload.n == 0:
        if node != NULL and node.retained != NULL:
            # [MQTT-3.3.1-6] [MQTT-3.3.1-7] [v311 MQTT-3.3.1-10]
            remove_retained(shard, account, node.retained)
        return
    retained = need_retained(shard, account, node)
    keep_message(shard, out).publisher = 0 if publisher == NULL else publisher.hash
    set_message(shard, account, retained, out.message, NULL if publisher == NULL else publisher.principal)
    if written:
        mark_retained(shard, account, retained)
    else:
        erase_record(shard, retained)


cdef void restore_message(
        ShardState* shard, Account* account, Message* message, Principal* author, uint64_t number) noexcept nogil:
    cdef Span topic
    cdef Retained* retained
    topic.at = message_topic(message)
    topic.n = message.topic_bytes
    retained = need_retained(shard, account, walk_topic(shard, &account.retained, &topic, True))
    erase_record(shard, retained)
    set_message(shard, account, retained, message, author)
    retained.number = number


# ---------------------------------------------------------------- many at once

cdef uint32_t remove_authored(ShardState* shard, Principal* principal) noexcept nogil:
    # The last one may take the principal with it: it is held until then.
    cdef uint32_t removed = 0
    principal.refs += 1
    while shard.slice_budget > 0 and principal.activity != NULL and principal.activity.authored != NULL:
        remove_retained(shard, principal.account, principal.activity.authored)
        removed += 1
    release_principal(shard, principal)
    return removed


cdef uint32_t remove_matching(
        ShardState* shard, Account* account, const uint8_t* filter, uint32_t n, bint* more) noexcept nogil:
    # One is removed at least if there is one, however far it is: whoever calls again gets on.
    cdef RetainedRun* run = open_run(shard, account, NULL, filter, n)
    cdef Retained* retained
    cdef uint32_t removed = 0
    more[0] = False
    if run == NULL:
        return 0
    while run.at != NULL and (removed == 0 or shard.slice_budget > 0):
        retained = find_retained(shard, account, run, 0 if removed else INT64_MIN)
        if retained != NULL:
            remove_retained(shard, account, retained)
            removed += 1
    more[0] = run.at != NULL
    close_run(shard, account, run)
    return removed


cdef void close_space(ShardState* shard, Account* account) noexcept nogil:
    # From leaf to leaf: what is removed takes its empty branches with it.
    cdef RetainedNode* node = account.retained.root
    while node != NULL and node.first_child != NULL:
        while node.first_child != NULL:
            node = node.first_child
        node.retained.number = 0    # what is on disk stays there
        remove_retained(shard, account, node.retained)      # a leaf without a run has one
        node = account.retained.root
    give_memory(account.retained.root)
    give_memory(account.retained.buckets)
    account.retained.root = NULL
    account.retained.buckets = NULL


cdef void retained_close(ShardState* shard) noexcept nogil:
    cdef Account* account
    cdef uint32_t i
    for i in range(shard.account_mask + 1):
        account = shard.accounts[i]
        while account != NULL:
            close_space(shard, account)
            account = account.next
    slab_close(&shard.retained_slab)
