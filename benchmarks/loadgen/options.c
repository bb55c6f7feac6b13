#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "messages.h"

Options options = {
    .host = "127.0.0.1", .port = 1883, .version = 3, .subscribe_qos = -1, .publisher_count = 1, .subscriber_count = 1,
    .client_count = 1000, .payload_bytes = 100, .inflight = 100, .transit = -1, .duration_s = 5, .warmup_s = 1,
    .drain_s = 5, .trickle_s = 10, .hold_s = 1, .settle_s = 1, .client_id_prefix = "loadgen-", .broker_core = -1,
    .ws_path = "/mqtt", .stalled_filter = "#", .keep_alive_s = 60, .burst = 64, .filters_per_packet = 50, .filters_per_client = 100,
    .message_count = 1000, .seed = 1,
};

const char *const mode_names[] = {"pubsub", "connect", "idle", "offline", NULL};
const char *const shape_names[] = {"p2p", "fanin", "fanout", "many", NULL};
static const char *const phase_names[] = {"all", "setup", "publish", "collect", NULL};

enum kind { TEXT, INTEGER, LONG, REAL, FLAG, SEED, MODE, SHAPE, PHASE };

/* One row per option: where its value goes and how it is read. */
static const struct row {
    const char *name;
    enum kind kind;
    void *value;
} rows[] = {
    {"host", TEXT, &options.host},
    {"port", INTEGER, &options.port},
    {"version", INTEGER, &options.version},
    {"qos", INTEGER, &options.qos},
    {"subscribe-qos", INTEGER, &options.subscribe_qos},
    {"publishers", INTEGER, &options.publisher_count},
    {"subscribers", INTEGER, &options.subscriber_count},
    {"topics", INTEGER, &options.topic_count},
    {"clients", INTEGER, &options.client_count},
    {"payload-bytes", INTEGER, &options.payload_bytes},
    {"inflight", INTEGER, &options.inflight},
    {"transit", INTEGER, &options.transit},
    {"rate-per-s", REAL, &options.rate_per_s},
    {"duration-s", REAL, &options.duration_s},
    {"warmup-s", REAL, &options.warmup_s},
    {"drain-s", REAL, &options.drain_s},
    {"trickle-s", REAL, &options.trickle_s},
    {"hold-s", REAL, &options.hold_s},
    {"settle-s", REAL, &options.settle_s},
    {"username", TEXT, &options.username},
    {"password", TEXT, &options.password},
    {"subscriber-username", TEXT, &options.subscriber_username},
    {"subscriber-password", TEXT, &options.subscriber_password},
    {"credentials", TEXT, &options.credentials_path},
    {"subscriber-credentials", TEXT, &options.subscriber_credentials_path},
    {"topic-name", TEXT, &options.topic_name_pattern},
    {"topic-filter", TEXT, &options.topic_filter_pattern},
    {"filters-per-client", INTEGER, &options.filters_per_client},
    {"stalled-readers", INTEGER, &options.stalled_count},
    {"stalled-filter", TEXT, &options.stalled_filter},
    {"client-id-prefix", TEXT, &options.client_id_prefix},
    {"broker-pid", INTEGER, &options.broker_pid},
    {"broker-core", INTEGER, &options.broker_core},
    {"json", FLAG, &options.json},
    {"tls", FLAG, &options.tls},
    {"tls12", FLAG, &options.tls12},
    {"resume", FLAG, &options.resume},
    {"ws", FLAG, &options.ws},
    {"ws-path", TEXT, &options.ws_path},
    {"raw", FLAG, &options.raw},
    {"spin", FLAG, &options.spin},
    {"random-topics", FLAG, &options.random_topics},
    {"quiet", FLAG, &options.quiet},
    {"retain", FLAG, &options.retain},
    {"persistent", FLAG, &options.persistent},
    {"marks", FLAG, &options.marks},
    {"ack-latency", FLAG, &options.ack_latency},
    {"label", TEXT, &options.label},
    {"mode", MODE, &options.mode},
    {"shape", SHAPE, &options.shape},
    {"phase", PHASE, &options.phase},
    {"keep-alive-s", INTEGER, &options.keep_alive_s},
    {"burst", INTEGER, &options.burst},
    {"source-addresses", INTEGER, &options.source_addresses},
    {"receive-maximum", INTEGER, &options.receive_maximum},
    {"count", LONG, &options.message_count},
    {"seed", SEED, &options.seed},
};
#define ROWS ((int)(sizeof rows / sizeof rows[0]))

static void print_usage(void)
{
    puts("loadgen: load generator for MQTT brokers; see docs/benchmarks.md\n"
         "  --mode pubsub|connect|idle|offline   --shape p2p|fanin|fanout|many\n"
         "  --host IP --port N --version 3|5 --tls --tls12 (not 1.3) --resume (session tickets) --ws --ws-path PATH\n"
         "  --qos Q --subscribe-qos Q --publishers N --subscribers M --topics T --payload-bytes N --retain\n"
         "  --persistent (subscribers keep their sessions)\n"
         "  --inflight N (unacknowledged per publisher) --transit N (published, not yet delivered, per publisher)\n"
         "  --rate-per-s R (in total, 0: unlimited) --duration-s S --warmup-s S --drain-s S\n"
         "  --username P --password P --subscriber-username P --subscriber-password P \n"
         "  --credentials FILE --subscriber-credentials FILE ('client_id username password' lines)\n"
         "  --topic-name P --topic-filter F[;F...] --random-topics --client-id-prefix P\n"
         "  --filters-per-client N (--shape many: so many for each of its 1,000 subscribers)\n"
         "  --stalled-readers N --stalled-filter F (measured without them first, then with them: they never read)\n"
         "    {id}: user name or else client id, {i}: its number, {p}: {id} of the publisher with that number, {t}: topic\n"
         "  --clients N --burst K --hold-s S --settle-s S (connect)   --trickle-s S (idle)\n"
         "  --phase all|setup|publish|collect --count N (offline)\n"
         "  --keep-alive-s S --receive-maximum N --source-addresses K --spin --raw\n"
         "  --broker-pid PID --broker-core N --label L --json --quiet --seed N\n"
         "  --marks (a line when the measured time begins and when it ends)\n"
         "  --ack-latency (QoS 1 and 2: from when a message was due until its PUBACK or PUBCOMP; half a MiB for each publisher)");
}

static int pick(const char *value, const char *const *names, const char *option)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(value, names[i])) return i;
    die("bad --%s: %s", option, value);
}

static void store(const struct row *r, const char *value)
{
    switch (r->kind) {
    case TEXT: *(const char **)r->value = value; break;
    case INTEGER: *(int *)r->value = atoi(value); break;
    case LONG: *(long *)r->value = atol(value); break;
    case REAL: *(double *)r->value = atof(value); break;
    case FLAG: *(bool *)r->value = true; break;
    case SEED: *(uint64_t *)r->value = strtoull(value, NULL, 0); break;
    case MODE: *(enum mode *)r->value = (enum mode)pick(value, mode_names, r->name); break;
    case SHAPE: *(enum shape *)r->value = (enum shape)pick(value, shape_names, r->name); break;
    case PHASE: *(enum phase *)r->value = (enum phase)pick(value, phase_names, r->name); break;
    }
}

static void refuse_contradictions(void)
{
    if (options.version != 3 && options.version != 5) die("--version 3 (that is 3.1.1) or 5");
    if (options.qos < 0 || options.qos > 2) die("bad --qos");
    if (options.payload_bytes < STAMP_BYTES) die("--payload-bytes must be at least %d", STAMP_BYTES);
    if (options.publisher_count < 1 && options.mode != MODE_CONNECT) die("--publishers must be at least 1");
    if (options.inflight < 1 || options.inflight > 60000) die("--inflight 1..60000");
    if (options.shape == SHAPE_MANY && options.topic_count > 1000 * options.filters_per_client) die("too many --topics");
    if (options.filters_per_client < 1 || options.filters_per_client > 10000) die("--filters-per-client 1..10000");
    if (options.stalled_count && options.mode != MODE_PUBSUB) die("--stalled-readers: in --mode pubsub alone");
    if (options.ack_latency && !options.qos) die("--ack-latency: nothing is acknowledged at QoS 0");
#ifdef NOTLS
    if (options.tls) die("built without TLS");
#endif
}

static void fill_defaults(void)
{
    if (options.mode == MODE_IDLE) {
        options.shape = SHAPE_FANIN;
        options.publisher_count = options.client_count;
        if (options.rate_per_s <= 0 && options.trickle_s > 0) options.rate_per_s = options.client_count / options.trickle_s;
    }
    if (options.shape == SHAPE_MANY) {
        options.subscriber_count = 1000;
        options.random_topics = true;
    }
    if (options.mode == MODE_OFFLINE && !options.qos) options.qos = 1;
    if (options.subscribe_qos < 0) options.subscribe_qos = options.qos;
    if (options.mode == MODE_OFFLINE || (options.transit < 0 && options.rate_per_s > 0))
        options.transit = 0;
    else if (options.transit < 0) /* QoS 0: the window itself, else twice the window */
        options.transit = options.qos ? 2 * options.inflight : options.inflight;
    bool by_topic = options.shape == SHAPE_FANOUT || options.topic_count > 0;
    if (!options.topic_name_pattern) options.topic_name_pattern = by_topic ? "load/{t}" : "load/{i}";
    if (!options.topic_filter_pattern)
        options.topic_filter_pattern = options.shape != SHAPE_P2P ? "load/+" : options.topic_count > 0 ? "load/{t}" : "load/{i}";
}

void parse_options(int argc, char **argv)
{
    struct option table[ROWS + 2] = {0};
    for (int i = 0; i < ROWS; i++)
        table[i] = (struct option){rows[i].name, rows[i].kind == FLAG ? no_argument : required_argument, 0, 256 + i};
    table[ROWS] = (struct option){"help", no_argument, 0, 'h'};
    int c;
    while ((c = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        if (c == 'h') {
            print_usage();
            exit(0);
        }
        if (c < 256) exit(1); /* getopt has said what is wrong */
        store(&rows[c - 256], optarg);
    }
    if (optind < argc) die("unexpected argument %s", argv[optind]);
    fill_defaults();
    refuse_contradictions();
}
