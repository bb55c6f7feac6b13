# Handshakes of TLS: each takes as long as a thousand messages, so that they go in turns.
#
# Here belongs whose turn it is. Not here: TLS itself (tls, tls_object).

from libc.stdint cimport int64_t

from broker._core.model cimport Connection, Transport
from broker._core.net cimport Net

# Goes on with a handshake now, or lists it.
cdef void await_turn(Net* net, Connection* connection, Transport* transport) noexcept nogil
cdef void take_turns(Net* net, int64_t until_ns) noexcept nogil
