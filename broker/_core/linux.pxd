# What the reactor asks of Linux: system calls, their constants, and the clock.
#
# Here belong declarations alone. Not here: how they are used (reactor).

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "errno.h" nogil:
    int EMFILE, ENFILE, ENOBUFS, ENOMEM
cdef extern from "unistd.h" nogil:
    int c_close "close"(int)
    ssize_t c_read "read"(int, void*, size_t)
    ssize_t c_write "write"(int, const void*, size_t)
cdef extern from "sys/socket.h" nogil:
    int SOCK_NONBLOCK, SOCK_CLOEXEC, SOL_SOCKET, SO_KEEPALIVE, MSG_NOSIGNAL, MSG_DONTWAIT, MSG_PEEK, SHUT_WR
    ssize_t recv(int, void*, size_t, int)
    ssize_t c_send "send"(int, const void*, size_t, int)
    int setsockopt(int, int, int, const void*, unsigned int)
    int shutdown(int, int)
cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <string.h>
    extern int accept4(int, struct sockaddr *, socklen_t *, int);
    /* 127.0.0.0/8 mapped, or ::1 */
    static inline int broker_is_loopback_address(const unsigned char *address) {
        static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        static const unsigned char loopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
        return memcmp(address, mapped, 12) ? !memcmp(address, loopback, 16) : address[12] == 127;
    }
    /* 16 bytes, an IPv4 address mapped; 0: it has none */
    static inline int broker_address(const struct sockaddr_storage *peer, unsigned char *to) {
        memset(to, 0, 16);
        if (peer->ss_family == AF_INET) {
            to[10] = to[11] = 0xff;
            memcpy(to + 12, &((const struct sockaddr_in *)peer)->sin_addr.s_addr, 4);
        } else if (peer->ss_family == AF_INET6) {
            memcpy(to, ((const struct sockaddr_in6 *)peer)->sin6_addr.s6_addr, 16);
        } else
            return 0;
        return 1;
    }
    /* also who has no address at all (a Unix socket) */
    static inline int broker_is_loopback(const struct sockaddr_storage *peer) {
        unsigned char address[16];
        return broker_address(peer, address) ? broker_is_loopback_address(address) : peer->ss_family == AF_UNIX;
    }
    """
    struct sockaddr:
        pass
    struct sockaddr_storage:
        pass
    bint address_of "broker_address"(const sockaddr_storage*, unsigned char*) nogil
    bint is_loopback_address "broker_is_loopback_address"(const unsigned char*) nogil
    bint is_loopback "broker_is_loopback"(const sockaddr_storage*) nogil
    int accept4(int, sockaddr*, unsigned int*, int) nogil
cdef extern from "netinet/in.h" nogil:
    int IPPROTO_TCP
cdef extern from "netinet/tcp.h" nogil:
    int TCP_NODELAY
cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        void* ptr
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event*)
    int epoll_wait(int, epoll_event*, int, int)
    int EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_CLOEXEC
    uint32_t EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
cdef extern from "sys/eventfd.h" nogil:
    int eventfd(unsigned int, int)
    int EFD_NONBLOCK, EFD_CLOEXEC
cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec*)
    int CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID
cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int ppoll(pollfd*, unsigned long, const timespec*, const void*)
    short POLLIN
cdef extern from "sys/timerfd.h" nogil:
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int, int)
    int timerfd_settime(int, int, const itimerspec*, itimerspec*)
    int TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME


cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef inline int64_t worked_ns() noexcept nogil:
    # What this thread has had of a processor: the time in which the kernel ran somebody else is not in it.
    cdef timespec now
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec
