# How sessions go on without their connection, and how they end: departure, resumption, expiry, wills.
#
# Here belongs the life of a session between and after its connections. Not here: its data (session), who may have one
# (connect).

from libc.stdint cimport int64_t

from broker._core.model cimport Connection, Session, ShardState

# Decides about a session whose connection has just gone: it is kept, or it ends; its will is published, or waits.
cdef void depart(ShardState* shard, Session* session) noexcept nogil
# The same for all of them, while there is budget.
cdef void run_parted(ShardState* shard) noexcept nogil
# A client is back: its session is its connection's again, and what was inflight will be sent again.
cdef void resume_session(ShardState* shard, Session* session, Connection* connection) noexcept nogil
# Ends a session, now or in slices; a will that is still waiting is published. [MQTT-3.1.2-8]
cdef void end_session(ShardState* shard, Session* session) noexcept nogil
# Goes on with what large sessions have left behind, while there is budget.
cdef void continue_ending(ShardState* shard) noexcept nogil
# TIMER_SESSION has fired.
cdef void session_timer(ShardState* shard, Session* session) noexcept nogil
# As many packets may be under way as both sides allow.
cdef void open_quota(ShardState* shard, Session* session, Connection* connection) noexcept nogil
