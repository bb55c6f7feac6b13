"""Numbers of devices by the hashes of their names. See names.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from broker._core.arena cimport arena_close, arena_give, arena_take
from broker._core.table cimport Link, table_add, table_close, table_first, table_remove


cdef inline uint32_t folded(Py_hash_t hash) noexcept nogil:
    return <uint32_t>(<uint64_t>hash ^ (<uint64_t>hash >> 32))


cdef class Names:
    def __cinit__(self):
        memset(&self.table, 0, sizeof(self.table))
        memset(&self.arena, 0, sizeof(self.arena))

    def __dealloc__(self):
        cdef uint32_t i
        cdef Link* link
        cdef Link* following
        for i in range(self.table.size):
            link = self.table.buckets[i]
            while link != NULL:
                following = link.next
                arena_give(&self.arena, link, sizeof(Named))
                link = following
        table_close(&self.table)
        arena_close(&self.arena)

    def __len__(self):
        return self.table.count

    def add(self, str name not None, uint32_t number):
        cdef Named* named = <Named*>arena_take(&self.arena, sizeof(Named))
        named.hash = folded(hash(name))
        named.number = number
        table_add(&self.table, <Link*>named)

    def remove(self, str name not None, uint32_t number):
        cdef uint32_t wanted = folded(hash(name))
        cdef Named* named = <Named*>table_first(&self.table, wanted)
        while named != NULL:
            if named.hash == wanted and named.number == number:
                table_remove(&self.table, <Link*>named)
                arena_give(&self.arena, named, sizeof(Named))
                return
            named = named.next
        raise KeyError(number)

    def find(self, str name not None):
        cdef uint32_t wanted = folded(hash(name))
        cdef Named* named = <Named*>table_first(&self.table, wanted)
        cdef list found = []
        while named != NULL:
            if named.hash == wanted:
                found.append(named.number)
            named = named.next
        return found
