/* A disk that fails on command: preloaded, it lets writes, syncs and openings of a store's data file fail or wait.
 *
 * The commands are in a file that FAULTY_DISK names, mapped by both sides: see faulty_disk.py, which has the order.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct commands {
    volatile int write_error;   /* of pages and of meta pages */
    volatile int meta_error;    /* of meta pages alone */
    volatile int sync_error;
    volatile int open_error;    /* of openings that would write */
    volatile int sync_delay_ms;
    volatile int failures;      /* how many calls were made to fail */
};

static struct commands none, *commands = &none;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FAULTY_DISK");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *mapped = mmap(NULL, sizeof(struct commands), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED)
            commands = mapped;
        close(fd);
    }
}

static int ends_with(const char *path, const char *end)
{
    size_t length = strlen(path), wanted = strlen(end);
    return length >= wanted && strcmp(path + length - wanted, end) == 0;
}

static int is_store(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return ends_with(path, "/data.mdb");
}

static int failing(int fd, int error)
{
    if (!error || !is_store(fd))
        return 0;
    commands->failures++;
    errno = error;
    return 1;
}

#define REAL(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int is_meta(off_t offset) { return offset < 2 * 4096; }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset)
{
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    if (failing(fd, commands->write_error) || (is_meta(offset) && failing(fd, commands->meta_error)))
        return -1;
    return real(fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    return pwrite64(fd, bytes, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *vectors, int count, off64_t offset)
{
    REAL("pwritev64", ssize_t, int, const struct iovec *, int, off64_t);
    return failing(fd, commands->write_error) ? -1 : real(fd, vectors, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *vectors, int count, off_t offset)
{
    return pwritev64(fd, vectors, count, offset);
}

ssize_t writev(int fd, const struct iovec *vectors, int count)
{
    REAL("writev", ssize_t, int, const struct iovec *, int);
    return failing(fd, commands->write_error) ? -1 : real(fd, vectors, count);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    REAL("write", ssize_t, int, const void *, size_t);
    return commands->write_error && failing(fd, commands->write_error) ? -1 : real(fd, bytes, count);
}

static int sync_fails(int fd)
{
    if (commands->sync_delay_ms && is_store(fd)) {
        struct timespec delay = {commands->sync_delay_ms / 1000, commands->sync_delay_ms % 1000 * 1000000L};
        nanosleep(&delay, NULL);
    }
    return failing(fd, commands->sync_error);
}

int fdatasync(int fd)
{
    REAL("fdatasync", int, int);
    return sync_fails(fd) ? -1 : real(fd);
}

int fsync(int fd)
{
    REAL("fsync", int, int);
    return sync_fails(fd) ? -1 : real(fd);
}

static int open_fails(const char *path, int flags)
{
    if (!commands->open_error || (flags & O_ACCMODE) == O_RDONLY)
        return 0;
    if (!ends_with(path, ".mdb"))
        return 0;
    commands->failures++;
    errno = commands->open_error;
    return 1;
}

int open64(const char *path, int flags, ...)
{
    REAL("open64", int, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_fails(path, flags) ? -1 : real(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open64(path, flags, mode);
}
