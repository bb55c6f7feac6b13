/* The physical limit: a single-threaded epoll relay that never looks at what it forwards. Each connection says in its
 * first 8 bytes who it is ('P' or 'S', then a 32-bit index); from then on bytes of P i go to S i and back.
 * Use: relay PORT, and loadgen --raw on the other side. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAXI 8192
#define BUF (256 << 10)
typedef struct Peer {
    int fd, hello;
    struct Peer *to;
    uint8_t *pend; /* bytes the peer's socket did not take yet */
    size_t plen, poff;
} Peer;

static Peer *who[2][MAXI];
static int ep;

static void watch(Peer *p, uint32_t events, int op)
{
    struct epoll_event ev = {.events = events, .data.ptr = p};
    epoll_ctl(ep, op, p->fd, &ev);
}

static void drop(Peer *p)
{
    if (p->to) {
        p->to->to = NULL;
        shutdown(p->to->fd, SHUT_RDWR);
    }
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < MAXI; i++)
            if (who[r][i] == p) who[r][i] = NULL;
    close(p->fd);
    free(p->pend);
    free(p); /* safe: one event per fd and round */
}

/* returns 0 when dst is full (the caller stops reading) */
static int push(Peer *src, const uint8_t *b, size_t n)
{
    ssize_t k = send(src->to->fd, b, n, MSG_NOSIGNAL);
    if (k < 0) k = 0;
    if ((size_t)k == n) return 1;
    src->plen = n - (size_t)k;
    src->poff = 0;
    src->pend = realloc(src->pend, BUF);
    memcpy(src->pend, b + k, src->plen);
    return 0;
}

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 1999, one = 1;
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(ls, (struct sockaddr *)&a, sizeof a) || listen(ls, 1024)) return perror("bind"), 1;
    ep = epoll_create1(0);
    Peer lp = {.fd = ls};
    watch(&lp, EPOLLIN, EPOLL_CTL_ADD);
    static uint8_t buf[BUF];
    static struct epoll_event ev[256];
    for (;;) {
        int n = epoll_wait(ep, ev, 256, -1);
        for (int i = 0; i < n; i++) {
            Peer *p = ev[i].data.ptr;
            if (p == &lp) {
                int fd;
                while ((fd = accept4(ls, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    Peer *q = calloc(1, sizeof *q);
                    q->fd = fd;
                    watch(q, EPOLLIN, EPOLL_CTL_ADD);
                }
                continue;
            }
            if (!p->hello) {
                uint8_t h[8];
                ssize_t k = recv(p->fd, h, 8, MSG_PEEK);
                if (k == 0) {
                    drop(p);
                    continue;
                }
                if (k < 8) continue;
                recv(p->fd, h, 8, 0);
                uint32_t idx;
                memcpy(&idx, h + 4, 4);
                if (idx >= MAXI) return 1;
                int r = h[0] == 'P';
                p->hello = 1;
                who[r][idx] = p;
                Peer *q = who[!r][idx];
                if (q) {
                    p->to = q;
                    q->to = p;
                }
                continue;
            }
            if (ev[i].events & EPOLLOUT) { /* p can take more of what p->to has pending */
                Peer *s = p->to;
                if (s && s->plen > s->poff) {
                    ssize_t k = send(p->fd, s->pend + s->poff, s->plen - s->poff, MSG_NOSIGNAL);
                    if (k > 0) s->poff += (size_t)k;
                    if (s->poff == s->plen) {
                        s->plen = s->poff = 0;
                        watch(s, EPOLLIN, EPOLL_CTL_MOD);
                    }
                }
                if (!s || s->plen == s->poff) watch(p, p->plen > p->poff ? 0 : EPOLLIN, EPOLL_CTL_MOD);
            }
            if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                ssize_t k = recv(p->fd, buf, sizeof buf, 0);
                if (k == 0 || (k < 0 && errno != EAGAIN)) {
                    drop(p);
                    continue;
                }
                if (k > 0 && p->to && !push(p, buf, (size_t)k)) {
                    watch(p, 0, EPOLL_CTL_MOD);
                    watch(p->to, (p->to->plen > p->to->poff ? 0 : EPOLLIN) | EPOLLOUT, EPOLL_CTL_MOD);
                }
            }
        }
    }
}
