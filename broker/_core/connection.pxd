# One network connection: its slot, state, outbox and end. No socket: the reactor moves the bytes.
#
# Here belong opening, staging bytes, refusing (law 5) and closing. Not here: what packets mean (dispatch and below).

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from broker._core.memory cimport likely_
from broker._core.model cimport Connection, Grant, ShardState

cdef void connections_open(ShardState* shard) noexcept nogil
cdef void connections_close(ShardState* shard) noexcept nogil

# NULL when connections_maximum or unauthenticated_connections_maximum is reached.
cdef Connection* open_connection(ShardState* shard, int fd, uint32_t listener) noexcept nogil
# The connection of a handle, or NULL when it is gone or its slot belongs to another.
cdef Connection* find_connection(ShardState* shard, uint32_t slot, uint32_t generation) noexcept nogil
# The handle by which Python knows it: see shard.
cdef inline uint64_t handle_of(Connection* connection) noexcept nogil:
    return (<uint64_t>connection.generation << 32) | connection.slot

cdef inline uint32_t outbox_unsent(Connection* connection) noexcept nogil:
    return connection.outbox_end - connection.outbox_start

# Whether the budgets of account and process let an outbox grow for n more bytes. Who is refused is pumped again when
# memory has been given back.
cdef bint may_grow(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil
# Whether n more bytes stay below the soft limit, which an empty outbox does not have, and within the budgets.
cdef inline bint has_room(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil:
    cdef uint32_t unsent = outbox_unsent(connection)
    if unsent and unsent + n > shard.limits.outbox_soft_limit_bytes:
        return False
    return likely_(connection.outbox_end + n <= connection.outbox_capacity) or may_grow(shard, connection, n)
# The DropReason of a message of n bytes that has no room.
cdef int why_no_outbox(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil

# Room for n bytes at the end of the outbox; the connection becomes dirty. The caller fills all n bytes.
cdef uint8_t* outbox_reserve(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil
cdef void outbox_put(ShardState* shard, Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil
# Forgets n sent bytes; an empty buffer goes back to the pool.
cdef void outbox_sent(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil
# It has something to send, if not in its outbox.
cdef void mark_dirty(ShardState* shard, Connection* connection) noexcept nogil
cdef Connection* next_dirty(ShardState* shard) noexcept nogil

cdef void mark_ready(ShardState* shard, Connection* connection) noexcept nogil
cdef Connection* next_ready(ShardState* shard) noexcept nogil

cdef void keep_in_inbox(Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil
cdef void inbox_consumed(Connection* connection, uint32_t n) noexcept nogil

# The one place that turns an error into bytes: CONNACK, DISCONNECT or silence by version and state; then closes.
cdef void fail(ShardState* shard, Connection* connection, uint8_t reason_code) noexcept nogil
# Ends session and timers at once; the struct lives until the end of the round (see free_closed).
cdef void close_connection(ShardState* shard, Connection* connection) noexcept nogil
# Frees a connection that is CLOSING and whose socket is closed.
cdef void free_connection(ShardState* shard, Connection* connection) noexcept nogil

# Puts a CLOSING connection on the list that is looked at when the round ends.
cdef void list_closing(ShardState* shard, Connection* connection) noexcept nogil

cdef void add_rare(ShardState* shard, Connection* connection, uint8_t kind, uint8_t reason_code) noexcept nogil
cdef void arm_connect_deadline(ShardState* shard, Connection* connection) noexcept nogil
cdef void arm_keep_alive(ShardState* shard, Connection* connection) noexcept nogil
# What a fired timer means; TIMER_LINGER is the reactor's.
cdef void connection_timer(ShardState* shard, Connection* connection, uint8_t kind) noexcept nogil
