# Connections and sessions for those who look after a broker: one by one, and in pages that hold nobody up.
#
# Here belong rows and pages of them. Not here: the words (broker.admin), and cutting anybody (connection, lifetime).

from libc.stdint cimport uint32_t, uint64_t

from broker._core.model cimport Connection, Principal, Session, ShardState

# See shard.pyi: ConnectionRow and SessionRow.
cdef tuple connection_row(ShardState* shard, Connection* connection)
cdef tuple session_row(ShardState* shard, Session* session)
cdef list rows_of_connections(ShardState* shard, Principal* principal)
cdef list rows_of_sessions(ShardState* shard, Principal* principal)
# A page behind a cursor, and the cursor behind the page, 0: nothing is left. `account_id` -1: of all accounts. Whoever
# is there all the time is found at least once, whatever comes and goes between two pages.
cdef tuple page_of_connections(ShardState* shard, uint32_t cursor, uint32_t at_most, long long account_id)
cdef tuple page_of_sessions(ShardState* shard, uint32_t cursor, uint32_t at_most, long long account_id)
