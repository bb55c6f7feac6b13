# The reactor: one inner epoll per shard, under add_reader of any asyncio loop.
#
# Here belong rounds, reading and fairness. Not here: what bytes mean; who comes in (accepting, handshakes) and the way
# out (sending). asyncio touches no MQTT socket.

from libc.stdint cimport int64_t, uint64_t

from broker._core.model cimport Connection
from broker._core.net cimport Net
from broker._core.shard cimport Shard

cdef class Reactor:
    cdef Net net
    cdef readonly Shard shard
    cdef object on_rare
    cdef object on_batch
    cdef object on_local
    cdef object again
    cdef list contexts          # a TlsContext for each listener, or None
    cdef bint scheduled
    cdef bint running           # within a round
    cdef bint closed
    cdef run(self, int64_t for_ns)
    cdef void round(self, int64_t for_ns) except *
    cdef void answer_rare(self, int64_t until) except *
    cdef void tell_local(self) except *
    cdef Connection* need_local(self, uint64_t handle) except NULL
    cdef void close_descriptors(self)
