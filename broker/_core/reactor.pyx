"""Sockets of the core: the inner epoll and its rounds. See reactor.pxd, and reactor.pyi for what each call promises.

A round: finish what earlier rounds left; one epoll_wait; one bounded read per readable connection; slices of fan-outs
and other work that the kernel does not show; rare packets (Python); the batch of the journal; one send per dirty
connection; what local connections have got is told to Python. A round ends after about two milliseconds, wherever it
stands, and what is left comes next.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from broker._core.accepting cimport accept_some, believe, read_proxy, resume_accepting, resume_doors
from broker._core.connection cimport (
    close_connection,
    find_connection,
    handle_of,
    list_closing,
    open_connection,
    outbox_unsent,
)
from broker._core.dispatch cimport feed, is_stopped
from broker._core.handle_queue cimport free_queue, next_handle, queue_handle
from broker._core.handshakes cimport await_turn, is_turn_due, look_at_traffic, take_turns
from broker._core.linux cimport (
    CLOCK_MONOTONIC,
    EFD_CLOEXEC,
    EFD_NONBLOCK,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    POLLIN,
    TFD_CLOEXEC,
    TFD_NONBLOCK,
    TFD_TIMER_ABSTIME,
    c_close,
    c_read,
    c_write,
    clock_ns,
    epoll_create1,
    epoll_event,
    epoll_wait,
    eventfd,
    itimerspec,
    pollfd,
    ppoll,
    recv,
    timerfd_create,
    timerfd_settime,
    timespec,
)
from broker._core.memory cimport give_memory, resize_memory, take_memory
from broker._core.model cimport (
    CLOSING,
    DEAF,
    HEARING,
    LOCAL_FD,
    LOCAL_LISTENER,
    PHASE_HANDSHAKE,
    PHASE_PROXY_HEADER,
    TIMER_LINGER,
    Connection,
    ShardState,
    Transport,
)
from broker._core.net cimport (
    EVENTS_PER_ROUND,
    EVENTS_PER_WAIT,
    HOLD_BUCKETS,
    LISTENERS_MAXIMUM,
    READ_BYTES,
    TAG_LISTENER,
    WRITE_BYTES,
    Door,
    Net,
    Network,
    close_socket,
    is_muted,
    list_local,
    lose,
    stop_lingering,
    watch,
    watch_connection,
)
from broker._core.peers cimport peer_of, shown_address
from broker._core.rounds cimport free_closed, run_slice
from broker._core.sending cimport FLUSHES_PER_CLOCK, end_sending, flush, send_outbox
from broker._core.shard cimport Shard
from broker._core.strangers cimport ADDRESS_BYTES
from broker._core.timers cimport timer_set, wheel_next_ns
from broker._core.tls cimport TlsContext, tls_peer_certificate
from broker._core.tls_object cimport object_peer_certificate
from broker._core.transport cimport receive
from broker._core.websocket cimport owes_close, take_bytes

import ipaddress

cdef enum:
    WORK_PER_SLICE = 2048       # units, a tenth of a millisecond
    FAR_DIRTY = 256             # so many outboxes are in no cache any more: slices are cut to keep to the clock
    FAR_WORK_PER_SLICE = 256
    GATHER_DIRTY = 64       # outboxes that make a flush worth waiting for more
    GATHER_FAN_OUT = 8      # and deliveries for each message
    GATHER_NS = 500         # a tenth of what one send costs
    GATHER_MAXIMUM_NS = 500000
    ADVANCE_STEP_NS = 16777216      # a tick of the wheel
    ADVANCE_ROUNDS = 100        # at each deadline, while there is more to do
    RARE_PER_CLOCK = 8      # Python takes some 20 microseconds for each
    ROUND_NS = 2000000
    GLANCE_NS = 200000          # a round in the middle of other work, which several of them must not keep waiting
    LINGER_NS = 1000000000
    TAG_EVENT = 1           # epoll data below 2**32 are tags, above are handles: a generation is never 0
    TAG_TIMER = 2


# A round is meant to end after two milliseconds and must not hold the loop for five: the bounds are close around that.
HOLD_BOUNDS_NS = (
    50000, 100000, 250000, 500000, 1000000, 2000000, 3000000, 4000000, 5000000, 7500000, 10000000, 25000000, 100000000,
    1000000000)
cdef int64_t hold_bounds[HOLD_BUCKETS - 1]
hold_bounds[:] = HOLD_BOUNDS_NS


cdef void count_hold(Net* net, int64_t held_ns) noexcept nogil:
    cdef int i = 0
    while i < HOLD_BUCKETS - 1 and held_ns > hold_bounds[i]:
        i += 1
    net.holds[i] += 1
    net.held_ns += held_ns
    if held_ns > net.longest_hold_ns:
        net.longest_hold_ns = held_ns


# ---------------------------------------------------------------- reading

cdef void throw_away(Net* net, Connection* connection) noexcept nogil:
    cdef ssize_t got = recv(connection.fd, net.read_buffer, READ_BYTES, 0)
    if got == 0 or (got < 0 and errno != EAGAIN and errno != EINTR):
        stop_lingering(net, connection)


cdef void read_connection(Net* net, Connection* connection) noexcept nogil:
    cdef ssize_t got
    if connection.state == CLOSING:
        if connection.starved_or_lingering:
            throw_away(net, connection)
        return
    if is_stopped(connection):
        if connection.deaf == HEARING:      # level-triggered readiness would come again at once
            connection.deaf = DEAF
            watch_connection(net, connection)
        return
    net.receives += 1
    if connection.transport != NULL:
        read_transport(net, connection, connection.transport)
        return
    got = recv(connection.fd, net.read_buffer, READ_BYTES, 0)
    if got > 0:
        feed(net.shard, connection, net.read_buffer, <uint32_t>got)
    elif got == 0 or (errno != EAGAIN and errno != EINTR):
        close_connection(net.shard, connection)


cdef void read_transport(Net* net, Connection* connection, Transport* transport) noexcept nogil:
    cdef bint has_more = False
    cdef int got
    if transport.phase == PHASE_PROXY_HEADER:
        read_proxy(net, connection, transport)
        return
    if transport.phase == PHASE_HANDSHAKE:
        await_turn(net, connection, transport)
        return
    got = receive(connection, net.read_buffer, READ_BYTES, &has_more)
    transport.unread = has_more
    if got > 0:
        take_bytes(net.shard, connection, net.read_buffer, <uint32_t>got)
    elif got < 0:
        lose(net, connection)
    if transport.unread and connection.state != CLOSING:
        queue_handle(&net.unread, handle_of(connection))


cdef void read_unread(Net* net, int64_t until_ns) noexcept nogil:
    # Once each.
    cdef uint64_t handle
    cdef Connection* connection
    cdef uint32_t count = net.unread.count
    cdef uint32_t _
    for _ in range(count):
        handle = next_handle(&net.unread)
        connection = find_connection(net.shard, <uint32_t>handle, <uint32_t>(handle >> 32))
        if connection != NULL and connection.fd >= 0 and connection.state != CLOSING:
            net.shard.slice_budget = WORK_PER_SLICE
            read_connection(net, connection)        # one that is stopped becomes deaf, and is listed when it wakes
        if clock_ns() > until_ns:
            return


cdef void handle_event(Net* net, Connection* connection, uint32_t events) noexcept nogil:
    if events & EPOLLOUT and connection.blocked:
        if connection.transport != NULL and connection.transport.phase == PHASE_HANDSHAKE and \
                connection.state != CLOSING:
            await_turn(net, connection, connection.transport)
            return
        send_outbox(net, connection)
    if events & (EPOLLERR | EPOLLHUP) == EPOLLHUP and connection.state != CLOSING and is_stopped(connection):
        connection.deaf = DEAF      # the orderly end of a Unix socket is behind what it has said, which counts
        watch(net, EPOLL_CTL_DEL, connection.fd, 0, 0)      # it cannot be masked; watch_connection takes it up again
    elif events & (EPOLLERR | EPOLLHUP) and (
            connection.state == CLOSING or is_stopped(connection) or is_muted(connection)):
        # Neither can be masked: a paused connection that was reset would spin the loop.
        lose(net, connection)
        stop_lingering(net, connection)
    elif events & (EPOLLIN | EPOLLERR | EPOLLHUP):
        read_connection(net, connection)


# ---------------------------------------------------------------- the end of connections

cdef void end_closing(Net* net, int64_t now_ns, int64_t until_ns) noexcept nogil:
    # A refused peer must be able to read why: its socket is shut down after the last byte and what still arrives is
    # thrown away for a while. Closing at once would reset the connection and take our last bytes with it.
    cdef Connection* connection = net.shard.closing_head
    cdef int count = 0
    while connection != NULL:
        if connection.fd >= 0 and not connection.dirty:
            if (connection.close_reason or owes_close(connection)) and connection.timer.kind != TIMER_LINGER:
                start_lingering(net, connection, now_ns)
            if not connection.starved_or_lingering:
                close_socket(net, connection)
        elif connection.fd == LOCAL_FD:
            list_local(net, connection)     # it stays until Python has read the last bytes
        count += 1
        connection = connection.closing_next
        if count % FLUSHES_PER_CLOCK == 0 and clock_ns() > until_ns:
            break
    free_closed(net.shard, connection)


cdef void start_lingering(Net* net, Connection* connection, int64_t now_ns) noexcept nogil:
    connection.timer.kind = TIMER_LINGER
    connection.starved_or_lingering = 1
    timer_set(&net.shard.wheel, &connection.timer, now_ns + LINGER_NS)
    if connection.transport != NULL:
        send_outbox(net, connection)        # and a Close frame
    elif outbox_unsent(connection) == 0:
        end_sending(net, connection)
    if connection.deaf:
        connection.deaf = HEARING
        watch_connection(net, connection)


# ---------------------------------------------------------------- the round

cdef void handle_one(Net* net, epoll_event* event, int64_t now_ns) noexcept nogil:
    cdef uint64_t drained
    cdef uint64_t tag = event.data.u64
    cdef Connection* connection
    if tag == TAG_EVENT:
        c_read(net.event_fd, &drained, 8)
    elif tag == TAG_TIMER:
        c_read(net.timer_fd, &drained, 8)
        net.armed_ns = -1
    elif tag < TAG_LISTENER + LISTENERS_MAXIMUM:
        if tag - TAG_LISTENER < <uint64_t>net.listener_count:     # a round that was cut short may know it from before
            accept_some(net, <int>tag - TAG_LISTENER, now_ns)
    else:
        connection = find_connection(net.shard, <uint32_t>tag, <uint32_t>(tag >> 32))
        if connection != NULL and connection.fd >= 0:
            net.shard.slice_budget = WORK_PER_SLICE
            handle_event(net, connection, event.events)


cdef void read_events(Net* net, int64_t now_ns, int64_t until_ns) noexcept nogil:
    # In small batches, each handled to its end before the kernel is asked again: it puts what it gave behind what it
    # has not given, so that everybody's turn comes however many are always readable.
    cdef int handled = 0
    net.shard.reads_cut = 1
    while handled < EVENTS_PER_ROUND:
        if net.event_at == net.event_count:
            net.event_at = 0
            net.event_count = epoll_wait(net.epoll_fd, net.events, EVENTS_PER_WAIT, 0)
            if net.event_count <= 0:
                net.event_count = 0
                net.shard.reads_cut = 0
                return
        while net.event_at < net.event_count:
            net.event_at += 1
            handled += 1
            handle_one(net, &net.events[net.event_at - 1], now_ns)
            if clock_ns() > until_ns:
                return
        if net.event_count < EVENTS_PER_WAIT:
            net.shard.reads_cut = 0     # everything that was ready has been read once
            return


cdef inline int64_t work_per_slice(Net* net) noexcept nogil:
    return FAR_WORK_PER_SLICE if net.shard.dirty_count >= FAR_DIRTY else WORK_PER_SLICE


cdef bint work(Net* net, int64_t now_ns, int64_t until_ns) noexcept nogil:
    # Slices of fan-outs and ready connections until none is left or time is up; True when more is due.
    cdef bint more = run_slice(net.shard, now_ns, work_per_slice(net))
    while more and clock_ns() < until_ns:
        more = run_slice(net.shard, now_ns, work_per_slice(net))
    return more


cdef bint worth_gathering(Net* net, uint64_t received_before) noexcept nogil:
    # A flush to many costs far more than what made it: the next message of a publisher that fans out may share it.
    cdef uint64_t received = net.shard.counters.messages_received - received_before
    return net.shard.dirty_count >= GATHER_DIRTY and net.shard.dirty_count >= GATHER_FAN_OUT * received


cdef bint await_input(Net* net, int64_t until_ns) noexcept nogil:
    # Sleeps until something can be read, or until then; False: nothing came.
    cdef pollfd inner
    cdef timespec left
    cdef int64_t left_ns = until_ns - clock_ns()
    if left_ns <= 0:
        return False
    inner.fd = net.epoll_fd
    inner.events = POLLIN
    left.tv_sec = 0
    left.tv_nsec = left_ns
    return ppoll(&inner, 1, &left, NULL) > 0


cdef bint gather(Net* net, int64_t now_ns, uint64_t received_before) noexcept nogil:
    # Waits for more input by a tenth of what the flush will take, while messages go to many.
    cdef int64_t wait_ns = <int64_t>net.shard.dirty_count * GATHER_NS
    cdef int64_t until_ns = clock_ns() + (wait_ns if wait_ns < GATHER_MAXIMUM_NS else GATHER_MAXIMUM_NS)
    cdef bint more = False
    while not more and worth_gathering(net, received_before) and await_input(net, until_ns):
        read_events(net, now_ns, until_ns)
        more = work(net, now_ns, until_ns)
    return more


cdef void arm_timer(Net* net) noexcept nogil:
    cdef itimerspec when
    cdef int64_t deadline = wheel_next_ns(&net.shard.wheel)
    if net.accept_again_ns and (deadline < 0 or net.accept_again_ns < deadline):
        deadline = net.accept_again_ns
    if net.turns.count and net.rest_until_ns and (deadline < 0 or net.rest_until_ns < deadline):
        deadline = net.rest_until_ns
    if deadline < 0:
        return
    deadline -= net.offset_ns       # on the kernel's clock
    if deadline < 1:
        deadline = 1                # 0 would disarm
    if net.armed_ns >= 0 and net.armed_ns <= deadline:
        return      # an earlier one than needed costs one empty round
    memset(&when, 0, sizeof(when))
    when.it_value.tv_sec = deadline // 1000000000
    when.it_value.tv_nsec = deadline % 1000000000
    timerfd_settime(net.timer_fd, TFD_TIMER_ABSTIME, &when, NULL)
    net.armed_ns = deadline


cdef void wake_deaf(Net* net) noexcept nogil:
    cdef Connection* connection = net.shard.waking_head
    net.shard.waking_head = NULL
    while connection != NULL:
        connection.deaf = DEAF if is_stopped(connection) else HEARING   # it may have been stopped again meanwhile
        if connection.deaf == HEARING and connection.transport != NULL and connection.transport.unread:
            queue_handle(&net.unread, handle_of(connection))
        if connection.deaf == HEARING and connection.fd == LOCAL_FD:
            list_local(net, connection)
        elif connection.deaf == HEARING and connection.fd >= 0:
            watch_connection(net, connection)
        connection = connection.waking_next


cdef bytes MAPPED = bytes(10) + b"\xff\xff"     # in front of an IPv4 address


cdef class Reactor:

    def __cinit__(self, Shard shard, *, on_rare, on_batch, again, on_local=None):
        memset(&self.net, 0, sizeof(Net))
        self.net.read_buffer = <uint8_t*>take_memory(READ_BYTES)
        self.net.write_buffer = <uint8_t*>take_memory(WRITE_BYTES)
        self.contexts = []
        self.shard = shard
        self.net.shard = shard.state
        self.on_rare = on_rare
        self.on_batch = on_batch
        self.on_local = on_local
        self.again = again
        self.net.accepting = 1
        self.net.armed_ns = -1
        self.net.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        self.net.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        self.net.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.net.epoll_fd < 0 or self.net.event_fd < 0 or self.net.timer_fd < 0:
            raise OSError(errno, "the reactor's descriptors could not be opened")
        watch(&self.net, EPOLL_CTL_ADD, self.net.event_fd, EPOLLIN, TAG_EVENT)
        watch(&self.net, EPOLL_CTL_ADD, self.net.timer_fd, EPOLLIN, TAG_TIMER)

    def __dealloc__(self):
        if not self.closed:
            self.close_descriptors()
        give_memory(self.net.read_buffer)
        give_memory(self.net.write_buffer)
        give_memory(self.net.trusted)
        free_queue(&self.net.unread)
        free_queue(&self.net.turns)
        give_memory(self.net.locals)

    cdef void close_descriptors(self):
        self.closed = True
        if self.net.epoll_fd > 0:
            c_close(self.net.epoll_fd)
        if self.net.event_fd > 0:
            c_close(self.net.event_fd)
        if self.net.timer_fd > 0:
            c_close(self.net.timer_fd)

    def fileno(self):
        return self.net.epoll_fd

    def now_ns(self):
        return clock_ns() + self.net.offset_ns

    def advance(self, long long ns):
        cdef int64_t target, next_ns
        self.shard.check_owner()
        if ns < 0:
            raise ValueError("time does not go back")
        target = self.net.offset_ns + ns
        while self.net.offset_ns < target:      # from deadline to deadline, so that each fires in its own time
            next_ns = wheel_next_ns(&self.net.shard.wheel)
            next_ns = target if next_ns < 0 else next_ns - clock_ns()
            self.net.offset_ns = min(target, max(next_ns, self.net.offset_ns + ADVANCE_STEP_NS))
            self.on_ready()
            for _ in range(ADVANCE_ROUNDS):
                if not self.scheduled:
                    break
                self.on_ready()

    def add_listener(self, int fd, *, TlsContext tls=None, bint websocket=False, bint proxy=False):
        cdef int number = self.net.listener_count
        cdef Door* door = &self.net.doors[number]
        if number == LISTENERS_MAXIMUM:
            raise ValueError(f"at most {LISTENERS_MAXIMUM} listeners")
        memset(door, 0, sizeof(Door))
        door.fd = fd
        door.is_websocket = websocket
        door.has_proxy = proxy
        self.contexts.append(None)
        self.net.listener_count += 1
        if tls is not None:
            self.set_tls(number, tls)
        watch(&self.net, EPOLL_CTL_ADD, fd, EPOLLIN, TAG_LISTENER + number)
        return number

    def set_tls(self, int listener, TlsContext tls not None):
        cdef Door* door
        if not 0 <= listener < self.net.listener_count:
            raise ValueError(f"there is no listener {listener}")
        door = &self.net.doors[listener]
        self.contexts[listener] = tls
        door.ssl_context = tls.context
        door.tls_context = NULL if tls.fallback is None else <void*>tls
        door.asks_certificate = tls.client_certificate != "off"

    def trust(self, networks):
        cdef uint32_t i
        cdef list wanted = [ipaddress.ip_network(one) for one in networks]
        cdef bytes packed
        self.net.trusted_count = 0
        self.net.trusted = <Network*>resize_memory(self.net.trusted, (len(wanted) + 1) * sizeof(Network))
        for i in range(len(wanted)):
            packed = wanted[i].network_address.packed
            self.net.trusted[i].prefix_bits = wanted[i].prefixlen + (96 if len(packed) == 4 else 0)
            packed = packed if len(packed) == 16 else MAPPED + packed
            memcpy(self.net.trusted[i].address, <const uint8_t*>packed, ADDRESS_BYTES)
        self.net.trusted_count = <uint32_t>len(wanted)

    def believe(self, uint64_t handle, address):
        cdef Connection* connection = find_connection(self.net.shard, handle & 0xFFFFFFFF, handle >> 32)
        cdef bytes packed = ipaddress.ip_address(address).packed
        if connection == NULL or connection.state == CLOSING:
            return
        packed = packed if len(packed) == 16 else MAPPED + packed
        believe(&self.net, connection, packed)

    def peer_certificate(self, uint64_t handle):
        cdef Connection* connection = find_connection(self.net.shard, handle & 0xFFFFFFFF, handle >> 32)
        if connection == NULL or connection.transport == NULL or not connection.transport.presented:
            return b""
        if connection.transport.ssl != NULL:
            return tls_peer_certificate(connection.transport.ssl)
        return object_peer_certificate(connection.transport.tls_object)

    def stop_accepting(self):
        cdef int i
        for i in range(self.net.listener_count):
            watch(&self.net, EPOLL_CTL_DEL, self.net.doors[i].fd, 0, 0)
        self.net.listener_count = 0

    def wake(self):
        # From any thread.
        cdef uint64_t one = 1
        c_write(self.net.event_fd, &one, 8)

    def soon(self):
        # Something outside a round has made work.
        if not self.scheduled and not self.closed:
            self.scheduled = True
            self.again(self.on_ready)

    def on_ready(self):
        self.scheduled = False
        self.run(ROUND_NS)

    def glance(self):
        self.run(GLANCE_NS)

    @property
    def has_traffic(self):
        return self.now_ns() < self.net.traffic_until_ns

    cdef run(self, int64_t for_ns):
        if self.closed or self.running:     # an observer's call from within a round comes too early
            return
        self.running = True
        try:
            self.round(for_ns)
        finally:
            self.running = False

    cdef void round(self, int64_t for_ns) except *:
        cdef Net* net = &self.net
        cdef ShardState* state = net.shard
        cdef int64_t started, until, now
        cdef uint64_t received = state.counters.messages_received
        cdef bint more
        self.shard.check_owner()
        with nogil:
            started = clock_ns()
            until = started + for_ns
            now = started + net.offset_ns
            state.now_ns = now
            net.rounds += 1
            net.shaken_ns = 0
            look_at_traffic(net, now)
            if net.accept_again_ns and now >= net.accept_again_ns:
                resume_accepting(net)
            more = flush(net, until) if state.dirty_head != NULL else False
            if not more:
                read_events(net, now, until)
                if net.unread.count:
                    read_unread(net, until)
                if net.turns.count:
                    take_turns(net, until)
                if net.doors_paused:
                    resume_doors(net)
                more = work(net, now, until)
                if not more and for_ns > GLANCE_NS and state.dirty_count >= GATHER_DIRTY:
                    more = gather(net, now, received)
        if state.rare_count:
            self.answer_rare(until)
            more = work(net, now, until) or more or state.rare_count > 0
        if (state.journal.urgent and not state.journal.in_flight) or (
                state.journal.ask_count and state.journal.reading == 0):
            self.on_batch()
        with nogil:
            wake_deaf(net)
            more = flush(net, until) or more
            if state.closing_head != NULL:
                end_closing(net, now, until)
            arm_timer(net)
            more = more or state.reads_cut or state.ready_head != NULL or state.dirty_head != NULL \
                or state.closing_head != NULL or net.unread.count or is_turn_due(net)
            count_hold(net, clock_ns() - started)
        if net.local_count:
            self.tell_local()
        if more:
            self.soon()

    cdef void tell_local(self) except *:
        cdef uint32_t i
        handles = {self.net.locals[i] for i in range(self.net.local_count)}
        self.net.local_count = 0
        if self.on_local is not None:
            self.on_local(handles)

    cdef void answer_rare(self, int64_t until) except *:
        # At least one batch a round, more while there is time.
        self.on_rare(self.shard.take_rare_packets(RARE_PER_CLOCK))
        while self.net.shard.rare_count and clock_ns() < until:
            self.on_rare(self.shard.take_rare_packets(RARE_PER_CLOCK))

    def open_local(self):
        cdef Connection* connection
        self.shard.check_owner()
        self.net.shard.now_ns = self.now_ns()
        connection = open_connection(self.net.shard, LOCAL_FD, LOCAL_LISTENER)
        connection.from_loopback = 1
        return handle_of(connection)

    cdef Connection* need_local(self, uint64_t handle) except NULL:
        cdef Connection* connection
        self.shard.check_owner()
        connection = find_connection(self.net.shard, handle & 0xFFFFFFFF, handle >> 32)
        if connection == NULL or connection.fd != LOCAL_FD:
            raise LookupError("no such local connection")
        return connection

    def feed_local(self, uint64_t handle, data):
        cdef Connection* connection = self.need_local(handle)
        if connection.state == CLOSING:
            raise LookupError("this local connection is closing")
        self.shard.feed(handle, data, self.now_ns(), WORK_PER_SLICE)
        self.soon()
        if connection.state == CLOSING or not is_stopped(connection):
            return True
        connection.deaf = DEAF      # on_local is told when it may be fed again
        return False

    def take_local(self, uint64_t handle, long long at_most):
        taken = self.shard.take_output(handle, at_most)
        if taken:
            self.soon()     # what waited for room may go on
        return taken

    def close_local(self, uint64_t handle):
        cdef Connection* connection = find_connection(self.net.shard, handle & 0xFFFFFFFF, handle >> 32)
        if self.closed or connection == NULL or connection.fd != LOCAL_FD:
            return
        self.shard.check_owner()
        self.net.shard.now_ns = self.now_ns()
        connection.fd = -1
        close_connection(self.net.shard, connection)
        list_closing(self.net.shard, connection)
        self.soon()

    def close(self):
        cdef uint32_t slot
        cdef Connection* connection
        if self.closed:
            return
        self.shard.check_owner()
        for slot in range(self.net.shard.connection_capacity):
            connection = self.net.shard.connections[slot]
            if connection != NULL:
                close_connection(self.net.shard, connection)
                if connection.fd >= 0:
                    close_socket(&self.net, connection)
        self.close_descriptors()

    def peer(self, unsigned long long handle):
        cdef Connection* connection = find_connection(self.net.shard, handle & 0xFFFFFFFF, handle >> 32)
        return "" if connection == NULL else shown_address(peer_of(self.net.shard, connection).address)

    def figures(self):
        return {
            "rounds": self.net.rounds, "receives": self.net.receives, "sends": self.net.sends,
            "accepts": self.net.accepts, "lost_accepts": self.net.lost_accepts, "sockets": self.net.sockets,
            "handshakes": self.net.handshakes, "resumptions": self.net.resumptions,
            "failed_handshakes": self.net.failed_handshakes, "handshakes_ns": self.net.handshakes_ns,
            "handshake_rests": self.net.handshake_rests,
            "longest_hold_ns": self.net.longest_hold_ns, "held_ns": self.net.held_ns,
            "holds": [self.net.holds[i] for i in range(HOLD_BUCKETS)],
        }

    def forget_longest_hold(self):
        self.net.longest_hold_ns = 0
