# One account's topic filters, exact ones in a hash and wildcards in a trie, and which subscriptions match.
#
# Not here: what a valid name or filter is (topic_rules), rights (grants), delivery.

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport Account, Session, SharedGroup, ShardState, Subscription, TopicSpace

cdef void space_open(ShardState* shard, TopicSpace* space) noexcept nogil
cdef void space_close(ShardState* shard, TopicSpace* space) noexcept nogil

# The session's subscription with exactly this filter, which may be a shared one, or NULL.
cdef Subscription* find_subscription(
    ShardState* shard, TopicSpace* space, Session* session, const uint8_t* filter, uint32_t n) noexcept nogil
# Whether the budgets of the account and of all of them have room for one more, with a filter of so many bytes.
cdef bint has_filter_room(ShardState* shard, Account* account, uint32_t n) noexcept nogil
# The shared group of a filter that begins with `$share/`, or NULL.
cdef SharedGroup* find_shared_group(
    ShardState* shard, TopicSpace* space, const uint8_t* filter, uint32_t n) noexcept nogil
# A new subscription, linked into the filter's set and the session's list; the filter is valid and not subscribed yet.
cdef Subscription* add_subscription(
    ShardState* shard, TopicSpace* space, Session* session, const uint8_t* filter, uint32_t n) noexcept nogil
# Takes a subscription out of both; the memory goes when no fan-out names it any more.
cdef void remove_subscription(ShardState* shard, TopicSpace* space, Subscription* subscription) noexcept nogil
cdef void release_subscription(ShardState* shard, Subscription* subscription) noexcept nogil

# Writes a subscription's filter, of at most 65,535 bytes, and returns how many; without its share name.
cdef uint32_t filter_of(Subscription* subscription, uint8_t* at) noexcept nogil
# A group's share name and filter as they stand behind `$share/`.
cdef uint32_t group_name(SharedGroup* group, uint8_t* at) noexcept nogil
# A subscription's filter as it stood in SUBSCRIBE, `$share/` included: of at most 65,535 bytes too.
cdef uint32_t subscribed_filter(Subscription* subscription, uint8_t* at) noexcept nogil

# Fills shard.receivers with everybody who gets a message on this topic, and every shared group that does. `publisher`
# may be NULL.
cdef void match_topic(
    ShardState* shard, TopicSpace* space, const uint8_t* topic, uint32_t n, Session* publisher) noexcept nogil
