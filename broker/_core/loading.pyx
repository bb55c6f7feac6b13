"""Chunks of messages that were read, taken in. See loading.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport qsort

from broker._core.budgets cimport count_drop
from broker._core.chunks cimport ask_for, chunk_at, stop_waiting
from broker._core.connection cimport mark_ready
from broker._core.inflight cimport body_of, fill_body
from broker._core.memory cimport give_memory, take_memory
from broker._core.message cimport release_message
from broker._core.model cimport (
    DROP_NOT_AUTHORIZED,
    WAITING_AGAIN,
    WAITING_LOAD,
    Chunk,
    Durable,
    Journal,
    Message,
    Session,
    SharedGroup,
    ShardState,
)
from broker._core.parked cimport PAIR_IDENTIFIERS, lose_next, next_needed, read_pair, still_allowed
from broker._core.parking cimport drop_parked_front, unpark_front
from broker._core.records cimport PairRecord, Record, get_message, next_pair, next_record
from broker._core.runs cimport begins_in, look_up_pair, pass_chunk


cdef enum:
    PAGE_MESSAGES = 1024        # that one session gets of one chunk
    PAGE_BYTES = 256 * 1024
    MANY_WAITING = 64           # sessions; each gets less then
    SMALL_PAGE_MESSAGES = 64
    SMALL_PAGE_BYTES = 16 * 1024


cdef struct Loading:            # one session that waits for the chunk
    uint64_t number             # the session's
    uint64_t needed             # the message's, 0: nothing more
    Session* session
    uint32_t again_at           # see parked.next_needed
    uint32_t messages_left
    int64_t bytes_left
    uint32_t taken
    uint8_t looks_up            # the front of its queue is a run


cdef struct Page:               # all who wait for it
    Loading* loadings
    uint32_t count
    uint32_t unsatisfied


cdef uint64_t next_ask(ShardState* shard) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Chunk* chunk
    cdef uint64_t first
    cdef uint32_t _
    for _ in range(journal.ask_count):
        first = journal.asks[journal.ask_at]
        journal.ask_at = (journal.ask_at + 1) & (journal.ask_capacity - 1)
        journal.ask_count -= 1
        chunk = chunk_at(journal, first)
        if chunk == NULL or chunk.first != first:       # gone, or gone into another one
            continue
        if chunk.changed > journal.settled_ticket:      # the disk still has what was taken out of it
            chunk.asked = 0
            ask_for(shard, chunk)
            continue
        if chunk.waiting != NULL or chunk.rewrite or chunk.merges:
            journal.reading += 1
            return first
        chunk.asked = 0         # nobody waits for it any more
    return 0


cdef void ask_again(ShardState* shard, uint64_t key) noexcept nogil:
    cdef Chunk* chunk = chunk_at(&shard.journal, key)
    shard.journal.reading -= shard.journal.reading != 0
    if chunk != NULL and chunk.first == key:
        chunk.asked = 0
        ask_for(shard, chunk)


cdef int by_number(const void* one, const void* other) noexcept nogil:
    cdef uint64_t a = (<const Loading*>one).number
    cdef uint64_t b = (<const Loading*>other).number
    return (a > b) - (a < b)


cdef void gather(ShardState* shard, Chunk* chunk, Page* page) noexcept nogil:
    # All who wait for it, by their numbers; from here on they do not any more.
    cdef Durable* durable = chunk.waiting
    cdef Loading* loading
    cdef bint many = shard.journal.waiting_count > MANY_WAITING
    page.count = 0
    while durable != NULL:
        page.count += 1
        durable = durable.wait_next
    page.loadings = <Loading*>take_memory((<size_t>page.count + 1) * sizeof(Loading))
    page.count = 0
    while chunk.waiting != NULL:
        durable = chunk.waiting
        stop_waiting(shard, durable)
        loading = &page.loadings[page.count]
        loading.number = durable.number
        loading.session = durable.session
        loading.again_at = 0
        loading.looks_up = begins_in(durable, chunk)
        loading.messages_left = SMALL_PAGE_MESSAGES if many else PAGE_MESSAGES
        loading.bytes_left = SMALL_PAGE_BYTES if many else PAGE_BYTES
        loading.taken = 0
        page.count += 1
    qsort(page.loadings, page.count, sizeof(Loading), by_number)


cdef Loading* find_loading(Page* page, uint64_t session) noexcept nogil:
    cdef uint32_t low = 0, high = page.count, middle
    if not page.loadings[0].number <= session <= page.loadings[page.count - 1].number:
        return NULL
    while low < high:
        middle = (low + high) // 2
        if page.loadings[middle].number < session:
            low = middle + 1
        else:
            high = middle
    return &page.loadings[low] if low < page.count and page.loadings[low].number == session else NULL


cdef void look_up_records(Page* page, const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef const uint8_t* pairs
    cdef Loading* loading
    cdef Record record
    cdef PairRecord pair
    while next_record(&at, end, &record):
        pairs = record.pairs
        while next_pair(&pairs, record.end, &pair):
            loading = find_loading(page, pair.head.session)
            if loading != NULL and loading.looks_up:
                look_up_pair(loading.session.durable, &record, &pair)


cdef uint32_t look_up(
        ShardState* shard, Page* page, Chunk* chunk, const uint8_t* at, const uint8_t* end) noexcept nogil:
    # Whose queue begins with a run is told what it has here, so that it is known what is needed next.
    cdef Loading* loading
    cdef uint32_t i, lost = 0
    cdef bint looks_up = False
    for i in range(page.count):
        looks_up = looks_up or page.loadings[i].looks_up
    if looks_up and at != NULL:
        look_up_records(page, at, end)
    page.unsatisfied = 0
    for i in range(page.count):
        loading = &page.loadings[i]
        if loading.looks_up:
            lost += pass_chunk(shard, loading.session.durable, chunk, at != NULL)
        loading.needed = next_needed(loading.session, &loading.again_at)
        page.unsatisfied += loading.needed != 0
    return lost


cdef inline bint is_again(Loading* loading) noexcept nogil:
    return loading.session.waiting & WAITING_AGAIN != 0 and loading.again_at < loading.session.extra.again_count


cdef void install(ShardState* shard, Loading* loading, Message* message, const PairRecord* pair) noexcept nogil:
    cdef uint32_t[PAIR_IDENTIFIERS] identifiers
    cdef Session* session = loading.session
    cdef SharedGroup* group
    if is_again(loading):
        group = read_pair(shard, session, pair, identifiers)
        fill_body(
            body_of(session, session.extra.again[loading.again_at]), message, group, identifiers,
            pair.head.identifiers)
    elif not still_allowed(session, message):
        count_drop(shard, session, DROP_NOT_AUTHORIZED)     # its rights have changed while it was on disk
        drop_parked_front(shard, session)
    else:
        group = read_pair(shard, session, pair, identifiers)
        unpark_front(shard, session, message, group, identifiers, pair.head.identifiers)


cdef void count_taken(Page* page, Loading* loading, uint32_t size) noexcept nogil:
    loading.taken += 1
    loading.messages_left -= 1
    loading.bytes_left -= size
    loading.needed = next_needed(loading.session, &loading.again_at)
    if loading.messages_left == 0 or loading.bytes_left <= 0:
        loading.needed = 0
    page.unsatisfied -= loading.needed == 0


cdef void take_record(ShardState* shard, Page* page, Record* record) noexcept nogil:
    # The message is made when the first one needs it, and shared by all.
    cdef Message* message = NULL
    cdef const uint8_t* at = record.pairs
    cdef Loading* loading
    cdef PairRecord pair
    cdef uint32_t used
    while next_pair(&at, record.end, &pair):
        loading = find_loading(page, pair.head.session)
        if loading == NULL or loading.needed != record.head.number:
            continue
        if message == NULL:
            message = get_message(shard, record.body, <uint32_t>(record.end - record.body), &used)
            if message == NULL:
                return
            message.number = record.head.number
        install(shard, loading, message, &pair)
        count_taken(page, loading, record.head.record_bytes)
    if message != NULL:
        release_message(shard, message)


cdef uint32_t lose_rest(
        ShardState* shard, Loading* loading, uint64_t first, uint64_t last, bint is_readable) noexcept nogil:
    # A chunk that cannot be read takes all that the session had in it; one that can, what was not found there.
    cdef uint32_t lost = 0
    cdef uint64_t number = next_needed(loading.session, &loading.again_at)
    while first <= number <= last and (lost == 0 or not is_readable):
        lose_next(shard, loading.session, loading.again_at)
        lost += 1
        number = next_needed(loading.session, &loading.again_at)
    return lost


cdef void wake(ShardState* shard, Session* session) noexcept nogil:
    session.waiting &= ~<uint8_t>WAITING_LOAD
    if session.connection != NULL:
        mark_ready(shard, session.connection)
    elif session.ending:
        session.hash_next = shard.ending_head
        shard.ending_head = session


cdef uint32_t take_in(ShardState* shard, uint64_t key, const uint8_t* at, uint32_t n) noexcept nogil:
    cdef Chunk* chunk = chunk_at(&shard.journal, key)
    cdef const uint8_t* end = at + n
    cdef uint64_t last
    cdef uint32_t lost, i
    cdef Record record
    cdef Page page
    shard.journal.reading -= shard.journal.reading != 0
    if chunk == NULL or chunk.first != key:
        return 0
    chunk.asked = 0
    last = chunk.last
    gather(shard, chunk, &page)
    lost = look_up(shard, &page, chunk, at, end)
    while at != NULL and page.unsatisfied and next_record(&at, end, &record):
        take_record(shard, &page, &record)
    for i in range(page.count):
        if page.loadings[i].taken == 0:
            lost += lose_rest(shard, &page.loadings[i], key, last, at != NULL)
        wake(shard, page.loadings[i].session)
    give_memory(page.loadings)
    return lost
