"""Topic filters with wildcards, by level. See trie.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.arena cimport arena_give, arena_take_zeroed
from broker._core.memory cimport likely_
from broker._core.model cimport ShardState, TopicSpace, TrieNode
from broker._core.table cimport Link, table_add, table_remove


cdef enum:
    STEP_BYTES = 32     # of a tail that are compared, for one step more


cdef inline uint32_t node_bytes(TrieNode* node) noexcept nogil:
    return <uint32_t>sizeof(TrieNode) + node.text_bytes


cdef inline uint32_t level_end(const uint8_t* p, uint32_t n, uint32_t at) noexcept nogil:
    while at < n and p[at] != c"/":
        at += 1
    return at


cdef inline bint is_level(const uint8_t* p, uint32_t n, uint8_t wildcard) noexcept nogil:
    return n == 1 and p[0] == wildcard


cdef TrieNode* new_root(ShardState* shard) noexcept nogil:
    return <TrieNode*>arena_take_zeroed(&shard.arena, sizeof(TrieNode))


cdef void free_root(ShardState* shard, TrieNode* root) noexcept nogil:
    arena_give(&shard.arena, root, sizeof(TrieNode))


# ---------------------------------------------------------------- nodes

cdef void link_node(ShardState* shard, TopicSpace* space, TrieNode* node) noexcept nogil:
    cdef const uint8_t* level = node_text(node) + node.level_at
    if is_level(level, node.level_bytes, c"+"):
        node.parent.plus = node
    elif is_level(level, node.level_bytes, c"#"):
        node.parent.many = node
    else:
        node.hash = node_hash(shard, node.parent, level, node.level_bytes)
        table_add(&space.nodes, <Link*>node)
        node.parent.children += 1


cdef void unlink_node(TopicSpace* space, TrieNode* node) noexcept nogil:
    if node.parent.plus == node:
        node.parent.plus = NULL
    elif node.parent.many == node:
        node.parent.many = NULL
    else:
        table_remove(&space.nodes, <Link*>node)
        node.parent.children -= 1


cdef TrieNode* add_node(
        ShardState* shard, TopicSpace* space, TrieNode* parent, const uint8_t* text, uint32_t n, uint32_t level
) noexcept nogil:
    cdef TrieNode* node = <TrieNode*>arena_take_zeroed(&shard.arena, <uint32_t>sizeof(TrieNode) + n)
    node.parent = parent
    node.level_bytes = <uint16_t>level
    node.text_bytes = <uint16_t>n
    memcpy(node_text(node), text, n)
    link_node(shard, space, node)
    return node


cdef TrieNode* split_off_level(ShardState* shard, TopicSpace* space, TrieNode* node) noexcept nogil:
    # The first level gets a node of its own, and the node moves below it with the rest. Its address stays: it has
    # subscribers.
    cdef TrieNode* upper
    cdef uint8_t* text = node_text(node)
    cdef uint32_t start = node.level_at + node.level_bytes + 1
    unlink_node(space, node)
    upper = add_node(shard, space, node.parent, text + node.level_at, node.level_bytes, node.level_bytes)
    node.parent = upper
    node.level_at = <uint16_t>start
    node.level_bytes = <uint16_t>(level_end(text, node.text_bytes, start) - start)
    link_node(shard, space, node)
    return upper


cdef inline TrieNode* child_of(
        ShardState* shard, TopicSpace* space, TrieNode* node, const uint8_t* level, uint32_t n) noexcept nogil:
    if is_level(level, n, c"+"):
        return node.plus
    if is_level(level, n, c"#"):
        return node.many
    return find_node(shard, space, node, level, n)


cdef bint tail_is(TrieNode* node, const uint8_t* rest, uint32_t n) noexcept nogil:
    cdef uint32_t start = node.level_at + node.level_bytes + 1
    return node.text_bytes - start == n and memcmp(node_text(node) + start, rest, n) == 0


cdef TrieNode* node_of_filter(
        ShardState* shard, TopicSpace* space, const uint8_t* filter, uint32_t n, bint create) noexcept nogil:
    cdef TrieNode* node = space.root
    cdef TrieNode* child
    cdef uint32_t at = 0, end
    while True:
        end = level_end(filter, n, at)
        child = child_of(shard, space, node, filter + at, end - at)
        if child == NULL:
            return add_node(shard, space, node, filter + at, n - at, end - at) if create else NULL
        if has_tail(child):
            if end < n and tail_is(child, filter + end + 1, n - end - 1):
                return child
            if not create:
                return NULL
            child = split_off_level(shard, space, child)
        if end == n:
            return child
        node = child
        at = end + 1


cdef inline bint is_empty(TrieNode* node) noexcept nogil:
    return node.children == 0 and node.plus == NULL and node.many == NULL and node.here.count == 0


cdef void prune(ShardState* shard, TopicSpace* space, TrieNode* node) noexcept nogil:
    # Dead branches leave at once: walking them would make matching slower for everybody who stays.
    cdef TrieNode* parent
    while node != space.root and is_empty(node):
        parent = node.parent
        unlink_node(space, node)
        arena_give(&shard.arena, node, node_bytes(node))
        node = parent


# ---------------------------------------------------------------- reading

cdef uint32_t node_filter_bytes(TrieNode* node) noexcept nogil:
    cdef uint32_t n = node.text_bytes - node.level_at
    node = node.parent
    while node.parent != NULL:
        n += node.level_bytes + 1
        node = node.parent
    return n


cdef uint32_t write_node_filter(TrieNode* node, uint8_t* at) noexcept nogil:
    # From the last level to the first.
    cdef uint32_t total = node_filter_bytes(node)
    cdef uint32_t start = total
    cdef uint32_t n = node.text_bytes - node.level_at
    while True:
        start -= n
        memcpy(at + start, node_text(node) + node.level_at, n)
        node = node.parent
        if node.parent == NULL:
            return total
        start -= 1
        at[start] = c"/"
        n = node.level_bytes


cdef bint tail_matches(
        TrieNode* node, const uint8_t* topic, uint32_t n, uint32_t at, uint64_t* steps) noexcept nogil:
    cdef const uint8_t* p = node_text(node) + node.level_at + node.level_bytes + 1
    cdef const uint8_t* end = node_text(node) + node.text_bytes
    cdef uint32_t started = at
    while True:     # at the beginning of a level of both
        if p != end and p[0] == c"#":
            break
        if at > n:
            return False
        if p != end and p[0] == c"+":
            p += 1
            at = level_end(topic, n, at)
        else:
            while likely_(p != end and at < n and p[0] == topic[at] and p[0] != c"/"):
                p += 1
                at += 1
            if (p != end and p[0] != c"/") or (at < n and topic[at] != c"/"):
                steps[0] += (at - started) // STEP_BYTES
                return False
        at += 1
        if p == end:
            if at <= n:     # the name goes on
                return False
            break
        p += 1
    steps[0] += (at - started) // STEP_BYTES
    return True
