"""What the reactor's modules share: its state, and what is done to one socket in many places. See net.pxd."""

from libc.errno cimport ENOENT, errno
from libc.stdint cimport uint32_t, uint64_t

from broker._core.connection cimport close_connection, handle_of, list_closing
from broker._core.linux cimport EPOLLIN, EPOLLOUT, EPOLL_CTL_ADD, EPOLL_CTL_MOD, c_close, epoll_ctl, epoll_event
from broker._core.memory cimport resize_memory
from broker._core.model cimport Connection
from broker._core.transport cimport end_transport

cdef enum:
    FIRST_LOCALS = 16


cdef void watch(Net* net, int operation, int fd, uint32_t events, uint64_t data) noexcept nogil:
    cdef epoll_event event
    event.events = events
    event.data.u64 = data
    if epoll_ctl(net.epoll_fd, operation, fd, &event) < 0 and operation == EPOLL_CTL_MOD and errno == ENOENT:
        epoll_ctl(net.epoll_fd, EPOLL_CTL_ADD, fd, &event)      # it was not watched any more: see handle_event


cdef void watch_connection(Net* net, Connection* connection) noexcept nogil:
    watch(net, EPOLL_CTL_MOD, connection.fd,
          0 if is_muted(connection) else
          (0 if connection.deaf else EPOLLIN) | (EPOLLOUT if connection.blocked else 0),
          handle_of(connection))


cdef void close_socket(Net* net, Connection* connection) noexcept nogil:
    if connection.transport != NULL:
        end_transport(connection.transport)
    c_close(connection.fd)      # leaves the epoll set by itself
    connection.fd = -1
    net.sockets -= 1


cdef void list_local(Net* net, Connection* connection) noexcept nogil:
    # It has got output, may be fed again, or has been closed: Python looks when the round ends.
    if net.local_count == net.local_capacity:
        net.local_capacity = net.local_capacity * 2 if net.local_capacity else FIRST_LOCALS
        net.locals = <uint64_t*>resize_memory(net.locals, net.local_capacity * sizeof(uint64_t))
    net.locals[net.local_count] = handle_of(connection)
    net.local_count += 1


cdef void lose(Net* net, Connection* connection) noexcept nogil:
    # Its peer is gone: nobody reads a good-bye.
    if connection.transport != NULL:
        connection.transport.gone = 1
    close_connection(net.shard, connection)


cdef void stop_lingering(Net* net, Connection* connection) noexcept nogil:
    connection.starved_or_lingering = 0
    list_closing(net.shard, connection)
