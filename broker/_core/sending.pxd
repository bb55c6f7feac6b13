# The way out, from outboxes to sockets.
#
# Here belong sends, what blocks and what ends them. Not here: what is sent (connection, websocket), how (transport).

from libc.stdint cimport int64_t

from broker._core.model cimport Connection
from broker._core.net cimport Net

cdef enum:
    FLUSHES_PER_CLOCK = 8

cdef void send_outbox(Net* net, Connection* connection) noexcept nogil
# Nothing follows what was sent.
cdef void end_sending(Net* net, Connection* connection) noexcept nogil
# One send per dirty connection; True when time ran out first.
cdef bint flush(Net* net, int64_t until_ns) noexcept nogil
