# A hash table that grows and shrinks by one bucket at a time (linear hashing), so that no insertion ever has to move
# all of a million entries and hold everybody meanwhile.
#
# Here belong buckets. Not here: how entries are compared; each begins with the fields of a Link.

from libc.stdint cimport uint32_t

cdef struct Link:
    Link* next                  # in its bucket
    uint32_t hash

cdef struct Table:              # all zero: empty, without memory of its own
    Link** buckets
    uint32_t size               # buckets in use
    uint32_t mask               # covers them: 2**k - 1, less than twice too wide
    uint32_t capacity
    uint32_t count

cdef void table_add(Table* table, Link* link) noexcept nogil
cdef void table_remove(Table* table, Link* link) noexcept nogil
cdef void table_close(Table* table) noexcept nogil

# The first of those that may have this hash.
cdef inline Link* table_first(Table* table, uint32_t hash) noexcept nogil:
    cdef uint32_t at = hash & table.mask
    if table.count == 0:
        return NULL
    if at >= table.size:
        at &= table.mask >> 1
    return table.buckets[at]
