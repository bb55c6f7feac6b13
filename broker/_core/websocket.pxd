# WebSocket: frames become MQTT's bytes, and those become frames (RFC 6455; MQTT 5.0 section 6).
#
# Here belong frames, control frames, close codes, and what a peer's bytes are before MQTT. Not here: the HTTP of the
# handshake (Python answers it), and sockets (reactor).

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from broker._core.model cimport Connection, ShardState

cdef enum:
    UPGRADE_MAXIMUM_BYTES = 8192        # of a request with all its headers

# Takes what a peer has sent, in any phase but the TLS handshake; bytes of frames are unmasked in place.
cdef void take_bytes(ShardState* shard, Connection* connection, uint8_t* bytes, uint32_t n) noexcept nogil
# The HTTP answer to an upgrade, and whether frames follow it.
cdef void answer_upgrade(
    ShardState* shard, Connection* connection, const uint8_t* answer, uint32_t n, bint accepted) noexcept nogil
# The size of the upgrade's request at the front of the inbox, 0: it is not whole.
cdef uint32_t upgrade_bytes(Connection* connection) noexcept nogil
# The next bytes to send, up to capacity, as they go over the wire; the same until frames_sent. 0: nothing.
cdef uint32_t frame_output(Connection* connection, uint8_t* to, uint32_t capacity) noexcept nogil
cdef void frames_sent(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil
# Whether the peer is still owed a Close frame.
cdef bint owes_close(Connection* connection) noexcept nogil
