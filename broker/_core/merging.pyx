"""Small chunks made one. See merging.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from broker._core.chunks cimport ask_for, chunk_at, chunk_index
from broker._core.compaction cimport is_whole, is_young, keep_record, write_again
from broker._core.fold cimport first_unoffered
from broker._core.keyed_records cimport delete_numbered
from broker._core.memory cimport give_memory, take_memory
from broker._core.model cimport Chunk, Journal, Merging, ShardState
from broker._core.records cimport CHECKSUM_BYTES, CHUNK_BYTES, TABLE_MESSAGES, Record, next_record


cdef enum:
    CHUNKS_PER_BATCH = 1024     # that are looked at
    SMALL_BYTES = 64 * 1024     # of a chunk that is written again with others
    MOST = 128


# ---------------------------------------------------------------- which

cdef inline bint is_small(ShardState* shard, Chunk* chunk, uint64_t unoffered) noexcept nogil:
    return chunk.bytes <= SMALL_BYTES and not is_young(shard, chunk) and \
        not (chunk.asked or chunk.rewrite or chunk.stays) and chunk.waiting == NULL and chunk.last < unoffered


cdef uint32_t find_neighbours(ShardState* shard, uint64_t unoffered, uint32_t* begin, uint32_t* end) noexcept nogil:
    # Returns how many living ones there are from `begin` to `end`, which has been looked at.
    cdef Journal* journal = &shard.journal
    cdef uint64_t size = 0
    cdef uint32_t count = 0
    cdef Chunk* chunk
    cdef bint small
    end[0] = begin[0]
    while end[0] < journal.chunk_count and end[0] - begin[0] < CHUNKS_PER_BATCH and count < MOST:
        chunk = &journal.chunks[end[0]]
        if chunk.live:
            small = is_small(shard, chunk, unoffered)
            if not small or size + chunk.bytes > CHUNK_BYTES:
                if count >= journal.fewest_merged:
                    return count
                begin[0] = end[0]
                size = 0
                count = 0
            if small:
                size += chunk.bytes
                count += 1
            else:
                begin[0] = end[0] + 1
        end[0] += 1
    return count


cdef void begin_merging(Journal* journal, uint32_t begin, uint32_t end) noexcept nogil:
    cdef Merging* merging = &journal.merging
    cdef uint32_t i
    cdef Chunk* chunk
    for i in range(begin, end):
        chunk = &journal.chunks[i]
        if chunk.live:
            chunk.merges = 1
            merging.left += 1
            merging.last = chunk.first
            if merging.first == 0:
                merging.first = chunk.first
    merging.buffer = <uint8_t*>take_memory(CHUNK_BYTES)
    merging.remains.at = merging.buffer


cdef void look_for_small(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint32_t begin, end, i
    if journal.merging.first or journal.chunk_count - journal.chunks_gone <= journal.small_chunks:
        return
    if journal.merge_at >= journal.chunk_count:
        journal.merge_at = 0
    begin = journal.merge_at
    if find_neighbours(shard, first_unoffered(shard), &begin, &end) < journal.fewest_merged:
        journal.merge_at = end
        return
    journal.merge_at = end
    begin_merging(journal, begin, end)
    for i in range(begin, end):
        if journal.chunks[i].merges:
            ask_for(shard, &journal.chunks[i])


# ---------------------------------------------------------------- and what they become

cdef inline Chunk* first_part(Journal* journal) noexcept nogil:
    return journal.chunks + chunk_index(journal, journal.merging.first)


cdef inline bint is_part(Journal* journal, Chunk* chunk) noexcept nogil:
    return chunk < journal.chunks + journal.chunk_count and chunk.first <= journal.merging.last


cdef void end_merging(Journal* journal) noexcept nogil:
    cdef Chunk* chunk = first_part(journal)
    while is_part(journal, chunk):
        chunk.merges = 0
        chunk += 1
    give_memory(journal.merging.buffer)
    memset(&journal.merging, 0, sizeof(Merging))


cdef bint is_as_before(Journal* journal) noexcept nogil:
    # Nobody waits for one that would not be there any more. Of one that has gone meanwhile everything is done, and
    # nothing else says so: what was taken of it must not be on disk again.
    cdef Chunk* chunk = first_part(journal)
    while is_part(journal, chunk):
        if chunk.merges and (chunk.live == 0 or chunk.waiting != NULL or chunk.asked or chunk.rewrite):
            return False
        chunk += 1
    return True


cdef Chunk* unite(ShardState* shard) noexcept nogil:
    # The first one has all of them from now on.
    cdef Journal* journal = &shard.journal
    cdef Chunk* whole = first_part(journal)
    cdef Chunk* chunk = whole + 1
    while is_part(journal, chunk):
        if chunk.merges:
            whole.live += chunk.live
            whole.last = chunk.last
            whole.expires_at_ns = earlier(whole.expires_at_ns, chunk.expires_at_ns)
            journal.chunk_bytes -= chunk.bytes
            journal.chunks_gone += 1
            chunk.live = 0
            delete_numbered(shard, TABLE_MESSAGES, chunk.first)
        chunk += 1
    return whole


cdef inline int64_t earlier(int64_t one, int64_t other) noexcept nogil:
    return max(one, other) if one == 0 or other == 0 else min(one, other)     # 0: never


cdef void cover(Journal* journal, Chunk* whole) noexcept nogil:
    # They are searched by halves: those that have gone into it lie at its end, behind it.
    cdef Chunk* chunk = whole + 1
    while chunk < journal.chunks + journal.chunk_count and chunk.last <= whole.last:
        chunk.first = whole.last
        chunk.last = whole.last
        chunk.merges = 0
        chunk += 1


cdef void write_merged(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Chunk* whole = unite(shard)
    cover(journal, whole)
    whole.ticket = journal.open_ticket
    whole.merges = 0
    write_again(shard, whole, &journal.merging.remains, journal.merging.buffer)


cdef bint take_records(ShardState* shard, const uint8_t* at, uint32_t n) noexcept nogil:
    cdef Merging* merging = &shard.journal.merging
    cdef const uint8_t* end = at + n
    cdef Record record
    if at == NULL or not is_whole(at, end) or \
            merging.remains.at - merging.buffer + n > CHUNK_BYTES - CHECKSUM_BYTES:
        return False
    while next_record(&at, end, &record):
        keep_record(shard, &merging.remains, &record, False)
    return True


cdef void take_part(ShardState* shard, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Merging* merging = &journal.merging
    cdef Chunk* chunk = chunk_at(journal, key)
    if merging.first == 0 or chunk == NULL or chunk.first != key or not chunk.merges:
        return
    if key <= merging.key or chunk.live == 0 or not take_records(shard, at, n):
        chunk.stays = at == NULL or not is_whole(at, at + n)    # once is enough to know that
        end_merging(journal)    # out of turn it would stand in the wrong place
        return
    merging.key = key
    merging.left -= 1
    if merging.left:
        return
    if is_as_before(journal):
        write_merged(shard)
    end_merging(journal)
