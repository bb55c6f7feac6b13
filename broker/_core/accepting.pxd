# Who comes in, and by what he comes.
#
# Here belong accepting, what a listener puts between socket and MQTT, PROXY headers and whose word is believed. Not
# here: handshakes, and what bytes mean.

from libc.stdint cimport int64_t, uint8_t

from broker._core.model cimport Connection, Transport
from broker._core.net cimport Net

cdef void accept_some(Net* net, int listener, int64_t now_ns) noexcept nogil
# Accepts again after a pause for want of descriptors.
cdef void resume_accepting(Net* net) noexcept nogil
# Opens doors again that were closed because strangers crowded, if there is room.
cdef void resume_doors(Net* net) noexcept nogil
# A PROXY header, as far as it has come.
cdef void read_proxy(Net* net, Connection* connection, Transport* transport) noexcept nogil
# Its client is somebody else than the peer of its socket, and is counted and judged as that.
cdef void believe(Net* net, Connection* connection, const uint8_t* address) noexcept nogil
# What follows a phase on the way to MQTT.
cdef uint8_t phase_after(Transport* transport, uint8_t phase) noexcept nogil
