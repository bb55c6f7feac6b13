"""The journal's batch and the ring of promises. See journal.pxd.

A record of a message: kind (1 byte), QoS (1), version of the publisher (1), a zero byte, account (4, little endian),
message number (8), sizes of topic name, properties and payload (4 each), then the three.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from broker._core.cursor cimport put_bytes
from broker._core.memory cimport give_memory, resize_memory, take_memory


cdef enum:
    MESSAGE_RECORD_HEAD = 28
    FIRST_BATCH = 4096
    FIRST_RING = 64


cdef void journal_open(Journal* journal) noexcept nogil:
    memset(journal, 0, sizeof(Journal))
    journal.open_ticket = 1
    journal.next_message = 1


cdef void journal_close(Journal* journal) noexcept nogil:
    while journal.ring_count:
        give_memory(first_promise(journal).bytes)
        drop_first_promise(journal)
    give_memory(journal.batch)
    give_memory(journal.ring)
    journal.batch = NULL
    journal.ring = NULL


cdef uint8_t* extend_batch(Journal* journal, uint32_t n) noexcept nogil:
    cdef uint8_t* at
    while journal.batch_bytes + n > journal.batch_capacity:
        journal.batch_capacity = journal.batch_capacity * 2 if journal.batch_capacity else FIRST_BATCH
        journal.batch = <uint8_t*>resize_memory(journal.batch, journal.batch_capacity)
    at = journal.batch + journal.batch_bytes
    journal.batch_bytes += n
    journal.batch_records += 1
    return at


cdef uint64_t record_message(ShardState* shard, uint32_t account_id, const Outgoing* out) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef uint8_t* at = extend_batch(journal, MESSAGE_RECORD_HEAD + out.topic.n + out.properties.n + out.payload.n)
    at[0] = RECORD_MESSAGE
    at[1] = out.qos
    at[2] = out.version
    at[3] = 0
    memcpy(at + 4, &account_id, 4)
    memcpy(at + 8, &journal.next_message, 8)
    memcpy(at + 16, &out.topic.n, 4)
    memcpy(at + 20, &out.properties.n, 4)
    memcpy(at + 24, &out.payload.n, 4)
    at = put_bytes(at + MESSAGE_RECORD_HEAD, out.topic.at, out.topic.n)
    at = put_bytes(at, out.properties.at, out.properties.n)
    put_bytes(at, out.payload.at, out.payload.n)
    journal.next_message += 1
    return journal.open_ticket


cdef void grow_ring(Journal* journal) noexcept nogil:
    cdef uint32_t capacity = journal.ring_capacity * 2 if journal.ring_capacity else FIRST_RING
    cdef Promise* grown = <Promise*>take_memory(<size_t>capacity * sizeof(Promise))
    cdef uint32_t first = journal.ring_capacity - journal.ring_head
    if first > journal.ring_count:
        first = journal.ring_count
    if journal.ring_count:
        memcpy(grown, journal.ring + journal.ring_head, first * sizeof(Promise))
        memcpy(grown + first, journal.ring, (journal.ring_count - first) * sizeof(Promise))
    give_memory(journal.ring)
    journal.ring = grown
    journal.ring_head = 0
    journal.ring_capacity = capacity


cdef Promise* add_promise(Journal* journal) noexcept nogil:
    cdef Promise* promise
    if journal.ring_count == journal.ring_capacity:
        grow_ring(journal)
    promise = &journal.ring[(journal.ring_head + journal.ring_count) & (journal.ring_capacity - 1)]
    memset(promise, 0, sizeof(Promise))
    journal.ring_count += 1
    return promise


cdef Promise* first_promise(Journal* journal) noexcept nogil:
    return &journal.ring[journal.ring_head] if journal.ring_count else NULL


cdef void drop_first_promise(Journal* journal) noexcept nogil:
    journal.ring_head = (journal.ring_head + 1) & (journal.ring_capacity - 1)
    journal.ring_count -= 1
