# Promises that wait: what a connection may only be told when it is on disk.
#
# Those of one connection leave in the order in which they were made: none passes another. [v311 MQTT-4.6.0-2]
#
# Here belong the promises as data. Not here: what one sends when it leaves (acks).

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.framing cimport PUBACK, PUBCOMP
from broker._core.model cimport Connection, Message, Promise, ShardState

cdef inline bint counts_as_publish(uint8_t kind) noexcept nogil:
    # While a QoS 2 exchange lasts it is counted by its identifier: only the PUBCOMP that ends it is not.
    return kind == PUBACK or kind == PUBCOMP
cdef inline bint leaves_now(ShardState* shard, Connection* connection, uint64_t ticket) noexcept nogil:
    return connection.held == NULL and ticket <= shard.journal.settled_ticket
cdef inline uint32_t promises_held(Connection* connection) noexcept nogil:
    return 0 if connection.held == NULL else connection.held.count
cdef inline uint32_t publishes_held(Connection* connection) noexcept nogil:
    return 0 if connection.held == NULL else connection.held.publishes
cdef inline uint32_t kept_count(Connection* connection) noexcept nogil:
    return 0 if connection.held == NULL else connection.held.kept_count

# A promise at the end of the connection's, to be filled by the caller.
cdef Promise* hold(ShardState* shard, Connection* connection, uint64_t ticket, uint8_t kind) noexcept nogil
# The same for a PUBLISH of QoS 0, which holds the message; and whether there is room for n bytes of such messages.
cdef Promise* hold_once(ShardState* shard, Connection* connection, uint64_t ticket, Message* message) noexcept nogil
cdef inline bint may_hold(ShardState* shard, Connection* connection, uint64_t n) noexcept nogil:
    # As in the outbox, where it would stand otherwise: what is alone has room.
    return kept_count(connection) == 0 or connection.held.kept_bytes + n <= shard.limits.outbox_soft_limit_bytes
# The first one when it may leave, or NULL.
cdef Promise* first_due(ShardState* shard, Connection* connection) noexcept nogil
cdef void drop_first(ShardState* shard, Connection* connection) noexcept nogil
# Its connection closes: nobody is there to whom anything was promised.
cdef void drop_promises(ShardState* shard, Connection* connection) noexcept nogil
