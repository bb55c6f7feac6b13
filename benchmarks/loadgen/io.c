#define _GNU_SOURCE
#include "io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "options.h"
#include "packets.h"
#include "publishing.h"
#include "websocket.h"

#define READ_BYTES (1u << 20)
#define EVENTS 1024
#define STALLED_BUFFER_BYTES 4096 /* what the kernel takes for one who does not read is not the broker's */

static int epoll_fd;
static struct sockaddr_in destination;
static uint8_t *read_buffer; /* shared by all connections */
static size_t read_buffer_cap;

void io_setup(void)
{
    destination.sin_family = AF_INET;
    destination.sin_port = htons((uint16_t)options.port);
    if (inet_pton(AF_INET, options.host, &destination.sin_addr) != 1) die("--host must be an IPv4 address");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    tls_setup();
}

void watch(Connection *c, bool out)
{
    if (c->watching_out == out) return;
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev)) die("epoll_ctl: %s", strerror(errno));
    c->watching_out = out;
}

void stop_reading(Connection *c)
{
    if (epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL)) die("epoll_ctl: %s", strerror(errno));
}

bool was_cut(const Connection *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    return c->fd < 0 || poll(&p, 1, 0) != 0;
}

static inline bool has_tls(const Connection *c)
{
#ifndef NOTLS
    return c->ssl != NULL;
#else
    (void)c;
    return false;
#endif
}

/* ------------------------------------------------------------------ sending */

static inline long send_some(Connection *c, const uint8_t *bytes, size_t n)
{
    if (has_tls(c)) return tls_send(c, bytes, n);
    ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    if (errno != EAGAIN) return IO_FAILED;
    watch(c, true);
    return IO_AGAIN;
}

static void flush_connection(Connection *c)
{
    c->dirty = false;
    if (c->state == STATE_DEAD || c->fd < 0) return;
    if (c->state == STATE_CONNECTING || c->state == STATE_TLS) return;
    while (c->out_sent < c->out_len) {
        long sent = send_some(c, c->out + c->out_sent, c->out_len - c->out_sent);
        if (sent == IO_AGAIN) return;
        if (sent == IO_FAILED) {
            connection_close(c, has_tls(c) ? "TLS write error" : strerror(errno));
            return;
        }
        c->out_sent += (uint32_t)sent;
    }
    c->out_len = c->out_sent = 0;
    c->last_sent_ns = batch_now_ns;
    if (c->watching_out) watch(c, false);
    if (c->role == ROLE_PUBLISHER && publishing) push_ready(c);
}

void flush_all(void)
{
    for (int i = 0; i < dirty_count; i++) flush_connection(dirty[i]);
    dirty_count = 0;
}

/* ----------------------------------------------------------------- opening */

/* --raw: say who we are to relay.c, which parses nothing afterwards */
static void send_raw_hello(Connection *c)
{
    outbox_reserve(c, 8);
    uint8_t *p = c->out + c->out_len;
    memset(p, 0, 4);
    p[0] = c->role == ROLE_PUBLISHER ? 'P' : 'S';
    memcpy(p + 4, &c->index, 4);
    c->out_len += 8;
    mark_dirty(c);
    c->inflight_limit = (uint32_t)options.inflight;
    connection_ready(c);
}

static void start_mqtt(Connection *c)
{
    if (options.raw) {
        send_raw_hello(c);
        return;
    }
    c->state = STATE_CONNACK;
    send_connect(c);
}

static void start_application(Connection *c)
{
    if (!options.ws) {
        start_mqtt(c);
        return;
    }
    c->state = STATE_WS;
    websocket_request(c);
}

static void continue_tls(Connection *c)
{
    int result = tls_step(c);
    if (result == 1)
        start_application(c);
    else if (result == IO_FAILED)
        connection_close(c, "TLS handshake failed");
}

static void on_connected(Connection *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error) {
        connection_close(c, strerror(error));
        return;
    }
    watch(c, false);
    if (!options.tls) {
        start_application(c);
        return;
    }
    tls_start(c);
    c->state = STATE_TLS;
    continue_tls(c);
}

/* More than one source address (127.0.1.1, 127.0.1.2, ...) gives more than one range of ports. */
static void bind_source(Connection *c)
{
    int one = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    uint32_t k = (uint32_t)(c - connections) % (uint32_t)options.source_addresses;
    source.sin_addr.s_addr = htonl(0x7f000101u + k);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&source, sizeof source)) die("bind: %s", strerror(errno));
}

void connection_open(Connection *c)
{
    int one = 1, small = STALLED_BUFFER_BYTES;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s (raise ulimit -n)", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (options.source_addresses > 1) bind_source(c);
    if (c->role == ROLE_STALLED) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    c->connect_started_ns = now_ns();
    c->state = STATE_CONNECTING;
    c->watching_out = true;
    opening_connections++;
    if (connect(c->fd, (struct sockaddr *)&destination, sizeof destination) && errno != EINPROGRESS) {
        connection_close(c, strerror(errno));
        return;
    }
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev)) die("epoll_ctl: %s", strerror(errno));
}

/* --------------------------------------------------------------- receiving */

static void on_bytes(Connection *c, uint8_t *bytes, size_t n)
{
    if (c->state == STATE_WS) {
        if (!websocket_answered(c, &bytes, &n)) return;
        start_mqtt(c);
        if (!n) return;
    }
    if (options.ws)
        websocket_bytes(c, bytes, n);
    else
        mqtt_bytes(c, bytes, n);
}

static inline long receive_some(Connection *c, uint8_t *bytes, size_t room)
{
    if (has_tls(c)) return tls_receive(c, bytes, room);
    ssize_t got = recv(c->fd, bytes, room, 0);
    if (got > 0) return got;
    if (got < 0 && errno == EAGAIN) return IO_AGAIN;
    if (got == 0) errno = ECONNRESET;
    return IO_FAILED;
}

/* One read behind what the connection kept; true when there may be more. */
static bool read_once(Connection *c)
{
    uint8_t *kept = options.ws ? c->frame_partial : c->partial; /* WebSocket: frame or HTTP bytes */
    size_t kept_len = options.ws ? c->frame_partial_len : c->partial_len;
    if (read_buffer_cap < kept_len + READ_BYTES) {
        read_buffer_cap = kept_len + READ_BYTES;
        read_buffer = xrealloc(read_buffer, read_buffer_cap);
    }
    if (kept_len) memcpy(read_buffer, kept, kept_len);
    size_t room = read_buffer_cap - kept_len;
    long got = receive_some(c, read_buffer + kept_len, room);
    if (got == IO_AGAIN) return false;
    if (got == IO_FAILED) {
        connection_close(c, has_tls(c) ? "TLS connection closed" : strerror(errno));
        return false;
    }
    batch_now_ns = now_ns();
    on_bytes(c, read_buffer, kept_len + (size_t)got);
    return c->state != STATE_DEAD && (size_t)got == room;
}

static void on_readable(Connection *c)
{
    for (int round = 0; round < 4 && read_once(c); round++) {}
}

static void on_event(Connection *c, uint32_t events)
{
    if (c->state == STATE_DEAD) return;
    if (c->state == STATE_CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) on_connected(c);
        return;
    }
    if (c->state == STATE_TLS) {
        continue_tls(c);
        if (c->state == STATE_TLS || c->state == STATE_DEAD) return;
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) on_readable(c);
    if (c->state != STATE_DEAD && (events & EPOLLOUT)) mark_dirty(c);
}

int poll_once(int64_t timeout_ns)
{
    static struct epoll_event events[EVENTS];
    if (timeout_ns < 0) timeout_ns = 0;
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    int n = epoll_pwait2(epoll_fd, events, EVENTS, &timeout, NULL);
    if (n < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    batch_now_ns = now_ns();
    for (int i = 0; i < n; i++) on_event(events[i].data.ptr, events[i].events);
    return n;
}
