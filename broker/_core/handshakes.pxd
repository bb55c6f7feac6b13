# Handshakes of TLS: each takes as long as a thousand messages, so that they go in turns, with rests between them.
#
# Here belongs whose turn it is, and when. Not here: TLS itself (tls, tls_object).

from libc.stdint cimport int64_t

from broker._core.model cimport Connection, Transport
from broker._core.net cimport Net

# Goes on with a handshake now, or lists it.
cdef void await_turn(Net* net, Connection* connection, Transport* transport) noexcept nogil
cdef void take_turns(Net* net, int64_t until_ns) noexcept nogil
# Sees whether messages come, for whose sake handshakes rest. Once a round.
cdef void look_at_traffic(Net* net, int64_t now_ns) noexcept nogil
# Somebody waits for a turn, and may have one now.
cdef bint is_turn_due(Net* net) noexcept nogil
