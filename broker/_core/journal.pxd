# What must be durable: batches with tickets, and the ring of promises that wait for them.
#
# Here belong the batch and the ring as data. Not here: when a batch is sealed (shard), who commits it (the Store), what
# a settled promise sends (acks).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.message cimport Outgoing
from broker._core.model cimport Journal, Promise, ShardState

cdef enum:
    RECORD_MESSAGE = 1

cdef void journal_open(Journal* journal) noexcept nogil
cdef void journal_close(Journal* journal) noexcept nogil
# Adds a message to the batch; returns the ticket that stands for it.
cdef uint64_t record_message(ShardState* shard, uint32_t account_id, const Outgoing* out) noexcept nogil
# The next free place at the end of the ring, to be filled by the caller; tickets never go down.
cdef Promise* add_promise(Journal* journal) noexcept nogil
cdef Promise* first_promise(Journal* journal) noexcept nogil
cdef inline Promise* promise_at(Journal* journal, uint32_t i) noexcept nogil:      # 0: the oldest
    return &journal.ring[(journal.ring_head + i) & (journal.ring_capacity - 1)]
cdef void drop_first_promise(Journal* journal) noexcept nogil
