# Topic filters with wildcards, by level: one node for each level that two filters share, and one for all the rest of a
# filter that goes on alone (its tail), so that a long filter costs one node.
#
# Here belong nodes: finding, making, dividing, removing. Not here: who subscribed, and walking it with a topic name
# (topics).

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from broker._core.model cimport ShardState, TopicSpace, TrieNode
from broker._core.table cimport Link, table_first
from broker._core.topic_rules cimport hash_bytes

cdef TrieNode* new_root(ShardState* shard) noexcept nogil
cdef void free_root(ShardState* shard, TrieNode* root) noexcept nogil
# The node of exactly this filter; NULL when there is none and none shall be made.
cdef TrieNode* node_of_filter(
    ShardState* shard, TopicSpace* space, const uint8_t* filter, uint32_t n, bint create) noexcept nogil
# Removes a node that has no subscribers and no children, and those above it that are left alone by that.
cdef void prune(ShardState* shard, TopicSpace* space, TrieNode* node) noexcept nogil
# Writes the filter of a node, and returns how many bytes it has.
cdef uint32_t write_node_filter(TrieNode* node, uint8_t* at) noexcept nogil
# Whether the tail of a node matches what is left of a topic name from `at`; n + 1: nothing is left. Adds to `steps`.
cdef bint tail_matches(
    TrieNode* node, const uint8_t* topic, uint32_t n, uint32_t at, uint64_t* steps) noexcept nogil

cdef inline uint8_t* node_text(TrieNode* node) noexcept nogil:
    return <uint8_t*>node + sizeof(TrieNode)

cdef inline bint has_tail(TrieNode* node) noexcept nogil:
    return node.level_at + node.level_bytes != node.text_bytes

cdef inline uint32_t node_hash(ShardState* shard, TrieNode* parent, const uint8_t* p, uint32_t n) noexcept nogil:
    return hash_bytes(p, n, shard.hash_seed ^ <uint64_t><size_t>parent)

cdef inline TrieNode* find_node(
        ShardState* shard, TopicSpace* space, TrieNode* parent, const uint8_t* p, uint32_t n) noexcept nogil:
    cdef uint32_t hash
    cdef TrieNode* node
    if parent.children == 0:
        return NULL
    hash = node_hash(shard, parent, p, n)
    node = <TrieNode*>table_first(&space.nodes, hash)
    while node != NULL:
        if node.hash == hash and node.parent == parent and node.level_bytes == n \
                and memcmp(node_text(node) + node.level_at, p, n) == 0:
            return node
        node = node.next
    return NULL
