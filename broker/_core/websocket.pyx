"""WebSocket frames, both ways. See websocket.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from broker._core.connection cimport (
    add_rare,
    close_connection,
    fail,
    inbox_consumed,
    keep_in_inbox,
    mark_dirty,
    mark_ready,
    outbox_sent,
    outbox_unsent,
)
from broker._core.dispatch cimport feed, is_stopped
from broker._core.memory cimport give_memory, likely_, resize_memory, take_memory
from broker._core.model cimport (
    CLOSING,
    PHASE_OPEN,
    PHASE_UPGRADE,
    RARE_UPGRADE,
    Connection,
    ShardState,
    WebSocket,
)
from broker._core.reasons cimport (
    MALFORMED_PACKET,
    PACKET_TOO_LARGE,
    PROTOCOL_ERROR,
    SERVER_BUSY,
    SERVER_SHUTTING_DOWN,
    SERVER_UNAVAILABLE,
    UNSPECIFIED_ERROR,
)
from broker._core.utf8 cimport valid_utf8

cdef extern from *:
    """
    /* XORs n bytes with a key of four, and gives the key turned to the byte that follows them. */
    static inline uint32_t broker_unmask(uint8_t *at, uint64_t n, uint32_t key) {
        uint8_t bytes[4];
        uint64_t twice = ((uint64_t)key << 32) | key, word, i;
        for (; n >= 8; n -= 8, at += 8) { memcpy(&word, at, 8); word ^= twice; memcpy(at, &word, 8); }
        memcpy(bytes, &key, 4);
        for (i = 0; i < n; i++) at[i] ^= bytes[i & 3];
        return n & 3 ? key >> (8 * (n & 3)) | key << (32 - 8 * (n & 3)) : key;     /* little-endian, as all we run on */
    }
    """
    uint32_t unmask "broker_unmask"(uint8_t*, uint64_t, uint32_t) noexcept nogil


cdef enum:
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    FIN = 0x80
    RESERVED_BITS = 0x70
    MASKED = 0x80
    CONTROL_MAXIMUM = 125
    LENGTH_MAXIMUM = 125        # that fits into the second byte
    SHORT_HEADER_BYTES = 6      # of a client's frame: two bytes and its mask,
    LONGER_HEADER_BYTES = 8     # and two more of length
    OUT_HEADER_BYTES = 10       # of ours, at most
    FIRST_RAW = 64
    NORMAL = 1000               # close codes (RFC 6455 section 7.4.1)
    GOING_AWAY = 1001
    PROTOCOL_VIOLATED = 1002
    NOT_ACCEPTABLE = 1003
    NOT_CONSISTENT = 1007
    POLICY_VIOLATED = 1008
    TOO_BIG = 1009
    UNEXPECTED = 1011
    TRY_AGAIN_LATER = 1013
    HTTP_END_BYTES = 4


# ---------------------------------------------------------------- before the frames

cdef uint32_t upgrade_bytes(Connection* connection) noexcept nogil:
    cdef uint32_t at
    cdef uint32_t n = min(connection.inbox_bytes, <uint32_t>UPGRADE_MAXIMUM_BYTES)
    for at in range(HTTP_END_BYTES, n + 1):
        if connection.inbox[at - 1] == c"\n" and \
                memcmp(connection.inbox + at - HTTP_END_BYTES, b"\r\n\r\n", HTTP_END_BYTES) == 0:
            return at
    return 0


cdef void take_request(ShardState* shard, Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil:
    # Only what can be a request is kept: everything else is not HTTP, and is not answered.
    if connection.inbox_bytes == 0 and bytes[0] != c"G":
        close_connection(shard, connection)
        return
    keep_in_inbox(connection, bytes, n)
    if connection.barrier:
        return
    if upgrade_bytes(connection):
        connection.barrier = 1
        add_rare(shard, connection, RARE_UPGRADE, 0)
    elif connection.inbox_bytes >= UPGRADE_MAXIMUM_BYTES:
        close_connection(shard, connection)


cdef void answer_upgrade(
        ShardState* shard, Connection* connection, const uint8_t* answer, uint32_t n, bint accepted) noexcept nogil:
    cdef uint32_t size = upgrade_bytes(connection)
    cdef uint32_t rest
    cdef uint8_t* early
    put_raw(connection, answer, n)
    mark_dirty(shard, connection)
    connection.barrier = 0
    connection.transport.phase = PHASE_OPEN
    if not accepted:
        connection.transport.websocket.ends_with_raw = 1
        connection.close_reason = UNSPECIFIED_ERROR     # it may read the answer before the socket is closed
        shard.counters.connections_refused += 1
        close_connection(shard, connection)
        return
    rest = connection.inbox_bytes - size        # frames of one who did not wait for the answer
    early = <uint8_t*>take_memory(rest + 1)
    if rest:
        memcpy(early, connection.inbox + size, rest)
    inbox_consumed(connection, connection.inbox_bytes)
    take_frames(shard, connection, early, rest)
    give_memory(early)
    mark_ready(shard, connection)       # it may have become deaf while it waited


cdef void take_bytes(ShardState* shard, Connection* connection, uint8_t* bytes, uint32_t n) noexcept nogil:
    if connection.state == CLOSING:
        return
    if connection.transport == NULL or connection.transport.websocket == NULL:
        feed(shard, connection, bytes, n)
    elif connection.transport.phase == PHASE_OPEN:
        take_frames(shard, connection, bytes, n)
    elif connection.transport.phase == PHASE_UPGRADE:
        take_request(shard, connection, bytes, n)


# ---------------------------------------------------------------- inbound

cdef void close_with(ShardState* shard, Connection* connection, uint16_t code) noexcept nogil:
    connection.transport.websocket.close_code = code
    fail(shard, connection, MALFORMED_PACKET if code == PROTOCOL_VIOLATED else PROTOCOL_ERROR)


cdef uint32_t take_header(WebSocket* socket, const uint8_t* bytes, uint32_t n) noexcept nogil:
    # Gathers a header; returns how many bytes it took. It is whole when header_size says so.
    cdef uint32_t wanted = header_size(socket) - socket.header_bytes
    cdef uint32_t taken = 0
    cdef uint32_t part
    while wanted and taken < n:     # its second byte tells how long it is
        part = min(wanted, n - taken)
        memcpy(socket.header + socket.header_bytes, bytes + taken, part)
        socket.header_bytes += <uint8_t>part
        taken += part
        wanted = header_size(socket) - socket.header_bytes
    return taken


cdef inline uint32_t header_size(WebSocket* socket) noexcept nogil:
    cdef uint8_t length
    if socket.header_bytes < 2:
        return 2
    length = socket.header[1] & 0x7F
    return SHORT_HEADER_BYTES + (8 if length == 127 else 2 if length == 126 else 0)


cdef uint64_t payload_size(WebSocket* socket) noexcept nogil:
    cdef uint64_t size = socket.header[1] & 0x7F
    cdef int i, count
    if size < 126:
        return size
    count = 8 if size == 127 else 2
    size = 0
    for i in range(count):
        size = size << 8 | socket.header[2 + i]
    return size


cdef inline bint is_shortest(WebSocket* socket, uint64_t size) noexcept nogil:
    # RFC 6455 section 5.2: as few bytes of length as it takes.
    cdef uint8_t length = socket.header[1] & 0x7F
    return length <= LENGTH_MAXIMUM or size > (LENGTH_MAXIMUM if length == 126 else 0xFFFF)


cdef uint16_t judge_header(WebSocket* socket, uint64_t size) noexcept nogil:
    # The close code that a header deserves, 0: none. [MQTT-6.0.0-1]: data frames are binary.
    cdef uint8_t first = socket.header[0]
    cdef uint8_t opcode = first & 0x0F
    if first & RESERVED_BITS or not socket.header[1] & MASKED or size >> 63 or not is_shortest(socket, size):
        return PROTOCOL_VIOLATED
    if opcode >= CLOSE:
        return 0 if opcode <= PONG and first & FIN and size <= CONTROL_MAXIMUM else PROTOCOL_VIOLATED
    if opcode == TEXT:
        return NOT_ACCEPTABLE
    if opcode > BINARY or (opcode == CONTINUATION) != socket.fragmented:
        return PROTOCOL_VIOLATED
    return 0


cdef bint begin_frame(ShardState* shard, Connection* connection, WebSocket* socket) noexcept nogil:
    # A whole header lies there; False: it ends the connection.
    cdef uint64_t size = payload_size(socket)
    cdef uint16_t code = judge_header(socket, size)
    if code:
        close_with(shard, connection, code)
        return False
    memcpy(&socket.mask, socket.header + socket.header_bytes - 4, 4)
    socket.opcode = socket.header[0] & 0x0F
    socket.frame_left = size
    socket.header_bytes = 0
    socket.control_bytes = 0
    if socket.opcode < CLOSE:
        socket.fragmented = not socket.header[0] & FIN
    return True


cdef void end_control(ShardState* shard, Connection* connection, WebSocket* socket) noexcept nogil:
    if socket.opcode == CLOSE:
        socket.close_code = answer_to_close(socket)
        if is_stopped(connection):
            connection.peer_ended = 1       # what came before comes first: see run_ready
            return
        close_connection(shard, connection)     # without a DISCONNECT, as when a network ends
        if owes_close(connection):
            mark_dirty(shard, connection)
    elif socket.opcode == PING:     # only the newest has to be answered: who asks faster than it reads costs nothing
        memcpy(socket.pong, socket.control, socket.control_bytes)
        socket.pong_bytes = socket.control_bytes
        socket.owes_pong = 1
        mark_dirty(shard, connection)


cdef uint16_t answer_to_close(WebSocket* socket) noexcept nogil:
    cdef uint16_t code
    if socket.control_bytes == 0:
        return NORMAL
    if socket.control_bytes == 1:
        return PROTOCOL_VIOLATED
    code = <uint16_t>(socket.control[0] << 8 | socket.control[1])
    if not (NORMAL <= code <= NOT_ACCEPTABLE or NOT_CONSISTENT <= code <= 1014 or 3000 <= code <= 4999):
        return PROTOCOL_VIOLATED
    return code if valid_utf8(socket.control + 2, socket.control_bytes - 2) else NOT_CONSISTENT


cdef uint32_t take_whole_frames(WebSocket* socket, uint8_t* bytes, uint32_t n, uint32_t* payload) noexcept nogil:
    # Unmasks whole binary frames of up to 64 KiB, as clients send them, and joins their payloads at the front; returns
    # how many bytes they were. Everything else is left to the general way.
    cdef uint32_t at = 0, header, size, mask
    payload[0] = 0
    if socket.frame_left or socket.header_bytes or socket.fragmented:
        return 0
    while n - at >= LONGER_HEADER_BYTES and bytes[at] == (FIN | BINARY) and bytes[at + 1] & MASKED:
        size = bytes[at + 1] & 0x7F
        header = SHORT_HEADER_BYTES
        if size == 126:
            size = <uint32_t>bytes[at + 2] << 8 | bytes[at + 3]
            header = LONGER_HEADER_BYTES
            if size <= LENGTH_MAXIMUM:
                break
        if (size == 127 and header == SHORT_HEADER_BYTES) or n - at - header < size:
            break
        memcpy(&mask, bytes + at + header - sizeof(mask), sizeof(mask))
        at += header
        unmask(bytes + at, size, mask)
        memmove(bytes + payload[0], bytes + at, size)
        payload[0] += size
        at += size
    return at


cdef void take_frames(ShardState* shard, Connection* connection, uint8_t* bytes, uint32_t n) noexcept nogil:
    # An MQTT packet may lie across frames, and a frame may hold many. [MQTT-6.0.0-2]
    cdef WebSocket* socket = connection.transport.websocket
    cdef uint32_t part = 0
    cdef uint32_t at = 0 if connection.peer_ended else take_whole_frames(socket, bytes, n, &part)
    if part:
        feed(shard, connection, bytes, part)
    if at == n:
        return
    while connection.state != CLOSING and not connection.peer_ended:
        if socket.frame_left == 0:
            if at == n:
                return
            at += take_header(socket, bytes + at, n - at)
            if socket.header_bytes < header_size(socket) or not begin_frame(shard, connection, socket):
                return
        part = <uint32_t>min(socket.frame_left, <uint64_t>(n - at))
        socket.mask = unmask(bytes + at, part, socket.mask)
        socket.frame_left -= part
        if likely_(socket.opcode < CLOSE):
            if part:
                feed(shard, connection, bytes + at, part)
        else:
            if part:
                memcpy(socket.control + socket.control_bytes, bytes + at, part)
            socket.control_bytes += <uint8_t>part
            if socket.frame_left == 0:
                end_control(shard, connection, socket)
        at += part
        if at == n:
            return


# ---------------------------------------------------------------- outbound

cdef void put_raw(Connection* connection, const uint8_t* bytes, uint32_t n) noexcept nogil:
    cdef WebSocket* socket = connection.transport.websocket
    if socket.raw_end + n > socket.raw_capacity:
        if socket.raw_start:
            memmove(socket.raw, socket.raw + socket.raw_start, socket.raw_end - socket.raw_start)
            socket.raw_end -= socket.raw_start
            socket.raw_start = 0
        if socket.raw_end + n > socket.raw_capacity:
            socket.raw_capacity = max(socket.raw_end + n, <uint32_t>FIRST_RAW)
            socket.raw = <uint8_t*>resize_memory(socket.raw, socket.raw_capacity)
    if n:
        memcpy(socket.raw + socket.raw_end, bytes, n)
    socket.raw_end += n


cdef void put_control(Connection* connection, uint8_t opcode, const uint8_t* payload, uint8_t n) noexcept nogil:
    cdef uint8_t[2] header
    header[0] = FIN | opcode
    header[1] = n
    put_raw(connection, header, 2)
    put_raw(connection, payload, n)


cdef void put_close(Connection* connection) noexcept nogil:
    cdef uint8_t[2] code
    cdef uint16_t number = close_code(connection)
    code[0] = <uint8_t>(number >> 8)
    code[1] = <uint8_t>number
    connection.transport.websocket.close_sent = 1
    put_control(connection, CLOSE, code, 2)


cdef uint16_t close_code(Connection* connection) noexcept nogil:
    cdef uint8_t reason_code = connection.close_reason
    if connection.transport.websocket.close_code:
        return connection.transport.websocket.close_code
    if reason_code == 0:
        return NORMAL if connection.version else PROTOCOL_VIOLATED      # what was no CONNECT has no answer of MQTT's
    if reason_code == SERVER_SHUTTING_DOWN:
        return GOING_AWAY
    if reason_code == MALFORMED_PACKET or reason_code == PROTOCOL_ERROR:
        return PROTOCOL_VIOLATED
    if reason_code == PACKET_TOO_LARGE:
        return TOO_BIG
    if reason_code == SERVER_UNAVAILABLE or reason_code == SERVER_BUSY:
        return TRY_AGAIN_LATER
    return UNEXPECTED if reason_code == UNSPECIFIED_ERROR else POLICY_VIOLATED


cdef void put_frame_header(Connection* connection, uint32_t size) noexcept nogil:
    cdef uint8_t[OUT_HEADER_BYTES] header
    cdef uint32_t n = 2
    cdef int i
    header[0] = FIN | BINARY        # [MQTT-6.0.0-1]
    if size < 126:
        header[1] = <uint8_t>size
    elif size < 65536:
        header[1] = 126
        header[2] = <uint8_t>(size >> 8)
        header[3] = <uint8_t>size
        n = 4
    else:
        header[1] = 127
        for i in range(8):
            header[2 + i] = <uint8_t>(<uint64_t>size >> (56 - 8 * i))
        n = 10
    put_raw(connection, header, n)
    connection.transport.websocket.out_left = size


cdef bint owes_close(Connection* connection) noexcept nogil:
    cdef WebSocket* socket
    if connection.transport == NULL or connection.transport.websocket == NULL:
        return False
    socket = connection.transport.websocket
    return connection.state == CLOSING and connection.transport.phase == PHASE_OPEN and \
        not connection.transport.gone and not socket.close_sent and not socket.ends_with_raw


cdef void begin_output(Connection* connection, WebSocket* socket) noexcept nogil:
    # Between two frames: what is owed to the peer, then the outbox in one frame, then the end.
    cdef uint32_t unsent = outbox_unsent(connection)
    if connection.transport.phase != PHASE_OPEN or socket.ends_with_raw or socket.close_sent:
        return
    if socket.owes_pong:
        socket.owes_pong = 0
        put_control(connection, PONG, socket.pong, socket.pong_bytes)
    if unsent and not connection.gated:
        put_frame_header(connection, unsent)
    elif unsent == 0 and owes_close(connection):
        put_close(connection)


cdef uint32_t frame_output(Connection* connection, uint8_t* to, uint32_t capacity) noexcept nogil:
    cdef WebSocket* socket = connection.transport.websocket
    cdef uint32_t raw, part
    if socket.out_left == 0:
        begin_output(connection, socket)
    raw = min(socket.raw_end - socket.raw_start, capacity)
    part = min(socket.out_left, capacity - raw)
    if raw:
        memcpy(to, socket.raw + socket.raw_start, raw)
    if part:
        memcpy(to + raw, connection.outbox + connection.outbox_start, part)
    return raw + part


cdef void frames_sent(ShardState* shard, Connection* connection, uint32_t n) noexcept nogil:
    cdef WebSocket* socket = connection.transport.websocket
    cdef uint32_t raw = min(socket.raw_end - socket.raw_start, n)
    socket.raw_start += raw
    if socket.raw_start == socket.raw_end and socket.raw != NULL:
        give_memory(socket.raw)     # an idle connection owns none
        socket.raw = NULL
        socket.raw_start = 0
        socket.raw_end = 0
        socket.raw_capacity = 0
    if n > raw:
        socket.out_left -= n - raw
        outbox_sent(shard, connection, n - raw)
