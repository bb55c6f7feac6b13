/* A recorder under any program: every write, sync and name change below one folder, in order, with its data.
 *
 * Here belongs what libc's file calls do, seen from outside. Not here: what a disk may make of it (disk.py).
 *
 * Loaded with LD_PRELOAD. POWERCUT_ROOT: the folder that is watched (absolute, without a slash at its end).
 * POWERCUT_LOG: the log, appended to. POWERCUT_SYNC_US: how long a sync takes beyond its own time.
 * POWERCUT_DIE: the process is killed in its so manieth recorded call; a sync it was in is not done.
 * POWERCUT_IGNORE: planted faults, any of "fdatasync", "fsync", "dsync", "folder": what they name answers success and
 * syncs nothing.
 *
 * A record is written when its call has succeeded. A write and its record are one step under a mutex, so a sync's
 * `upto`, taken before it begins, has behind it no write that the sync may have missed. What goes past these calls
 * (a shared writable map, a hard link) is recorded as UNSEEN where it can be noticed; the reader also compares the
 * replayed files with the real ones.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, TRUNCATE, SYNC, MKDIR, RENAME, UNLINK, UNSEEN };
enum { CREATED = 1, EMPTIED = 2, SYNCED = 1 };
#define MAXIMUM_FDS 65536
#define LOG_FD 900

struct record {
    uint32_t bytes; /* of all of it */
    uint8_t kind, flags;
    uint16_t spare;
    uint64_t handle, offset, upto;
    uint32_t first_bytes, second_bytes;
};

struct file {
    uint64_t handle; /* 0: not watched */
    int synced;      /* O_DSYNC or O_SYNC */
    int folder;
};

static struct file files[MAXIMUM_FDS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_bytes;
static const char *ignored = "";
static int log_fd = -1;
static long sync_us;
static uint32_t opened;
static long calls_left = -1; /* until the process is killed */

#define REAL(result, name, ...) \
    static result (*real_##name)(__VA_ARGS__); \
    if (real_##name == NULL) real_##name = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("POWERCUT_LOG"), *watched = getenv("POWERCUT_ROOT"), *delay = getenv("POWERCUT_SYNC_US");
    REAL(int, open, const char *, int, ...);
    if (path == NULL || watched == NULL) return;
    int low = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_fd = fcntl(low, F_DUPFD_CLOEXEC, LOG_FD); /* where no program expects one */
    if (low < 0 || log_fd < 0) abort();
    close(low);
    root_bytes = strlen(watched);
    memcpy(root, watched, root_bytes + 1);
    if (getenv("POWERCUT_IGNORE") != NULL) ignored = strdup(getenv("POWERCUT_IGNORE"));
    sync_us = delay == NULL ? 0 : atol(delay);
    if (getenv("POWERCUT_DIE") != NULL) calls_left = atol(getenv("POWERCUT_DIE"));
}

static int ignores(const char *what) { return strstr(ignored, what) != NULL; }

static int is_watched(const char *path) {
    return log_fd >= 0 && strncmp(path, root, root_bytes) == 0 && (path[root_bytes] == 0 || path[root_bytes] == '/');
}

static struct file *watched(int fd) {
    return log_fd >= 0 && fd >= 0 && fd < MAXIMUM_FDS && files[fd].handle ? &files[fd] : NULL;
}

static void put(struct record record, const void *first, const void *second) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    struct iovec parts[3] = {{&record, sizeof record}, {(void *)first, record.first_bytes}, {(void *)second, record.second_bytes}};
    int error = errno;
    int dies = calls_left > 0 && --calls_left == 0;
    if (dies) record.flags = record.kind == WRITE ? 0 : record.flags; /* not yet synced */
    if (dies && record.kind == SYNC) kill(getpid(), SIGKILL);
    record.bytes = (uint32_t)(sizeof record + record.first_bytes + record.second_bytes);
    if (real_writev(log_fd, parts, 3) != (ssize_t)record.bytes) abort();
    if (dies) kill(getpid(), SIGKILL);
    errno = error;
}

static uint64_t position(void) {
    struct stat state;
    if (fstat(log_fd, &state)) abort();
    return (uint64_t)state.st_size;
}

static void put_path(int kind, int flags, uint64_t handle, const char *path) {
    put((struct record){.kind = (uint8_t)kind, .flags = (uint8_t)flags, .handle = handle, .first_bytes = (uint32_t)strlen(path)}, path, NULL);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, path, PATH_MAX - 1);
    path[bytes > 0 ? bytes : 0] = 0;
    return bytes > 0;
}

/* The absolute path of what a call names; false where it is not below the root. */
static int resolve(int folder, const char *name, char *path) {
    if (log_fd < 0) return 0;
    if (name[0] == '/') {
        if (strlen(name) >= PATH_MAX) return 0;
        strcpy(path, name);
        return is_watched(path);
    }
    if (folder == AT_FDCWD ? getcwd(path, PATH_MAX) == NULL : !path_of(folder, path)) return 0;
    size_t bytes = strlen(path);
    if (bytes + strlen(name) + 2 > PATH_MAX) return 0;
    path[bytes] = '/';
    strcpy(path + bytes + 1, name);
    return is_watched(path);
}

/* ---------------------------------------------------------------- open, close */

static void note_open(int fd, int flags, int existed) {
    char path[PATH_MAX];
    struct stat state;
    if (fd < 0 || log_fd < 0 || fd >= MAXIMUM_FDS || !path_of(fd, path) || !is_watched(path) || fstat(fd, &state)) return;
    int synced = (flags & O_DSYNC) == O_DSYNC && !ignores("dsync");
    files[fd] = (struct file){((uint64_t)getpid() << 32) | ++opened, synced, S_ISDIR(state.st_mode)};
    put_path(OPEN, (existed ? 0 : CREATED) | (flags & O_TRUNC ? EMPTIED : 0), files[fd].handle, path);
}

static int open_any(int folder, const char *name, int flags, mode_t mode) {
    REAL(int, openat, int, const char *, int, ...);
    char path[PATH_MAX];
    if (!resolve(folder, name, path)) return real_openat(folder, name, flags, mode);
    pthread_mutex_lock(&mutex);
    struct stat state;
    int existed = fstatat(folder, name, &state, 0) == 0;
    int fd = real_openat(folder, name, flags, mode);
    note_open(fd, flags, existed);
    pthread_mutex_unlock(&mutex);
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0;
}

#define OPEN_BODY(folder) \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = mode_of(flags, rest); \
    va_end(rest); \
    return open_any(folder, name, flags, mode)

int open(const char *name, int flags, ...) { OPEN_BODY(AT_FDCWD); }
int open64(const char *name, int flags, ...) { OPEN_BODY(AT_FDCWD); }
int openat(int folder, const char *name, int flags, ...) { OPEN_BODY(folder); }
int openat64(int folder, const char *name, int flags, ...) { OPEN_BODY(folder); }
int creat(const char *name, mode_t mode) { return open_any(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    REAL(int, close, int);
    if (fd == log_fd && log_fd >= 0) return 0; /* whoever closes all descriptors does not mean this one */
    if (watched(fd)) files[fd].handle = 0;
    return real_close(fd);
}

static int copied(int from, int to) {
    if (to >= 0 && to < MAXIMUM_FDS && log_fd >= 0) files[to] = watched(from) ? files[from] : (struct file){0};
    return to;
}

int dup(int fd) { REAL(int, dup, int); return copied(fd, real_dup(fd)); }
int dup2(int fd, int to) { REAL(int, dup2, int, int); return copied(fd, real_dup2(fd, to)); }
int dup3(int fd, int to, int flags) { REAL(int, dup3, int, int, int); return copied(fd, real_dup3(fd, to, flags)); }

/* ---------------------------------------------------------------- writes */

static void note_write(struct file *file, off_t offset, const struct iovec *parts, int count, ssize_t written) {
    char *data = malloc((size_t)written + 1);
    size_t filled = 0;
    for (int i = 0; i < count && filled < (size_t)written; i++) {
        size_t bytes = parts[i].iov_len < (size_t)written - filled ? parts[i].iov_len : (size_t)written - filled;
        memcpy(data + filled, parts[i].iov_base, bytes);
        filled += bytes;
    }
    put((struct record){.kind = WRITE, .flags = file->synced ? SYNCED : 0, .handle = file->handle, .offset = (uint64_t)offset, .first_bytes = (uint32_t)filled}, data, NULL);
    free(data);
}

/* offset < 0: at the descriptor's own position */
static ssize_t write_any(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    struct file *file = watched(fd);
    if (file == NULL) return offset < 0 ? real_writev(fd, parts, count) : real_pwritev(fd, parts, count, offset);
    pthread_mutex_lock(&mutex);
    ssize_t written = offset < 0 ? real_writev(fd, parts, count) : real_pwritev(fd, parts, count, offset);
    if (written > 0) {
        if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - written; /* right with O_APPEND, too */
        note_write(file, offset, parts, count, written);
    }
    pthread_mutex_unlock(&mutex);
    return written;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    REAL(ssize_t, write, int, const void *, size_t);
    if (watched(fd) == NULL) return real_write(fd, data, bytes);
    return write_any(fd, &(struct iovec){(void *)data, bytes}, 1, -1);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    return write_any(fd, &(struct iovec){(void *)data, bytes}, 1, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) { return pwrite(fd, data, bytes, offset); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return write_any(fd, parts, count, -1); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return write_any(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) { return write_any(fd, parts, count, offset); }

static void note_size(int fd, struct file *file) {
    struct stat state;
    if (fstat(fd, &state)) abort();
    put((struct record){.kind = TRUNCATE, .handle = file->handle, .offset = (uint64_t)state.st_size}, NULL, NULL);
}

#define RESIZE(call) \
    struct file *file = watched(fd); \
    if (file == NULL) return call; \
    pthread_mutex_lock(&mutex); \
    int result = call; \
    if (result == 0) note_size(fd, file); \
    pthread_mutex_unlock(&mutex); \
    return result

int ftruncate(int fd, off_t bytes) { REAL(int, ftruncate, int, off_t); RESIZE(real_ftruncate(fd, bytes)); }
int ftruncate64(int fd, off_t bytes) { return ftruncate(fd, bytes); }
int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    REAL(int, fallocate, int, int, off_t, off_t);
    RESIZE(real_fallocate(fd, mode, offset, bytes));
}
int fallocate64(int fd, int mode, off_t offset, off_t bytes) { return fallocate(fd, mode, offset, bytes); }
int posix_fallocate(int fd, off_t offset, off_t bytes) {
    REAL(int, posix_fallocate, int, off_t, off_t);
    RESIZE(real_posix_fallocate(fd, offset, bytes));
}
int posix_fallocate64(int fd, off_t offset, off_t bytes) { return posix_fallocate(fd, offset, bytes); }

/* ---------------------------------------------------------------- syncs */

static int sync_any(int fd, const char *name, int (*real)(int)) {
    struct file *file = watched(fd);
    if (file == NULL) return real(fd);
    pthread_mutex_lock(&mutex);
    uint64_t upto = position();
    uint64_t handle = file->handle;
    int ignored_now = file->folder ? ignores("folder") : ignores(name);
    pthread_mutex_unlock(&mutex);
    if (sync_us > 0) usleep((useconds_t)sync_us);
    if (ignored_now) return 0;
    int result = real(fd);
    if (result == 0) put((struct record){.kind = SYNC, .handle = handle, .upto = upto}, NULL, NULL);
    return result;
}

int fsync(int fd) { REAL(int, fsync, int); return sync_any(fd, "fsync", real_fsync); }
int fdatasync(int fd) { REAL(int, fdatasync, int); return sync_any(fd, "fdatasync", real_fdatasync); }

/* ---------------------------------------------------------------- names */

#define NAMED(call, kind, folder, name) \
    char path[PATH_MAX]; \
    if (!resolve(folder, name, path)) return call; \
    pthread_mutex_lock(&mutex); \
    int result = call; \
    if (result == 0) put_path(kind, 0, 0, path); \
    pthread_mutex_unlock(&mutex); \
    return result

int mkdirat(int folder, const char *name, mode_t mode) {
    REAL(int, mkdirat, int, const char *, mode_t);
    NAMED(real_mkdirat(folder, name, mode), MKDIR, folder, name);
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
int unlinkat(int folder, const char *name, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    NAMED(real_unlinkat(folder, name, flags), UNLINK, folder, name);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

static int rename_any(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    char first[PATH_MAX], second[PATH_MAX];
    int inside = resolve(from_folder, from, first), into = resolve(to_folder, to, second);
    if (!inside && !into) return real_renameat2(from_folder, from, to_folder, to, flags);
    pthread_mutex_lock(&mutex);
    int result = real_renameat2(from_folder, from, to_folder, to, flags);
    if (result == 0 && inside && into && !(flags & RENAME_EXCHANGE))
        put((struct record){.kind = RENAME, .first_bytes = (uint32_t)strlen(first), .second_bytes = (uint32_t)strlen(second)}, first, second);
    else if (result == 0)
        put_path(UNSEEN, 0, 0, inside ? first : second);
    pthread_mutex_unlock(&mutex);
    return result;
}

int rename(const char *from, const char *to) { return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_folder, const char *from, int to_folder, const char *to) { return rename_any(from_folder, from, to_folder, to, 0); }
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    return rename_any(from_folder, from, to_folder, to, flags);
}

/* ---------------------------------------------------------------- what could not be followed */

static void unseen(int fd) {
    char path[PATH_MAX];
    if (watched(fd) != NULL && path_of(fd, path)) put_path(UNSEEN, 0, 0, path);
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    REAL(void *, mmap, void *, size_t, int, int, int, off_t);
    if ((flags & MAP_SHARED) && (protection & PROT_WRITE)) unseen(fd);
    return real_mmap(address, bytes, protection, flags, fd, offset);
}
void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return mmap(address, bytes, protection, flags, fd, offset);
}
/* Copies inside the kernel do not exist for watched files: libraries then read and write. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t bytes, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    if (watched(to) == NULL) return real_copy_file_range(from, from_at, to, to_at, bytes, flags);
    errno = EXDEV;
    return -1;
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t bytes) {
    REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
    if (watched(to) == NULL) return real_sendfile64(to, from, offset, bytes);
    errno = EINVAL;
    return -1;
}
ssize_t sendfile(int to, int from, off_t *offset, size_t bytes) { return sendfile64(to, from, offset, bytes); }
int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    char path[PATH_MAX];
    if (resolve(AT_FDCWD, to, path)) put_path(UNSEEN, 0, 0, path);
    return real_link(from, to);
}
