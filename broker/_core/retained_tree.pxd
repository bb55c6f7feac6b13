# The topics of an account that have a retained message, as a tree of their levels.
#
# A node lives while it has a message, children, or a run that stands on it: so a run goes on from where it stood,
# whatever was set, cleared or expired meanwhile.
#
# Here belong nodes and finding them. Not here: messages (retained), walks over what a filter matches (retained_runs).

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from broker._core.cursor cimport Span
from broker._core.model cimport RetainedNode, RetainedSpace, ShardState

cdef inline uint8_t* node_level(RetainedNode* node) noexcept nogil:
    return <uint8_t*>&node.level_bytes + sizeof(uint16_t)
cdef RetainedNode* find_child(
    ShardState* shard, RetainedSpace* space, RetainedNode* parent, const uint8_t* p, uint32_t n) noexcept nogil
# The node where a topic name ends; NULL: there is none, and none was to be made.
cdef RetainedNode* walk_topic(ShardState* shard, RetainedSpace* space, const Span* topic, bint create) noexcept nogil
# A node has lost what it lived for, or part of it: it goes if nothing is left, and those above it that lived for it.
cdef void prune(RetainedSpace* space, RetainedNode* node) noexcept nogil
