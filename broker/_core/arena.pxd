# Memory for things of many sizes that live long and come in great numbers: subscriptions, filters, nodes of the trie.
#
# Here belong chunks of equal items whose memory goes back to the system when the last item has gone, so that a client
# that subscribes to a million filters and leaves costs nothing afterwards. Not here: what comes and goes with every
# message (memory: slabs keep what they have). In the sanitizer flavour this is plain malloc and free.

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    ARENA_CHUNK_BYTES = 1 << 18     # a chunk begins at a multiple of it, so that an item finds its chunk
    ARENA_STEP_BYTES = 8            # sizes are rounded up to it
    ARENA_SIZES = 64                # what is larger than 64 * 8 bytes is malloc's

cdef struct Chunk:
    Chunk* next                     # among those of its size with room
    Chunk* previous
    void* free_list
    uint32_t item_bytes
    uint32_t touched                # items that were in use at any time; those behind them are not on the free list
    uint32_t live
    # the items follow

cdef struct Arena:
    Chunk* open[64]                 # by size: chunks with room
    Chunk* spare                    # an empty one, so that a single item that comes and goes maps nothing
    uint64_t live_bytes             # in items, as rounded up
    uint64_t chunk_bytes            # held from the system

# `size` bytes that are not cleared; the same size is told when they are given back.
cdef void* arena_take(Arena* arena, uint32_t size) noexcept nogil
cdef void* arena_take_zeroed(Arena* arena, uint32_t size) noexcept nogil
cdef void arena_give(Arena* arena, void* item, uint32_t size) noexcept nogil
# Everything has been given back before.
cdef void arena_close(Arena* arena) noexcept nogil
