"""Parked messages. See parked.pxd."""

from broker._core.journal cimport find_unwritten
from broker._core.model cimport WAITING_LOAD, Message, Session, ShardState
from broker._core.session cimport parked_front, unpark_front


cdef bint bring_back(ShardState* shard, Session* session) noexcept nogil:
    cdef Message* message
    if session.durable.parked_count:
        message = find_unwritten(&shard.journal, parked_front(session).number)
        if message != NULL:
            unpark_front(shard, session, message, NULL, NULL, 0)
            return True
    session.waiting |= WAITING_LOAD
    return False
