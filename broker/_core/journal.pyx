"""The journal's batches, numbers and chunks. See journal.pxd."""

import zlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from broker._core.cursor cimport put_bytes
from broker._core.memory cimport (
    give_memory,
    resize_memory,
    slab_close,
    slab_open,
    take_memory,
    take_zeroed,
    unlikely_,
)
from broker._core.message cimport NEVER_EXPIRES, Outgoing, hold_message, keep_message, message_bytes, release_message
from broker._core.model cimport (
    Chunk,
    Durable,
    Held,
    Journal,
    JournalEntry,
    Message,
    OpsRecord,
    Promise,
    SharedGroup,
    ShardState,
)
from broker._core.records cimport (
    CHECKSUM_BYTES,
    CHUNK_BYTES,
    FLOW_CRC_AT,
    OP_DONE,
    OP_RECEIVED,
    PAIR_BYTES,
    PAIR_GROUP,
    PAIR_RETAIN,
    TABLE_FLOWS,
    TABLE_MESSAGES,
    TABLE_META,
    TABLE_OPS,
    TABLE_RETAINED,
    FlowHead,
    Op,
    Pair,
    RecordHead,
    message_record_bytes,
    numbered_key,
    put_key,
    put_message,
)
from broker._core.retained_records cimport take_retained
from broker._core.topics cimport group_name


TABLE_NAMES = (
    "meta", "sessions", "subscriptions", "wills", "flows", "messages", "ops", "retained", "devices", "seen",
    "passwords_used", "answers", "timeline", "online", "tracked",
)

cdef enum:
    FIRST_BYTES = 4096
    FIRST_ENTRIES = 64
    FIRST_CHUNKS = 64
    FIRST_DURABLES = 64
    TIDY_FIRST = 1024
    FOLD_BYTES = 8 * 1024 * 1024    # of ops on disk that no flow record contains
    CROWDED = 16                # deliveries parked one by one, and they become a run
    FIRST_CROWDED = 64
    SMALL_CHUNKS = 256
    FEWEST_MERGED = 8           # a message is written anew two or three times in all
    FIRST_OPS_RECORDS = 64
    FILTER_MAXIMUM = 65536
    IDENTIFIERS_MAXIMUM = 255
    MESSAGES_RESERVED = 1 << 20     # numbers that may be given before the disk is told again
    SESSIONS_RESERVED = 1 << 12
    SECOND_NS = 1000000000

cdef struct PutHead:                # of a keyed record in the batch: key and value follow
    uint32_t value_bytes
    uint16_t key_bytes
    uint8_t table
    uint8_t deletes


cdef void journal_open(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    memset(journal, 0, sizeof(Journal))
    journal.open_ticket = 1
    journal.next_message = 1
    journal.next_session = 1
    journal.next_retained = 1
    journal.tidy_at = TIDY_FIRST
    journal.fold_bytes = FOLD_BYTES
    journal.crowded_at = CROWDED
    journal.small_chunks = SMALL_CHUNKS
    journal.fewest_merged = FEWEST_MERGED
    journal.durables = <Durable**>take_zeroed(FIRST_DURABLES * sizeof(void*))
    journal.durable_mask = FIRST_DURABLES - 1
    slab_open(&journal.promise_slab, sizeof(Promise), 64)
    slab_open(&journal.held_slab, sizeof(Held), 64)


cdef void release_entries(ShardState* shard, JournalEntry* entries, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if entries[i].message != NULL:
            wait_for_ticket(entries[i].message)     # its promise may leave after it has gone
            release_message(shard, entries[i].message)


cdef void journal_close(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    release_entries(shard, journal.entries, journal.entry_count)
    release_entries(shard, journal.sealed, journal.sealed_count)
    give_memory(journal.entries)
    give_memory(journal.sealed)
    give_memory(journal.sealed_pairs)
    give_memory(journal.ops_records)
    give_memory(journal.asks)
    give_memory(journal.crowded)
    give_memory(journal.merging.buffer)
    give_memory(journal.pairs)
    give_memory(journal.ops)
    give_memory(journal.puts)
    give_memory(journal.retained)
    give_memory(journal.ended)
    give_memory(journal.chunks)
    give_memory(journal.durables)
    slab_close(&journal.promise_slab)
    slab_close(&journal.held_slab)


cdef uint8_t* extend(uint8_t** buffer, uint32_t* used, uint32_t* capacity, uint32_t n) noexcept nogil:
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


# ---------------------------------------------------------------- a message and its deliveries

cdef void add_group(Journal* journal, SharedGroup* group) noexcept nogil:
    cdef uint8_t* name = <uint8_t*>take_memory(2 * FILTER_MAXIMUM)
    cdef uint16_t n = <uint16_t>group_name(group, name)
    memcpy(extend(&journal.pairs, &journal.pairs_bytes, &journal.pairs_capacity, 2), &n, 2)
    memcpy(extend(&journal.pairs, &journal.pairs_bytes, &journal.pairs_capacity, n), name, n)
    give_memory(name)


cdef void add_pair(
        ShardState* shard, Outgoing* out, Durable* durable, uint16_t packet_id, uint8_t qos, uint8_t retain,
        const uint32_t* identifiers, uint32_t count, SharedGroup* group) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Message* message = keep_message(shard, out)
    cdef Pair pair
    cdef uint8_t* at
    if count > IDENTIFIERS_MAXIMUM:
        count = IDENTIFIERS_MAXIMUM
    if message.number == 0:
        message.number = journal.next_message
        journal.next_message += 1
    durable.recorded = message.number
    pair.session = durable.number
    pair.packet_id = packet_id
    pair.flags = qos | (PAIR_RETAIN if retain else 0) | (PAIR_GROUP if group != NULL else 0)
    pair.identifiers = <uint8_t>count
    at = extend(
        &journal.pairs, &journal.pairs_bytes, &journal.pairs_capacity, PAIR_BYTES + count * <uint32_t>sizeof(uint32_t))
    memcpy(at, &pair, PAIR_BYTES)
    put_bytes(at + PAIR_BYTES, <const uint8_t*>identifiers, count * <uint32_t>sizeof(uint32_t))     # NULL: none
    if group != NULL:
        add_group(journal, group)
    journal.routing_count += 1


cdef void tidy(Journal* journal) noexcept nogil:
    # Takes out of the open batch what all have acknowledged: under load, with a slow disk, that is nearly everything.
    cdef JournalEntry* entry
    cdef uint32_t i, kept = 0, pairs_bytes = 0
    for i in range(journal.entry_count):
        entry = &journal.entries[i]
        if entry.message == NULL:
            continue
        memmove(journal.pairs + pairs_bytes, journal.pairs + entry.pairs_at, entry.pairs_bytes)
        journal.entries[kept] = entry[0]
        journal.entries[kept].pairs_at = pairs_bytes
        journal.entries[kept].message.entry = kept
        pairs_bytes += entry.pairs_bytes
        kept += 1
    journal.entry_count = kept
    journal.pairs_bytes = pairs_bytes
    journal.tidy_at = 2 * kept + TIDY_FIRST


cdef uint64_t end_routing(ShardState* shard, uint32_t account_id, Outgoing* out) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef JournalEntry* entry
    journal.recording = 0
    if journal.routing_count == 0:
        return 0
    if journal.entry_count == journal.entry_capacity:
        journal.entry_capacity = journal.entry_capacity * 2 if journal.entry_capacity else FIRST_ENTRIES
        journal.entries = <JournalEntry*>resize_memory(
            journal.entries, <size_t>journal.entry_capacity * sizeof(JournalEntry))
    entry = &journal.entries[journal.entry_count]
    entry.message = out.message
    hold_message(entry.message)
    entry.account_id = account_id
    entry.pairs_at = journal.routing_at
    entry.pairs_bytes = journal.pairs_bytes - journal.routing_at
    entry.pair_count = journal.routing_count
    entry.message.outstanding += journal.routing_count
    entry.message.entry = journal.entry_count
    journal.entry_count += 1
    journal.live_entries += 1
    journal.entry_bytes += message_bytes(entry.message) + entry.pairs_bytes
    journal.routing_count = 0
    if unlikely_(journal.entry_count >= journal.tidy_at):
        tidy(journal)
    return journal.open_ticket


cdef void promise_done(ShardState* shard, Message* message) noexcept nogil:
    # All who keep it have acknowledged: who published it need not wait for the disk.
    cdef Promise* promise = message.promise
    cdef Held* held
    message.promise = NULL
    promise.message = NULL
    promise.done = 1
    held = promise.connection.held
    if not held.done_listed:
        held.done_listed = 1
        held.done_next = shard.journal.done_head
        shard.journal.done_head = held


cdef inline void wait_for_ticket(Message* message) noexcept nogil:
    # A PUBREC ends the need for the message, but its publisher may rely on it only when the PUBREC is on disk as well:
    # the PUBREL that delivers it at some receivers would otherwise never come. So does the end of a session, which has
    # acknowledged nothing: what it hands over has to be on disk, and after a crash it may be there again itself.
    if message.promise != NULL:
        message.promise.message = NULL
        message.promise = NULL


cdef inline bint acknowledge(ShardState* shard, Message* message) noexcept nogil:
    # One delivery less; True: it was the last.
    message.outstanding -= 1
    if message.outstanding:
        return False
    if message.promise != NULL:
        promise_done(shard, message)
    return True


cdef bint end_unsealed(ShardState* shard, Message* message) noexcept nogil:
    # True: nobody needs it any more, and it will not be written.
    cdef Journal* journal = &shard.journal
    cdef JournalEntry* entry
    if not acknowledge(shard, message):
        return False
    entry = &journal.entries[message.entry]
    journal.live_entries -= 1
    journal.entry_bytes -= message_bytes(message) + entry.pairs_bytes
    entry.message = NULL
    release_message(shard, message)
    if journal.live_entries == 0 and not journal.recording:
        journal.entry_count = 0
        journal.pairs_bytes = 0
    return True


cdef bint end_sealed(ShardState* shard, uint64_t number) noexcept nogil:
    # True: its whole chunk goes, so that nothing has to be said about its parts.
    cdef Journal* journal = &shard.journal
    cdef Chunk* chunk = find_chunk(journal, number)
    if chunk == NULL:
        return True
    chunk.live -= 1
    journal.pairs_live -= 1
    if chunk.live:
        return False
    delete_numbered(shard, TABLE_MESSAGES, chunk.first)
    journal.chunk_bytes -= chunk.bytes
    journal.chunks_gone += 1
    return True


cdef void end_pair(
        ShardState* shard, uint64_t session, uint64_t number, Message* message, uint8_t kind, uint16_t packet_id,
        bint ending) noexcept nogil:
    cdef bint gone
    cdef const uint8_t* pairs
    if number > shard.journal.sealed_through:
        if message == NULL:
            message = find_unwritten(&shard.journal, number, &pairs).message
        if ending or kind == OP_RECEIVED:
            wait_for_ticket(message)
        gone = end_unsealed(shard, message)
    else:
        if message != NULL and message.outstanding:
            if ending or kind == OP_RECEIVED:
                wait_for_ticket(message)
            acknowledge(shard, message)
        gone = end_sealed(shard, number)
    if kind == OP_RECEIVED or (kind == OP_DONE and not gone):
        add_op(shard, kind, session, number, packet_id)


cdef void add_op(
        ShardState* shard, uint8_t kind, uint64_t session, uint64_t number, uint16_t packet_id) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Durable* durable = find_durable(shard, session)
    cdef Op op
    op.kind = kind
    op.spare = 0
    op.packet_id = packet_id
    op.more = 0
    op.session = session
    op.number = number
    memcpy(extend(&journal.ops, &journal.ops_bytes, &journal.ops_capacity, sizeof(Op)), &op, sizeof(Op))
    if durable != NULL:
        mark_flow(shard, durable)


cdef JournalEntry* find_entry(JournalEntry* entries, uint32_t count, uint64_t number) noexcept nogil:
    # By halves; entries without a message tell nothing, so the next one that has one is asked.
    cdef uint32_t low = 0, high = count, middle, probe
    while low < high:
        middle = (low + high) // 2
        probe = middle
        while probe < high and entries[probe].message == NULL:
            probe += 1
        if probe == high:
            high = middle
        elif entries[probe].message.number == number:
            return &entries[probe]
        elif entries[probe].message.number < number:
            low = probe + 1
        else:
            high = middle
    return NULL


cdef JournalEntry* find_unwritten(Journal* journal, uint64_t number, const uint8_t** pairs) noexcept nogil:
    cdef bint is_open = number > journal.sealed_through
    cdef JournalEntry* entry
    if is_open:
        entry = find_entry(journal.entries, journal.entry_count, number)
    else:
        entry = find_entry(journal.sealed, journal.sealed_count, number)
    if entry != NULL:
        pairs[0] = (journal.pairs if is_open else journal.sealed_pairs) + entry.pairs_at
    return entry


# ---------------------------------------------------------------- keyed records

cdef uint8_t* add_put(
        Journal* journal, uint8_t table, const uint8_t* key, uint32_t key_bytes, uint32_t value_bytes, bint deletes
) noexcept nogil:
    cdef PutHead head
    cdef uint8_t* at = extend(
        &journal.puts, &journal.puts_bytes, &journal.puts_capacity,
        <uint32_t>sizeof(PutHead) + key_bytes + value_bytes)
    head.value_bytes = value_bytes
    head.key_bytes = <uint16_t>key_bytes
    head.table = table
    head.deletes = deletes
    memcpy(at, &head, sizeof(head))
    journal.put_count += 1
    return put_bytes(at + sizeof(head), key, key_bytes)


cdef uint8_t* put_record(
        ShardState* shard, uint8_t table, const uint8_t* key, uint32_t key_bytes, uint32_t value_bytes) noexcept nogil:
    return add_put(&shard.journal, table, key, key_bytes, value_bytes, False)


cdef void delete_record(ShardState* shard, uint8_t table, const uint8_t* key, uint32_t key_bytes) noexcept nogil:
    add_put(&shard.journal, table, key, key_bytes, 0, True)


cdef uint8_t* put_numbered(ShardState* shard, uint8_t table, uint64_t number, uint32_t value_bytes) noexcept nogil:
    cdef uint8_t[8] key
    put_key(key, number)
    return put_record(shard, table, key, 8, value_bytes)


cdef void delete_numbered(ShardState* shard, uint8_t table, uint64_t number) noexcept nogil:
    cdef uint8_t[8] key
    put_key(key, number)
    delete_record(shard, table, key, 8)


# ---------------------------------------------------------------- chunks

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


# ---------------------------------------------------------------- sessions on disk, by number

cdef void list_crowded(ShardState* shard, Durable* durable) noexcept nogil:
    cdef Journal* journal = &shard.journal
    durable.crowded = 1
    if journal.crowded_count == journal.crowded_capacity:
        journal.crowded_capacity = journal.crowded_capacity * 2 if journal.crowded_capacity else FIRST_CROWDED
        journal.crowded = <uint64_t*>resize_memory(
            journal.crowded, <size_t>journal.crowded_capacity * sizeof(uint64_t))
    journal.crowded[journal.crowded_count] = durable.number
    journal.crowded_count += 1


cdef inline uint32_t durable_bucket(Journal* journal, uint64_t number) noexcept nogil:
    return <uint32_t>(number * <uint64_t>0x9E3779B97F4A7C15 >> 32) & journal.durable_mask


cdef void grow_durables(Journal* journal) noexcept nogil:
    cdef Durable** before = journal.durables
    cdef Durable* durable
    cdef Durable* following
    cdef uint32_t i, count = journal.durable_mask + 1, bucket
    journal.durable_mask = count * 2 - 1
    journal.durables = <Durable**>take_zeroed(<size_t>count * 2 * sizeof(void*))
    for i in range(count):
        durable = before[i]
        while durable != NULL:
            following = durable.next
            bucket = durable_bucket(journal, durable.number)
            durable.next = journal.durables[bucket]
            journal.durables[bucket] = durable
            durable = following
    give_memory(before)


cdef void add_durable(ShardState* shard, Durable* durable) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint32_t bucket
    if journal.durable_count > journal.durable_mask:
        grow_durables(journal)
    bucket = durable_bucket(journal, durable.number)
    durable.next = journal.durables[bucket]
    journal.durables[bucket] = durable
    journal.durable_count += 1


cdef Durable* find_durable(ShardState* shard, uint64_t number) noexcept nogil:
    cdef Durable* durable = shard.journal.durables[durable_bucket(&shard.journal, number)]
    while durable != NULL and durable.number != number:
        durable = durable.next
    return durable


cdef void remove_durable(ShardState* shard, Durable* durable) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Durable** link = &journal.durables[durable_bucket(journal, durable.number)]
    while link[0] != durable:
        link = &link[0].next
    link[0] = durable.next
    journal.durable_count -= 1
    unmark_flow(shard, durable)


cdef void mark_flow(ShardState* shard, Durable* durable) noexcept nogil:
    if durable.dirty or durable.ended:
        return
    durable.dirty = 1
    durable.dirty_previous = NULL
    durable.dirty_next = shard.journal.dirty_head
    if durable.dirty_next != NULL:
        durable.dirty_next.dirty_previous = durable
    shard.journal.dirty_head = durable
    shard.journal.dirty_count += 1


cdef void unmark_flow(ShardState* shard, Durable* durable) noexcept nogil:
    if not durable.dirty:
        return
    durable.dirty = 0
    if durable.dirty_previous != NULL:
        durable.dirty_previous.dirty_next = durable.dirty_next
    elif shard.journal.folding_head == durable:
        shard.journal.folding_head = durable.dirty_next
    else:
        shard.journal.dirty_head = durable.dirty_next
    if durable.dirty_next != NULL:
        durable.dirty_next.dirty_previous = durable.dirty_previous
    shard.journal.dirty_count -= 1


# ---------------------------------------------------------------- the batch

cdef inline uint32_t entry_size(JournalEntry* entry) noexcept nogil:
    return <uint32_t>sizeof(RecordHead) + message_record_bytes(entry.message) + entry.pairs_bytes


cdef uint32_t chunk_size(Journal* journal, uint32_t* end, uint32_t* messages) noexcept nogil:
    # Of the entries from `end` on, as many as belong into one; `end` moves behind them.
    cdef JournalEntry* entry
    cdef uint32_t total = CHECKSUM_BYTES
    messages[0] = 0
    while end[0] < journal.entry_count:
        entry = &journal.entries[end[0]]
        if entry.message != NULL:
            if messages[0] and <uint64_t>total + entry_size(entry) > CHUNK_BYTES:
                return total
            total += entry_size(entry)
            messages[0] += 1
        end[0] += 1
    return total


cdef uint8_t* put_entry(ShardState* shard, uint8_t* at, JournalEntry* entry) noexcept nogil:
    cdef RecordHead head
    head.record_bytes = entry_size(entry)
    head.pair_count = entry.pair_count
    head.number = entry.message.number
    head.account_id = entry.account_id
    head.spare = 0
    memcpy(at, &head, sizeof(head))
    at = put_message(shard, at + sizeof(head), entry.message)
    return put_bytes(at, shard.journal.pairs + entry.pairs_at, entry.pairs_bytes)


cdef inline int64_t expires_at_ns(Message* message) noexcept nogil:
    return message.received_at_ns + <int64_t>message.message_expiry_s * SECOND_NS \
        if message.message_expiry_s != NEVER_EXPIRES else 0


cdef inline void expires_with(Chunk* chunk, int64_t expires_at_ns) noexcept nogil:
    if expires_at_ns and (chunk.expires_at_ns == 0 or expires_at_ns < chunk.expires_at_ns):
        chunk.expires_at_ns = expires_at_ns


cdef void note_expiry(Journal* journal, Message* message) noexcept nogil:
    cdef Chunk* chunk
    if message.message_expiry_s == NEVER_EXPIRES:
        return
    chunk = find_chunk(journal, message.number)
    if chunk != NULL:       # else it is in the open batch
        expires_with(chunk, expires_at_ns(message))


cdef Chunk* write_chunk(ShardState* shard, uint8_t* at, uint32_t begin, uint32_t end) noexcept nogil:
    # Into `at`, which has the room that chunk_size asked for; the entries are the sealed batch's afterwards.
    cdef Journal* journal = &shard.journal
    cdef JournalEntry* entry
    cdef Chunk* chunk = NULL
    cdef uint32_t i
    for i in range(begin, end):
        entry = &journal.entries[i]
        if entry.message == NULL:
            continue
        if chunk == NULL:
            chunk = add_chunk(shard, entry.message.number, entry.message.number)
            chunk.ticket = journal.open_ticket
        at = put_entry(shard, at, entry)
        chunk.last = entry.message.number
        chunk.pairs += entry.pair_count
        chunk.live += entry.message.outstanding
        expires_with(chunk, expires_at_ns(entry.message))
    journal.pairs_live += chunk.live
    return chunk


cdef void swap_entries(Journal* journal) noexcept nogil:
    cdef JournalEntry* empty = journal.sealed
    cdef uint32_t capacity = journal.sealed_capacity
    cdef uint8_t* pairs = journal.sealed_pairs
    cdef uint32_t pairs_capacity = journal.sealed_pairs_capacity
    journal.sealed_pairs = journal.pairs        # who is to be sent what, until it can be read from the disk
    journal.sealed_pairs_capacity = journal.pairs_capacity
    journal.pairs = pairs
    journal.pairs_capacity = pairs_capacity
    journal.sealed = journal.entries
    journal.sealed_count = journal.entry_count
    journal.sealed_capacity = journal.entry_capacity
    journal.entries = empty
    journal.entry_capacity = capacity
    journal.entry_count = 0
    journal.live_entries = 0
    journal.pairs_bytes = 0
    journal.entry_bytes = 0
    journal.tidy_at = TIDY_FIRST
    journal.sealed_through = journal.next_message - 1


cdef void checksum(bytes value, uint32_t count):
    # The value was made here and nobody has seen it yet.
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(value)
    cdef uint32_t crc
    memcpy(at + 4, &count, 4)
    crc = zlib.crc32(memoryview(value)[4:])
    memcpy(at, &crc, 4)


cdef void checksum_chunk(bytes value):
    cdef uint32_t crc = zlib.crc32(memoryview(value)[4:])
    memcpy(PyBytes_AS_STRING(value), &crc, 4)


cdef void checksum_flow(bytes value):
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(value)
    cdef uint32_t crc = zlib.crc32(memoryview(value)[sizeof(FlowHead):], zlib.crc32(memoryview(value)[:FLOW_CRC_AT]))
    memcpy(at + FLOW_CRC_AT, &crc, 4)


cdef void take_chunks(ShardState* shard, list changes):
    # Who needs a message has all of its chunk read and looked through: a large batch is several.
    cdef Journal* journal = &shard.journal
    cdef uint32_t begin = 0, end = 0, messages = 0
    cdef uint32_t n = chunk_size(journal, &end, &messages)
    cdef Chunk* chunk
    cdef bytes value
    while messages:
        value = PyBytes_FromStringAndSize(NULL, n)
        chunk = write_chunk(shard, <uint8_t*>PyBytes_AS_STRING(value) + CHECKSUM_BYTES, begin, end)
        chunk.bytes = n
        journal.chunk_bytes += n
        checksum(value, messages)
        changes.append((TABLE_NAMES[<int>TABLE_MESSAGES], numbered_key(chunk.first), value))
        begin = end
        n = chunk_size(journal, &end, &messages)


cdef void add_ops_record(Journal* journal, uint64_t ticket, uint32_t n) noexcept nogil:
    cdef OpsRecord* record
    if journal.ops_record_count == journal.ops_record_capacity:
        journal.ops_record_capacity = journal.ops_record_capacity * 2 if journal.ops_record_capacity \
            else FIRST_OPS_RECORDS
        journal.ops_records = <OpsRecord*>resize_memory(
            journal.ops_records, <size_t>journal.ops_record_capacity * sizeof(OpsRecord))
    record = &journal.ops_records[journal.ops_record_count]
    record.ticket = ticket
    record.bytes = n
    journal.ops_record_count += 1
    journal.ops_on_disk += n


cdef tuple take_ops(ShardState* shard):
    cdef Journal* journal = &shard.journal
    cdef bytes value = PyBytes_FromStringAndSize(NULL, CHECKSUM_BYTES + journal.ops_bytes)
    memcpy(PyBytes_AS_STRING(value) + CHECKSUM_BYTES, journal.ops, journal.ops_bytes)
    checksum(value, journal.ops_bytes // <uint32_t>sizeof(Op))
    add_ops_record(journal, journal.open_ticket, journal.ops_bytes)
    journal.ops_bytes = 0
    return TABLE_NAMES[<int>TABLE_OPS], numbered_key(journal.open_ticket), value


cdef void take_puts(Journal* journal, list changes):
    cdef PutHead head
    cdef uint8_t* at = journal.puts
    cdef uint32_t _
    for _ in range(journal.put_count):
        memcpy(&head, at, sizeof(head))
        at += sizeof(head)
        key = PyBytes_FromStringAndSize(<char*>at, head.key_bytes)
        at += head.key_bytes
        value = None if head.deletes else PyBytes_FromStringAndSize(<char*>at, head.value_bytes)
        if head.table == TABLE_FLOWS and value is not None:
            checksum_flow(value)
        elif head.table == TABLE_MESSAGES and value is not None:
            checksum_chunk(value)
        at += head.value_bytes
        changes.append((TABLE_NAMES[head.table], key, value))
    journal.puts_bytes = 0
    journal.put_count = 0


cdef void reserve_numbers(ShardState* shard) noexcept nogil:
    # What is given out has to be below what the disk was told, or told with it: no number is ever given twice.
    cdef Journal* journal = &shard.journal
    cdef uint8_t* at
    if journal.next_message < journal.reserved_message and journal.next_session < journal.reserved_session:
        return
    journal.reserved_message = journal.next_message + MESSAGES_RESERVED
    journal.reserved_session = journal.next_session + SESSIONS_RESERVED
    at = put_record(shard, TABLE_META, b"numbers", 7, 16)
    memcpy(at, &journal.reserved_message, 8)
    memcpy(at + 8, &journal.reserved_session, 8)


cdef list seal_batch(ShardState* shard):
    cdef Journal* journal = &shard.journal
    cdef list changes = []
    if not has_batch(journal):
        journal.open_ticket += journal.urgent       # settled by the caller
        journal.urgent = 0
        return None
    journal.urgent = 0
    reserve_numbers(shard)
    if journal.live_entries:
        take_chunks(shard, changes)
    swap_entries(journal)
    if journal.ops_bytes:
        changes.append(take_ops(shard))
    take_puts(journal, changes)
    take_retained(shard, TABLE_NAMES[<int>TABLE_RETAINED], changes)
    journal.open_ticket += 1
    journal.in_flight = 1
    return changes


cdef void batch_committed(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef JournalEntry* entries = journal.sealed
    cdef uint32_t count = journal.sealed_count
    journal.sealed_count = 0
    journal.in_flight = 0
    journal.settled_ticket = journal.open_ticket - 1
    release_entries(shard, entries, count)
