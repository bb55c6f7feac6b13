"""Retained messages: the tree of topics that have one, quotas, expiry, and walks over it. See retained.pxd.

Children are found by hash and listed as siblings. A node lives while it has a message, children, or a run that stands
on it: so a run goes on from where it stood, whatever was set, cleared or expired meanwhile. What is new is listed first
among its siblings and is no business of a run that stands behind it: it was delivered when it was published.
"""

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.cursor cimport Span
from broker._core.grants cimport need_activity, release_principal
from broker._core.keyed_records cimport delete_numbered
from broker._core.memory cimport (
    give_memory,
    resize_memory,
    slab_close,
    slab_give,
    slab_open,
    slab_take,
    take_zeroed,
    unlikely_,
)
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
    RetainedSpace,
    Session,
    ShardState,
    Subscription,
    Timer,
)
from broker._core.records cimport TABLE_RETAINED
from broker._core.retained_records cimport mark_retained, unmark_retained
from broker._core.timers cimport timer_cancel, timer_set
from broker._core.topic_rules cimport hash_bytes
from broker._core.topics cimport release_subscription
from broker._core.tracking cimport TRACKED_RELEASED, TRACKED_RETAINED, note


cdef enum:
    FIRST_BUCKETS = 16
    SECOND_NS = 1000000000


cdef void retained_open(ShardState* shard) noexcept nogil:
    slab_open(&shard.retained_slab, sizeof(Retained), 64)


# ---------------------------------------------------------------- nodes by hash

cdef inline uint8_t* node_level(RetainedNode* node) noexcept nogil:
    return <uint8_t*>&node.level_bytes + sizeof(uint16_t)


cdef inline size_t node_size(uint32_t level_bytes) noexcept nogil:
    cdef RetainedNode node
    cdef size_t size = <size_t>(node_level(&node) - <uint8_t*>&node) + level_bytes
    return size if size > sizeof(RetainedNode) else sizeof(RetainedNode)


cdef inline RetainedNode** bucket_of(RetainedSpace* space, uint32_t hash) noexcept nogil:
    cdef uint32_t at = hash & (2 * space.bucket_mask + 1)
    return &space.buckets[at if at < space.bucket_count else hash & space.bucket_mask]


cdef void size_buckets(RetainedSpace* space, uint32_t capacity) noexcept nogil:
    space.buckets = <RetainedNode**>resize_memory(space.buckets, <size_t>capacity * sizeof(void*))
    space.bucket_capacity = capacity


cdef void add_bucket(RetainedSpace* space) noexcept nogil:
    # The bucket that is due is split into itself and the new last one.
    cdef uint32_t due = space.bucket_count - space.bucket_mask - 1
    cdef RetainedNode* node = space.buckets[due]
    cdef RetainedNode* following
    cdef RetainedNode** link
    if space.bucket_count == space.bucket_capacity:
        size_buckets(space, space.bucket_capacity * 2)
    space.buckets[due] = NULL
    space.buckets[space.bucket_count] = NULL
    space.bucket_count += 1
    while node != NULL:
        following = node.next
        link = bucket_of(space, node.hash)
        node.next = link[0]
        link[0] = node
        node = following
    if space.bucket_count == 2 * (space.bucket_mask + 1):
        space.bucket_mask = space.bucket_count - 1


cdef void drop_bucket(RetainedSpace* space) noexcept nogil:
    # The last bucket goes back into the one that it was split from.
    cdef RetainedNode** link
    if space.bucket_count == space.bucket_mask + 1:
        space.bucket_mask >>= 1
    space.bucket_count -= 1
    link = &space.buckets[space.bucket_count - space.bucket_mask - 1]
    while link[0] != NULL:
        link = &link[0].next
    link[0] = space.buckets[space.bucket_count]
    if space.bucket_count * 4 < space.bucket_capacity:
        size_buckets(space, space.bucket_capacity // 2)


cdef inline uint32_t node_hash(ShardState* shard, RetainedNode* parent, const uint8_t* p, uint32_t n) noexcept nogil:
    return hash_bytes(p, n, shard.hash_seed ^ <uint64_t><size_t>parent)


cdef RetainedNode* find_child(
        ShardState* shard, RetainedSpace* space, RetainedNode* parent, const uint8_t* p, uint32_t n) noexcept nogil:
    cdef uint32_t hash
    cdef RetainedNode* node
    if parent.first_child == NULL:
        return NULL
    hash = node_hash(shard, parent, p, n)
    node = bucket_of(space, hash)[0]
    while node != NULL:
        if node.hash == hash and node.parent == parent and node.level_bytes == n and \
                memcmp(node_level(node), p, n) == 0:
            return node
        node = node.next
    return NULL


cdef RetainedNode* add_child(
        ShardState* shard, RetainedSpace* space, RetainedNode* parent, const uint8_t* p, uint32_t n) noexcept nogil:
    cdef RetainedNode* node = <RetainedNode*>take_zeroed(node_size(n))
    cdef RetainedNode** link
    if space.node_count == space.bucket_count:
        add_bucket(space)
    memcpy(node_level(node), p, n)
    node.level_bytes = <uint16_t>n
    node.hash = node_hash(shard, parent, p, n)
    node.parent = parent
    link = bucket_of(space, node.hash)
    node.next = link[0]
    link[0] = node
    node.next_sibling = parent.first_child
    if parent.first_child != NULL:
        parent.first_child.previous_sibling = node
    parent.first_child = node
    space.node_count += 1
    return node


cdef void free_node(RetainedSpace* space, RetainedNode* node) noexcept nogil:
    cdef RetainedNode** link = bucket_of(space, node.hash)
    while link[0] != node:
        link = &link[0].next
    link[0] = node.next
    if node.previous_sibling != NULL:
        node.previous_sibling.next_sibling = node.next_sibling
    else:
        node.parent.first_child = node.next_sibling
    if node.next_sibling != NULL:
        node.next_sibling.previous_sibling = node.previous_sibling
    give_memory(node)
    space.node_count -= 1
    while space.bucket_count > FIRST_BUCKETS and space.node_count * 2 < space.bucket_count:     # two of them at most
        drop_bucket(space)


cdef void prune(RetainedSpace* space, RetainedNode* node) noexcept nogil:
    cdef RetainedNode* parent
    while node.parent != NULL and node.retained == NULL and node.first_child == NULL and node.pins == 0:
        parent = node.parent
        free_node(space, node)
        node = parent


cdef void open_space(RetainedSpace* space) noexcept nogil:
    cdef uint32_t i
    size_buckets(space, FIRST_BUCKETS)
    for i in range(FIRST_BUCKETS):
        space.buckets[i] = NULL
    space.bucket_count = FIRST_BUCKETS
    space.bucket_mask = FIRST_BUCKETS - 1
    space.root = <RetainedNode*>take_zeroed(sizeof(RetainedNode))


cdef RetainedNode* walk_topic(
        ShardState* shard, RetainedSpace* space, const Span* topic, bint create) noexcept nogil:
    # The node where a topic name ends; NULL: there is none, and none was to be made.
    cdef RetainedNode* node = space.root
    cdef RetainedNode* child
    cdef uint32_t start = 0, end
    if node == NULL:
        if not create:
            return NULL
        open_space(space)
        node = space.root
    while start <= topic.n:
        end = start
        while end < topic.n and topic.at[end] != c"/":
            end += 1
        child = find_child(shard, space, node, topic.at + start, end - start)
        if child == NULL:
            if not create:
                return NULL
            child = add_child(shard, space, node, topic.at + start, end - start)
        node = child
        start = end + 1
    return node


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


# ---------------------------------------------------------------- set and clear

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


# ---------------------------------------------------------------- runs

cdef inline uint32_t* level_starts(RetainedRun* run) noexcept nogil:
    return <uint32_t*>(<uint8_t*>run + sizeof(RetainedRun))


cdef inline uint8_t* run_filter(RetainedRun* run) noexcept nogil:
    return <uint8_t*>(level_starts(run) + run.levels + 1)


cdef inline bint takes_any(RetainedRun* run, uint32_t level) noexcept nogil:
    # Whether the filter has a wildcard there.
    cdef uint32_t start = level_starts(run)[level if level < run.levels else run.levels - 1]
    if run.ends_with_hash and level + 1 >= run.levels:
        return True
    return level_starts(run)[level + 1] - start == 2 and run_filter(run)[start] == c"+"


cdef inline RetainedNode* first_shown(RetainedNode* node, uint32_t depth) noexcept nogil:
    # No wildcard matches a first level that begins with `$`. [MQTT-4.7.2-1]
    while depth == 1 and node != NULL and node.level_bytes and node_level(node)[0] == c"$":
        node = node.next_sibling
    return node


cdef RetainedNode* below(ShardState* shard, RetainedSpace* space, RetainedRun* run) noexcept nogil:
    cdef uint32_t start
    if run.depth >= run.levels and not run.ends_with_hash:
        return NULL
    if takes_any(run, run.depth):
        return first_shown(run.at.first_child, run.depth + 1)
    start = level_starts(run)[run.depth]
    return find_child(
        shard, space, run.at, run_filter(run) + start, level_starts(run)[run.depth + 1] - start - 1)


cdef RetainedNode* beside_or_above(RetainedRun* run) noexcept nogil:
    cdef RetainedNode* node = run.at
    cdef RetainedNode* sibling
    while node.parent != NULL:
        if takes_any(run, run.depth - 1):
            sibling = first_shown(node.next_sibling, run.depth)
            if sibling != NULL:
                return sibling
        node = node.parent
        run.depth -= 1
    return NULL


cdef void move_to(RetainedSpace* space, RetainedRun* run, RetainedNode* node) noexcept nogil:
    cdef RetainedNode* left = run.at
    run.at = node
    if node != NULL:
        node.pins += 1
    left.pins -= 1
    prune(space, left)


cdef void step_run(ShardState* shard, Account* account, RetainedRun* run) noexcept nogil:
    # In preorder, into what the filter can match only.
    cdef RetainedNode* node = below(shard, &account.retained, run)
    if node != NULL:
        run.depth += 1
    else:
        node = beside_or_above(run)
    move_to(&account.retained, run, node)


cdef inline bint ends_here(RetainedRun* run) noexcept nogil:
    return run.depth + 1 >= run.levels if run.ends_with_hash else run.depth == run.levels


cdef Retained* find_retained(ShardState* shard, Account* account, RetainedRun* run, int64_t until) noexcept nogil:
    cdef Retained* retained
    while run.at != NULL and shard.slice_budget > until:
        retained = run.at.retained
        if retained != NULL and retained.serial <= run.serial and ends_here(run):
            return retained
        step_run(shard, account, run)
        shard.slice_budget -= 1     # a step of a long walk goes to memory
    return NULL


cdef RetainedRun* open_run(
        ShardState* shard, Account* account, Subscription* subscription, const uint8_t* filter, uint32_t n
) noexcept nogil:
    cdef RetainedRun* run
    cdef uint32_t levels = 1, i
    if account.retained.root == NULL:
        return NULL
    for i in range(n):
        levels += filter[i] == c"/"
    run = <RetainedRun*>take_zeroed(sizeof(RetainedRun) + (levels + 1) * sizeof(uint32_t) + n)
    run.levels = <uint16_t>levels
    levels = 1
    for i in range(n):
        if filter[i] == c"/":
            level_starts(run)[levels] = i + 1
            levels += 1
    level_starts(run)[levels] = n + 1
    memcpy(run_filter(run), filter, n)
    run.ends_with_hash = filter[n - 1] == c"#"
    run.serial = shard.retained_serial
    run.subscription = subscription
    if subscription != NULL:
        subscription.refs += 1
        subscription.has_run = 1
    run.at = account.retained.root
    run.at.pins += 1
    return run


cdef void close_run(ShardState* shard, Account* account, RetainedRun* run) noexcept nogil:
    if run.at != NULL:
        move_to(&account.retained, run, NULL)
    if run.subscription != NULL:
        run.subscription.has_run = 0
        release_subscription(shard, run.subscription)
    give_memory(run)
