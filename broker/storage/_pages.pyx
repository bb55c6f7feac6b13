"""Pages of an LMDB data file, read as bytes that may be anything: the native half of ``broker.storage.pages``.

Here belong the checks of one page, of one tree and of the runs of large values. Not here: which trees there are and
what a finding means. Nothing is mapped: every byte comes from ``pread`` into memory of our own, so that a file that is
cut, or a sector that cannot be read, is a finding and no signal. The walk needs no interpreter and releases it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.types cimport off_t
from posix.unistd cimport pread

cpdef enum:
    UNREADABLE = 1
    OUTSIDE = 2
    CUT = 3
    TWICE = 4
    NUMBER = 5
    KIND = 6
    BOUNDS = 7
    EMPTY = 8
    NODE = 9
    SPACE = 10
    KEY = 11
    ORDER = 12
    RANGE = 13
    DEPTH = 14
    VALUE = 15
    RUN = 16
    FREE = 17

cdef enum:
    HEADER_BYTES = 16
    NODE_HEADER_BYTES = 8
    KEY_MAXIMUM_BYTES = 511
    TREE_RECORD_BYTES = 48
    PAGE_BRANCH = 1
    PAGE_LEAF = 2
    PAGE_OVERFLOW = 4
    NODE_BIG = 1
    NODE_TREE = 2
    MARK_BRANCH = 1
    MARK_LEAF = 2
    MARK_HEAD = 3
    MARK_TAIL = 4
    MARK_FREE = 5
    MARK_KIND = 7
    OWNER_SHIFT = 3
    OWNERS = 32
    DEPTH_MAXIMUM = 32
    FAULTS_KEPT = 64
    RUNS_BETWEEN_LOOKS = 64


cdef struct Fault:
    uint64_t page
    int code
    int owner


cdef struct Walk:
    int fd
    size_t page_bytes
    uint64_t file_pages
    uint64_t last_page
    uint8_t* marks
    int owner
    bint integer_keys
    int depth
    uint8_t* buffers
    uint64_t branch_pages
    uint64_t leaf_pages
    uint64_t overflow_pages
    uint64_t entries
    uint64_t entry_bytes
    uint64_t faults
    Fault kept[FAULTS_KEPT]


cdef inline uint16_t u16(const uint8_t* at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, at, 2)
    return value


cdef inline uint32_t u32(const uint8_t* at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline uint64_t u64(const uint8_t* at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef inline bint read_exactly(int fd, uint8_t* into, size_t count, uint64_t offset) noexcept nogil:
    cdef ssize_t got
    cdef size_t have = 0
    while have < count:
        got = pread(fd, into + have, count - have, <off_t>(offset + have))
        if got <= 0:
            return False
        have += <size_t>got
    return True


cdef inline const uint8_t* node_at(const uint8_t* page, size_t index) noexcept nogil:
    return page + u16(page + HEADER_BYTES + 2 * index)


cdef inline size_t node_count(const uint8_t* page) noexcept nogil:
    return (u16(page + 12) - HEADER_BYTES) >> 1


cdef inline uint64_t child_of(const uint8_t* node) noexcept nogil:
    return <uint64_t>u16(node) | <uint64_t>u16(node + 2) << 16 | <uint64_t>u16(node + 4) << 32


cdef inline uint64_t value_bytes_of(const uint8_t* node) noexcept nogil:
    return <uint64_t>u16(node) | <uint64_t>u16(node + 2) << 16


cdef inline uint64_t run_pages(uint64_t value_bytes, size_t page_bytes) noexcept nogil:
    return (HEADER_BYTES - 1 + value_bytes) // page_bytes + 1


cdef inline int compared(
    const uint8_t* one, size_t one_bytes, const uint8_t* other, size_t other_bytes, bint integers
) noexcept nogil:
    """Less, equal or more than zero, as LMDB orders keys: numbers in a tree of numbers, else bytes."""
    cdef int found
    if integers and one_bytes == 8 and other_bytes == 8:
        return (u64(one) > u64(other)) - (u64(one) < u64(other))
    found = memcmp(one, other, min(one_bytes, other_bytes))
    if found != 0:
        return found
    return (one_bytes > other_bytes) - (one_bytes < other_bytes)


cdef int check_header(const uint8_t* page, size_t page_bytes, uint64_t number) noexcept nogil:
    cdef size_t lower = u16(page + 12)
    cdef size_t upper = u16(page + 14)
    cdef uint16_t flags = u16(page + 10)
    if u64(page) != number:
        return NUMBER
    if flags != PAGE_BRANCH and flags != PAGE_LEAF:
        return KIND
    if lower < HEADER_BYTES or lower & 1 or upper & 1 or lower > upper or upper > page_bytes:
        return BOUNDS
    if lower == HEADER_BYTES:
        return EMPTY
    return 0


cdef int check_node(const uint8_t* node, bint branch, size_t index, size_t room, size_t* taken) noexcept nogil:
    """Check one node of which 8 bytes are there; ``taken`` becomes its size, at most ``room``."""
    cdef size_t key_bytes = u16(node + 6)
    cdef uint16_t flags = u16(node + 4)
    cdef uint64_t size = NODE_HEADER_BYTES + key_bytes
    if key_bytes > KEY_MAXIMUM_BYTES or (key_bytes == 0 and not (branch and index == 0)):
        return KEY
    if not branch:
        if flags & ~<uint16_t>(NODE_BIG | NODE_TREE) or flags == (NODE_BIG | NODE_TREE):
            return VALUE
        if flags == NODE_TREE and value_bytes_of(node) != TREE_RECORD_BYTES:
            return VALUE
        size += 8 if flags == NODE_BIG else value_bytes_of(node)
    size += size & 1
    if size > room:
        return NODE
    taken[0] = <size_t>size
    return 0


cdef int check_nodes(const uint8_t* page, size_t page_bytes, bint integers) noexcept nogil:
    """Check all nodes of a page whose header is well: each inside, all together filling their space, keys rising."""
    cdef bint branch = u16(page + 10) == PAGE_BRANCH
    cdef size_t upper = u16(page + 14)
    cdef size_t total = 0
    cdef size_t index, offset
    cdef size_t taken = 0
    cdef const uint8_t* node
    cdef const uint8_t* before = NULL
    cdef int wrong
    for index in range(node_count(page)):
        offset = u16(page + HEADER_BYTES + 2 * index)
        if offset < upper or offset & 1 or offset + NODE_HEADER_BYTES > page_bytes:
            return NODE
        node = page + offset
        wrong = check_node(node, branch, index, page_bytes - offset, &taken)
        if wrong:
            return wrong
        total += taken
        if before != NULL and compared(before + 8, u16(before + 6), node + 8, u16(node + 6), integers) >= 0:
            return ORDER
        if not branch or index:
            before = node
    return SPACE if total != page_bytes - upper else 0


cdef int check_page(const uint8_t* page, size_t page_bytes, uint64_t number, bint integers) noexcept nogil:
    cdef int wrong = check_header(page, page_bytes, number)
    return wrong if wrong else check_nodes(page, page_bytes, integers)


cdef void note(Walk* walk, uint64_t page, int code, int owner) noexcept nogil:
    if walk.faults < FAULTS_KEPT:
        walk.kept[walk.faults] = Fault(page, code, owner)
    walk.faults += 1


cdef bint claimed(Walk* walk, uint64_t number, int mark) noexcept nogil:
    """Take a page for this tree; what forbids it is noted."""
    if number < 2 or number > walk.last_page:
        note(walk, number, OUTSIDE, walk.owner)
        return False
    if number >= walk.file_pages:
        note(walk, number, CUT, walk.owner)
        return False
    if walk.marks[number]:
        note(walk, number, TWICE, walk.owner)
        return False
    walk.marks[number] = <uint8_t>(mark | walk.owner << OWNER_SHIFT)
    return True


cdef void take_run(Walk* walk, uint64_t first, uint64_t count) noexcept nogil:
    """Take the pages of a large value."""
    cdef uint64_t number
    if count > walk.last_page or first > walk.last_page - count + 1:
        note(walk, first, OUTSIDE, walk.owner)
        return
    for number in range(first, first + count):
        if not claimed(walk, number, MARK_HEAD if number == first else MARK_TAIL):
            return


cdef void take_leaf(Walk* walk, const uint8_t* page) noexcept nogil:
    cdef size_t index
    cdef const uint8_t* node
    cdef size_t count = node_count(page)
    walk.leaf_pages += 1
    walk.entries += count
    for index in range(count):
        node = node_at(page, index)
        walk.entry_bytes += u16(node + 6) + value_bytes_of(node)
        if u16(node + 4) == NODE_BIG:
            take_run(walk, u64(node + 8 + u16(node + 6)), run_pages(value_bytes_of(node), walk.page_bytes))


cdef bint in_range(
    Walk* walk, const uint8_t* page, const uint8_t* low, size_t low_bytes, const uint8_t* high, size_t high_bytes
) noexcept nogil:
    """Tell whether the keys of a page are those that its parent's keys promise."""
    cdef size_t count = node_count(page)
    cdef size_t first = 1 if u16(page + 10) == PAGE_BRANCH else 0
    cdef const uint8_t* node
    if first >= count:
        return True
    node = node_at(page, first)
    if low != NULL and compared(node + 8, u16(node + 6), low, low_bytes, walk.integer_keys) < 0:
        return False
    node = node_at(page, count - 1)
    return high == NULL or compared(node + 8, u16(node + 6), high, high_bytes, walk.integer_keys) < 0


cdef void walk_page(
    Walk* walk, uint64_t number, int level,
    const uint8_t* low, size_t low_bytes, const uint8_t* high, size_t high_bytes
) noexcept nogil:
    """Check a page and all below it; the bounds are keys inside the pages above, whose buffers stay as they are."""
    cdef uint8_t* page = walk.buffers + <size_t>level * walk.page_bytes
    cdef bint leaf = level + 1 == walk.depth
    cdef int wrong
    if not claimed(walk, number, MARK_LEAF if leaf else MARK_BRANCH):
        return
    if not read_exactly(walk.fd, page, walk.page_bytes, number * walk.page_bytes):
        note(walk, number, UNREADABLE, walk.owner)
        return
    wrong = check_page(page, walk.page_bytes, number, walk.integer_keys)
    if not wrong and (u16(page + 10) == PAGE_LEAF) != leaf:
        wrong = DEPTH
    if not wrong and not in_range(walk, page, low, low_bytes, high, high_bytes):
        wrong = RANGE
    if wrong:
        note(walk, number, wrong, walk.owner)
    elif leaf:
        take_leaf(walk, page)
    else:
        walk_children(walk, page, level, low, low_bytes, high, high_bytes)


cdef void walk_children(
    Walk* walk, const uint8_t* page, int level,
    const uint8_t* low, size_t low_bytes, const uint8_t* high, size_t high_bytes
) noexcept nogil:
    cdef size_t count = node_count(page)
    cdef size_t index
    cdef const uint8_t* node
    cdef const uint8_t* after
    walk.branch_pages += 1
    for index in range(count):
        node = node_at(page, index)
        if index:
            low = node + 8
            low_bytes = u16(node + 6)
        if index + 1 < count:
            after = node_at(page, index + 1)
            walk_page(walk, child_of(node), level + 1, low, low_bytes, after + 8, u16(after + 6))
        else:
            walk_page(walk, child_of(node), level + 1, low, low_bytes, high, high_bytes)


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1_000_000_000 + <uint64_t>now.tv_nsec


cdef void check_run(Walk* walk, uint64_t first, uint64_t* per_owner) noexcept nogil:
    """Check the head of a large value's run, and take what it has beyond the value's need."""
    cdef uint8_t header[HEADER_BYTES]
    cdef int owner = walk.marks[first] >> OWNER_SHIFT
    cdef uint64_t need = 1
    cdef uint64_t have, number
    while first + need < walk.file_pages and walk.marks[first + need] == (MARK_TAIL | owner << OWNER_SHIFT):
        need += 1
    if not read_exactly(walk.fd, header, HEADER_BYTES, first * walk.page_bytes):
        note(walk, first, UNREADABLE, owner)
        return
    have = u32(header + 12)
    if u64(header) != first or u16(header + 10) != PAGE_OVERFLOW or have < need or have > walk.last_page - first + 1:
        note(walk, first, RUN, owner)
        return
    per_owner[owner] += have
    walk.owner = owner
    for number in range(first + need, first + have):
        if not claimed(walk, number, MARK_TAIL):
            return


cdef uint64_t check_runs(Walk* walk, uint64_t* per_owner, uint64_t until_ns) noexcept nogil:
    """Check runs in the order of the file; gives the page at which time was up, or the first behind the end."""
    cdef uint64_t number
    cdef uint64_t seen = 0
    cdef uint64_t end = min(walk.file_pages, walk.last_page + 1)
    for number in range(2, end):
        if walk.marks[number] & MARK_KIND != MARK_HEAD:
            continue
        seen += 1
        if until_ns and seen % RUNS_BETWEEN_LOOKS == 0 and now_ns() >= until_ns:
            return number
        check_run(walk, number, per_owner)
    return end


cdef list faults_of(Walk* walk):
    cdef size_t index
    return [
        (walk.kept[index].page, walk.kept[index].code, walk.kept[index].owner)
        for index in range(min(walk.faults, <uint64_t>FAULTS_KEPT))
    ]


cdef bint opened(Walk* walk, int fd, size_t page_bytes, uint64_t last_page, uint64_t file_pages) except False:
    if page_bytes < 256 or page_bytes > 32768:
        raise ValueError("a page has 256 to 32,768 bytes")
    walk.fd = fd
    walk.page_bytes = page_bytes
    walk.last_page = last_page
    walk.file_pages = file_pages
    walk.owner = walk.depth = 0
    walk.integer_keys = False
    walk.buffers = NULL
    walk.branch_pages = walk.leaf_pages = walk.overflow_pages = walk.entries = walk.entry_bytes = walk.faults = 0
    return True


def walk(
    int fd, size_t page_bytes, uint64_t last_page, uint8_t[::1] marks, int owner, uint64_t root, int depth,
    bint integer_keys
):
    cdef Walk state
    if not 0 < depth <= DEPTH_MAXIMUM or not 0 <= owner < OWNERS or not marks.shape[0]:
        raise ValueError("a tree has 1 to 32 levels, there are 32 owners, and a file has pages")
    opened(&state, fd, page_bytes, last_page, <uint64_t>marks.shape[0])
    state.marks = &marks[0]
    state.owner = owner
    state.depth = depth
    state.integer_keys = integer_keys
    state.buffers = <uint8_t*>malloc(page_bytes * <size_t>depth)
    if state.buffers == NULL:
        raise MemoryError
    with nogil:
        walk_page(&state, root, 0, NULL, 0, NULL, 0)
    free(state.buffers)
    counts = (state.branch_pages, state.leaf_pages, state.entries, state.entry_bytes)
    return counts, faults_of(&state), state.faults


def runs(int fd, size_t page_bytes, uint64_t last_page, uint8_t[::1] marks, double seconds):
    cdef Walk state
    cdef uint64_t per_owner[OWNERS]
    cdef uint64_t until_ns = now_ns() + <uint64_t>(seconds * 1e9) if seconds > 0 else 0
    cdef uint64_t reached
    cdef int owner
    opened(&state, fd, page_bytes, last_page, <uint64_t>marks.shape[0])
    state.marks = &marks[0]
    for owner in range(OWNERS):
        per_owner[owner] = 0
    with nogil:
        reached = check_runs(&state, per_owner, until_ns)
    complete = reached >= min(state.file_pages, last_page + 1)
    return complete, [per_owner[owner] for owner in range(OWNERS)], faults_of(&state), state.faults


def take_free(const uint8_t[::1] value, uint64_t last_page, uint8_t[::1] marks):
    cdef uint64_t count, index, number
    cdef uint64_t before = <uint64_t>-1
    cdef uint64_t pages = <uint64_t>marks.shape[0]
    if value.shape[0] < 8 or value.shape[0] % 8:
        return 0, FREE
    count = u64(&value[0])
    if count > <uint64_t>value.shape[0] // 8 - 1:
        return 0, FREE
    for index in range(1, count + 1):
        number = u64(&value[8 * index])
        if number < 2 or number > last_page or number >= before:
            return index - 1, FREE
        before = number
        if number < pages:
            if marks[number]:
                return index - 1, TWICE
            marks[number] = MARK_FREE
    return count, 0


def inspect(const uint8_t[::1] page, uint64_t number, bint integer_keys):
    if page.shape[0] < 256 or page.shape[0] > 32768:
        return BOUNDS
    return check_page(&page[0], <size_t>page.shape[0], number, integer_keys)


def is_leaf(const uint8_t[::1] page):
    return page.shape[0] >= HEADER_BYTES and u16(&page[0] + 10) == PAGE_LEAF


def nodes(bytes page):
    cdef const uint8_t* start = page
    cdef const uint8_t* node
    cdef const uint8_t* data
    cdef size_t index
    cdef bint branch
    if len(page) < 256 or (inspect(page, u64(start), False) and inspect(page, u64(start), True)):
        raise ValueError("the page is damaged")
    branch = u16(start + 10) == PAGE_BRANCH
    found = []
    for index in range(node_count(start)):
        node = node_at(start, index)
        data = node + 8 + u16(node + 6)
        key = (<const char*>node)[8:8 + u16(node + 6)]
        if branch:
            found.append((key, 0, child_of(node), b""))
        elif u16(node + 4) == NODE_BIG:
            found.append((key, NODE_BIG, value_bytes_of(node), u64(data).to_bytes(8, "little")))
        else:
            found.append((key, u16(node + 4), value_bytes_of(node), (<const char*>data)[:value_bytes_of(node)]))
    return found
