"""Topic filters of one account, and which subscriptions match a topic name. See topics.pxd."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from broker._core.memory cimport (
    give_memory,
    resize_memory,
    slab_give,
    slab_take,
    take_memory,
    take_zeroed,
    unlikely_,
)
from broker._core.model cimport (
    Receiver,
    Session,
    ShardState,
    SubscriberSet,
    Subscription,
    Topic,
    TopicSpace,
    TrieNode,
)
from broker._core.topic_rules cimport TOPIC_LEVELS_HARD_MAXIMUM, has_wildcard, hash_bytes

cdef enum:
    FIRST_BUCKETS = 16
    STACK = 2 * TOPIC_LEVELS_HARD_MAXIMUM + 2
    OWNER_TOPIC = 0
    OWNER_HERE = 1
    OWNER_BELOW = 2


# ---------------------------------------------------------------- sets of subscribers

cdef void set_add(SubscriberSet* members, Subscription* subscription) noexcept nogil:
    cdef Subscription** grown
    if members.capacity == 0:
        members.capacity = 1
        members.items = &members.single
    elif members.count == members.capacity:
        grown = <Subscription**>take_memory(<size_t>members.capacity * 2 * sizeof(void*))
        memcpy(grown, members.items, members.count * sizeof(void*))
        if members.items != &members.single:
            give_memory(members.items)
        members.items = grown
        members.capacity *= 2
    subscription.index = members.count
    subscription.set = members
    members.items[members.count] = subscription
    members.count += 1


cdef void set_remove(SubscriberSet* members, Subscription* subscription) noexcept nogil:
    cdef Subscription* last
    members.count -= 1
    last = members.items[members.count]
    members.items[subscription.index] = last
    last.index = subscription.index
    if members.items == &members.single:
        return
    if members.count == 1:
        last = members.items[0]
        give_memory(members.items)
        members.single = last
        members.items = &members.single
        members.capacity = 1
    elif members.count * 4 < members.capacity:
        members.capacity //= 2
        members.items = <Subscription**>resize_memory(members.items, members.capacity * sizeof(void*))


cdef void set_close(SubscriberSet* members) noexcept nogil:
    if members.items != NULL and members.items != &members.single:
        give_memory(members.items)


# ---------------------------------------------------------------- exact filters

cdef inline uint8_t* topic_name(Topic* topic) noexcept nogil:
    return <uint8_t*>topic + sizeof(Topic)


cdef inline Topic* find_topic(TopicSpace* space, const uint8_t* p, uint32_t n, uint32_t hash) noexcept nogil:
    cdef Topic* topic = space.buckets[hash & space.bucket_mask]
    while topic != NULL:
        if topic.hash == hash and topic.name_bytes == n and memcmp(topic_name(topic), p, n) == 0:
            return topic
        topic = topic.next
    return NULL


cdef void resize_topics(TopicSpace* space, uint32_t buckets) noexcept nogil:
    cdef Topic** table = <Topic**>take_zeroed(<size_t>buckets * sizeof(void*))
    cdef Topic* topic
    cdef Topic* following
    cdef uint32_t i
    for i in range(space.bucket_mask + 1):
        topic = space.buckets[i]
        while topic != NULL:
            following = topic.next
            topic.next = table[topic.hash & (buckets - 1)]
            table[topic.hash & (buckets - 1)] = topic
            topic = following
    give_memory(space.buckets)
    space.buckets = table
    space.bucket_mask = buckets - 1


cdef Topic* add_topic(TopicSpace* space, const uint8_t* p, uint32_t n, uint32_t hash) noexcept nogil:
    cdef Topic* topic
    if space.topic_count > space.bucket_mask:
        resize_topics(space, (space.bucket_mask + 1) * 2)
    topic = <Topic*>take_zeroed(sizeof(Topic) + n)
    memcpy(topic_name(topic), p, n)
    topic.name_bytes = n
    topic.hash = hash
    topic.next = space.buckets[hash & space.bucket_mask]
    space.buckets[hash & space.bucket_mask] = topic
    space.topic_count += 1
    return topic


cdef void remove_topic(TopicSpace* space, Topic* topic) noexcept nogil:
    cdef Topic** link = &space.buckets[topic.hash & space.bucket_mask]
    while link[0] != topic:
        link = &link[0].next
    link[0] = topic.next
    set_close(&topic.subscribers)
    give_memory(topic)
    space.topic_count -= 1
    if space.bucket_mask >= FIRST_BUCKETS and space.topic_count * 4 < space.bucket_mask:
        resize_topics(space, (space.bucket_mask + 1) // 2)


# ---------------------------------------------------------------- the trie

cdef inline uint8_t* node_level(TrieNode* node) noexcept nogil:
    return <uint8_t*>node + sizeof(TrieNode)


cdef inline uint32_t node_hash(ShardState* shard, TrieNode* parent, const uint8_t* p, uint32_t n) noexcept nogil:
    return hash_bytes(p, n, shard.hash_seed ^ <uint64_t><size_t>parent)


cdef inline TrieNode* find_node(
        ShardState* shard, TopicSpace* space, TrieNode* parent, const uint8_t* p, uint32_t n) noexcept nogil:
    cdef uint32_t hash
    cdef TrieNode* node
    if parent.children == 0:
        return NULL
    hash = node_hash(shard, parent, p, n)
    node = space.node_buckets[hash & space.node_mask]
    while node != NULL:
        if node.hash == hash and node.parent == parent and node.level_bytes == n \
                and memcmp(node_level(node), p, n) == 0:
            return node
        node = node.next
    return NULL


cdef void resize_nodes(TopicSpace* space, uint32_t buckets) noexcept nogil:
    cdef TrieNode** table = <TrieNode**>take_zeroed(<size_t>buckets * sizeof(void*))
    cdef TrieNode* node
    cdef TrieNode* following
    cdef uint32_t i
    for i in range(space.node_mask + 1):
        node = space.node_buckets[i]
        while node != NULL:
            following = node.next
            node.next = table[node.hash & (buckets - 1)]
            table[node.hash & (buckets - 1)] = node
            node = following
    give_memory(space.node_buckets)
    space.node_buckets = table
    space.node_mask = buckets - 1


cdef TrieNode* add_node(
        ShardState* shard, TopicSpace* space, TrieNode* parent, const uint8_t* p, uint32_t n) noexcept nogil:
    cdef TrieNode* node = <TrieNode*>take_zeroed(sizeof(TrieNode) + n)
    node.parent = parent
    if n == 1 and p[0] == c"+":
        parent.plus = node
        return node
    if space.node_count > space.node_mask:
        resize_nodes(space, (space.node_mask + 1) * 2)
    memcpy(node_level(node), p, n)
    node.level_bytes = n
    node.hash = node_hash(shard, parent, p, n)
    node.next = space.node_buckets[node.hash & space.node_mask]
    space.node_buckets[node.hash & space.node_mask] = node
    space.node_count += 1
    parent.children += 1
    return node


cdef inline bint node_is_empty(TrieNode* node) noexcept nogil:
    return node.children == 0 and node.plus == NULL and node.here.count == 0 and node.below.count == 0


cdef void unlink_node(TopicSpace* space, TrieNode* node) noexcept nogil:
    cdef TrieNode** link
    if node.parent.plus == node:
        node.parent.plus = NULL
        return
    link = &space.node_buckets[node.hash & space.node_mask]
    while link[0] != node:
        link = &link[0].next
    link[0] = node.next
    node.parent.children -= 1
    space.node_count -= 1


cdef void prune(TopicSpace* space, TrieNode* node) noexcept nogil:
    # Dead branches leave at once: walking them would make matching slower for everybody who stays.
    cdef TrieNode* parent
    while node != space.root and node_is_empty(node):
        parent = node.parent
        unlink_node(space, node)
        set_close(&node.here)
        set_close(&node.below)
        give_memory(node)
        node = parent
    if space.node_mask >= FIRST_BUCKETS and space.node_count * 4 < space.node_mask:
        resize_nodes(space, (space.node_mask + 1) // 2)


cdef TrieNode* walk_filter(
        ShardState* shard, TopicSpace* space, const uint8_t* p, uint32_t n, bint create, bint* ends_with_hash
) noexcept nogil:
    # The node where a filter ends; for `a/#` the node of `a`, with ends_with_hash set.
    cdef TrieNode* node = space.root
    cdef TrieNode* child
    cdef uint32_t start = 0
    cdef uint32_t end
    ends_with_hash[0] = False
    while True:
        end = start
        while end < n and p[end] != c"/":
            end += 1
        if end - start == 1 and p[start] == c"#":
            ends_with_hash[0] = True
            return node
        if end - start == 1 and p[start] == c"+":
            child = node.plus
        else:
            child = find_node(shard, space, node, p + start, end - start)
        if child == NULL:
            if not create:
                return NULL
            child = add_node(shard, space, node, p + start, end - start)
        node = child
        if end == n:
            return node
        start = end + 1


# ---------------------------------------------------------------- a topic space

cdef void space_open(TopicSpace* space) noexcept nogil:
    space.buckets = <Topic**>take_zeroed(FIRST_BUCKETS * sizeof(void*))
    space.bucket_mask = FIRST_BUCKETS - 1
    space.topic_count = 0
    space.node_buckets = <TrieNode**>take_zeroed(FIRST_BUCKETS * sizeof(void*))
    space.node_mask = FIRST_BUCKETS - 1
    space.node_count = 0
    space.root = <TrieNode*>take_zeroed(sizeof(TrieNode))
    space.wildcard_subscriptions = 0
    space.subscription_count = 0


cdef void space_close(TopicSpace* space) noexcept nogil:
    # All subscriptions have been removed before: what is left is the tables themselves.
    set_close(&space.root.here)
    set_close(&space.root.below)
    give_memory(space.root)
    give_memory(space.buckets)
    give_memory(space.node_buckets)


cdef SubscriberSet* find_set(
        ShardState* shard, TopicSpace* space, const uint8_t* p, uint32_t n, bint create, void** owner, uint8_t* kind
) noexcept nogil:
    cdef Topic* topic
    cdef TrieNode* node
    cdef uint32_t hash
    cdef bint below
    if not has_wildcard(p, n):
        hash = hash_bytes(p, n, shard.hash_seed)
        topic = find_topic(space, p, n, hash)
        if topic == NULL:
            if not create:
                return NULL
            topic = add_topic(space, p, n, hash)
        owner[0] = topic
        kind[0] = OWNER_TOPIC
        return &topic.subscribers
    node = walk_filter(shard, space, p, n, create, &below)
    if node == NULL:
        return NULL
    owner[0] = node
    kind[0] = OWNER_BELOW if below else OWNER_HERE
    return &node.below if below else &node.here


cdef Subscription* find_subscription(
        ShardState* shard, TopicSpace* space, Session* session, const uint8_t* filter, uint32_t n) noexcept nogil:
    cdef void* owner
    cdef uint8_t kind
    cdef SubscriberSet* members = find_set(shard, space, filter, n, False, &owner, &kind)
    cdef Subscription* subscription
    cdef uint32_t i
    if members == NULL:
        return NULL
    if members.count <= session.subscription_count:     # look through the shorter of the two lists
        for i in range(members.count):
            if members.items[i].session == session:
                return members.items[i]
        return NULL
    subscription = session.subscriptions
    while subscription != NULL and subscription.set != members:
        subscription = subscription.next
    return subscription


cdef Subscription* add_subscription(
        ShardState* shard, TopicSpace* space, Session* session, const uint8_t* filter, uint32_t n) noexcept nogil:
    cdef void* owner
    cdef uint8_t kind
    cdef SubscriberSet* members = find_set(shard, space, filter, n, True, &owner, &kind)
    cdef Subscription* subscription = <Subscription*>slab_take(&shard.subscription_slab)
    subscription.session = session
    subscription.owner = owner
    subscription.owner_kind = kind
    subscription.identifier = 0
    subscription.refs = 0
    subscription.qos = 0
    subscription.no_local = 0
    subscription.retain_as_published = 0
    subscription.dead = 0
    subscription.has_run = 0
    set_add(members, subscription)
    subscription.previous = NULL
    subscription.next = session.subscriptions
    if session.subscriptions != NULL:
        session.subscriptions.previous = subscription
    session.subscriptions = subscription
    session.subscription_count += 1
    space.subscription_count += 1
    if kind != OWNER_TOPIC:
        space.wildcard_subscriptions += 1
    return subscription


cdef void remove_subscription(ShardState* shard, TopicSpace* space, Subscription* subscription) noexcept nogil:
    cdef Session* session = subscription.session
    set_remove(subscription.set, subscription)
    space.subscription_count -= 1
    if subscription.owner_kind == OWNER_TOPIC:
        if (<Topic*>subscription.owner).subscribers.count == 0:
            remove_topic(space, <Topic*>subscription.owner)
    else:
        space.wildcard_subscriptions -= 1
        prune(space, <TrieNode*>subscription.owner)
    if subscription.previous != NULL:
        subscription.previous.next = subscription.next
    else:
        session.subscriptions = subscription.next
    if subscription.next != NULL:
        subscription.next.previous = subscription.previous
    session.subscription_count -= 1
    subscription.dead = 1
    if subscription.refs == 0:
        slab_give(&shard.subscription_slab, subscription)


cdef void release_subscription(ShardState* shard, Subscription* subscription) noexcept nogil:
    subscription.refs -= 1
    if subscription.refs == 0 and subscription.dead:
        slab_give(&shard.subscription_slab, subscription)


cdef uint32_t levels_of(TrieNode* node, uint8_t* at) noexcept nogil:
    # Written from the last level to the first, after their size is known.
    cdef TrieNode* level = node
    cdef uint32_t n = 0, end
    while level.parent != NULL:
        n += level.level_bytes + 1
        level = level.parent
    end = n
    level = node
    while level.parent != NULL:
        end -= 1
        at[end] = c"/"
        end -= level.level_bytes
        memcpy(at + end, node_level(level), level.level_bytes)
        level = level.parent
    return n        # with a separator behind the last level


cdef uint32_t filter_of(Subscription* subscription, uint8_t* at) noexcept nogil:
    cdef Topic* topic
    cdef uint32_t n
    if subscription.owner_kind == OWNER_TOPIC:
        topic = <Topic*>subscription.owner
        memcpy(at, topic_name(topic), topic.name_bytes)
        return topic.name_bytes
    n = levels_of(<TrieNode*>subscription.owner, at)
    if subscription.owner_kind == OWNER_HERE:
        return n - 1
    at[n] = c"#"
    return n + 1


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


cdef void collect(Matching* matching, SubscriberSet* members) noexcept nogil:
    cdef ShardState* shard = matching.shard
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
        subscription = members.items[i]
        if subscription.no_local and subscription.session == matching.publisher:  # [MQTT-3.8.3-3]
            continue
        receiver = &shard.receivers[shard.receiver_count]
        receiver.subscription = subscription
        receiver.also = -1
        receiver.qos = subscription.qos
        receiver.retain_as_published = subscription.retain_as_published
        receiver.merged = 0
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
        if node.below.count and not (hidden and node == space.root):
            collect(matching, &node.below)
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
    if space.wildcard_subscriptions:
        match_trie(&matching, space, topic, n)
