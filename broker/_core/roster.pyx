"""The devices of one account, as lists ask for them. See roster.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove

from broker._core.memory cimport give_memory, resize_memory, take_memory

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    typedef uint8_t Bytes16 __attribute__((vector_size(16)));

    /* Which of the 16 bytes from `at` on begin a needle, judged by its first and its last byte: 0xFF each, or 0. */
    static inline int maybe_needles(const uint8_t* at, size_t to_last, Bytes16 first, Bytes16 last, uint8_t* marks) {
        Bytes16 begins, ends, both;
        uint64_t words[2];
        memcpy(&begins, at, 16);
        memcpy(&ends, at + to_last, 16);
        both = (Bytes16)(begins == first) & (Bytes16)(ends == last);
        memcpy(words, &both, 16);
        if ((words[0] | words[1]) == 0)
            return 0;
        memcpy(marks, &both, 16);
        return 1;
    }

    static inline void fetch_soon(const uint8_t* at) {
        __builtin_prefetch(at);
        __builtin_prefetch(at + 64);
    }

    static inline Bytes16 sixteen(uint8_t byte) {
        return (Bytes16){0} + byte;
    }
    """
    ctypedef struct Bytes16:
        pass
    bint maybe_needles(const uint8_t*, size_t, Bytes16, Bytes16, uint8_t*) noexcept nogil
    Bytes16 sixteen(uint8_t) noexcept nogil
    void fetch_soon(const uint8_t*) noexcept nogil

cpdef enum:
    ANY = 0
    INACTIVE = 1
    ACTIVE = 2
    ERROR = 3

cdef enum:
    MARK_ACTIVE = 1
    MARK_REFUSED = 2
    FIRST_ROWS = 4
    BLOCK = 16
    ROWS_AHEAD = 8              # whose texts are fetched while others are looked at
    # units of about a nanosecond
    WORK_OF_ROW = 40            # mostly that its text is not in the cache
    WORK_OF_BLOCK = 3
    WORK_OF_COMPARISON = 15
    WORK_OF_FOUND = 10000      # its record is unpacked, in the same turn
    WORK_OF_JUDGE = 1500        # it is Python's

cdef struct Sought:
    const uint8_t* needle
    size_t needle_bytes
    const uint8_t* type
    size_t type_bytes


cdef Text* new_text(bytes device_type, bytes text):
    cdef Text* made
    if len(device_type) > 0xFFFF:
        raise ValueError("a type of more than 65,535 bytes")
    made = <Text*>take_memory(sizeof(Text) + len(device_type) + len(text))
    made.type_bytes = <uint16_t>len(device_type)
    made.text_bytes = <uint32_t>len(text)
    memcpy(type_of(made), <const char*>device_type, made.type_bytes)
    memcpy(type_of(made) + made.type_bytes, <const char*>text, made.text_bytes)
    return made


cdef inline uint8_t* type_of(Text* text) noexcept nogil:
    return <uint8_t*>text + sizeof(Text)


cdef inline bint begins(const uint8_t* at, Sought* sought, long* work) noexcept nogil:
    work[0] += WORK_OF_COMPARISON + <long>(sought.needle_bytes // BLOCK)
    return memcmp(at, sought.needle, sought.needle_bytes) == 0


cdef bint begins_in_block(const uint8_t* at, Sought* sought, Bytes16 first, Bytes16 last, long* work) noexcept nogil:
    cdef uint8_t marks[BLOCK]
    cdef int i
    work[0] += WORK_OF_BLOCK
    if not maybe_needles(at, sought.needle_bytes - 1, first, last, marks):
        return False
    for i in range(BLOCK):
        if marks[i] and begins(at + i, sought, work):
            return True
    return False


cdef bint holds(const uint8_t* text, size_t n, Sought* sought, long* work) noexcept nogil:
    # Wherever it may begin, sixteen places at a time; the last sixteen overlap with those before them.
    cdef size_t places = n - sought.needle_bytes + 1
    cdef size_t at
    cdef Bytes16 first = sixteen(sought.needle[0])
    cdef Bytes16 last = sixteen(sought.needle[sought.needle_bytes - 1])
    if sought.needle_bytes > n:
        return False
    if places < BLOCK:
        for at in range(places):
            if text[at] == sought.needle[0] and begins(text + at, sought, work):
                return True
        return False
    at = 0
    while at + BLOCK < places:
        if begins_in_block(text + at, sought, first, last, work):
            return True
        at += BLOCK
    return begins_in_block(text + places - BLOCK, sought, first, last, work)


cdef bint fits(Row* row, Sought* sought, long* work) noexcept nogil:
    cdef Text* text = row.text
    if sought.type_bytes:
        if text.type_bytes != sought.type_bytes or memcmp(type_of(text), sought.type, sought.type_bytes):
            return False
    return sought.needle_bytes == 0 or holds(type_of(text) + text.type_bytes, text.text_bytes, sought, work)


cdef bint may_have(Row* row, int status) noexcept nogil:
    if status == INACTIVE:
        return not row.marks & MARK_ACTIVE
    if status == ACTIVE:
        return row.marks & MARK_ACTIVE
    return status == ANY or row.marks == MARK_ACTIVE | MARK_REFUSED


cdef class Roster:
    def __dealloc__(self):
        cdef size_t i
        for i in range(self.count):
            give_memory(self.rows[i].text)
        give_memory(self.rows)

    def __len__(self):
        return self.count

    # ---------------------------------------------------------------- changes

    def add(self, uint32_t number, bytes device_type not None, bytes text not None, bint active):
        cdef size_t at = self.place(number)
        cdef Text* made
        if at < self.count and self.rows[at].number == number:
            raise ValueError(f"number {number} is there already")
        made = new_text(device_type, text)
        if self.count == self.capacity:
            self.resize(self.capacity + self.capacity // 2 + FIRST_ROWS)
        memmove(self.rows + at + 1, self.rows + at, (self.count - at) * sizeof(Row))
        self.rows[at].text = made
        self.rows[at].number = number
        self.rows[at].marks = MARK_ACTIVE if active else 0
        self.count += 1

    def replace(self, uint32_t number, bytes device_type not None, bytes text not None, bint active):
        cdef Row* row = self.row(number)
        cdef Text* made = new_text(device_type, text)
        give_memory(row.text)
        row.text = made
        row.marks = (row.marks & ~MARK_ACTIVE) | (MARK_ACTIVE if active else 0)

    def refuse(self, uint32_t number):
        self.row(number).marks |= MARK_REFUSED

    def remove(self, uint32_t number):
        cdef Row* row = self.row(number)
        cdef size_t at = row - self.rows
        give_memory(row.text)
        memmove(row, row + 1, (self.count - at - 1) * sizeof(Row))
        self.count -= 1
        if self.count * 3 < self.capacity and self.capacity > FIRST_ROWS:
            self.resize(self.count + self.count // 2 + 1)

    cdef void resize(self, size_t capacity):
        self.rows = <Row*>resize_memory(self.rows, capacity * sizeof(Row))
        self.capacity = capacity

    # ---------------------------------------------------------------- order

    cdef size_t place(self, uint32_t number) noexcept:
        # Where a number is, or would be: behind all that are smaller. The newest is asked for most.
        cdef size_t low = 0, high = self.count, middle
        if high and self.rows[high - 1].number < number:
            return high
        while low < high:
            middle = (low + high) // 2
            if self.rows[middle].number < number:
                low = middle + 1
            else:
                high = middle
        return low

    cdef Row* row(self, uint32_t number) except NULL:
        cdef size_t at = self.place(number)
        if at == self.count or self.rows[at].number != number:
            raise KeyError(number)
        return self.rows + at

    cdef list newest_first(self, size_t end, size_t limit):
        cdef size_t i
        return [self.rows[end - 1 - i].number for i in range(min(end, limit))]

    def page(self, size_t limit, size_t offset):
        return self.newest_first(self.count - min(offset, self.count), limit)

    def below(self, number, size_t limit):
        return self.newest_first(self.count if number is None else self.place(number), limit)

    def above(self, uint32_t number, size_t limit):
        cdef size_t start = self.place(number), i
        if start < self.count and self.rows[start].number == number:
            start += 1
        return [self.rows[start + i].number for i in range(min(limit, self.count - start))]

    # ---------------------------------------------------------------- filters

    def scan(
        self, below, bytes needle not None, bytes device_type not None, int status, judge, size_t skip, size_t take,
        long at_most
    ):
        cdef Sought sought
        cdef size_t at = self.count if below is None else self.place(below)
        cdef size_t matching = 0
        cdef long work = 0
        cdef Row* row
        cdef list found = []
        sought.needle, sought.needle_bytes = <const uint8_t*>needle, len(needle)
        sought.type, sought.type_bytes = <const uint8_t*>device_type, len(device_type)
        while at and work < at_most:
            at -= 1
            row = self.rows + at
            if at >= ROWS_AHEAD:
                fetch_soon(<const uint8_t*>(row - ROWS_AHEAD).text)
            work += WORK_OF_ROW
            if not may_have(row, status) or not fits(row, &sought, &work):
                continue
            if status >= ACTIVE and row.marks & MARK_REFUSED:
                work += WORK_OF_JUDGE
                if <bint>judge(row.number) != (status == ERROR):
                    continue
            if skip <= matching < skip + take:
                work += WORK_OF_FOUND
                found.append(row.number)
            matching += 1
        return matching, found, self.rows[at].number if at else None
