# Figures of the core as Python reads them: of the shard, its journal, a connection, a principal.
#
# Here belong dictionaries and tuples (see shard.pyi) that change nothing. Not here: counting, rows of connections and
# sessions (listing), words.

from libc.stdint cimport uint64_t

from broker._core.model cimport Account, Connection, Journal, Principal, ShardState

cdef dict counters(ShardState* shard, Py_ssize_t policies)
cdef uint64_t open_batch_bytes(Journal* journal) noexcept nogil
cdef dict journal_figures(Journal* journal)
cdef dict connection_figures(Connection* connection)
# Its connections, its sessions that outlive one, and the messages that wait for it.
cdef tuple standing(Principal* principal)
# By DropReason; of one that is not there (NULL) there are none.
cdef list drops_of_principal(Principal* principal)
cdef list drops_of_account(Account* account)
