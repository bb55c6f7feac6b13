"""Shared groups and the order of their members. See groups.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from broker._core.arena cimport arena_give, arena_take_zeroed
from broker._core.memory cimport give_memory, resize_memory
from broker._core.model cimport SharedGroup, ShardState, Subscription, TopicSpace
from broker._core.table cimport Link, table_add, table_first, table_remove
from broker._core.topic_rules cimport hash_bytes


cdef inline uint8_t* share_name(SharedGroup* group) noexcept nogil:
    return <uint8_t*>group + sizeof(SharedGroup)


cdef inline SharedGroup* of_link(Link* link) noexcept nogil:
    return NULL if link == NULL else <SharedGroup*>(<uint8_t*>link - sizeof(Subscription))


cdef inline uint32_t group_hash(ShardState* shard, void* owner, const uint8_t* name, uint32_t n) noexcept nogil:
    return hash_bytes(name, n, shard.hash_seed ^ <uint64_t><size_t>owner)


# ---------------------------------------------------------------- the table

cdef SharedGroup* find_group(
        ShardState* shard, TopicSpace* space, void* owner, const uint8_t* name, uint32_t n) noexcept nogil:
    cdef uint32_t hash = group_hash(shard, owner, name, n)
    cdef SharedGroup* group = of_link(table_first(&space.groups, hash))
    while group != NULL:
        if group.link.hash == hash and group.entry.owner == owner and group.name_bytes == n \
                and memcmp(share_name(group), name, n) == 0:
            return group
        group = of_link(group.link.next)
    return NULL


cdef SharedGroup* add_group(
        ShardState* shard, TopicSpace* space, void* owner, const uint8_t* name, uint32_t n) noexcept nogil:
    cdef SharedGroup* group = <SharedGroup*>arena_take_zeroed(&shard.arena, <uint32_t>sizeof(SharedGroup) + n)
    group.name_bytes = n
    memcpy(share_name(group), name, n)
    group.link.hash = group_hash(shard, owner, name, n)
    table_add(&space.groups, &group.link)
    return group


cdef void remove_group(ShardState* shard, TopicSpace* space, SharedGroup* group) noexcept nogil:
    table_remove(&space.groups, &group.link)
    give_memory(group.members)
    group.members = NULL
    group.entry.dead = 1
    if group.entry.refs == 0:
        free_group(shard, group)


cdef void free_group(ShardState* shard, SharedGroup* group) noexcept nogil:
    arena_give(&shard.arena, group, <uint32_t>sizeof(SharedGroup) + group.name_bytes)


# ---------------------------------------------------------------- members

cdef inline void put(SharedGroup* group, uint32_t index, Subscription* member) noexcept nogil:
    group.members[index] = member
    member.index = index


cdef inline void swap(SharedGroup* group, uint32_t one, uint32_t other) noexcept nogil:
    cdef Subscription* member = group.members[one]
    put(group, one, group.members[other])
    put(group, other, member)


cdef void set_capacity(SharedGroup* group, uint32_t capacity) noexcept nogil:
    group.members = <Subscription**>resize_memory(group.members, <size_t>capacity * sizeof(void*))
    group.capacity = capacity


cdef void join(SharedGroup* group, Subscription* member) noexcept nogil:
    if group.count == group.capacity:
        set_capacity(group, group.capacity * 2 if group.capacity else 1)
    put(group, group.count, member)
    group.count += 1
    take_turn(group, member)


cdef void leave(SharedGroup* group, Subscription* member) noexcept nogil:
    lose_turn(group, member, True)
    group.count -= 1
    swap(group, member.index, group.count)
    if group.count and group.count * 4 < group.capacity:
        set_capacity(group, group.capacity // 2)


cdef void lose_turn(SharedGroup* group, Subscription* member, bint away) noexcept nogil:
    if member.index < group.able:
        group.able -= 1
        swap(group, member.index, group.able)
    if away and member.index < group.connected:
        group.connected -= 1
        swap(group, member.index, group.connected)


cdef void take_turn(SharedGroup* group, Subscription* member) noexcept nogil:
    if member.index >= group.connected:
        swap(group, member.index, group.connected)
        group.connected += 1
    if member.index >= group.able:
        swap(group, member.index, group.able)
        group.able += 1
