"""Wills from disk. See restore_wills.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.durable_table cimport find_durable
from broker._core.keyed_records cimport delete_numbered
from broker._core.message cimport release_message
from broker._core.model cimport Durable, Message, SessionExtra, ShardState
from broker._core.records cimport (
    SESSION_CONNECTED,
    SESSION_LOST,
    TABLE_WILLS,
    SessionHead,
    WillHead,
    get_key,
    get_message,
)
from broker._core.session cimport need_extra
from broker._core.timers cimport timer_set


cdef enum:
    KEY_BYTES = 8
    NEVER = 0xFFFFFFFF
    SECOND_NS = 1000000000
    APART_NS = 1000000          # one will and the next one

cdef struct Grace:
    int64_t ns
    int64_t apart_ns            # what the next one waits longer
    int64_t next_ns             # what the next one waits longer than the grace


cdef Message* read_will(ShardState* shard, bytes value, WillHead* head):
    # With one reference; NULL: it is none.
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(value)
    cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(value)
    cdef uint32_t used = 0
    cdef Message* message
    if n < sizeof(WillHead):
        return NULL
    memcpy(head, at, sizeof(WillHead))
    message = get_message(shard, at + sizeof(WillHead), n - <uint32_t>sizeof(WillHead), &used)
    if message != NULL and used != n - sizeof(WillHead):
        release_message(shard, message)
        return NULL
    return message


cdef int64_t due_after_crash(
        ShardState* shard, int64_t since_ns, uint32_t expiry_s, uint32_t delay_s, Grace* grace) noexcept nogil:
    # A session that ended with its connection has no delay: its will would have been published then. The grace period
    # begins anew with each start: nobody could come back while there was none.
    cdef int64_t delay_ns = <int64_t>delay_s * SECOND_NS if expiry_s else 0
    grace.next_ns += grace.apart_ns
    return max(since_ns + delay_ns, shard.now_ns + grace.ns) + grace.next_ns


cdef int64_t due_after_departure(ShardState* shard, int64_t since_ns, uint32_t delay_s, Grace* grace) noexcept nogil:
    cdef int64_t delay_ns = <int64_t>delay_s * SECOND_NS
    return max(since_ns + delay_ns, shard.now_ns + min(delay_ns, grace.ns))


cdef void set_moments(
        ShardState* shard, SessionExtra* extra, const SessionHead* head, Grace* grace) noexcept nogil:
    # When the will is due and when the session ends.
    cdef bint connected = head.flags & SESSION_CONNECTED != 0
    cdef int64_t since_ns = head.away_since_wall_ns - shard.wall_offset_ns
    if connected or since_ns > shard.now_ns:
        since_ns = shard.now_ns
    extra.will.lost_in_crash = head.flags & (SESSION_CONNECTED | SESSION_LOST) != 0 or head.expiry_s == 0
    if extra.will.lost_in_crash:
        extra.will_at_ns = due_after_crash(shard, since_ns, head.expiry_s, extra.will.delay_s, grace)
    else:
        extra.will_at_ns = due_after_departure(shard, since_ns, extra.will.delay_s, grace)
    extra.ends_at_ns = 0
    if head.expiry_s == 0:
        extra.ends_at_ns = extra.will_at_ns
    elif head.expiry_s != NEVER:
        extra.ends_at_ns = max(since_ns + <int64_t>head.expiry_s * SECOND_NS, shard.now_ns)
        extra.will_at_ns = min(extra.will_at_ns, extra.ends_at_ns)
    timer_set(&shard.wheel, &extra.timer, extra.will_at_ns)


cdef void place_will(
        ShardState* shard, Durable* durable, Message* message, const WillHead* will, const SessionHead* head,
        Grace* grace) noexcept nogil:
    cdef SessionExtra* extra = need_extra(durable.session)
    extra.will.message = message
    extra.will.delay_s = will.delay_s
    extra.will.number = durable.number
    set_moments(shard, extra, head, grace)


cdef bint restore_will(ShardState* shard, bytes key, bytes value, bytes record, Grace* grace) except -1:
    # False: it cannot be read.
    cdef uint64_t number = get_key(<const uint8_t*>PyBytes_AS_STRING(key))
    cdef Durable* durable = find_durable(shard, number)
    cdef SessionHead head
    cdef WillHead will
    cdef Message* message
    if durable == NULL or durable.session.ending:
        delete_numbered(shard, TABLE_WILLS, number)
        return True
    message = read_will(shard, value, &will)
    if message == NULL:
        return False
    memcpy(&head, PyBytes_AS_STRING(record), sizeof(head))      # it has made a session already
    place_will(shard, durable, message, &will, &head, grace)
    return True


cdef uint64_t restore_wills(ShardState* shard, object wills, object sessions, int64_t grace_ns) except? 0xFFFFFFFF:
    cdef Grace grace
    cdef dict waiting = {key: value for key, value in wills if len(key) == KEY_BYTES}
    cdef uint64_t count = len(waiting), wrong = 0
    grace.ns = grace_ns
    grace.next_ns = 0
    grace.apart_ns = min(APART_NS, grace_ns // <int64_t>count) if count else 0
    if count:
        for key, record in sessions:
            value = waiting.pop(key, None)
            if value is None:
                continue
            wrong += not restore_will(shard, key, value, record, &grace)
    for key in waiting:
        delete_numbered(shard, TABLE_WILLS, get_key(<const uint8_t*>PyBytes_AS_STRING(<bytes>key)))
    return wrong
