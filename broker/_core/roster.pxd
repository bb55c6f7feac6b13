# The devices of one account, as lists ask for them, for the accounts floor.
#
# Here belong their order, and of each what filters look at: two marks, the type, and the folded text that is searched.
# Not here: the records, what the marks mean in the contract's words, and turns of the loop.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef struct Text:               # type, then folded text follow
    uint32_t text_bytes
    uint16_t type_bytes

cdef struct Row:
    Text* text
    uint32_t number
    uint8_t marks

cdef class Roster:
    cdef Row* rows              # by number, ascending
    cdef size_t count
    cdef size_t capacity
    cdef void resize(self, size_t capacity)
    cdef size_t place(self, uint32_t number) noexcept
    cdef Row* row(self, uint32_t number) except NULL
    cdef list newest_first(self, size_t end, size_t limit)
