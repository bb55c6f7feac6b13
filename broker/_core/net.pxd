# The reactor's state, and what several of its modules do to one socket.
#
# Here belong descriptors, doors, queues and counts. Not here: when anything is done (reactor and those beside it).

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from broker._core.handle_queue cimport HandleQueue
from broker._core.linux cimport epoll_event
from broker._core.model cimport Connection, ShardState

cdef enum:
    HOLD_BUCKETS = 15
    EVENTS_PER_ROUND = 512
    EVENTS_PER_WAIT = 32
    LISTENERS_MAXIMUM = 64
    READ_BYTES = 65536
    WRITE_BYTES = 65536         # of frames that are made at once
    TAG_LISTENER = 16           # epoll data from here on: 16 and the listener's number

cdef struct Door:           # what a listener's connections have between socket and MQTT
    int fd
    void* ssl_context       # an SSL_CTX, NULL: none
    void* tls_context       # a TlsContext of Python's ssl, NULL: none
    uint8_t is_websocket
    uint8_t has_proxy       # a PROXY header comes first
    uint8_t asks_certificate
    uint8_t paused          # as many handshakes wait as may

cdef struct Network:        # of peers whose word on their client's address is taken
    uint8_t address[16]
    uint8_t prefix_bits     # of the 128

cdef struct Net:
    ShardState* shard
    int epoll_fd
    int event_fd
    int timer_fd
    Door doors[64]
    int listener_count
    int accepting               # 0 while stopping or out of descriptors
    uint8_t* read_buffer        # for all connections: only a partial packet is kept with its own
    uint8_t* write_buffer       # and for frames that are being sent
    uint32_t sockets            # open sockets of connections
    Network* trusted
    uint32_t trusted_count
    HandleQueue unread          # TLS holds bytes of theirs that the kernel does not show
    HandleQueue turns           # they wait to shake hands
    int64_t shaken_ns           # of this round, spent on handshakes
    int64_t rest_until_ns       # no handshake before: the loop is there for those who are connected
    int64_t traffic_until_ns    # until then somebody is: a message has come in the last second
    uint64_t messages_seen
    uint8_t doors_paused        # at least one door is
    uint64_t* locals            # handles of local connections that Python has to look at when the round ends
    uint32_t local_count
    uint32_t local_capacity
    int64_t offset_ns           # how far this core's clock is ahead of the kernel's: tests move it
    epoll_event events[32]      # the batch that is being handled
    int event_at
    int event_count
    int64_t armed_ns            # what the timerfd is set to, -1: nothing
    int64_t accept_again_ns     # out of descriptors until then
    uint64_t rounds
    uint64_t receives
    uint64_t sends
    uint64_t accepts
    uint64_t lost_accepts       # EMFILE and its like
    uint64_t handshakes         # of TLS, completed
    uint64_t resumptions        # of them, by a ticket
    uint64_t failed_handshakes
    int64_t handshakes_ns       # spent on all of them
    uint64_t handshake_rests    # rounds in which some waited although there was time
    int64_t longest_hold_ns
    int64_t held_ns
    uint64_t holds[15]          # rounds by how long they held the loop: HOLD_BOUNDS

cdef void watch(Net* net, int operation, int fd, uint32_t events, uint64_t data) noexcept nogil
# Asks the kernel for what this connection waits for now.
cdef void watch_connection(Net* net, Connection* connection) noexcept nogil

# It waits for its turn to shake hands.
cdef inline bint is_muted(Connection* connection) noexcept nogil:
    return connection.transport != NULL and connection.transport.muted

# It has got output, may be fed again, or has been closed: Python looks when the round ends.
cdef void list_local(Net* net, Connection* connection) noexcept nogil
# Its peer is gone: nobody reads a good-bye.
cdef void lose(Net* net, Connection* connection) noexcept nogil
cdef void stop_lingering(Net* net, Connection* connection) noexcept nogil
cdef void close_socket(Net* net, Connection* connection) noexcept nogil
