#define _GNU_SOURCE
#include "websocket.h"

#include <stdio.h>
#include <string.h>

#include "options.h"
#include "packets.h"

static uint32_t mask_key, masked_from; /* of the frame being written: one at a time */
static uint8_t *unframed;              /* MQTT bytes taken out of frames, shared by all connections */
static size_t unframed_cap;

uint8_t *frame_begin(Connection *c, uint8_t *p, uint32_t n)
{
    mask_key = (uint32_t)random_u64() | 1;
    *p++ = 0x82; /* final, binary */
    if (n < 126) {
        *p++ = (uint8_t)(0x80 | n);
    } else if (n < 65536) {
        *p++ = 0x80 | 126;
        *p++ = (uint8_t)(n >> 8);
        *p++ = (uint8_t)n;
    } else {
        *p++ = 0x80 | 127;
        for (int i = 7; i >= 0; i--) *p++ = (uint8_t)((uint64_t)n >> (8 * i));
    }
    memcpy(p, &mask_key, 4);
    p += 4;
    masked_from = (uint32_t)(p - c->out);
    return p;
}

void frame_end(Connection *c, uint8_t *end)
{
    uint8_t *p = c->out + masked_from;
    uint64_t key = (uint64_t)mask_key | (uint64_t)mask_key << 32;
    for (; p + 8 <= end; p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        v ^= key;
        memcpy(p, &v, 8);
    }
    for (int i = 0; p < end; p++, i++) *p ^= (uint8_t)(mask_key >> (8 * (i & 3)));
}

void websocket_request(Connection *c)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char key[25] = {0}, request[512];
    for (int i = 0; i < 21; i++) key[i] = base64[random_u64() & 63];
    key[21] = base64[(random_u64() & 3) << 4];
    key[22] = key[23] = '=';
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
                     options.ws_path, options.host, options.port, key);
    if (n >= (int)sizeof request) die("--ws-path is too long");
    outbox_reserve(c, (uint32_t)n);
    memcpy(c->out + c->out_len, request, (size_t)n);
    c->out_len += (uint32_t)n;
    mark_dirty(c);
}

bool websocket_answered(Connection *c, uint8_t **bytes, size_t *n)
{
    uint8_t *end = memmem(*bytes, *n, "\r\n\r\n", 4);
    if (!end) {
        keep_bytes(&c->frame_partial, &c->frame_partial_len, &c->frame_partial_cap, *bytes, *n);
        return false;
    }
    if (*n < 12 || memcmp(*bytes, "HTTP/1.1 101", 12)) {
        connection_close(c, "websocket upgrade refused");
        return false;
    }
    end += 4;
    *n -= (size_t)(end - *bytes);
    *bytes = end;
    c->frame_partial_len = 0;
    return true;
}

/* a ping is answered with a masked pong */
static void answer_ping(Connection *c, const uint8_t *p, size_t n)
{
    static const uint8_t key[4] = {1, 2, 3, 4};
    outbox_reserve(c, (uint32_t)n + FRAME_HEADER_BYTES);
    uint8_t *o = c->out + c->out_len;
    *o++ = 0x8A;
    *o++ = (uint8_t)(0x80 | n);
    memcpy(o, key, 4);
    o += 4;
    for (size_t i = 0; i < n; i++) *o++ = p[i] ^ key[i & 3];
    c->out_len = (uint32_t)(o - c->out);
    mark_dirty(c);
}

static void append_unframed(size_t at, const uint8_t *p, size_t n)
{
    if (unframed_cap < at + n) {
        unframed_cap = (at + n) * 2;
        unframed = xrealloc(unframed, unframed_cap);
    }
    if (n) memcpy(unframed + at, p, n);
}

/* The header at p: its length and the payload's, or 0 when it is not all there. */
static unsigned read_header(const uint8_t *p, size_t n, uint64_t *payload_len)
{
    if (n < 2) return 0;
    uint64_t len = p[1] & 127;
    unsigned header_len = len == 126 ? 4 : len == 127 ? 10 : 2;
    if (n < header_len) return 0;
    if (header_len > 2) {
        len = 0;
        for (unsigned i = 2; i < header_len; i++) len = len << 8 | p[i];
    }
    *payload_len = len;
    return header_len;
}

void websocket_bytes(Connection *c, uint8_t *bytes, size_t n)
{
    size_t taken = c->partial_len, at = 0;
    append_unframed(0, c->partial, taken);
    while (at < n) {
        if (c->frame_left) {
            size_t k = n - at < c->frame_left ? n - at : (size_t)c->frame_left;
            append_unframed(taken, bytes + at, k);
            taken += k;
            at += k;
            c->frame_left -= k;
            continue;
        }
        uint64_t payload_len = 0;
        unsigned header_len = read_header(bytes + at, n - at, &payload_len);
        if (!header_len) break;
        uint8_t opcode = bytes[at] & 15;
        if (!(opcode & 8)) {
            c->frame_left = payload_len;
            at += header_len;
            continue;
        }
        if (n - at < header_len + payload_len) break;
        if (opcode == 8) {
            connection_close(c, "websocket close");
            return;
        }
        if (opcode == 9) answer_ping(c, bytes + at + header_len, (size_t)payload_len);
        at += header_len + payload_len;
    }
    keep_bytes(&c->frame_partial, &c->frame_partial_len, &c->frame_partial_cap, bytes + at, n - at);
    mqtt_bytes(c, unframed, taken);
}
