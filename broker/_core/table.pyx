"""Linear hashing: one bucket at a time. See table.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from broker._core.memory cimport give_memory, resize_memory


cdef enum:
    FIRST_BUCKETS = 16


cdef inline Link** bucket_of(Table* table, uint32_t hash) noexcept nogil:
    cdef uint32_t at = hash & table.mask
    return &table.buckets[at if at < table.size else at & (table.mask >> 1)]


cdef inline void put(Table* table, Link* link) noexcept nogil:
    cdef Link** bucket = bucket_of(table, link.hash)
    link.next = bucket[0]
    bucket[0] = link


cdef void open_buckets(Table* table) noexcept nogil:
    cdef uint32_t i
    table.buckets = <Link**>resize_memory(NULL, FIRST_BUCKETS * sizeof(void*))
    for i in range(FIRST_BUCKETS):
        table.buckets[i] = NULL
    table.size = FIRST_BUCKETS
    table.mask = FIRST_BUCKETS - 1
    table.capacity = FIRST_BUCKETS


cdef void set_capacity(Table* table, uint32_t capacity) noexcept nogil:
    table.buckets = <Link**>resize_memory(table.buckets, <size_t>capacity * sizeof(void*))
    table.capacity = capacity


cdef void split_one(Table* table) noexcept nogil:
    cdef Link* link
    cdef Link* following
    cdef uint32_t source
    if table.size > table.mask:
        table.mask = table.mask * 2 + 1
    if table.size == table.capacity:
        set_capacity(table, table.capacity * 2)
    source = table.size & (table.mask >> 1)
    link = table.buckets[source]
    table.buckets[source] = NULL
    table.buckets[table.size] = NULL
    table.size += 1
    while link != NULL:
        following = link.next
        put(table, link)
        link = following


cdef void merge_one(Table* table) noexcept nogil:
    cdef Link* link = table.buckets[table.size - 1]
    cdef Link* following
    table.size -= 1
    while link != NULL:
        following = link.next
        put(table, link)
        link = following
    if table.size - 1 == table.mask >> 1:
        table.mask >>= 1
    if table.size * 4 <= table.capacity and table.capacity > FIRST_BUCKETS:
        set_capacity(table, table.capacity // 2)


cdef void table_add(Table* table, Link* link) noexcept nogil:
    if table.buckets == NULL:
        open_buckets(table)
    table.count += 1
    if table.count * <size_t>4 > table.size * <size_t>3:
        split_one(table)
    put(table, link)


cdef void table_remove(Table* table, Link* link) noexcept nogil:
    cdef Link** at = bucket_of(table, link.hash)
    cdef int turns = 3      # faster than it grew: it may have become far too large
    while at[0] != link:
        at = &at[0].next
    at[0] = link.next
    table.count -= 1
    while turns and table.size > FIRST_BUCKETS and table.count * <size_t>2 < table.size:
        merge_one(table)
        turns -= 1


cdef void table_close(Table* table) noexcept nogil:
    give_memory(table.buckets)
    table.buckets = NULL
    table.size = 0
    table.mask = 0
    table.capacity = 0
    table.count = 0
