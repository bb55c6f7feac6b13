#include "connection.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "options.h"

Connection *connections, *subscribers, *publishers, *stalled;
int connection_count, subscriber_count, publisher_count, stalled_count;
int ready_connections, opening_connections, failed_connections, lost_connections;
bool publishing, measuring, closing;
uint64_t batch_now_ns;
Histogram latency, connect_latency, ack_latency;
Connection **dirty;
int dirty_count;

void outbox_reserve(Connection *c, uint32_t bytes)
{
    if (c->out_len + bytes <= c->out_cap) return;
    if (c->out_sent) {
        memmove(c->out, c->out + c->out_sent, c->out_len - c->out_sent);
        c->out_len -= c->out_sent;
        c->out_sent = 0;
    }
    if (c->out_len + bytes <= c->out_cap) return;
    uint32_t cap = c->out_cap ? c->out_cap : 256;
    while (cap < c->out_len + bytes) cap *= 2;
    c->out = xrealloc(c->out, cap);
    c->out_cap = cap;
}

/* Replaces what is kept by n bytes at p (never a part of the buffer itself). */
void keep_bytes(uint8_t **buffer, uint32_t *len, uint32_t *cap, const uint8_t *p, size_t n)
{
    if (n > *cap) {
        *cap = (uint32_t)(n < 64 ? 64 : n);
        *buffer = xrealloc(*buffer, *cap);
    }
    if (n) memcpy(*buffer, p, n);
    *len = (uint32_t)n;
}

void connection_ready(Connection *c)
{
    c->state = STATE_READY;
    ready_connections++;
    opening_connections--;
    histogram_add(&connect_latency, now_ns() - c->connect_started_ns);
}

void connection_close(Connection *c, const char *why)
{
    if (c->state == STATE_DEAD) return;
    if (c->state == STATE_READY) {
        ready_connections--;
        if (!closing) lost_connections++;
    } else if (c->state != STATE_IDLE) {
        opening_connections--;
        failed_connections++;
    }
    if (!closing && !options.quiet && failed_connections + lost_connections <= 5)
        fprintf(stderr, "loadgen: connection %s lost in state %d: %s\n", c->client_id, c->state, why);
    c->state = STATE_DEAD;
#ifndef NOTLS
    if (c->ssl) SSL_free(c->ssl);
    c->ssl = NULL;
#endif
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->out_len = c->out_sent = 0;
}
