"""The timing wheel: five levels of 64 slots, a tick of 16.8 ms. See timers.pxd.

A timer lies at the level on which its deadline and the current tick first agree in all higher digits (base 64). When
the lower digits have run round, a slot of the level above is spread over the levels below.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from broker._core.model cimport WHEEL_LEVELS, WHEEL_SLOTS, WHEEL_TICK_BITS, Timer, Wheel

cdef extern from *:
    int count_trailing "__builtin_ctzll"(unsigned long long) noexcept nogil


cdef inline int64_t tick_of(int64_t deadline_ns) noexcept nogil:
    # Rounded up, so that a timer never fires before its deadline.
    return (deadline_ns + ((<int64_t>1 << WHEEL_TICK_BITS) - 1)) >> WHEEL_TICK_BITS


cdef void wheel_open(Wheel* wheel, int64_t now_ns) noexcept nogil:
    memset(wheel, 0, sizeof(Wheel))
    wheel.tick = now_ns >> WHEEL_TICK_BITS


cdef void place(Wheel* wheel, Timer* timer) noexcept nogil:
    cdef int64_t tick = tick_of(timer.deadline_ns)
    cdef int64_t furthest
    cdef int level = 0
    cdef int slot
    if tick < wheel.tick:
        tick = wheel.tick
    furthest = wheel.tick + (<int64_t>1 << (6 * WHEEL_LEVELS)) - (<int64_t>1 << (6 * (WHEEL_LEVELS - 1)))
    if tick > furthest:
        tick = furthest     # beyond the last level: placed at its end and placed again when that comes round
    while level < WHEEL_LEVELS - 1 and (tick >> (6 * (level + 1))) != (wheel.tick >> (6 * (level + 1))):
        level += 1
    slot = <int>((tick >> (6 * level)) & (WHEEL_SLOTS - 1))
    timer.level = level
    timer.slot = slot
    timer.armed = 1
    timer.previous = NULL
    timer.next = wheel.slots[level][slot]
    if timer.next != NULL:
        timer.next.previous = timer
    wheel.slots[level][slot] = timer
    wheel.occupied[level] |= <uint64_t>1 << slot
    wheel.armed += 1


cdef void timer_set(Wheel* wheel, Timer* timer, int64_t deadline_ns) noexcept nogil:
    if timer.armed:
        timer_cancel(wheel, timer)
    timer.deadline_ns = deadline_ns
    place(wheel, timer)


cdef void timer_cancel(Wheel* wheel, Timer* timer) noexcept nogil:
    if not timer.armed:
        return
    if timer.previous != NULL:
        timer.previous.next = timer.next
    else:
        wheel.slots[timer.level][timer.slot] = timer.next
        if timer.next == NULL:
            wheel.occupied[timer.level] &= ~(<uint64_t>1 << timer.slot)
    if timer.next != NULL:
        timer.next.previous = timer.previous
    timer.armed = 0
    wheel.armed -= 1


cdef void spread(Wheel* wheel, int level) noexcept nogil:
    # The slot of `level` that the tick has just entered moves to the levels below.
    cdef int slot = <int>((wheel.tick >> (6 * level)) & (WHEEL_SLOTS - 1))
    cdef Timer* timer = wheel.slots[level][slot]
    cdef Timer* following
    wheel.slots[level][slot] = NULL
    wheel.occupied[level] &= ~(<uint64_t>1 << slot)
    while timer != NULL:
        following = timer.next
        wheel.armed -= 1
        place(wheel, timer)
        timer = following


cdef int64_t next_tick(Wheel* wheel) noexcept nogil:
    # The next tick at which a slot has to be fired or spread; -1: none.
    cdef int level, digit
    cdef uint64_t ahead
    for level in range(WHEEL_LEVELS):
        digit = <int>((wheel.tick >> (6 * level)) & (WHEEL_SLOTS - 1))
        ahead = wheel.occupied[level] & (~<uint64_t>0 << digit)
        if ahead:
            if level == 0:
                return (wheel.tick & ~<int64_t>(WHEEL_SLOTS - 1)) | count_trailing(ahead)
            return ((wheel.tick >> (6 * (level + 1))) << (6 * (level + 1))) \
                | (<int64_t>count_trailing(ahead) << (6 * level))
        if level == WHEEL_LEVELS - 1 and wheel.occupied[level]:     # wrapped round
            return (((wheel.tick >> (6 * (level + 1))) + 1) << (6 * (level + 1))) \
                | (<int64_t>count_trailing(wheel.occupied[level]) << (6 * level))
    return -1


cdef void enter(Wheel* wheel, int64_t tick) noexcept nogil:
    cdef int level
    cdef int64_t before = wheel.tick
    wheel.tick = tick
    for level in range(WHEEL_LEVELS - 1, 0, -1):
        if (before >> (6 * level)) != (tick >> (6 * level)):
            spread(wheel, level)


cdef Timer* wheel_pop(Wheel* wheel, int64_t now_ns) noexcept nogil:
    cdef int64_t now_tick = now_ns >> WHEEL_TICK_BITS
    cdef int64_t tick
    cdef int slot
    cdef Timer* timer
    while wheel.armed:
        slot = <int>(wheel.tick & (WHEEL_SLOTS - 1))
        timer = wheel.slots[0][slot]
        if timer != NULL:
            if wheel.tick > now_tick:
                return NULL
            timer_cancel(wheel, timer)
            if tick_of(timer.deadline_ns) > wheel.tick:     # it was placed at the end of the wheel
                place(wheel, timer)
                continue
            return timer
        tick = next_tick(wheel)
        if tick < 0 or tick > now_tick:
            break
        enter(wheel, tick)
    if now_tick > wheel.tick:
        enter(wheel, now_tick)
    return NULL


cdef int64_t wheel_next_ns(Wheel* wheel) noexcept nogil:
    cdef int64_t tick
    if not wheel.armed:
        return -1
    tick = next_tick(wheel)
    return -1 if tick < 0 else tick << WHEEL_TICK_BITS
