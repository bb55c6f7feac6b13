"""The tree of topics that have a retained message. See retained_tree.pxd.

Children are found by hash and listed as siblings.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from broker._core.cursor cimport Span
from broker._core.memory cimport give_memory, resize_memory, take_zeroed
from broker._core.model cimport RetainedNode, RetainedSpace, ShardState
from broker._core.topic_rules cimport hash_bytes


cdef enum:
    FIRST_BUCKETS = 16


# ---------------------------------------------------------------- nodes by hash

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


# ---------------------------------------------------------------- the tree

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
