"""Promises that wait for their tickets. See promises.pxd."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from broker._core.memory cimport give_memory, slab_give, slab_take
from broker._core.message cimport hold_message, message_bytes, release_message
from broker._core.model cimport PROMISE_ONCE, Connection, Held, Journal, Message, Promise, ShardState


cdef Held* need_held(ShardState* shard, Connection* connection) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Held* held = connection.held
    if held != NULL:
        return held
    held = <Held*>slab_take(&journal.held_slab)
    memset(held, 0, sizeof(Held))
    held.connection = connection
    held.next = journal.held_head
    if held.next != NULL:
        held.next.previous = held
    journal.held_head = held
    connection.held = held
    return held


cdef void forget_held(ShardState* shard, Connection* connection) noexcept nogil:
    cdef Journal* journal = &shard.journal
    cdef Held* held = connection.held
    cdef Held** link = &journal.done_head
    if held.done_listed:
        while link[0] != held:
            link = &link[0].done_next
        link[0] = held.done_next
    if held.previous != NULL:
        held.previous.next = held.next
    else:
        journal.held_head = held.next
    if held.next != NULL:
        held.next.previous = held.previous
    connection.held = NULL
    slab_give(&journal.held_slab, held)


cdef Promise* hold(ShardState* shard, Connection* connection, uint64_t ticket, uint8_t kind) noexcept nogil:
    cdef Held* held = need_held(shard, connection)
    cdef Promise* promise = <Promise*>slab_take(&shard.journal.promise_slab)
    memset(promise, 0, sizeof(Promise))
    promise.connection = connection
    promise.ticket = ticket
    promise.kind = kind
    if held.last != NULL:
        held.last.next = promise
    else:
        held.first = promise
    held.last = promise
    if ticket == shard.journal.open_ticket:
        shard.journal.urgent = 1
    held.count += 1
    held.publishes += counts_as_publish(kind)
    shard.journal.promise_count += 1
    return promise


cdef Promise* hold_once(ShardState* shard, Connection* connection, uint64_t ticket, Message* message) noexcept nogil:
    cdef Promise* promise = hold(shard, connection, ticket, PROMISE_ONCE)
    promise.kept = message
    hold_message(message)
    connection.held.kept_count += 1
    connection.held.kept_bytes += message_bytes(message)
    return promise


cdef void let_go(ShardState* shard, Held* held, Promise* promise) noexcept nogil:
    held.kept_count -= 1
    held.kept_bytes -= message_bytes(promise.kept)
    release_message(shard, promise.kept)


cdef Promise* first_due(ShardState* shard, Connection* connection) noexcept nogil:
    cdef Promise* promise
    if connection.held == NULL:
        return NULL
    promise = connection.held.first
    return promise if promise.done or promise.ticket <= shard.journal.settled_ticket else NULL


cdef void drop_first(ShardState* shard, Connection* connection) noexcept nogil:
    cdef Held* held = connection.held
    cdef Promise* promise = held.first
    held.first = promise.next
    held.count -= 1
    held.publishes -= counts_as_publish(promise.kind)
    shard.journal.promise_count -= 1
    if promise.message != NULL:
        promise.message.promise = NULL
    if promise.kept != NULL:
        let_go(shard, held, promise)
    give_memory(promise.bytes)
    slab_give(&shard.journal.promise_slab, promise)
    if held.first == NULL:
        forget_held(shard, connection)


cdef void drop_promises(ShardState* shard, Connection* connection) noexcept nogil:
    while connection.held != NULL:
        drop_first(shard, connection)
