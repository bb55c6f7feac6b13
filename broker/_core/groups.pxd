# The shared groups of one topic space (section 4.8.2) and the order of their members.
#
# Here belong the table of groups, and the three parts of a group's members: able, full, away. Not here: what makes a
# member able, and who is chosen (shared); the filter that a group stands in (topics).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Session, SharedGroup, ShardState, Subscription, TopicSpace

# The group with this share name whose entry belongs to `owner`, a Topic or TrieNode; NULL: there is none.
cdef SharedGroup* find_group(
    ShardState* shard, TopicSpace* space, void* owner, const uint8_t* name, uint32_t n) noexcept nogil
# A new one in the table; its entry belongs to nobody yet.
cdef SharedGroup* add_group(
    ShardState* shard, TopicSpace* space, void* owner, const uint8_t* name, uint32_t n) noexcept nogil
# Out of the table; the memory goes when nothing names it any more.
cdef void remove_group(ShardState* shard, TopicSpace* space, SharedGroup* group) noexcept nogil
cdef void free_group(ShardState* shard, SharedGroup* group) noexcept nogil

# A new member is able.
cdef void join(SharedGroup* group, Subscription* member) noexcept nogil
cdef void leave(SharedGroup* group, Subscription* member) noexcept nogil
# From one part to another.
cdef void lose_turn(SharedGroup* group, Subscription* member, bint away) noexcept nogil
cdef void take_turn(SharedGroup* group, Subscription* member) noexcept nogil

cdef inline SharedGroup* group_of(Subscription* member) noexcept nogil:
    return <SharedGroup*>member.owner
