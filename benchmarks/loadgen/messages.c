#include "messages.h"

#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "publishing.h"
#include "topics.h"

#define DENSE_LIMIT 4000000 /* subscribers times streams up to which every subscriber has an array */

Totals totals;
Measured measured;
static uint8_t *filler;

void build_messages(void)
{
    if ((uint64_t)subscriber_count * (uint64_t)stream_count <= DENSE_LIMIT)
        for (int i = 0; i < subscriber_count; i++) subscribers[i].dense = xcalloc((size_t)stream_count, sizeof(Track));
    for (int i = 0; options.ack_latency && i < publisher_count; i++)
        publishers[i].stamps = xcalloc(UINT16_MAX + 1, sizeof *publishers[i].stamps);
    filler = xcalloc(1, (size_t)options.payload_bytes + 1);
    for (int i = 0; i < options.payload_bytes; i++) filler[i] = (uint8_t)('A' + random_u64() % 26);
}

void stamp_payload(uint8_t *p, uint64_t time_ns, uint32_t publisher, uint32_t stream, uint64_t sequence)
{
    memcpy(p, &time_ns, 8);
    memcpy(p + 8, &publisher, 4);
    memcpy(p + 12, &stream, 4);
    memcpy(p + 16, &sequence, 8);
    memcpy(p + STAMP_BYTES, filler, (size_t)options.payload_bytes - STAMP_BYTES);
}

static inline uint32_t slot_of(uint32_t key, uint32_t cap)
{
    return key * 2654435761u & (cap - 1);
}

static void grow_tracks(Connection *c)
{
    uint32_t cap = c->hash_cap ? c->hash_cap * 2 : 64;
    TrackSlot *slots = xcalloc(cap, sizeof *slots);
    for (uint32_t i = 0; i < c->hash_cap; i++) {
        if (!c->hash[i].key) continue;
        uint32_t k = slot_of(c->hash[i].key, cap);
        while (slots[k].key) k = (k + 1) & (cap - 1);
        slots[k] = c->hash[i];
    }
    free(c->hash);
    c->hash = slots;
    c->hash_cap = cap;
}

static inline Track *track_of(Connection *c, uint32_t stream)
{
    if (c->dense) return &c->dense[stream];
    if (c->hash_used * 2 >= c->hash_cap) grow_tracks(c);
    uint32_t key = stream + 1, k = slot_of(key, c->hash_cap);
    while (c->hash[k].key && c->hash[k].key != key) k = (k + 1) & (c->hash_cap - 1);
    if (!c->hash[k].key) {
        c->hash[k].key = key;
        c->hash_used++;
    }
    return &c->hash[k].track;
}

/* True for a repeat. A number more than 63 behind the newest cannot be told from one: it counts as a repeat. */
static inline bool is_duplicate(Track *t, uint64_t sequence)
{
    int64_t ahead = (int64_t)(sequence - t->last);
    if (ahead > 0) {
        t->mask = ahead < 64 ? t->mask << ahead | 1 : 1;
        t->last = sequence;
        return false;
    }
    if (ahead <= -64) return true;
    uint64_t bit = 1ull << -ahead;
    if (t->mask & bit) return true;
    t->mask |= bit;
    totals.reordered++;
    return false;
}

/* The whole of what was sent, and no more: the name of its stream's topic, and the same bytes behind the stamp. */
static inline bool is_as_sent(int topic, const uint8_t *name, unsigned name_len, const uint8_t *payload, uint32_t n)
{
    return name_len == topic_name_len[topic] && !memcmp(name, topic_names[topic], name_len) &&
           n == (uint32_t)options.payload_bytes && !memcmp(payload + STAMP_BYTES, filler, n - STAMP_BYTES);
}

void message_received(Connection *c, const uint8_t *topic_name, unsigned name_len, const uint8_t *payload, uint32_t n)
{
    uint64_t time_ns, sequence;
    uint32_t publisher, stream;
    if (n < STAMP_BYTES) {
        totals.foreign++;
        return;
    }
    memcpy(&time_ns, payload, 8);
    memcpy(&publisher, payload + 8, 4);
    memcpy(&stream, payload + 12, 4);
    memcpy(&sequence, payload + 16, 8);
    if (publisher >= (uint32_t)publisher_count || stream >= (uint32_t)stream_count) {
        totals.foreign++;
        return;
    }
    c->received++;
    totals.delivered++;
    int topic = (int)(stream % (uint32_t)topic_count);
    if (!is_as_sent(topic, topic_name, name_len, payload, n)) totals.corrupted++;
    Track *track = track_of(c, stream);
    if (!track->mask && !options.raw && !is_receiver(c, topic)) totals.misrouted++; /* looked at when a stream is first seen */
    if (is_duplicate(track, sequence)) {
        totals.duplicated++;
    } else {
        publishers[publisher].delivered++;
        if (publishing && options.transit) push_ready(&publishers[publisher]);
    }
    if (measuring) {
        measured.delivered++;
        measured.payload_bytes += n;
        histogram_add(&latency, since(time_ns));
    }
}
