/* Preloaded into a broker: counts calls into libc that allocate or enter the kernel, in a file another process maps.
 *
 * BROKER_GATE_COUNTERS names a file of COUNTERS 64-bit numbers. Without it nothing is counted. Only calls through libc's
 * names are seen: not the vDSO, not futexes inside libc. One counter per name, in the order of counters.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum counter {
    ALLOCATIONS, RECEIVES, SENDS, WAITS, OTHERS, COUNTERS
};

static uint64_t nowhere[COUNTERS];
static uint64_t *counters = nowhere;

static inline void count(enum counter which)
{
    __atomic_fetch_add(&counters[which], 1, __ATOMIC_RELAXED);
}

__attribute__((constructor)) static void map_counters(void)
{
    const char *path = getenv("BROKER_GATE_COUNTERS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *p = mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED) counters = p;
}

/* ------------------------------------------------------------------ allocations; free is not counted: it follows */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t bytes)
{
    count(ALLOCATIONS);
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    count(ALLOCATIONS);
    return __libc_calloc(n, bytes);
}

void *realloc(void *p, size_t bytes)
{
    count(ALLOCATIONS);
    return __libc_realloc(p, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    count(ALLOCATIONS);
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    count(ALLOCATIONS);
    return __libc_memalign(alignment, bytes);
}

/* ----------------------------------------------------------------------------------------------- system calls */

#define WRAP(counter, result, name, parameters, arguments)                       \
    result name parameters                                                        \
    {                                                                             \
        static result(*real) parameters;                                          \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);           \
        count(counter);                                                           \
        return real arguments;                                                    \
    }

WRAP(RECEIVES, ssize_t, recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))
WRAP(RECEIVES, ssize_t, read, (int fd, void *p, size_t n), (fd, p, n))
WRAP(RECEIVES, ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))
WRAP(RECEIVES, ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
WRAP(RECEIVES, int, recvmmsg, (int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *t), (fd, m, n, flags, t))
WRAP(RECEIVES, ssize_t, recvfrom, (int fd, void *p, size_t n, int flags, struct sockaddr *a, socklen_t *l),
     (fd, p, n, flags, a, l))

/* what a fortified caller is compiled to */
WRAP(RECEIVES, ssize_t, __read_chk, (int fd, void *p, size_t n, size_t room), (fd, p, n, room))
WRAP(RECEIVES, ssize_t, __recv_chk, (int fd, void *p, size_t n, size_t room, int flags), (fd, p, n, room, flags))
WRAP(RECEIVES, ssize_t, __recvfrom_chk,
     (int fd, void *p, size_t n, size_t room, int flags, struct sockaddr *a, socklen_t *l), (fd, p, n, room, flags, a, l))

WRAP(SENDS, ssize_t, send, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))
WRAP(SENDS, ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
WRAP(SENDS, ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
WRAP(SENDS, ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
WRAP(SENDS, int, sendmmsg, (int fd, struct mmsghdr *m, unsigned n, int flags), (fd, m, n, flags))
WRAP(SENDS, ssize_t, sendto, (int fd, const void *p, size_t n, int flags, const struct sockaddr *a, socklen_t l),
     (fd, p, n, flags, a, l))

WRAP(WAITS, int, epoll_wait, (int fd, struct epoll_event *e, int n, int t), (fd, e, n, t))
WRAP(WAITS, int, epoll_pwait, (int fd, struct epoll_event *e, int n, int t, const sigset_t *s), (fd, e, n, t, s))
WRAP(WAITS, int, epoll_pwait2, (int fd, struct epoll_event *e, int n, const struct timespec *t, const sigset_t *s),
     (fd, e, n, t, s))
WRAP(WAITS, int, __poll_chk, (struct pollfd *p, nfds_t n, int t, size_t room), (p, n, t, room))
WRAP(WAITS, int, poll, (struct pollfd *p, nfds_t n, int t), (p, n, t))

WRAP(OTHERS, int, epoll_ctl, (int fd, int op, int of, struct epoll_event *e), (fd, op, of, e))
WRAP(OTHERS, int, getsockopt, (int fd, int l, int o, void *p, socklen_t *n), (fd, l, o, p, n))
WRAP(OTHERS, int, setsockopt, (int fd, int l, int o, const void *p, socklen_t n), (fd, l, o, p, n))
WRAP(OTHERS, int, close, (int fd), (fd))
WRAP(OTHERS, int, timerfd_settime, (int fd, int flags, const struct itimerspec *n, struct itimerspec *o), (fd, flags, n, o))
