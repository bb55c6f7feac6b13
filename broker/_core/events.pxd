# What has happened to devices, until somebody takes it: one story for each device that has any.
#
# Here belong noting what happened, what of it is gathered, and in whose turn stories are taken. Not here: what happens
# (whose module says so in one call), what becomes of it (broker.accounts.timeline, broker.admin.presence), words.
#
# No queue of events: an attacker, or a fleet that comes back, would fill it for everybody. A story is its device's own,
# has room for STORY_EVENTS different events, and counts what happens again; accounts with stories are served in turn
# (law 11). What is frequent is gathered until it is asked for. Nothing is noted while nobody watches, and nothing of
# applications. What has no room is counted.

from libc.stdint cimport uint8_t, uint32_t

from broker._core.memory cimport unlikely_
from broker._core.model cimport Connection, Principal, Session, ShardState, Story

cdef void events_close(ShardState* shard) noexcept nogil

# A CONNECT was accepted: the connection has its session and its grant.
cdef void note_connected(ShardState* shard, Connection* connection, bint resumed) noexcept nogil
# A connected one ends, and has both still. Says nothing of one that was taken over: note_takeover has.
cdef void note_disconnected(ShardState* shard, Connection* connection) noexcept nogil
# `session` gets another connection in place of its own.
cdef void note_takeover(ShardState* shard, Session* session, Connection* connection) noexcept nogil
# A CONNECT with a good login is refused, for a Refusal.
cdef void note_refused(
    ShardState* shard, Connection* connection, Principal* principal, uint8_t refusal, const uint8_t* client_id,
    uint32_t n) noexcept nogil
# Something that may happen very often, with a topic where it has one.
cdef void note_often(
    ShardState* shard, Connection* connection, uint8_t kind, const uint8_t* text, uint32_t n) noexcept nogil

# A story that is among those that are gathered.
cdef Story* noisy_story(ShardState* shard, Principal* principal) noexcept nogil
cdef inline void note_drop(ShardState* shard, Principal* principal, int reason) noexcept nogil:
    if unlikely_(shard.watched and principal.device_id_bytes):
        noisy_story(shard, principal).drops[reason] += 1

# The next story of the next account, or of those that are gathered; NULL: there is none. `end_story` gives it back.
cdef Story* next_story(ShardState* shard) noexcept nogil
cdef Story* next_noisy(ShardState* shard) noexcept nogil
cdef void end_story(ShardState* shard, Story* story) noexcept nogil

# Python is to be told of something at the end of the round: a Rare, which a connection's slot and generation may name.
cdef void list_rare(
    ShardState* shard, uint8_t kind, uint8_t reason_code, uint32_t slot, uint32_t generation) noexcept nogil
# Why, of the one that was listed last: a connection's, of this kind.
cdef void explain_rare(ShardState* shard, uint8_t kind, uint8_t why, uint32_t slot, uint32_t generation) noexcept nogil
# That there are stories, unless it knows.
cdef void call_for_stories(ShardState* shard) noexcept nogil
