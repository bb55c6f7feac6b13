"""Memory of the core: slabs, the outbox pool and allocation that never returns NULL. See memory.pxd."""

from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, calloc, free, malloc, realloc


cdef void out_of_memory(size_t size) noexcept nogil:
    # Linux answers malloc until the process is killed; a NULL here means a size that no budget allowed.
    fprintf(stderr, b"iot-broker: out of memory (%zu bytes)\n", size)
    abort()


cdef void* take_memory(size_t size) noexcept nogil:
    cdef void* memory = malloc(size)
    if unlikely_(memory == NULL):
        out_of_memory(size)
    return memory


cdef void* take_zeroed(size_t size) noexcept nogil:
    cdef void* memory = calloc(1, size)
    if unlikely_(memory == NULL):
        out_of_memory(size)
    return memory


cdef void* resize_memory(void* old, size_t size) noexcept nogil:
    cdef void* memory = realloc(old, size)
    if unlikely_(memory == NULL):
        out_of_memory(size)
    return memory


cdef void give_memory(void* memory) noexcept nogil:
    free(memory)


cdef void slab_open(Slab* slab, uint32_t item_bytes, uint32_t chunk_items) noexcept nogil:
    slab.free_list = NULL
    slab.item_bytes = item_bytes if item_bytes >= sizeof(void*) else <uint32_t>sizeof(void*)
    slab.chunk_items = chunk_items
    slab.chunks = NULL
    slab.chunk_count = 0
    slab.chunk_capacity = 0
    slab.live = 0


cdef void slab_grow(Slab* slab) noexcept nogil:
    cdef uint8_t* chunk
    cdef uint32_t i
    if slab.chunk_count == slab.chunk_capacity:
        slab.chunk_capacity = slab.chunk_capacity * 2 if slab.chunk_capacity else 4
        slab.chunks = <void**>resize_memory(slab.chunks, slab.chunk_capacity * sizeof(void*))
    chunk = <uint8_t*>take_memory(<size_t>slab.item_bytes * slab.chunk_items)
    slab.chunks[slab.chunk_count] = chunk
    slab.chunk_count += 1
    for i in range(slab.chunk_items):
        (<void**>(chunk + <size_t>i * slab.item_bytes))[0] = slab.free_list
        slab.free_list = chunk + <size_t>i * slab.item_bytes


cdef void slab_close(Slab* slab) noexcept nogil:
    cdef uint32_t i
    for i in range(slab.chunk_count):
        give_memory(slab.chunks[i])
    give_memory(slab.chunks)
    slab.chunks = NULL
    slab.chunk_count = 0
    slab.free_list = NULL


cdef uint8_t* pool_take_slow(BufferPool* pool) noexcept nogil:
    return <uint8_t*>take_memory(OUTBOX_BUFFER_BYTES)


cdef void pool_close(BufferPool* pool) noexcept nogil:
    cdef void* buffer
    while pool.free_list != NULL:
        buffer = pool.free_list
        pool.free_list = (<void**>buffer)[0]
        give_memory(buffer)
    pool.free_count = 0
