# Topic rules (section 4.7), and one account's filters: exact ones in a hash, wildcards in a trie.
#
# Here belongs what a topic name or filter is and which subscriptions match. Not here: rights (grants), delivery.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.model cimport Session, ShardState, Subscription, TopicSpace

cdef enum:
    TOPIC_LEVELS_HARD_MAXIMUM = 250     # the matcher's stack has room for this many levels and not one more

cdef uint32_t hash_bytes(const uint8_t* p, uint32_t n, uint64_t seed) noexcept nogil

# A name without wildcards, NUL or ill-formed UTF-8, at least one byte, at most `levels_maximum` levels.
cdef bint valid_topic_name(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil
# A filter whose wildcards stand where they may; shared subscriptions are not looked into.
cdef bint valid_topic_filter(const uint8_t* p, uint32_t n, uint32_t levels_maximum) noexcept nogil
cdef bint has_wildcard(const uint8_t* p, uint32_t n) noexcept nogil

cdef void space_open(TopicSpace* space) noexcept nogil
cdef void space_close(TopicSpace* space) noexcept nogil

# The session's subscription with exactly this filter, or NULL.
cdef Subscription* find_subscription(
    ShardState* shard, TopicSpace* space, Session* session, const uint8_t* filter, uint32_t n) noexcept nogil
# A new subscription, linked into the filter's set and the session's list; the filter is valid and not subscribed yet.
cdef Subscription* add_subscription(
    ShardState* shard, TopicSpace* space, Session* session, const uint8_t* filter, uint32_t n) noexcept nogil
# Takes a subscription out of both; the memory goes when no fan-out names it any more.
cdef void remove_subscription(ShardState* shard, TopicSpace* space, Subscription* subscription) noexcept nogil
cdef void release_subscription(ShardState* shard, Subscription* subscription) noexcept nogil

# Fills shard.receivers with everybody who gets a message on this topic; `publisher` may be NULL.
cdef void match_topic(
    ShardState* shard, TopicSpace* space, const uint8_t* topic, uint32_t n, Session* publisher) noexcept nogil
