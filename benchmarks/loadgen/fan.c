/* Expected copies. Filters stand in a hash by their literal prefix, and a topic looks up each of its own prefixes, so
 * that a million filters against a million topics stays cheap. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "topics.h"

#define TABLE_SIZE (1u << 20)
#define WHOLE_GROUP (-1) /* instead of a subscriber: one copy for a shared group */

typedef struct Entry {
    struct Entry *next;
    char *topic_filter;
    int subscriber;
    uint32_t prefix_len;
} Entry;

static uint32_t slot_of(const char *s, size_t n)
{
    uint64_t h = 1469598103934665603ull;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 1099511628211ull;
    return (uint32_t)(h & (TABLE_SIZE - 1));
}

static void add_filter(Entry **table, int subscriber, char *topic_filter)
{
    if (!strncmp(topic_filter, "$share/", 7)) {
        char *inner = strchr(topic_filter + 7, '/');
        if (!inner) die("bad shared filter %s", topic_filter);
        topic_filter = inner + 1;
        subscriber = WHOLE_GROUP;
        shared_subscriptions = true;
    }
    size_t prefix_len = strcspn(topic_filter, "+#");
    uint32_t slot = slot_of(topic_filter, prefix_len);
    Entry *e = xcalloc(1, sizeof *e);
    *e = (Entry){table[slot], topic_filter, subscriber, (uint32_t)prefix_len};
    table[slot] = e;
}

typedef struct {
    uint32_t copies;
    int last_subscriber; /* overlapping filters of one client count once */
    bool shared;
} Fan;

static void add_matches(Entry **table, const char *topic_name, const char *prefix, size_t prefix_len, Fan *fan)
{
    for (const Entry *e = table[slot_of(prefix, prefix_len)]; e; e = e->next) {
        if (e->prefix_len != prefix_len || memcmp(e->topic_filter, prefix, prefix_len)) continue;
        if (e->subscriber >= 0 && e->subscriber == fan->last_subscriber) continue;
        if (!topic_matches(e->topic_filter, topic_name)) continue;
        if (e->subscriber == WHOLE_GROUP) {
            fan->shared = true;
        } else {
            fan->copies++;
            fan->last_subscriber = e->subscriber;
        }
    }
}

/* prefixes: nothing, up to and with each '/', the whole topic, the whole topic and a '/' */
static uint32_t fan_of(Entry **table, const char *topic_name)
{
    Fan fan = {0, -2, false};
    char with_slash[1100];
    size_t len = strlen(topic_name);
    snprintf(with_slash, sizeof with_slash, "%s/", topic_name);
    for (size_t cut = 0; cut <= len + 1; cut++)
        if (cut == 0 || cut >= len || topic_name[cut - 1] == '/') add_matches(table, topic_name, with_slash, cut, &fan);
    return fan.copies + fan.shared;
}

static void free_table(Entry **table)
{
    for (uint32_t i = 0; i < TABLE_SIZE; i++)
        for (Entry *e = table[i], *next; e; e = next) {
            next = e->next;
            free(e);
        }
    free(table);
}

void build_expected_fan(void)
{
    Entry **table = xcalloc(TABLE_SIZE, sizeof *table);
    for (int s = 0; s < subscriber_count; s++)
        for (int k = 0, n = filter_count_of(&subscribers[s]); k < n; k++) add_filter(table, s, filter_of(&subscribers[s], k));
    uint32_t *topic_fan = xcalloc((size_t)topic_count, sizeof *topic_fan);
    for (int t = 0; t < topic_count; t++) topic_fan[t] = fan_of(table, topic_names[t]);
    double sum = 0;
    for (int s = 0; s < stream_count; s++) sum += stream_fan[s] = topic_fan[s % topic_count];
    average_fan = stream_count ? sum / stream_count : 1;
    free(topic_fan);
    free_table(table);
}
