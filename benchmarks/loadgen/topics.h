/* Topic names and filters of the fleet, and how many copies of each stream's messages are to be expected. The matching
 * here is the generator's own, so that a broker's mistake shows. */
#ifndef LOADGEN_TOPICS_H
#define LOADGEN_TOPICS_H

#include "connection.h"

#define MANY_SUBSCRIBERS 1000

/* A stream is what one publisher sends on one topic: stream s is of publisher s % publisher_count and of topic
 * s % topic_count. */
extern char **topic_names;
extern uint16_t *topic_name_len;
extern int topic_count, stream_count;
extern uint64_t *stream_sequence; /* last sequence number sent */
extern uint32_t *stream_fan;      /* copies of one message */
extern double average_fan;
extern bool shared_subscriptions;

/* What placeholders stand for: {id}, {p}, {i}, {k}, {t}. NULL texts expand to nothing. */
typedef struct {
    const char *identity; /* user name, or else client id */
    const char *peer;     /* identity of the publisher with the same index */
    long index, filter, topic;
} Names;

char *expand(const char *pattern, Names names);
bool topic_matches(const char *topic_filter, const char *topic_name);
int filter_count_of(const Connection *c);
char *filter_of(const Connection *c, int k);
bool is_receiver(const Connection *c, int topic);
void build_topics(void);
void build_expected_fan(void);

#endif
