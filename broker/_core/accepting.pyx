"""Who comes in: accepting, what a listener puts between socket and MQTT, whose word is believed. See accepting.pxd."""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint8_t
from libc.string cimport memcmp, memcpy

from broker._core.connection cimport (
    add_rare,
    close_connection,
    handle_of,
    inbox_consumed,
    keep_in_inbox,
    open_connection,
)
from broker._core.events cimport explain_rare
from broker._core.linux cimport (
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENOMEM,
    EPOLLIN,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    IPPROTO_TCP,
    MSG_PEEK,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    SO_KEEPALIVE,
    TCP_NODELAY,
    accept4,
    address_of,
    c_close,
    is_loopback,
    is_loopback_address,
    recv,
    setsockopt,
    sockaddr,
    sockaddr_storage,
)
from broker._core.model cimport (
    PHASE_HANDSHAKE,
    PHASE_OPEN,
    PHASE_PROXY_HEADER,
    PHASE_UPGRADE,
    PROXY_MALFORMED,
    PROXY_UNTRUSTED,
    RARE_PROXY_REFUSED,
    Connection,
    Transport,
)
from broker._core.net cimport TAG_LISTENER, Door, Net, lose, watch
from broker._core.peers cimport set_address
from broker._core.proxy_header cimport PROXY_HEADER_MAXIMUM_BYTES, read_proxy_header
from broker._core.strangers cimport ADDRESS_BYTES, count_stranger, forget_stranger
from broker._core.transport cimport open_transport, open_websocket

cdef enum:
    ACCEPTS_PER_ROUND = 64
    TURNS_MAXIMUM = 256     # handshakes that wait; who comes then waits in the kernel, where it costs us nothing
    ACCEPT_PAUSE_NS = 100000000


cdef void accept_some(Net* net, int listener, int64_t now_ns) noexcept nogil:
    cdef int fd, _
    cdef int one = 1
    cdef unsigned int size
    cdef uint8_t[ADDRESS_BYTES] address
    cdef sockaddr_storage peer
    cdef Connection* connection
    cdef bint has_address
    for _ in range(ACCEPTS_PER_ROUND):
        if is_tls(&net.doors[listener]) and is_crowded(net):
            pause_door(net, listener)
            return
        size = sizeof(peer)
        fd = accept4(net.doors[listener].fd, <sockaddr*>&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                net.lost_accepts += 1
                pause_accepting(net, now_ns)
            return
        net.accepts += 1
        connection = open_connection(net.shard, fd, <uint32_t>listener)
        if connection == NULL:
            c_close(fd)
            continue
        net.sockets += 1
        connection.from_loopback = is_loopback(&peer)
        has_address = address_of(&peer, address)
        if has_address:
            set_address(net.shard, connection, address)
        if has_address and not net.doors[listener].has_proxy and \
                not count_stranger(net.shard, connection, address):
            net.shard.counters.connections_refused += 1
            close_connection(net.shard, connection)
            continue
        if not furnish(net, connection, &net.doors[listener], &peer):
            refuse_proxy(net, connection, PROXY_UNTRUSTED)
            continue
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one))
        watch(net, EPOLL_CTL_ADD, fd, EPOLLIN, handle_of(connection))


cdef void read_proxy(Net* net, Connection* connection, Transport* transport) noexcept nogil:
    # Takes exactly the header from the socket: what follows it may be TLS's.
    cdef uint8_t[ADDRESS_BYTES] address
    cdef uint32_t before = connection.inbox_bytes
    cdef bint has_address = False
    cdef int size
    cdef ssize_t got = recv(connection.fd, net.read_buffer + before, PROXY_HEADER_MAXIMUM_BYTES, MSG_PEEK)
    if got <= 0:
        if got == 0 or (errno != EAGAIN and errno != EINTR):
            lose(net, connection)
        return
    if before:
        memcpy(net.read_buffer, connection.inbox, before)
    size = read_proxy_header(net.read_buffer, before + <uint32_t>got, address, &has_address)
    if size < 0 or (size == 0 and before + got > PROXY_HEADER_MAXIMUM_BYTES):
        refuse_proxy(net, connection, PROXY_MALFORMED)
        return
    recv(connection.fd, net.read_buffer + before, <size_t>(size - <int>before if size else <int>got), 0)
    if size == 0:
        keep_in_inbox(connection, net.read_buffer + before, <uint32_t>got)
        return
    if before:
        inbox_consumed(connection, before)
    transport.phase = phase_after(transport, PHASE_PROXY_HEADER)
    if has_address:
        believe(net, connection, address)


cdef void refuse_proxy(Net* net, Connection* connection, uint8_t why) noexcept nogil:
    # Without a word to the peer, whose address is told to the log.
    net.shard.counters.connections_refused += 1
    add_rare(net.shard, connection, RARE_PROXY_REFUSED, 0)
    explain_rare(net.shard, RARE_PROXY_REFUSED, why, connection.slot, connection.generation)
    close_connection(net.shard, connection)


cdef bint furnish(Net* net, Connection* connection, Door* door, const sockaddr_storage* peer) noexcept nogil:
    # Puts between socket and MQTT what the listener has; False: the peer may not come this way.
    cdef Transport* transport
    if not is_tls(door) and not door.is_websocket and not door.has_proxy:
        return True
    if door.has_proxy and not is_believed(net, peer):
        return False
    transport = open_transport(connection)
    if door.is_websocket:
        open_websocket(transport)
    transport.is_encrypted = is_tls(door)
    transport.phase = PHASE_PROXY_HEADER if door.has_proxy else phase_after(transport, PHASE_PROXY_HEADER)
    return True


cdef uint8_t phase_after(Transport* transport, uint8_t phase) noexcept nogil:
    if phase < PHASE_HANDSHAKE and transport.is_encrypted:
        return PHASE_HANDSHAKE
    return PHASE_UPGRADE if phase < PHASE_UPGRADE and transport.websocket != NULL else PHASE_OPEN


cdef bint is_believed(Net* net, const sockaddr_storage* peer) noexcept nogil:
    # Who is in a trusted network; a Unix socket is opened by whom the file's mode lets.
    cdef uint8_t[ADDRESS_BYTES] address
    cdef uint32_t i
    if not address_of(peer, address):
        return True
    for i in range(net.trusted_count):
        if begins_alike(address, net.trusted[i].address, net.trusted[i].prefix_bits):
            return True
    return False


cdef bint begins_alike(const uint8_t* a, const uint8_t* b, uint8_t bits) noexcept nogil:
    cdef uint8_t whole = bits >> 3
    cdef uint8_t rest = bits & 7
    return memcmp(a, b, whole) == 0 and (rest == 0 or (a[whole] ^ b[whole]) >> (8 - rest) == 0)


cdef void believe(Net* net, Connection* connection, const uint8_t* address) noexcept nogil:
    # Its client is somebody else than the peer of its socket, and is counted and judged as that.
    set_address(net.shard, connection, address)
    connection.from_loopback = is_loopback_address(address)
    forget_stranger(net.shard, connection)
    if not count_stranger(net.shard, connection, address):
        net.shard.counters.connections_refused += 1
        close_connection(net.shard, connection)


cdef void pause_accepting(Net* net, int64_t now_ns) noexcept nogil:
    # A listener that cannot accept stays readable: without a pause it would spin the loop.
    cdef int i
    if not net.accepting:
        return
    net.accepting = 0
    net.accept_again_ns = now_ns + ACCEPT_PAUSE_NS
    for i in range(net.listener_count):
        watch(net, EPOLL_CTL_MOD, net.doors[i].fd, 0, TAG_LISTENER + i)


cdef void resume_accepting(Net* net) noexcept nogil:
    cdef int i
    net.accepting = 1
    net.accept_again_ns = 0
    for i in range(net.listener_count):
        if not net.doors[i].paused:
            watch(net, EPOLL_CTL_MOD, net.doors[i].fd, EPOLLIN, TAG_LISTENER + i)


cdef inline bint is_tls(Door* door) noexcept nogil:
    return door.ssl_context != NULL or door.tls_context != NULL


cdef inline bint is_crowded(Net* net) noexcept nogil:
    # A quarter of the strangers' places is left to doors where to be let in costs nothing.
    return net.turns.count >= TURNS_MAXIMUM or \
        net.shard.unauthenticated_count >= max(net.shard.limits.unauthenticated_connections_maximum // 4 * 3, 1)


cdef inline bint has_room_again(Net* net) noexcept nogil:
    return net.turns.count < TURNS_MAXIMUM // 2 and \
        net.shard.unauthenticated_count < max(net.shard.limits.unauthenticated_connections_maximum // 2, 1)


cdef void pause_door(Net* net, int listener) noexcept nogil:
    # Ten thousand who come back at once are let in as fast as their handshakes go, instead of being refused.
    net.doors[listener].paused = 1
    net.doors_paused = 1
    watch(net, EPOLL_CTL_MOD, net.doors[listener].fd, 0, TAG_LISTENER + listener)


cdef void resume_doors(Net* net) noexcept nogil:
    cdef int i
    if not has_room_again(net):
        return
    net.doors_paused = 0
    for i in range(net.listener_count):
        if net.doors[i].paused:
            net.doors[i].paused = 0
            if net.accepting:
                watch(net, EPOLL_CTL_MOD, net.doors[i].fd, EPOLLIN, TAG_LISTENER + i)
