# One hierarchical timing wheel for all deadlines: setting, cancelling and firing cost the same however many there are.
#
# Here belongs when something is due. Not here: what is done then, and any clock: time comes in as `now_ns`.

from libc.stdint cimport int64_t

from broker._core.model cimport Timer, Wheel

cdef void wheel_open(Wheel* wheel, int64_t now_ns) noexcept nogil
# Arms a timer, or moves it. It fires at most one tick late and never early.
cdef void timer_set(Wheel* wheel, Timer* timer, int64_t deadline_ns) noexcept nogil
cdef void timer_cancel(Wheel* wheel, Timer* timer) noexcept nogil
# Takes one expired timer out of the wheel, or NULL when none is due at `now_ns`. Call until NULL.
cdef Timer* wheel_pop(Wheel* wheel, int64_t now_ns) noexcept nogil
# When to look again; -1: nothing is armed. Never later than the earliest deadline's slot.
cdef int64_t wheel_next_ns(Wheel* wheel) noexcept nogil
