# Memory of the core: slabs of equal items, a pool of outbox buffers, allocation that never returns NULL.
#
# Here belongs everything that takes and gives memory on a hot path. Not here: what lies in that memory (model.pxd).
# In the sanitizer flavour (IOT_BROKER_PLAIN_MALLOC) every slab and pool is plain malloc and free, because
# AddressSanitizer cannot see into a pool.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stddef cimport size_t

cdef extern from *:
    """
    #ifdef IOT_BROKER_PLAIN_MALLOC
    #define BROKER_POOLED 0
    #else
    #define BROKER_POOLED 1
    #endif
    #ifndef BROKER_LIKELY
    #define BROKER_LIKELY(x) __builtin_expect(!!(x), 1)
    #define BROKER_UNLIKELY(x) __builtin_expect(!!(x), 0)
    #endif
    """
    bint POOLED "BROKER_POOLED"
    bint likely_ "BROKER_LIKELY"(bint) noexcept nogil
    bint unlikely_ "BROKER_UNLIKELY"(bint) noexcept nogil

cdef enum:
    OUTBOX_BUFFER_BYTES = 4096      # an outbox starts with one pooled buffer of this size
    POOLED_BUFFERS_MAXIMUM = 4096   # more free buffers than this go back to malloc
    FIRST_BYTES = 4096              # of a buffer that grows

cdef struct Slab:
    void* free_list
    uint32_t item_bytes
    uint32_t chunk_items
    void** chunks
    uint32_t chunk_count
    uint32_t chunk_capacity
    uint64_t live

cdef struct BufferPool:
    void* free_list
    uint32_t free_count

# Allocation for things that must exist: ends the process with a message instead of returning NULL.
cdef void* take_memory(size_t size) noexcept nogil
cdef void* take_zeroed(size_t size) noexcept nogil
cdef void* resize_memory(void* old, size_t size) noexcept nogil
cdef void give_memory(void* memory) noexcept nogil

# Room for so many bytes more at the end of a buffer that grows: it is where the end was until now.
cdef inline uint8_t* extend(uint8_t** buffer, uint32_t* used, uint32_t* capacity, uint32_t n) noexcept nogil:
    cdef uint32_t grown = capacity[0] if capacity[0] else FIRST_BYTES
    cdef uint8_t* at
    while used[0] + n > grown:
        grown *= 2
    if grown != capacity[0]:
        buffer[0] = <uint8_t*>resize_memory(buffer[0], grown)
        capacity[0] = grown
    at = buffer[0] + used[0]
    used[0] += n
    return at

cdef void slab_open(Slab* slab, uint32_t item_bytes, uint32_t chunk_items) noexcept nogil
cdef void slab_grow(Slab* slab) noexcept nogil
cdef void slab_close(Slab* slab) noexcept nogil

cdef inline void* slab_take(Slab* slab) noexcept nogil:
    cdef void* item
    slab.live += 1
    if not POOLED:
        return take_memory(slab.item_bytes)
    if unlikely_(slab.free_list == NULL):
        slab_grow(slab)
    item = slab.free_list
    slab.free_list = (<void**>item)[0]
    return item

cdef inline void slab_give(Slab* slab, void* item) noexcept nogil:
    slab.live -= 1
    if not POOLED:
        give_memory(item)
        return
    (<void**>item)[0] = slab.free_list
    slab.free_list = item

cdef uint8_t* pool_take_slow(BufferPool* pool) noexcept nogil
cdef void pool_close(BufferPool* pool) noexcept nogil

cdef inline uint8_t* pool_take(BufferPool* pool) noexcept nogil:
    cdef void* buffer
    if POOLED and pool.free_list != NULL:
        buffer = pool.free_list
        pool.free_list = (<void**>buffer)[0]
        pool.free_count -= 1
        return <uint8_t*>buffer
    return pool_take_slow(pool)

cdef inline void pool_give(BufferPool* pool, uint8_t* buffer, uint32_t capacity) noexcept nogil:
    if POOLED and capacity == OUTBOX_BUFFER_BYTES and pool.free_count < POOLED_BUFFERS_MAXIMUM:
        (<void**>buffer)[0] = pool.free_list
        pool.free_list = buffer
        pool.free_count += 1
    else:
        give_memory(buffer)
