/* The few integers and strings MQTT packets are made of, and the start and end of one outgoing packet. */
#ifndef LOADGEN_WIRE_H
#define LOADGEN_WIRE_H

#include <string.h>

#include "connection.h"
#include "options.h"
#include "websocket.h"

static inline int varint_len(uint32_t v)
{
    return v < 128 ? 1 : v < 16384 ? 2 : v < 2097152 ? 3 : 4;
}

static inline uint8_t *put_varint(uint8_t *p, uint32_t v)
{
    while (v >= 128) {
        *p++ = (uint8_t)(v | 128);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline uint8_t *put_u16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

static inline unsigned get_u16(const uint8_t *p)
{
    return (unsigned)(p[0] << 8 | p[1]);
}

static inline uint8_t *put_str(uint8_t *p, const char *s)
{
    size_t n = strlen(s);
    p = put_u16(p, (unsigned)n);
    memcpy(p, s, n);
    return p + n;
}

/* Reserve one outgoing packet of exactly n bytes, behind a frame header on WebSocket connections. */
static inline uint8_t *packet_begin(Connection *c, uint32_t n)
{
    outbox_reserve(c, n + FRAME_HEADER_BYTES);
    uint8_t *p = c->out + c->out_len;
    return options.ws ? frame_begin(c, p, n) : p;
}

static inline void packet_end(Connection *c, uint8_t *end)
{
    if (options.ws) frame_end(c, end);
    c->out_len = (uint32_t)(end - c->out);
    mark_dirty(c);
}

static inline void send_ack(Connection *c, uint8_t first_byte, const uint8_t *packet_id)
{
    uint8_t *p = packet_begin(c, 4);
    p[0] = first_byte;
    p[1] = 2;
    p[2] = packet_id[0];
    p[3] = packet_id[1];
    packet_end(c, p + 4);
}

#endif
