/* The command line: what was asked for, with defaults filled in and contradictions refused. Read by everyone, written
 * by parse_options (and by the offline phase, which runs its steps one after the other). */
#ifndef LOADGEN_OPTIONS_H
#define LOADGEN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum mode { MODE_PUBSUB, MODE_CONNECT, MODE_IDLE, MODE_OFFLINE };
enum shape { SHAPE_P2P, SHAPE_FANIN, SHAPE_FANOUT, SHAPE_MANY };
enum phase { PHASE_ALL, PHASE_SETUP, PHASE_PUBLISH, PHASE_COLLECT };

typedef struct {
    const char *host; /* IPv4 address */
    int port;
    int version; /* 3 is 3.1.1, 5 is 5.0 */
    int qos, subscribe_qos;
    int publisher_count, subscriber_count, topic_count, client_count, stalled_count;
    int payload_bytes;
    int inflight; /* unacknowledged per publisher */
    int transit;  /* published, not yet delivered, per publisher; 0: no limit */
    double rate_per_s; /* all publishers together; 0: as fast as the limits above allow */
    double duration_s, warmup_s, drain_s, trickle_s, hold_s, settle_s;
    const char *username, *password, *subscriber_username, *subscriber_password;
    const char *credentials_path, *subscriber_credentials_path;
    const char *topic_name_pattern, *topic_filter_pattern, *stalled_filter, *client_id_prefix;
    const char *ws_path, *label;
    int broker_pid, broker_core;
    bool json, tls, tls12, resume, ws, raw, spin, random_topics, quiet, retain, marks, persistent, ack_latency;
    enum mode mode;
    enum shape shape;
    enum phase phase;
    int keep_alive_s, burst, source_addresses, receive_maximum, filters_per_packet, filters_per_client;
    long message_count;
    uint64_t seed;
} Options;

extern Options options;
extern const char *const mode_names[], *const shape_names[];

void parse_options(int argc, char **argv); /* exits on --help (0) and on anything wrong (1) */

#endif
