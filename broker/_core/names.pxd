# Numbers of devices by the hashes of their names, for the accounts floor.
#
# Here belong hashes and numbers, sixteen bytes and a place for each. Not here: the names, which whoever asks compares
# with the records.

from libc.stdint cimport uint32_t

from broker._core.arena cimport Arena
from broker._core.table cimport Table

cdef struct Named:              # begins as a Link does
    Named* next
    uint32_t hash
    uint32_t number

cdef class Names:
    cdef Table table
    cdef Arena arena
