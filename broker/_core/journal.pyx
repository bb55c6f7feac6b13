"""The journal: messages and their deliveries as they are recorded and end. See journal.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from broker._core.chunks cimport find_chunk
from broker._core.cursor cimport put_bytes
from broker._core.durable_table cimport durables_open, find_durable, mark_flow
from broker._core.keyed_records cimport delete_numbered
from broker._core.memory cimport extend, give_memory, resize_memory, slab_close, slab_open, take_memory, unlikely_
from broker._core.message cimport Outgoing, hold_message, keep_message, message_bytes, release_message
from broker._core.model cimport Chunk, Durable, Held, Journal, JournalEntry, Message, Promise, ShardState, SharedGroup
from broker._core.records cimport OP_DONE, OP_RECEIVED, PAIR_BYTES, PAIR_GROUP, PAIR_RETAIN, TABLE_MESSAGES, Op, Pair
from broker._core.topics cimport group_name


cdef enum:
    FIRST_ENTRIES = 64
    FOLD_BYTES = 8 * 1024 * 1024    # of ops on disk that no flow record contains
    CROWDED = 16                # deliveries parked one by one, and they become a run
    SMALL_CHUNKS = 256
    FEWEST_MERGED = 8           # a message is written anew two or three times in all
    FILTER_MAXIMUM = 65536
    IDENTIFIERS_MAXIMUM = 255


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
    durables_open(journal)
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


# ---------------------------------------------------------------- their end

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


# ---------------------------------------------------------------- what is not on disk yet

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
