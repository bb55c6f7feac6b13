"""Chunks of equal items, given back to the system when they are empty. See arena.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort
from libc.string cimport memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap

from broker._core.memory cimport POOLED, give_memory, likely_, take_memory, unlikely_


cdef inline uint32_t rounded(uint32_t size) noexcept nogil:
    return (size + ARENA_STEP_BYTES - 1) & ~<uint32_t>(ARENA_STEP_BYTES - 1)


cdef inline bint pooled(uint32_t size) noexcept nogil:
    return POOLED and size <= ARENA_SIZES * ARENA_STEP_BYTES


cdef inline uint32_t kind_of(uint32_t size) noexcept nogil:
    return size // ARENA_STEP_BYTES - 1


cdef inline Chunk* chunk_of(void* item) noexcept nogil:
    return <Chunk*>(<size_t>item & ~<size_t>(ARENA_CHUNK_BYTES - 1))


cdef inline uint32_t items_of(uint32_t item_bytes) noexcept nogil:
    return <uint32_t>(ARENA_CHUNK_BYTES - sizeof(Chunk)) // item_bytes


cdef inline bint is_full(Chunk* chunk) noexcept nogil:
    return chunk.free_list == NULL and chunk.touched == items_of(chunk.item_bytes)


# ---------------------------------------------------------------- chunks

cdef Chunk* map_chunk(Arena* arena) noexcept nogil:
    # Twice as much is mapped, and what lies around the aligned part is given back at once.
    cdef uint8_t* at = <uint8_t*>mmap(
        NULL, 2 * ARENA_CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    cdef size_t before
    if unlikely_(<void*>at == MAP_FAILED):
        fprintf(stderr, b"iot-broker: out of memory (a chunk of %d bytes)\n", <int>ARENA_CHUNK_BYTES)
        abort()
    before = (ARENA_CHUNK_BYTES - (<size_t>at & (ARENA_CHUNK_BYTES - 1))) & (ARENA_CHUNK_BYTES - 1)
    if before:
        munmap(at, before)
    munmap(at + before + ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES - before)
    arena.chunk_bytes += ARENA_CHUNK_BYTES
    return <Chunk*>(at + before)


cdef void link_chunk(Arena* arena, Chunk* chunk) noexcept nogil:
    cdef uint32_t kind = kind_of(chunk.item_bytes)
    chunk.previous = NULL
    chunk.next = arena.open[kind]
    if chunk.next != NULL:
        chunk.next.previous = chunk
    arena.open[kind] = chunk


cdef void unlink_chunk(Arena* arena, Chunk* chunk) noexcept nogil:
    if chunk.previous != NULL:
        chunk.previous.next = chunk.next
    else:
        arena.open[kind_of(chunk.item_bytes)] = chunk.next
    if chunk.next != NULL:
        chunk.next.previous = chunk.previous


cdef Chunk* open_chunk(Arena* arena, uint32_t item_bytes) noexcept nogil:
    cdef Chunk* chunk = arena.spare
    arena.spare = NULL
    if chunk == NULL:
        chunk = map_chunk(arena)
    memset(chunk, 0, sizeof(Chunk))
    chunk.item_bytes = item_bytes
    link_chunk(arena, chunk)
    return chunk


cdef void drop_chunk(Arena* arena, Chunk* chunk) noexcept nogil:
    unlink_chunk(arena, chunk)
    if arena.spare == NULL:
        arena.spare = chunk
        return
    arena.chunk_bytes -= ARENA_CHUNK_BYTES
    munmap(chunk, ARENA_CHUNK_BYTES)


# ---------------------------------------------------------------- items

cdef void* arena_take(Arena* arena, uint32_t size) noexcept nogil:
    cdef Chunk* chunk
    cdef void* item
    size = rounded(size)
    arena.live_bytes += size
    if not pooled(size):
        return take_memory(size)
    chunk = arena.open[kind_of(size)]
    if unlikely_(chunk == NULL):
        chunk = open_chunk(arena, size)
    chunk.live += 1
    item = chunk.free_list
    if item != NULL:
        chunk.free_list = (<void**>item)[0]
    else:
        item = <uint8_t*>chunk + sizeof(Chunk) + <size_t>chunk.touched * size
        chunk.touched += 1
    if unlikely_(is_full(chunk)):
        unlink_chunk(arena, chunk)
    return item


cdef void* arena_take_zeroed(Arena* arena, uint32_t size) noexcept nogil:
    cdef void* item = arena_take(arena, size)
    memset(item, 0, size)
    return item


cdef void arena_give(Arena* arena, void* item, uint32_t size) noexcept nogil:
    cdef Chunk* chunk
    size = rounded(size)
    arena.live_bytes -= size
    if not pooled(size):
        give_memory(item)
        return
    chunk = chunk_of(item)
    if unlikely_(is_full(chunk)):
        link_chunk(arena, chunk)
    (<void**>item)[0] = chunk.free_list
    chunk.free_list = item
    chunk.live -= 1
    if likely_(chunk.live):
        return
    drop_chunk(arena, chunk)


cdef void arena_close(Arena* arena) noexcept nogil:
    if arena.spare != NULL:
        munmap(arena.spare, ARENA_CHUNK_BYTES)
        arena.spare = NULL
        arena.chunk_bytes -= ARENA_CHUNK_BYTES
