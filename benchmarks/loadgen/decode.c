#include <stdio.h>
#include <string.h>

#include "io.h"
#include "messages.h"
#include "options.h"
#include "packets.h"
#include "publishing.h"
#include "wire.h"

static uint32_t get_varint(const uint8_t **pp, const uint8_t *end)
{
    uint32_t v = 0;
    for (int shift = 0; *pp < end && shift < 28; shift += 7) {
        uint8_t b = *(*pp)++;
        v |= (uint32_t)(b & 127) << shift;
        if (!(b & 128)) break;
    }
    return v;
}

static const uint8_t *skip_property(uint8_t id, const uint8_t *p, const uint8_t *end)
{
    switch (id) {
    case 33: case 19: case 34: return p + 2; /* receive maximum, server keep alive, topic alias maximum */
    case 17: case 39: return p + 4;          /* session expiry, maximum packet size */
    case 36: case 37: case 40: case 41: case 42: return p + 1;
    case 18: case 21: case 22: case 26: case 28: case 31: return end - p < 2 ? end : p + 2 + get_u16(p);
    case 38: /* user property: two strings */
        p = end - p < 2 ? end : p + 2 + get_u16(p);
        return end - p < 2 ? end : p + 2 + get_u16(p);
    default: return end;
    }
}

static void read_connack_properties(Connection *c, const uint8_t *p, const uint8_t *end)
{
    uint32_t n = get_varint(&p, end);
    if (n < (uint32_t)(end - p)) end = p + n;
    while (p < end) {
        uint8_t id = *p++;
        if (id == 33 && end - p >= 2 && get_u16(p) < c->inflight_limit) c->inflight_limit = get_u16(p);
        p = skip_property(id, p, end);
    }
}

static void connack_received(Connection *c, const uint8_t *p, const uint8_t *end)
{
    if (end - p < 2 || p[1] != 0) {
        char why[64];
        snprintf(why, sizeof why, "CONNACK refused, code %d", end - p >= 2 ? p[1] : -1);
        connection_close(c, why);
        return;
    }
    c->session_present = p[0] & 1;
    c->inflight_limit = (uint32_t)options.inflight;
    if (options.version == 5 && end - p > 2) read_connack_properties(c, p + 2, end);
    if ((c->role == ROLE_SUBSCRIBER || c->role == ROLE_STALLED) && !(options.mode == MODE_OFFLINE && options.phase == PHASE_COLLECT)) {
        c->state = STATE_SUBACK;
        send_subscribe(c);
    } else {
        connection_ready(c);
    }
}

static void suback_received(Connection *c, const uint8_t *p, const uint8_t *end)
{
    p += 2;
    if (options.version == 5) {
        uint32_t n = get_varint(&p, end);
        p += n;
    }
    for (; p < end; p++)
        if (*p >= 0x80) {
            connection_close(c, "SUBSCRIBE refused");
            return;
        }
    if (!c->subacks_due || --c->subacks_due || c->state != STATE_SUBACK) return;
    connection_ready(c);
    if (c->role == ROLE_STALLED) stop_reading(c);
}

static inline void publish_received(Connection *c, uint8_t first_byte, const uint8_t *p, const uint8_t *end)
{
    unsigned qos = (first_byte >> 1) & 3;
    const uint8_t *body = p + 2 + get_u16(p), *packet_id = body;
    if (qos) body += 2;
    if (options.version == 5) {
        uint32_t n = get_varint(&body, end);
        body += n;
    }
    if (body > end) {
        connection_close(c, "malformed PUBLISH");
        return;
    }
    if (c->role == ROLE_STALLED) return;
    message_received(c, p + 2, get_u16(p), body, (uint32_t)(end - body));
    if (qos) send_ack(c, qos == 1 || options.raw ? 0x40 : 0x50, packet_id);
}

static inline bool refused(const uint8_t *p, const uint8_t *end)
{
    return end - p > 2 && p[2] >= 0x80; /* a reason code of MQTT 5 */
}

/* PUBACK or PUBCOMP: the exchange is over */
static inline void exchange_completed(Connection *c, const uint8_t *p, const uint8_t *end)
{
    if (refused(p, end)) totals.ack_errors++;
    if (c->inflight) c->inflight--;
    c->acked++;
    totals.acked++;
    if (measuring) measured.acked++;
    if (measuring && c->stamps) histogram_add(&ack_latency, since(c->stamps[get_u16(p)]));
    if (publishing) push_ready(c);
}

static void pubrec_received(Connection *c, const uint8_t *p, const uint8_t *end)
{
    if (!refused(p, end)) {
        send_ack(c, 0x62, p);
        return;
    }
    totals.ack_errors++;
    if (c->inflight) c->inflight--;
    if (publishing) push_ready(c);
}

static inline void packet_received(Connection *c, uint8_t first_byte, const uint8_t *p, const uint8_t *end)
{
    switch (first_byte >> 4) {
    case 3: publish_received(c, first_byte, p, end); break;
    case 4: case 7: exchange_completed(c, p, end); break;
    case 5: pubrec_received(c, p, end); break;
    case 6: send_ack(c, 0x70, p); break;
    case 2:
        if (c->state == STATE_CONNACK) connack_received(c, p, end);
        break;
    case 9: suback_received(c, p, end); break;
    case 14: connection_close(c, "DISCONNECT from the broker"); break;
    default: break;
    }
}

/* The remaining length behind the first byte. Returns the fixed header's length, 0 when it is not all there, or 6 when
 * the length has a fifth byte. */
static inline unsigned read_fixed_header(const uint8_t *p, size_t n, uint32_t *remaining_len)
{
    uint32_t v = 0;
    for (unsigned at = 1; at <= 4; at++) {
        if (at >= n) return 0;
        v |= (uint32_t)(p[at] & 127) << (7 * (at - 1));
        if (!(p[at] & 128)) {
            *remaining_len = v;
            return at + 1;
        }
    }
    return 6;
}

/* Takes as many whole packets as there are; returns the number of bytes used. */
static size_t take_packets(Connection *c, const uint8_t *bytes, size_t n)
{
    size_t at = 0;
    for (;;) {
        uint32_t remaining_len = 0;
        unsigned header_len = read_fixed_header(bytes + at, n - at, &remaining_len);
        if (!header_len) return at;
        if (header_len > 5) {
            connection_close(c, "bad remaining length");
            return n;
        }
        if (n - at - header_len < remaining_len) return at;
        const uint8_t *p = bytes + at + header_len;
        packet_received(c, bytes[at], p, p + remaining_len);
        if (c->state == STATE_DEAD) return n;
        at += header_len + remaining_len;
    }
}

void mqtt_bytes(Connection *c, uint8_t *bytes, size_t n)
{
    size_t used = take_packets(c, bytes, n);
    if (c->state == STATE_DEAD) return;
    keep_bytes(&c->partial, &c->partial_len, &c->partial_cap, bytes + used, n - used);
}
