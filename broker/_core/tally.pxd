# What devices did on days, added up until it is written, for the accounts floor.
#
# Here belong sums by account, day and device, what of them was not told to the journal yet, and their order by key. Not
# here: what is counted (limiter), records and when they are written, and turns of the loop.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from broker._core.memory cimport Slab
from broker._core.table cimport Table

cdef struct Sum:                # begins as a Link does
    Sum* next
    uint32_t hash
    uint32_t account_id
    uint32_t day
    uint32_t device
    uint64_t figures[4]         # messages and bytes in, the same out; of ALL: the most connections, first
    uint64_t fresh[4]           # of them, what was not packed yet
    Sum* fresh_next
    Sum* account_next           # the one before it of the same account
    uint8_t is_fresh
    uint8_t is_taken

cdef struct Place:              # the key in it is compared without a look at the sum
    uint64_t account_and_day
    uint32_t device
    Sum* sum

cdef class Tally:
    cdef Table table
    cdef Slab slab
    cdef Sum* fresh_head        # the oldest first
    cdef Sum* fresh_tail
    cdef dict newest            # the newest sum of each account, as a number
    cdef Place* heap            # those that were not taken, in no order until `order` is done
    cdef size_t count
    cdef size_t capacity
    cdef size_t unordered       # so many from the front on are not above their children yet
    cdef bint ordering
    cdef void give_each(self) noexcept
    cdef Sum* find(self, uint32_t hash, uint32_t account_id, uint32_t day, uint32_t device) noexcept
    cdef Sum* need(self, uint32_t account_id, uint32_t day, uint32_t device) except NULL
    cdef void note_fresh(self, Sum* found) noexcept
    cdef void count_row(self, Sum* found, uint64_t* more) noexcept
    cdef void sink(self, size_t at) noexcept
