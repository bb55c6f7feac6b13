/* One connection of the fleet and its outbox: what all other parts read and change. No protocol and no socket calls. */
#ifndef LOADGEN_CONNECTION_H
#define LOADGEN_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>
#ifndef NOTLS
#include <openssl/ssl.h>
#endif

#include "base.h"
#include "histogram.h"

#define OUTBOX_LIMIT_BYTES (128u << 10) /* stop encoding for a connection beyond this much unsent output */

enum role { ROLE_PUBLISHER, ROLE_SUBSCRIBER, ROLE_PLAIN, ROLE_STALLED };
enum state {
    STATE_IDLE, STATE_CONNECTING, STATE_TLS, STATE_WS, STATE_CONNACK, STATE_SUBACK, STATE_READY, STATE_DEAD
};

/* newest sequence number seen; bit k of mask: last - k was seen */
typedef struct {
    uint64_t last, mask;
} Track;

typedef struct {
    uint32_t key; /* stream + 1; 0: free */
    Track track;
} TrackSlot;

typedef struct Connection {
    int fd;
    uint8_t state, role;
    bool dirty, watching_out, in_ready, clean, session_present;
    uint32_t index; /* within its role */
    char *client_id, *username, *password;
    /* input: the packet whose end has not come yet */
    uint8_t *partial;
    uint32_t partial_len, partial_cap;
    /* output: bytes out_sent..out_len are still to be sent */
    uint8_t *out;
    uint32_t out_len, out_sent, out_cap;
    uint64_t connect_started_ns, last_sent_ns;
    /* publisher */
    uint16_t packet_id;
    uint32_t inflight, inflight_limit;
    uint64_t expected, delivered; /* copies expected from and seen of what it published */
    uint64_t stall_seen;
    int stall_ticks;
    uint64_t next_number; /* at a rate: the number of the next message it owes */
    uint32_t owed, stream_turn;
    uint64_t acked;
    uint64_t *stamps; /* by packet identifier, with --ack-latency: when the message was due */
    /* subscriber: by stream, an array when that is small, else a hash */
    uint32_t subacks_due;
    Track *dense;
    TrackSlot *hash;
    uint32_t hash_cap, hash_used;
    uint64_t received;
    /* websocket */
    uint64_t frame_left;
    uint8_t *frame_partial;
    uint32_t frame_partial_len, frame_partial_cap;
#ifndef NOTLS
    SSL *ssl;
#endif
} Connection;

/* The fleet: subscribers first, then publishers or plain clients, then stalled readers. */
extern Connection *connections, *subscribers, *publishers, *stalled;
extern int connection_count, subscriber_count, publisher_count, stalled_count;
extern int ready_connections, opening_connections, failed_connections, lost_connections;
extern bool publishing, measuring, closing;
extern uint64_t batch_now_ns; /* the time of the read or poll being worked on */
extern Histogram latency, connect_latency, ack_latency;

/* Connections with something to send in this round. */
extern Connection **dirty;
extern int dirty_count;

void outbox_reserve(Connection *c, uint32_t bytes);
void keep_bytes(uint8_t **buffer, uint32_t *len, uint32_t *cap, const uint8_t *p, size_t n);
void connection_ready(Connection *c);
void connection_close(Connection *c, const char *why);

static inline const char *identity_of(const Connection *c)
{
    return c->username && *c->username ? c->username : c->client_id;
}

static inline uint64_t since(uint64_t time_ns)
{
    return batch_now_ns > time_ns ? batch_now_ns - time_ns : 0;
}

static inline void mark_dirty(Connection *c)
{
    if (!c->dirty) {
        c->dirty = true;
        dirty[dirty_count++] = c;
    }
}

#endif
