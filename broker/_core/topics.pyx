"""Topic filters of one account, and which subscriptions match a topic name. See topics.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.arena cimport arena_give, arena_take, arena_take_zeroed
from broker._core.groups cimport add_group, find_group, free_group, group_of, join, leave, remove_group
from broker._core.memory cimport give_memory, likely_, resize_memory, take_memory, unlikely_
from broker._core.model cimport (
    OWNER_GROUP,
    OWNER_NODE,
    OWNER_TOPIC,
    WAITING_TURN,
    Account,
    Receiver,
    Session,
    SessionExtra,
    SharedGroup,
    ShardState,
    SubscriberSet,
    Subscription,
    Topic,
    TopicSpace,
    TrieNode,
)
from broker._core.table cimport Link, table_add, table_close, table_first, table_remove
from broker._core.topic_rules cimport (
    SHARE_NAME_AT,
    TOPIC_LEVELS_HARD_MAXIMUM,
    has_wildcard,
    hash_bytes,
    inner_filter_at,
    is_of_system,
)
from broker._core.trie cimport (
    find_node,
    free_root,
    has_tail,
    new_root,
    node_of_filter,
    prune,
    tail_matches,
    write_node_filter,
)

cdef enum:
    STACK = 2 * TOPIC_LEVELS_HARD_MAXIMUM + 2


# ---------------------------------------------------------------- sets of subscribers

cdef inline Subscription** subscribers_of(SubscriberSet* members) noexcept nogil:
    return members.items if members.capacity else <Subscription**>&members.items


cdef void set_add(SubscriberSet* members, Subscription* subscription) noexcept nogil:
    cdef Subscription* single
    if members.count == 1 and members.capacity == 0:
        single = <Subscription*>members.items
        members.items = <Subscription**>take_memory(2 * sizeof(void*))
        members.items[0] = single
        members.capacity = 2
    elif members.count == members.capacity and members.capacity:
        members.capacity *= 2
        members.items = <Subscription**>resize_memory(members.items, <size_t>members.capacity * sizeof(void*))
    subscription.index = members.count
    subscribers_of(members)[members.count] = subscription
    members.count += 1


cdef void set_remove(SubscriberSet* members, Subscription* subscription) noexcept nogil:
    cdef Subscription** items = subscribers_of(members)
    cdef Subscription* last
    members.count -= 1
    last = items[members.count]
    items[subscription.index] = last
    last.index = subscription.index
    if members.capacity == 0:
        return
    if members.count == 1:
        last = items[0]
        give_memory(items)
        members.items = <Subscription**>last
        members.capacity = 0
    elif members.count * 4 < members.capacity:
        members.capacity //= 2
        members.items = <Subscription**>resize_memory(items, <size_t>members.capacity * sizeof(void*))


# ---------------------------------------------------------------- exact filters

cdef inline uint8_t* topic_name(Topic* topic) noexcept nogil:
    return <uint8_t*>topic + sizeof(Topic)


cdef inline Topic* find_topic(TopicSpace* space, const uint8_t* p, uint32_t n, uint32_t hash) noexcept nogil:
    cdef Topic* topic = <Topic*>table_first(&space.topics, hash)
    while topic != NULL:
        if topic.hash == hash and topic.name_bytes == n and memcmp(topic_name(topic), p, n) == 0:
            return topic
        topic = topic.next
    return NULL


cdef Topic* add_topic(ShardState* shard, TopicSpace* space, const uint8_t* p, uint32_t n, uint32_t hash) noexcept nogil:
    cdef Topic* topic = <Topic*>arena_take(&shard.arena, <uint32_t>sizeof(Topic) + n)
    memset(topic, 0, sizeof(Topic))
    memcpy(topic_name(topic), p, n)
    topic.name_bytes = n
    topic.hash = hash
    table_add(&space.topics, <Link*>topic)
    return topic


cdef void remove_topic(ShardState* shard, TopicSpace* space, Topic* topic) noexcept nogil:
    table_remove(&space.topics, <Link*>topic)
    arena_give(&shard.arena, topic, <uint32_t>sizeof(Topic) + topic.name_bytes)


# ---------------------------------------------------------------- a topic space

cdef void space_open(ShardState* shard, TopicSpace* space) noexcept nogil:
    memset(space, 0, sizeof(TopicSpace))
    space.root = new_root(shard)


cdef void space_close(ShardState* shard, TopicSpace* space) noexcept nogil:
    # All subscriptions have been removed before: what is left is the tables themselves.
    free_root(shard, space.root)
    table_close(&space.topics)
    table_close(&space.nodes)
    table_close(&space.groups)


cdef inline SubscriberSet* set_of(void* owner, uint8_t kind) noexcept nogil:
    return &(<Topic*>owner).subscribers if kind == OWNER_TOPIC else &(<TrieNode*>owner).here


cdef void* find_owner(
        ShardState* shard, TopicSpace* space, const uint8_t* p, uint32_t n, bint create, uint8_t* kind) noexcept nogil:
    # The Topic or TrieNode of a filter that is not shared.
    cdef Topic* topic
    cdef uint32_t hash
    if has_wildcard(p, n):
        kind[0] = OWNER_NODE
        return node_of_filter(shard, space, p, n, create)
    kind[0] = OWNER_TOPIC
    hash = hash_bytes(p, n, shard.hash_seed)
    topic = find_topic(space, p, n, hash)
    return add_topic(shard, space, p, n, hash) if topic == NULL and create else topic


cdef void attach(TopicSpace* space, Subscription* entry, void* owner, uint8_t kind) noexcept nogil:
    entry.owner = owner
    entry.owner_kind = kind
    set_add(set_of(owner, kind), entry)
    space.wildcards += kind == OWNER_NODE


cdef void detach(ShardState* shard, TopicSpace* space, Subscription* entry) noexcept nogil:
    cdef SubscriberSet* members = set_of(entry.owner, entry.owner_kind)
    set_remove(members, entry)
    space.wildcards -= entry.owner_kind == OWNER_NODE
    if members.count:
        return
    if entry.owner_kind == OWNER_TOPIC:
        remove_topic(shard, space, <Topic*>entry.owner)
    else:
        prune(shard, space, <TrieNode*>entry.owner)


# ---------------------------------------------------------------- shared groups

cdef SharedGroup* group_of_filter(
        ShardState* shard, TopicSpace* space, const uint8_t* filter, uint32_t n, bint create) noexcept nogil:
    cdef uint32_t inner = inner_filter_at(filter, n)
    cdef const uint8_t* name = filter + SHARE_NAME_AT
    cdef uint8_t kind
    cdef SharedGroup* group
    cdef void* owner = NULL
    if inner < n:       # else it is not valid, and nobody has it
        owner = find_owner(shard, space, filter + inner, n - inner, create, &kind)
    if owner == NULL:
        return NULL
    group = find_group(shard, space, owner, name, inner - SHARE_NAME_AT - 1)
    if group == NULL and create:
        group = add_group(shard, space, owner, name, inner - SHARE_NAME_AT - 1)
        attach(space, &group.entry, owner, kind)
    return group


cdef SharedGroup* find_shared_group(
        ShardState* shard, TopicSpace* space, const uint8_t* filter, uint32_t n) noexcept nogil:
    return group_of_filter(shard, space, filter, n, False)


cdef void leave_bench(Subscription* member) noexcept nogil:
    cdef SessionExtra* extra = member.session.extra
    cdef uint32_t i
    for i in range(extra.bench_count):
        if extra.bench[i] == member:
            extra.bench_count -= 1
            extra.bench[i] = extra.bench[extra.bench_count]
            break
    if extra.bench_count == 0:
        member.session.waiting &= ~<uint8_t>WAITING_TURN


cdef void leave_group(ShardState* shard, TopicSpace* space, Subscription* member) noexcept nogil:
    cdef SharedGroup* group = group_of(member)
    leave(group, member)
    if member.benched and not member.session.ending:    # else the whole bench goes
        leave_bench(member)
    if group.count == 0:
        detach(shard, space, &group.entry)
        remove_group(shard, space, group)


# ---------------------------------------------------------------- subscriptions

cdef Subscription* search(Session* session, void* owner, Subscription** members, uint32_t count) noexcept nogil:
    # Through the shorter of two lists.
    cdef Subscription* subscription
    cdef uint32_t i
    if count <= session.subscription_count:
        for i in range(count):
            if members[i].session == session:
                return members[i]
        return NULL
    subscription = session.subscriptions
    while subscription != NULL and subscription.owner != owner:
        subscription = subscription.next
    return subscription


cdef Subscription* find_subscription(
        ShardState* shard, TopicSpace* space, Session* session, const uint8_t* filter, uint32_t n) noexcept nogil:
    cdef uint8_t kind
    cdef void* owner
    cdef SubscriberSet* members
    cdef SharedGroup* group
    if unlikely_(inner_filter_at(filter, n)):
        group = group_of_filter(shard, space, filter, n, False)
        return NULL if group == NULL else search(session, group, group.members, group.count)
    owner = find_owner(shard, space, filter, n, False, &kind)
    if owner == NULL:
        return NULL
    members = set_of(owner, kind)
    return search(session, owner, subscribers_of(members), members.count)


cdef void link_to_session(Session* session, Subscription* subscription) noexcept nogil:
    subscription.next = session.subscriptions
    if session.subscriptions != NULL:
        session.subscriptions.previous = subscription
    session.subscriptions = subscription
    session.subscription_count += 1


cdef void unlink_from_session(Session* session, Subscription* subscription) noexcept nogil:
    if subscription.previous != NULL:
        subscription.previous.next = subscription.next
    else:
        session.subscriptions = subscription.next
    if subscription.next != NULL:
        subscription.next.previous = subscription.previous
    session.subscription_count -= 1


cdef inline void count_filter(
        ShardState* shard, TopicSpace* space, Subscription* subscription, int sign) noexcept nogil:
    cdef int64_t size = <int64_t>sizeof(Subscription) + subscription.filter_bytes
    space.filter_bytes += sign * size
    shard.filter_bytes += sign * size
    if unlikely_(subscription.of_system):
        space.system_filters += sign
        shard.system_filters += sign


cdef bint has_filter_room(ShardState* shard, Account* account, uint32_t n) noexcept nogil:
    cdef uint64_t size = sizeof(Subscription) + n
    cdef uint64_t maximum = account.limits.filters_maximum_bytes
    if maximum and account.space.filter_bytes + size > maximum:
        return False
    return shard.filter_bytes + size <= shard.limits.filters_maximum_bytes


cdef Subscription* add_subscription(
        ShardState* shard, TopicSpace* space, Session* session, const uint8_t* filter, uint32_t n) noexcept nogil:
    cdef Subscription* subscription = <Subscription*>arena_take_zeroed(&shard.arena, sizeof(Subscription))
    cdef uint32_t inner = inner_filter_at(filter, n)
    cdef uint8_t kind
    cdef void* owner
    subscription.session = session
    if unlikely_(inner):
        subscription.owner = group_of_filter(shard, space, filter, n, True)
        subscription.owner_kind = OWNER_GROUP
        join(group_of(subscription), subscription)
    else:
        owner = find_owner(shard, space, filter, n, True, &kind)
        attach(space, subscription, owner, kind)
    link_to_session(session, subscription)
    subscription.filter_bytes = <uint16_t>n
    subscription.of_system = is_of_system(filter + inner, n - inner)
    space.subscription_count += 1
    shard.subscription_count += 1
    count_filter(shard, space, subscription, 1)
    return subscription


cdef void free_subscription(ShardState* shard, Subscription* subscription) noexcept nogil:
    if unlikely_(subscription.session == NULL):
        free_group(shard, <SharedGroup*>subscription)
    else:
        arena_give(&shard.arena, subscription, sizeof(Subscription))
        shard.subscription_count -= 1


cdef void remove_subscription(ShardState* shard, TopicSpace* space, Subscription* subscription) noexcept nogil:
    if unlikely_(subscription.owner_kind == OWNER_GROUP):
        leave_group(shard, space, subscription)
    else:
        detach(shard, space, subscription)
    space.subscription_count -= 1
    count_filter(shard, space, subscription, -1)
    unlink_from_session(subscription.session, subscription)
    subscription.dead = 1
    if subscription.refs == 0:
        free_subscription(shard, subscription)


cdef void release_subscription(ShardState* shard, Subscription* subscription) noexcept nogil:
    subscription.refs -= 1
    if subscription.refs == 0 and subscription.dead:
        free_subscription(shard, subscription)


cdef inline Subscription* in_the_set(Subscription* subscription) noexcept nogil:
    return &group_of(subscription).entry if subscription.owner_kind == OWNER_GROUP else subscription


cdef uint32_t filter_of(Subscription* subscription, uint8_t* at) noexcept nogil:
    cdef Subscription* entry = in_the_set(subscription)
    cdef Topic* topic = <Topic*>entry.owner
    if entry.owner_kind == OWNER_NODE:
        return write_node_filter(<TrieNode*>entry.owner, at)
    memcpy(at, topic_name(topic), topic.name_bytes)
    return topic.name_bytes


cdef uint32_t group_name(SharedGroup* group, uint8_t* at) noexcept nogil:
    cdef uint32_t n = group.name_bytes
    memcpy(at, <uint8_t*>group + sizeof(SharedGroup), n)
    at[n] = c"/"
    return n + 1 + filter_of(&group.entry, at + n + 1)


cdef uint32_t subscribed_filter(Subscription* subscription, uint8_t* at) noexcept nogil:
    if subscription.owner_kind != OWNER_GROUP:
        return filter_of(subscription, at)
    memcpy(at, b"$share/", SHARE_NAME_AT)
    return SHARE_NAME_AT + group_name(group_of(subscription), at + SHARE_NAME_AT)


# ---------------------------------------------------------------- matching

cdef struct Matching:
    ShardState* shard
    Session* publisher
    bint marking        # a second set has come: sessions may repeat


cdef void mark_receivers(ShardState* shard) noexcept nogil:
    cdef uint32_t i
    cdef Session* session
    for i in range(shard.receiver_count):
        session = shard.receivers[i].subscription.session
        if likely_(session != NULL):
            session.match_serial = shard.match_serial
            session.match_index = i


cdef void merge(ShardState* shard, uint32_t first, uint32_t added) noexcept nogil:
    # One delivery for overlapping filters, at the highest QoS, with every identifier. [MQTT-3.3.4-2] [MQTT-3.3.4-4]
    cdef Receiver* kept = &shard.receivers[first]
    cdef Receiver* other = &shard.receivers[added]
    if other.qos > kept.qos:
        kept.qos = other.qos
    if other.retain_as_published:
        kept.retain_as_published = 1
    other.merged = 1
    other.also = kept.also
    kept.also = <int32_t>added


cdef void put_group_aside(ShardState* shard, Subscription* entry) noexcept nogil:
    if shard.matched_group_count == shard.matched_group_capacity:
        shard.matched_group_capacity = shard.matched_group_capacity * 2 if shard.matched_group_capacity else 16
        shard.matched_groups = <Subscription**>resize_memory(
            shard.matched_groups, shard.matched_group_capacity * sizeof(void*))
    shard.matched_groups[shard.matched_group_count] = entry
    shard.matched_group_count += 1


cdef void collect_groups(ShardState* shard) noexcept nogil:
    # Behind all others: a member is chosen later, and merged with nothing.
    cdef Receiver* receiver
    cdef uint32_t i
    if shard.receiver_count + shard.matched_group_count > shard.receiver_capacity:
        shard.receiver_capacity = (shard.receiver_count + shard.matched_group_count) * 2
        shard.receivers = <Receiver*>resize_memory(shard.receivers, shard.receiver_capacity * sizeof(Receiver))
    for i in range(shard.matched_group_count):
        receiver = &shard.receivers[shard.receiver_count]
        memset(receiver, 0, sizeof(Receiver))
        receiver.subscription = shard.matched_groups[i]
        receiver.also = -1
        receiver.qos = receiver.subscription.qos
        shard.receiver_count += 1
    shard.matched_group_count = 0


cdef void collect(Matching* matching, SubscriberSet* members) noexcept nogil:
    cdef ShardState* shard = matching.shard
    cdef Subscription** subscribers = subscribers_of(members)
    cdef Subscription* subscription
    cdef Receiver* receiver
    cdef uint32_t i
    if shard.receiver_count and not matching.marking:
        matching.marking = True
        mark_receivers(shard)
    if unlikely_(shard.receiver_count + members.count > shard.receiver_capacity):
        shard.receiver_capacity = (shard.receiver_count + members.count) * 2
        shard.receivers = <Receiver*>resize_memory(shard.receivers, shard.receiver_capacity * sizeof(Receiver))
    for i in range(members.count):
        subscription = subscribers[i]
        if unlikely_(subscription.session == NULL):
            put_group_aside(shard, subscription)
            continue
        if subscription.no_local and subscription.session == matching.publisher:  # [MQTT-3.8.3-3]
            continue
        receiver = &shard.receivers[shard.receiver_count]
        receiver.subscription = subscription
        receiver.also = -1
        receiver.qos = subscription.qos
        receiver.retain_as_published = subscription.retain_as_published
        receiver.merged = 0
        receiver.recorded = 0
        if matching.marking:
            if subscription.session.match_serial == shard.match_serial:
                merge(shard, subscription.session.match_index, shard.receiver_count)
            else:
                subscription.session.match_serial = shard.match_serial
                subscription.session.match_index = shard.receiver_count
        shard.receiver_count += 1


cdef struct Step:
    TrieNode* node
    uint32_t at         # where the next level starts; n + 1: the topic has ended


cdef void match_trie(Matching* matching, TopicSpace* space, const uint8_t* topic, uint32_t n) noexcept nogil:
    # Depth first over an explicit stack; every step pops one and pushes at most two, so levels + 2 entries suffice.
    cdef Step[STACK] stack
    cdef uint32_t depth = 1
    cdef uint32_t at, end
    cdef TrieNode* node
    cdef TrieNode* child
    cdef bint hidden = topic[0] == c"$"     # [MQTT-4.7.2-1]
    stack[0].node = space.root
    stack[0].at = 0
    while depth:
        depth -= 1
        node = stack[depth].node
        at = stack[depth].at
        matching.shard.match_steps += 1
        if has_tail(node):
            if tail_matches(node, topic, n, at, &matching.shard.match_steps):
                collect(matching, &node.here)
            continue
        if node.many != NULL and not (hidden and node == space.root):
            collect(matching, &node.many.here)
        if at > n:
            if node.here.count:
                collect(matching, &node.here)
            continue
        end = at
        while end < n and topic[end] != c"/":
            end += 1
        if node.plus != NULL and not (hidden and node == space.root):
            stack[depth].node = node.plus
            stack[depth].at = end + 1
            depth += 1
        child = find_node(matching.shard, space, node, topic + at, end - at)
        if child != NULL:
            stack[depth].node = child
            stack[depth].at = end + 1
            depth += 1


cdef void match_topic(
        ShardState* shard, TopicSpace* space, const uint8_t* topic, uint32_t n, Session* publisher) noexcept nogil:
    cdef Matching matching
    cdef Topic* exact
    matching.shard = shard
    matching.publisher = publisher
    matching.marking = False
    shard.receiver_count = 0
    shard.match_serial += 1
    exact = find_topic(space, topic, n, hash_bytes(topic, n, shard.hash_seed))
    if exact != NULL:
        collect(&matching, &exact.subscribers)
    if space.wildcards:
        match_trie(&matching, space, topic, n)
    if unlikely_(shard.matched_group_count):
        collect_groups(shard)
