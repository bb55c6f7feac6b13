#include <stdlib.h>
#include <string.h>

#include "messages.h"
#include "options.h"
#include "packets.h"
#include "topics.h"
#include "wire.h"

#define SESSION_EXPIRY_S 14400u

void send_empty(Connection *c, uint8_t first_byte)
{
    uint8_t *p = packet_begin(c, 2);
    p[0] = first_byte;
    p[1] = 0;
    packet_end(c, p + 2);
}

/* ------------------------------------------------------------------ CONNECT */

static uint32_t connect_properties_len(const Connection *c)
{
    return (c->clean ? 0 : 5) + (options.receive_maximum ? 3 : 0);
}

static uint8_t *put_connect_properties(const Connection *c, uint8_t *p)
{
    p = put_varint(p, connect_properties_len(c));
    if (!c->clean) {
        *p++ = 17;
        p = put_u16(p, SESSION_EXPIRY_S >> 16);
        p = put_u16(p, SESSION_EXPIRY_S & 0xFFFF);
    }
    if (options.receive_maximum) {
        *p++ = 33;
        p = put_u16(p, (unsigned)options.receive_maximum);
    }
    return p;
}

static uint32_t str_len(const char *s)
{
    return s ? 2 + (uint32_t)strlen(s) : 0;
}

static uint8_t connect_flags(const Connection *c)
{
    return (uint8_t)((c->clean ? 0x02 : 0) | (c->username ? 0x80 : 0) | (c->username && c->password ? 0x40 : 0));
}

void send_connect(Connection *c)
{
    uint8_t flags = connect_flags(c);
    uint32_t len = 10 + str_len(c->client_id) + str_len(c->username) + (flags & 0x40 ? str_len(c->password) : 0);
    if (options.version == 5) len += (uint32_t)varint_len(connect_properties_len(c)) + connect_properties_len(c);
    uint8_t *p = packet_begin(c, 1 + (uint32_t)varint_len(len) + len);
    *p++ = 0x10;
    p = put_varint(p, len);
    p = put_str(p, "MQTT");
    *p++ = options.version == 5 ? 5 : 4;
    *p++ = flags;
    p = put_u16(p, (unsigned)options.keep_alive_s);
    if (options.version == 5) p = put_connect_properties(c, p);
    p = put_str(p, c->client_id);
    if (flags & 0x80) p = put_str(p, c->username);
    if (flags & 0x40) p = put_str(p, c->password);
    packet_end(c, p);
}

/* ---------------------------------------------------------------- SUBSCRIBE */

static void take_packet_id(Connection *c)
{
    if (!++c->packet_id) c->packet_id = 1;
}

/* Stalled readers subscribe with QoS 0 and the wanted one in turn: a broker keeps the two apart. */
static uint8_t subscribe_qos_of(const Connection *c)
{
    return c->role == ROLE_STALLED && c->index % 2 == 0 ? 0 : (uint8_t)options.subscribe_qos;
}

static void send_filters(Connection *c, int first, int count)
{
    char **topic_filters = xcalloc((size_t)count, sizeof *topic_filters);
    uint32_t len = 2 + (options.version == 5);
    for (int i = 0; i < count; i++) {
        topic_filters[i] = filter_of(c, first + i);
        len += 1 + str_len(topic_filters[i]);
    }
    uint8_t *p = packet_begin(c, 1 + (uint32_t)varint_len(len) + len);
    *p++ = 0x82;
    p = put_varint(p, len);
    take_packet_id(c);
    p = put_u16(p, c->packet_id);
    if (options.version == 5) *p++ = 0;
    for (int i = 0; i < count; i++) {
        p = put_str(p, topic_filters[i]);
        *p++ = subscribe_qos_of(c);
        free(topic_filters[i]);
    }
    packet_end(c, p);
    free(topic_filters);
    c->subacks_due++;
}

void send_subscribe(Connection *c)
{
    int count = filter_count_of(c);
    c->subacks_due = 0;
    for (int done = 0; done < count; done += options.filters_per_packet) {
        int rest = count - done;
        send_filters(c, done, rest < options.filters_per_packet ? rest : options.filters_per_packet);
    }
}

/* ------------------------------------------------------------------ PUBLISH */

/* The publisher's own streams in turn, or at random. */
static inline uint32_t choose_stream(Connection *c)
{
    uint32_t step = (uint32_t)publisher_count, turn = 0;
    uint32_t own = ((uint32_t)stream_count - c->index + step - 1) / step;
    if (own > 1) turn = options.random_topics ? (uint32_t)(random_u64() % own) : c->stream_turn++ % own;
    return c->index + turn * step;
}

void encode_publish(Connection *c, uint64_t stamp_ns)
{
    uint32_t stream = choose_stream(c), topic = stream % (uint32_t)topic_count, name_len = topic_name_len[topic];
    uint32_t len = 2 + name_len + (options.qos ? 2 : 0) + (options.version == 5) + (uint32_t)options.payload_bytes;
    uint8_t *p = packet_begin(c, 1 + (uint32_t)varint_len(len) + len);
    *p++ = (uint8_t)(0x30 | options.qos << 1 | (options.retain ? 1 : 0));
    p = put_varint(p, len);
    p = put_u16(p, name_len);
    memcpy(p, topic_names[topic], name_len);
    p += name_len;
    if (options.qos) {
        take_packet_id(c);
        p = put_u16(p, c->packet_id);
        c->inflight++;
        if (c->stamps) c->stamps[c->packet_id] = stamp_ns;
    }
    if (options.version == 5) *p++ = 0;
    stamp_payload(p, stamp_ns, c->index, stream, ++stream_sequence[stream]);
    packet_end(c, p + options.payload_bytes);
    c->expected += stream_fan[stream];
    totals.expected += stream_fan[stream];
    totals.sent++;
    if (measuring) measured.sent++;
}
