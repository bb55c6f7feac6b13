"""A round of the shard. See rounds.pxd."""

from libc.stdint cimport int64_t

from broker._core.acks cimport release_done
from broker._core.connect cimport connect_damped
from broker._core.connection cimport connection_timer, free_connection, list_closing
from broker._core.dispatch cimport lift_barrier, run_ready
from broker._core.lifetime cimport continue_ending, run_parted, session_timer
from broker._core.model cimport (
    CONNECTED,
    TIMER_DAMPED,
    TIMER_LINGER,
    TIMER_RETAINED,
    TIMER_SESSION,
    Connection,
    Session,
    ShardState,
    Timer,
)
from broker._core.publish cimport continue_publishing
from broker._core.retained cimport retained_timer
from broker._core.timers cimport wheel_pop


cdef bint fire_timers(ShardState* shard) noexcept nogil:
    # True: more may be due.
    cdef Timer* timer = wheel_pop(&shard.wheel, shard.now_ns)
    cdef Connection* connection
    while timer != NULL:
        connection = <Connection*>timer.owner
        if timer.kind == TIMER_SESSION:
            session_timer(shard, <Session*>timer.owner)
        elif timer.kind == TIMER_RETAINED:
            retained_timer(shard, timer)
        elif timer.kind == TIMER_LINGER:
            connection.starved_or_lingering = 0        # whoever has not read by now will not
            list_closing(shard, connection)
        elif timer.kind == TIMER_DAMPED:
            connect_damped(shard, connection)
            if connection.state == CONNECTED:
                lift_barrier(shard, connection)
        else:
            connection_timer(shard, connection, timer.kind)
        shard.slice_budget -= 1
        if shard.slice_budget <= 0:     # very many are due at once: the wheel keeps the rest
            return True
        timer = wheel_pop(&shard.wheel, shard.now_ns)
    return False


cdef bint run_slice(ShardState* shard, int64_t now_ns, int64_t work) noexcept nogil:
    cdef bint late
    shard.now_ns = now_ns
    shard.slice_budget = work
    late = fire_timers(shard)
    run_parted(shard)
    continue_ending(shard)
    continue_publishing(shard)
    if shard.slice_budget < work // 2 + 1:      # fan-outs leave as much to those who wait to be parsed
        shard.slice_budget = work // 2 + 1
    run_ready(shard)
    run_parted(shard)
    if shard.journal.done_head != NULL:
        release_done(shard)
    return late or shard.busy_head != NULL or shard.ready_head != NULL or shard.parted_count > 0 or \
        shard.ending_head != NULL


cdef void free_closed(ShardState* shard, Connection* unseen) noexcept nogil:
    cdef Connection* connection = shard.closing_head
    cdef Connection* following
    shard.closing_head = unseen
    while connection != unseen:
        following = connection.closing_next
        connection.closing_listed = 0
        if connection.dirty or connection.ready:
            list_closing(shard, connection)     # still on another list: next round
        elif connection.fd == -1:
            free_connection(shard, connection)
        connection = following
