"""The chunks of messages that are on disk. See chunks.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from broker._core.memory cimport give_memory, resize_memory, take_memory
from broker._core.message cimport NEVER_EXPIRES
from broker._core.model cimport Chunk, Durable, Journal, Message, ShardState


cdef enum:
    FIRST_CHUNKS = 64


# ---------------------------------------------------------------- the list

cdef void make_room(Journal* journal) noexcept nogil:
    # At the end of the list: gone ones are taken out when they are many, else it grows.
    cdef uint32_t i, kept = 0, gone = 0
    if journal.chunks_gone * 2 > journal.chunk_count:
        for i in range(journal.chunk_count):
            if journal.chunks[i].live or journal.chunks[i].waiting != NULL or journal.chunks[i].merges:    # being read
                gone += journal.chunks[i].live == 0
                journal.chunks[kept] = journal.chunks[i]
                kept += 1
        journal.chunk_count = kept
        journal.chunks_gone = gone
    if journal.chunk_count == journal.chunk_capacity:
        journal.chunk_capacity = journal.chunk_capacity * 2 if journal.chunk_capacity else FIRST_CHUNKS
        journal.chunks = <Chunk*>resize_memory(journal.chunks, <size_t>journal.chunk_capacity * sizeof(Chunk))


cdef Chunk* add_chunk(ShardState* shard, uint64_t first, uint64_t last) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Chunk* chunk
    if journal.chunk_count == journal.chunk_capacity:
        make_room(journal)
    chunk = &journal.chunks[journal.chunk_count]
    journal.chunk_count += 1
    memset(chunk, 0, sizeof(Chunk))
    chunk.first = first
    chunk.last = last
    return chunk


cdef uint32_t chunk_index(Journal* journal, uint64_t number) noexcept nogil:
    cdef uint32_t low = 0, high = journal.chunk_count, middle
    while low < high:
        middle = (low + high) // 2
        if journal.chunks[middle].last < number:
            low = middle + 1
        else:
            high = middle
    return low


cdef Chunk* chunk_at(Journal* journal, uint64_t number) noexcept nogil:
    # Gone ones too, while they stand in the list.
    cdef uint32_t at = chunk_index(journal, number)
    return &journal.chunks[at] if at < journal.chunk_count and journal.chunks[at].first <= number else NULL


cdef Chunk* next_chunk(Journal* journal, uint64_t number) noexcept nogil:
    cdef uint32_t low = chunk_index(journal, number)
    while low < journal.chunk_count and journal.chunks[low].live == 0:
        low += 1
    return &journal.chunks[low] if low < journal.chunk_count else NULL


cdef Chunk* find_chunk(Journal* journal, uint64_t number) noexcept nogil:
    cdef Chunk* chunk = chunk_at(journal, number)
    return chunk if chunk != NULL and chunk.live else NULL


cdef void note_expiry(Journal* journal, Message* message) noexcept nogil:
    cdef Chunk* chunk
    if message.message_expiry_s == NEVER_EXPIRES:
        return
    chunk = find_chunk(journal, message.number)
    if chunk != NULL:       # else it is in the open batch
        expires_with(chunk, expires_at_ns(message))


# ---------------------------------------------------------------- reading

cdef void ask_for(ShardState* shard, Chunk* chunk) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint64_t* before = journal.asks
    cdef uint32_t i, capacity = journal.ask_capacity
    if chunk.asked:
        return
    chunk.asked = 1
    if journal.ask_count == capacity:
        journal.ask_capacity = capacity * 2 if capacity else FIRST_CHUNKS
        journal.asks = <uint64_t*>take_memory(<size_t>journal.ask_capacity * sizeof(uint64_t))
        for i in range(capacity):
            journal.asks[i] = before[(journal.ask_at + i) & (capacity - 1)]
        journal.ask_at = 0
        give_memory(before)
    journal.asks[(journal.ask_at + journal.ask_count) & (journal.ask_capacity - 1)] = chunk.first
    journal.ask_count += 1


cdef void wait_for_chunk(ShardState* shard, Durable* durable, Chunk* chunk) noexcept nogil:
    if durable.wanted == chunk.first:
        return
    stop_waiting(shard, durable)
    durable.wanted = chunk.first
    durable.wait_next = chunk.waiting
    durable.wait_previous = NULL
    if chunk.waiting != NULL:
        chunk.waiting.wait_previous = durable
    chunk.waiting = durable
    shard.journal.waiting_count += 1
    ask_for(shard, chunk)


cdef void stop_waiting(ShardState* shard, Durable* durable) noexcept nogil:
    cdef Chunk* chunk
    if durable.wanted == 0:
        return
    if durable.wait_previous != NULL:
        durable.wait_previous.wait_next = durable.wait_next
    else:
        chunk = chunk_at(&shard.journal, durable.wanted)
        chunk.waiting = durable.wait_next
    if durable.wait_next != NULL:
        durable.wait_next.wait_previous = durable.wait_previous
    durable.wanted = 0
    shard.journal.waiting_count -= 1
