#define _GNU_SOURCE
#include "topics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

char **topic_names;
uint16_t *topic_name_len;
int topic_count, stream_count;
uint64_t *stream_sequence;
uint32_t *stream_fan;
double average_fan = 1;
bool shared_subscriptions;

/* Appends what the placeholder at pattern stands for; returns its length, or 0 when there is none. */
static size_t expand_one(const char *pattern, const Names *names, char *out, size_t room)
{
    out[0] = 0;
    if (!strncmp(pattern, "{id}", 4)) {
        snprintf(out, room, "%s", names->identity ? names->identity : "");
        return 4;
    }
    if (pattern[0] != '{' || !pattern[1] || !strchr("pikt", pattern[1]) || pattern[2] != '}') return 0;
    if (pattern[1] == 'p')
        snprintf(out, room, "%s", names->peer ? names->peer : "");
    else
        snprintf(out, room, "%ld", pattern[1] == 'i' ? names->index : pattern[1] == 'k' ? names->filter : names->topic);
    return 3;
}

char *expand(const char *pattern, Names names)
{
    char out[1024];
    size_t n = 0;
    while (*pattern && n < sizeof out - 1) {
        size_t taken = expand_one(pattern, &names, out + n, sizeof out - n);
        if (taken) {
            n += strlen(out + n);
            pattern += taken;
        } else {
            out[n++] = *pattern++;
        }
    }
    out[n] = 0;
    return xstrdup(out);
}

bool topic_matches(const char *topic_filter, const char *topic_name)
{
    const char *f = topic_filter, *t = topic_name;
    for (;;) { /* one level */
        if (f[0] == '#') return true;
        if (f[0] == '+') {
            while (*t && *t != '/') t++;
            f++;
        } else {
            while (*f && *f != '/' && *f == *t) f++, t++;
            if ((*f && *f != '/') || (*t && *t != '/')) return false;
        }
        if (!*f) return !*t;
        if (!*t) return f[0] == '/' && f[1] == '#' && !f[2];
        f++, t++; /* both at '/' */
    }
}

/* --shape many: 1,000 subscribers with n filters each (100 by default) over 1,000 n topics s/{x}/d/{y}/t with y < 100.
 * Subscribers 0..899: exact; 900..989: s/x/+/y/t with y < 9; 990..999: s/x/#. No overlap within one client, so that the
 * number of copies is exact (about 2). --topics N: published to the first N topics alone. */
static char *many_filter(int subscriber, int k)
{
    char text[64];
    int n = options.filters_per_client;
    if (subscriber < 900) {
        int g = subscriber * n + k;
        snprintf(text, sizeof text, "s/%d/d/%d/t", g / 100, g % 100);
    } else if (subscriber < 990) {
        int g = (subscriber - 900) * n + k;
        snprintf(text, sizeof text, "s/%d/+/%d/t", g / 9, g % 9);
    } else {
        snprintf(text, sizeof text, "s/%d/#", (subscriber - 990) * n + k);
    }
    return xstrdup(text);
}

static bool many_receives(int subscriber, int topic)
{
    int n = options.filters_per_client, x = topic / 100, y = topic % 100;
    if (subscriber < 900) return subscriber == topic / n;
    if (subscriber < 990) return y < 9 && subscriber == 900 + (x * 9 + y) / n;
    return subscriber == 990 + x / n;
}

/* whether one of its filters matches the topic */
bool is_receiver(const Connection *c, int topic)
{
    if (options.shape == SHAPE_MANY) return many_receives((int)c->index, topic);
    bool found = false;
    for (int k = 0, n = filter_count_of(c); k < n && !found; k++) {
        char *whole = filter_of(c, k), *inner = whole;
        if (!strncmp(whole, "$share/", 7)) inner = strchrnul(whole + 7, '/') + 1;
        found = topic_matches(inner, topic_names[topic]);
        free(whole);
    }
    return found;
}

int filter_count_of(const Connection *c)
{
    if (c->role == ROLE_STALLED) return 1;
    if (options.shape == SHAPE_MANY) return options.filters_per_client;
    int n = 1;
    for (const char *p = options.topic_filter_pattern; *p; p++) n += *p == ';';
    return n;
}

char *filter_of(const Connection *c, int k)
{
    if (c->role == ROLE_STALLED) return xstrdup(options.stalled_filter);
    if (options.shape == SHAPE_MANY) return many_filter((int)c->index, k);
    char pattern[512];
    const char *p = options.topic_filter_pattern;
    for (int n = 0; n < k; n++) p = strchr(p, ';') + 1;
    const char *end = strchrnul(p, ';');
    snprintf(pattern, sizeof pattern, "%.*s", (int)(end - p), p);
    Names names = {.identity = identity_of(c), .index = c->index, .filter = k};
    if (publisher_count) names.peer = identity_of(&publishers[c->index % (uint32_t)publisher_count]);
    if (topic_count) names.topic = (long)c->index % topic_count;
    return expand(pattern, names);
}

static char *topic_name(int t, bool by_publisher)
{
    if (options.shape != SHAPE_MANY)
        return expand(options.topic_name_pattern,
                      (Names){.identity = by_publisher ? identity_of(&publishers[t]) : NULL, .index = t, .topic = t});
    char text[64];
    snprintf(text, sizeof text, "s/%d/d/%d/t", t / 100, t % 100);
    return xstrdup(text);
}

void build_topics(void)
{
    bool many = options.shape == SHAPE_MANY;
    if (many && !options.topic_count) options.topic_count = MANY_SUBSCRIBERS * options.filters_per_client;
    bool by_publisher = !many && (strstr(options.topic_name_pattern, "{id}") || strstr(options.topic_name_pattern, "{i}"));
    topic_count = by_publisher                     ? publisher_count
                  : options.topic_count > 0        ? options.topic_count
                  : options.shape == SHAPE_FANOUT  ? 1
                                                   : publisher_count;
    stream_count = topic_count > publisher_count ? topic_count : publisher_count;
    topic_names = xcalloc((size_t)topic_count, sizeof *topic_names);
    topic_name_len = xcalloc((size_t)topic_count, sizeof *topic_name_len);
    for (int t = 0; t < topic_count; t++) {
        topic_names[t] = topic_name(t, by_publisher);
        topic_name_len[t] = (uint16_t)strlen(topic_names[t]);
    }
    stream_sequence = xcalloc((size_t)stream_count, sizeof *stream_sequence);
    stream_fan = xcalloc((size_t)stream_count, sizeof *stream_fan);
}
