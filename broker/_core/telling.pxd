# What has happened since Python asked last, as tuples: stories of devices, notes about messages, answers, usage, and
# packets that are Python's to answer.
#
# Here belong these tuples (see shard.pyi), each of which is told once. Not here: noting any of it (events, tracking,
# limiter, connection), words.

from libc.stdint cimport uint32_t

from broker._core.model cimport ShardState

cdef list take_stories(ShardState* shard, uint32_t at_most)
cdef list take_gathered(ShardState* shard, uint32_t at_most)
cdef list take_tracked(ShardState* shard)
cdef list take_answers(ShardState* shard)
cdef list take_usage(ShardState* shard, uint32_t at_most)
cdef list take_rare(ShardState* shard, uint32_t at_most)
