"""What devices did on days, added up until it is written. See tally.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport UINT32_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from broker._core.cursor cimport NUMBER_BYTES, get_number, put_number
from broker._core.memory cimport (
    POOLED, give_memory, resize_memory, slab_close, slab_give, slab_open, slab_take, take_zeroed)
from broker._core.table cimport Link, table_add, table_close, table_first

# In a device's place: 0 is the account's OWN, UINT32_MAX is ALL, as `broker.accounts.days` calls them.
cdef enum:
    NO_DEVICE = 0
    SLAB_SUMS = 256             # small enough for the heap: to unmap each takes long when all of them go
    FIRST_SUMS = 64
    NUMBERS = 6                 # of a packed sum: account, device and four figures
    KEY_BYTES = 12


cdef inline uint32_t hash_of(uint32_t account_id, uint32_t day, uint32_t device) noexcept nogil:
    cdef uint64_t mixed = ((<uint64_t>account_id << 32) | device) + day * <uint64_t>0x9E3779B97F4A7C15
    mixed = (mixed ^ (mixed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
    return <uint32_t>(mixed ^ (mixed >> 32))


cdef inline bint is_before(Place* one, Place* other) noexcept nogil:
    if one.account_and_day != other.account_and_day:
        return one.account_and_day < other.account_and_day
    return one.device < other.device


cdef inline Place place_of(uint32_t account_id, uint32_t day, uint32_t device) noexcept nogil:
    cdef Place place
    place.account_and_day, place.device, place.sum = (<uint64_t>account_id << 32) | day, device, NULL
    return place


# ---------------------------------------------------------------- bytes


cdef inline const uint8_t* get_sum(const uint8_t* at, const uint8_t* end, uint64_t* numbers) noexcept nogil:
    cdef int i
    for i in range(NUMBERS):
        at = get_number(at, end, &numbers[i])
        if at == NULL:
            return NULL
    if numbers[0] > UINT32_MAX or numbers[1] > UINT32_MAX:
        return NULL
    return at


cdef bint are_sums(const uint8_t* at, size_t n, size_t count) noexcept nogil:
    cdef const uint8_t* end = at + n
    cdef uint64_t numbers[NUMBERS]
    while count:
        at = get_sum(at, end, numbers)
        if at == NULL:
            return False
        count -= 1
    return at == end


cdef int need_sums(bytes packed, size_t count) except -1:
    if not are_sums(<const uint8_t*>PyBytes_AS_STRING(packed), len(packed), count):
        raise ValueError("these bytes are not so many sums")
    return 0


cdef inline void put_big_endian(uint8_t* at, uint32_t number) noexcept nogil:
    at[0], at[1], at[2], at[3] = number >> 24, (number >> 16) & 0xFF, (number >> 8) & 0xFF, number & 0xFF


cdef inline uint32_t get_big_endian(const uint8_t* at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline Place place_at(const uint8_t* key) noexcept nogil:
    return place_of(get_big_endian(key), get_big_endian(key + 4), get_big_endian(key + 8))


cdef tuple figures_of(Sum* found):
    return found.figures[0], found.figures[1], found.figures[2], found.figures[3]


cdef bytes key_of(Sum* found):
    cdef uint8_t key[KEY_BYTES]
    put_big_endian(key, found.account_id)
    put_big_endian(key + 4, found.day)
    put_big_endian(key + 8, found.device)
    return PyBytes_FromStringAndSize(<char*>key, KEY_BYTES)


# ---------------------------------------------------------------- by account


cdef struct Running:            # what was added up of an account until another one came
    uint32_t account_id
    uint64_t figures[4]


cdef int carry(dict found, Running* running) except -1:
    cdef tuple before = found.get(running.account_id, (0, 0, 0, 0))
    found[running.account_id] = (
        before[0] + running.figures[0], before[1] + running.figures[1],
        before[2] + running.figures[2], before[3] + running.figures[3])
    memset(running, 0, sizeof(Running))
    return 0


def sum_by_account(rows):
    cdef dict found = {}
    cdef Running running
    cdef uint32_t account_id
    cdef bint started = False
    cdef tuple row
    memset(&running, 0, sizeof(running))
    for row in rows:
        account_id = row[0]
        if started and account_id != running.account_id:
            carry(found, &running)
        running.account_id, started = account_id, True
        running.figures[0] += <uint64_t>row[2]
        running.figures[1] += <uint64_t>row[3]
        running.figures[2] += <uint64_t>row[4]
        running.figures[3] += <uint64_t>row[5]
    if started:
        carry(found, &running)
    return found


cdef struct Used:               # of an account, both directions together; `taken` is 0 in a free place
    uint64_t messages
    uint64_t size
    uint32_t account_id
    uint32_t taken


cdef Used* used_of(Used* places, size_t mask, uint32_t account_id) noexcept nogil:
    cdef size_t at = hash_of(account_id, 0, 0) & mask
    while places[at].taken and places[at].account_id != account_id:
        at = (at + 1) & mask
    places[at].taken, places[at].account_id = 1, account_id
    return places + at


cdef void add_up(const uint8_t* at, const uint8_t* end, Used* places, size_t mask) noexcept nogil:
    cdef uint64_t numbers[NUMBERS]
    cdef Used* used
    while at < end:
        at = get_sum(at, end, numbers)
        if numbers[1] != UINT32_MAX:
            used = used_of(places, mask, <uint32_t>numbers[0])
            used.messages += numbers[2] + numbers[4]
            used.size += numbers[3] + numbers[5]


def packed_accounts(bytes packed not None, size_t count):
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(packed)
    cdef size_t mask = 1, i
    cdef Used* places
    cdef dict found = {}
    need_sums(packed, count)
    while mask < 2 * count:
        mask = 2 * mask + 1
    places = <Used*>take_zeroed((mask + 1) * sizeof(Used))
    add_up(at, at + len(packed), places, mask)
    for i in range(mask + 1):
        if places[i].taken:
            found[places[i].account_id] = places[i].messages, places[i].size
    give_memory(places)
    return found


# ---------------------------------------------------------------- sums


cdef class Tally:
    def __cinit__(self):
        memset(&self.table, 0, sizeof(self.table))
        slab_open(&self.slab, sizeof(Sum), SLAB_SUMS)
        self.newest = {}

    def __dealloc__(self):
        if not POOLED:
            self.give_each()
        table_close(&self.table)
        give_memory(self.heap)
        slab_close(&self.slab)

    def __len__(self):
        return self.count

    @property
    def has_fresh(self):
        return self.fresh_head != NULL

    cdef void give_each(self) noexcept:
        cdef uint32_t i
        cdef Link* link
        cdef Link* following
        for i in range(self.table.size):
            link = self.table.buckets[i]
            while link != NULL:
                following = link.next
                slab_give(&self.slab, link)
                link = following

    cdef Sum* find(self, uint32_t hash, uint32_t account_id, uint32_t day, uint32_t device) noexcept:
        cdef Sum* found = <Sum*>table_first(&self.table, hash)
        while found != NULL:
            if found.hash == hash and found.device == device and found.account_id == account_id and found.day == day:
                return found
            found = found.next
        return NULL

    cdef Sum* need(self, uint32_t account_id, uint32_t day, uint32_t device) except NULL:
        cdef uint32_t hash = hash_of(account_id, day, device)
        cdef Sum* found = self.find(hash, account_id, day, device)
        if found != NULL:
            return found
        if self.ordering:
            raise ValueError("nothing is added to what is being taken")
        found = <Sum*>slab_take(&self.slab)
        memset(found, 0, sizeof(Sum))
        found.hash, found.account_id, found.day, found.device = hash, account_id, day, device
        table_add(&self.table, <Link*>found)
        found.account_next = <Sum*><size_t>self.newest.get(account_id, 0)
        self.newest[account_id] = <size_t>found
        if self.count == self.capacity:
            self.capacity += self.capacity // 2 + FIRST_SUMS
            self.heap = <Place*>resize_memory(self.heap, self.capacity * sizeof(Place))
        self.heap[self.count] = place_of(account_id, day, device)
        self.heap[self.count].sum = found
        self.count += 1
        return found

    cdef void note_fresh(self, Sum* found) noexcept:
        if found.is_fresh:
            return
        found.is_fresh, found.fresh_next = 1, NULL
        if self.fresh_tail == NULL:
            self.fresh_head = found
        else:
            self.fresh_tail.fresh_next = found
        self.fresh_tail = found

    cdef void count_row(self, Sum* found, uint64_t* more) noexcept:
        cdef int i
        for i in range(4):
            found.figures[i] += more[i]
            found.fresh[i] += more[i]
        self.note_fresh(found)

    def add(self, rows, uint32_t day, accounts, is_application, uint32_t devices_end):
        cdef uint64_t more[4]
        cdef uint32_t account_id, device, last = 0
        cdef bint known = False, started = False
        cdef Sum* found
        cdef tuple row
        for row in rows:
            account_id = row[0]
            if not started or account_id != last:
                started, last, known = True, account_id, account_id in accounts
            if not known:
                continue
            device = NO_DEVICE if row[1] is None else row[1]
            found = self.find(hash_of(account_id, day, device), account_id, day, device)
            if found == NULL:  # only then has anybody to be asked
                if device >= devices_end or <bint>is_application(device):
                    device = NO_DEVICE
                found = self.need(account_id, day, device)
            more[0], more[1], more[2], more[3] = row[2], row[3], row[4], row[5]
            self.count_row(found, more)

    def note_peak(self, uint32_t account_id, uint32_t day, uint64_t connections):
        cdef Sum* found = self.need(account_id, day, UINT32_MAX)
        if connections > found.figures[0]:
            found.figures[0] = found.fresh[0] = connections
            self.note_fresh(found)

    # ---------------------------------------------------------------- the journal's bytes

    def pack(self, size_t at_most):
        cdef bytes whole
        cdef uint8_t* start
        cdef uint8_t* at
        cdef size_t packed = 0
        cdef Sum* found = self.fresh_head
        cdef int i
        whole = PyBytes_FromStringAndSize(NULL, min(at_most, self.table.count) * NUMBERS * (NUMBER_BYTES + 1))
        start = at = <uint8_t*>PyBytes_AS_STRING(whole)
        while found != NULL and packed < at_most:
            at = put_number(put_number(at, found.account_id), found.device)
            for i in range(4):
                at = put_number(at, found.fresh[i])
            memset(found.fresh, 0, sizeof(found.fresh))
            found.is_fresh = 0
            packed += 1
            found = found.fresh_next
        self.fresh_head = found
        if found == NULL:
            self.fresh_tail = NULL
        return packed, whole[:at - start]

    def unpack(self, bytes packed not None, size_t count, uint32_t day, bytes behind not None):
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(packed)
        cdef const uint8_t* end = at + len(packed)
        cdef uint64_t numbers[NUMBERS]
        cdef Place last
        cdef Place this
        cdef Sum* found
        cdef int i
        if len(behind) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        need_sums(packed, count)
        last = place_at(<const uint8_t*>PyBytes_AS_STRING(behind))
        while at < end:
            at = get_sum(at, end, numbers)
            this = place_of(<uint32_t>numbers[0], day, <uint32_t>numbers[1])
            if not is_before(&last, &this):
                continue
            found = self.need(<uint32_t>numbers[0], day, this.device)
            if this.device == UINT32_MAX:
                found.figures[0] = max(found.figures[0], numbers[2])
            else:
                for i in range(4):
                    found.figures[i] += numbers[2 + i]

    # ---------------------------------------------------------------- looks at what is there

    def get(self, bytes key not None):
        cdef Place place
        cdef Sum* found
        cdef uint32_t account_id, day
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        place = place_at(<const uint8_t*>PyBytes_AS_STRING(key))
        account_id, day = <uint32_t>(place.account_and_day >> 32), <uint32_t>(place.account_and_day & UINT32_MAX)
        found = self.find(hash_of(account_id, day, place.device), account_id, day, place.device)
        return None if found == NULL or found.is_taken else figures_of(found)

    def devices_of(self, uint32_t account_id):
        cdef Sum* newest = <Sum*><size_t>self.newest.get(account_id, 0)
        cdef Sum* found = newest
        cdef size_t count = 0
        cdef bytes devices
        cdef uint32_t* at
        while found != NULL:
            count += not found.is_taken and found.device != UINT32_MAX
            found = found.account_next
        devices = PyBytes_FromStringAndSize(NULL, count * 2 * sizeof(uint32_t))
        at = <uint32_t*>PyBytes_AS_STRING(devices)
        found = newest
        while found != NULL:
            if not found.is_taken and found.device != UINT32_MAX:
                at[0], at[1] = found.day, found.device
                at += 2
            found = found.account_next
        return devices

    # ---------------------------------------------------------------- the smallest first

    cdef void sink(self, size_t at) noexcept:
        cdef Place moved = self.heap[at]
        cdef size_t child = 2 * at + 1
        while child < self.count:
            if child + 1 < self.count and is_before(&self.heap[child + 1], &self.heap[child]):
                child += 1
            if not is_before(&self.heap[child], &moved):
                break
            self.heap[at] = self.heap[child]
            at, child = child, 2 * child + 1
        self.heap[at] = moved

    def order(self, size_t at_most):
        if not self.ordering:
            self.ordering, self.unordered = True, self.count // 2
        while self.unordered and at_most:
            self.unordered -= 1
            at_most -= 1
            self.sink(self.unordered)
        return self.unordered == 0

    def take(self, size_t at_most):
        cdef list taken = []
        cdef Sum* first
        if not self.ordering or self.unordered:
            raise ValueError("what is taken has to be in order")
        while self.count and at_most:
            first = self.heap[0].sum
            first.is_taken = 1
            self.count -= 1
            at_most -= 1
            self.heap[0] = self.heap[self.count]
            if self.count:
                self.sink(0)
            taken.append((key_of(first), figures_of(first)))
        return taken
