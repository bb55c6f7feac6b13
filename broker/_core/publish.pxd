# The inbound PUBLISH, in the order of law 9.
#
# Here belong the checks and the outcome of a PUBLISH, from a client or from inside the process. Not here: who gets it
# (deliver), when its acknowledgement leaves (acks).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.cursor cimport Span
from broker._core.message cimport Outgoing
from broker._core.model cimport Account, Connection, Session, ShardState

# `packet` is the whole PUBLISH of `total` bytes, `header` the size of its fixed header.
cdef void handle_publish(
    ShardState* shard, Connection* connection, const uint8_t* packet, uint32_t total, uint32_t header) noexcept nogil
cdef enum:
    REFUSED = 0xFFFFFFFF        # it would need the disk, which takes nothing now

# From inside the process: the caller has checked name, size and, for a retained one, quotas; properties are valid ones
# of a PUBLISH. Closes `out`. `counted`: it is the account's own usage, and not the broker's word. Returns how many
# sessions took it, or REFUSED.
cdef uint32_t publish_from_server(ShardState* shard, Account* account, Outgoing* out, bint counted) noexcept nogil
# The will of a session, which is taken from it: published in its account's topics if its rights still cover the topic.
cdef void publish_will(ShardState* shard, Session* session) noexcept nogil
# Goes on with what did not fit into earlier slices, account by account and oldest first, while there is budget.
cdef void continue_publishing(ShardState* shard) noexcept nogil
# Where the four bytes of a Message Expiry Interval lie in a valid list of properties that has one.
cdef uint32_t expiry_offset(const Span* properties) noexcept nogil
