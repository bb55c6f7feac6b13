#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fleet.h"
#include "io.h"
#include "loop.h"
#include "messages.h"
#include "options.h"
#include "phases.h"
#include "publishing.h"
#include "report.h"
#include "topics.h"

#define PAUSE_NS 200000000ull        /* between the last SUBACK and the first PUBLISH */
#define LATE_NS 100000000ull         /* after the drain: late duplicates */
#define NO_PROGRESS_NS 2000000000ull /* a drain in which nothing comes is over */

static double connect_s;
static long start_rss_kib, idle_rss_kib, end_rss_kib, subscription_count;
static int stalled_cut;
static Moment from, to;
static Histogram undisturbed_latency; /* before anyone stalled */

static void connect_fleet(void)
{
    build_fleet(options.subscriber_count, options.publisher_count, ROLE_PUBLISHER);
    for (int i = 0; i < subscriber_count; i++) subscription_count += filter_count_of(&subscribers[i]);
    start_rss_kib = usage_of(options.broker_pid).rss_kib;
    connect_s = connect_range(0, subscriber_count) + connect_range(subscriber_count, subscriber_count + publisher_count);
    if (failed_connections) fprintf(stderr, "loadgen: %d connections failed\n", failed_connections);
    if (ready_connections == 0) die("no connection");
    loop_until(now_ns() + PAUSE_NS);
    idle_rss_kib = usage_of(options.broker_pid).rss_kib;
}

/* for whoever wants to look at the broker at that moment */
static void mark(const char *what)
{
    if (!options.marks) return;
    puts(what);
    fflush(stdout);
}

static void measure_once(void)
{
    loop_until(now_ns() + seconds_to_ns(options.warmup_s));
    mark("measuring");
    memset(&measured, 0, sizeof measured);
    memset(&latency, 0, sizeof latency);
    memset(&ack_latency, 0, sizeof ack_latency);
    idle_total_ns = 0;
    from = moment_now();
    measuring = true;
    loop_until(from.at_ns + seconds_to_ns(options.duration_s));
    measuring = false;
    to = moment_now();
    mark("measured");
}

/* With readers that stall the same clients are measured twice: the first time undisturbed. */
static void measure(void)
{
    start_publishing();
    if (stalled_count) {
        measure_once();
        undisturbed_latency = latency;
        connect_range(connection_count - stalled_count, connection_count);
    }
    measure_once();
    publishing = false;
    for (int i = 0; i < stalled_count; i++) stalled_cut += was_cut(&stalled[i]);
}

static bool all_arrived(void)
{
    if (totals.delivered - totals.duplicated < totals.expected) return false;
    for (int i = 0; options.qos && i < publisher_count; i++)
        if (publishers[i].state == STATE_READY && publishers[i].inflight) return false;
    return true;
}

static void drain(void)
{
    uint64_t seen = 0, progress = now_ns(), stop = progress + seconds_to_ns(options.drain_s);
    while (now_ns() < stop && !all_arrived()) {
        loop_step(now_ns() + 20000000);
        if (totals.delivered + totals.acked != seen) {
            seen = totals.delivered + totals.acked;
            progress = now_ns();
        } else if (now_ns() - progress > NO_PROGRESS_NS) {
            break;
        }
    }
    loop_until(now_ns() + LATE_NS);
    end_rss_kib = usage_of(options.broker_pid).rss_kib;
}

static void report_setting(void)
{
    report_begin(options.mode == MODE_IDLE ? "idle" : options.raw ? "raw" : "pubsub");
    report_field("shape", "\"%s\"", shape_names[options.shape]);
    report_field("qos", "%d", options.qos);
    report_field("publishers", "%d", publisher_count);
    report_field("subscribers", "%d", subscriber_count);
    report_field("topics", "%d", topic_count);
    report_field("payload_bytes", "%d", options.payload_bytes);
    report_field("inflight", "%d", options.inflight);
    report_field("transit", "%d", options.transit);
    report_field("rate_per_s", "%.0f", options.rate_per_s);
    report_field("fan", "%.3f", average_fan);
}

static void report_faults(void)
{
    int64_t lost = (int64_t)totals.expected - (int64_t)(totals.delivered - totals.duplicated);
    report_field("sent", "%" PRIu64, totals.sent);
    report_field("expected", "%" PRIu64, totals.expected);
    report_field("delivered", "%" PRIu64, totals.delivered);
    report_field("lost", "%" PRId64, shared_subscriptions && lost < 0 ? 0 : lost);
    report_field("duplicated", "%" PRIu64, totals.duplicated);
    report_field("reordered", "%" PRIu64, shared_subscriptions ? 0 : totals.reordered);
    report_field("written_off", "%" PRIu64, totals.written_off);
    report_field("ack_errors", "%" PRIu64, totals.ack_errors);
    report_field("foreign", "%" PRIu64, totals.foreign);
    report_field("corrupted", "%" PRIu64, totals.corrupted);
    report_field("misrouted", "%" PRIu64, totals.misrouted);
    report_field("connections_failed", "%d", failed_connections);
    report_field("connections_lost", "%d", lost_connections);
}

static void report_stalled(void)
{
    if (!stalled_count) return;
    report_field("stalled_readers", "%d", stalled_count);
    report_field("stalled_cut", "%d", stalled_cut);
    report_latency("undisturbed_latency", &undisturbed_latency);
}

static void report_memory(void)
{
    if (options.broker_pid <= 0) return;
    report_field("broker_rss_start_kib", "%ld", start_rss_kib);
    report_field("broker_rss_idle_kib", "%ld", idle_rss_kib);
    report_field("broker_rss_end_kib", "%ld", end_rss_kib);
    double grown_bytes = (double)(idle_rss_kib - start_rss_kib) * 1024;
    report_field("rss_per_subscription_bytes", "%.1f", subscription_count ? grown_bytes / (double)subscription_count : 0);
}

static void report(void)
{
    double duration_s = seconds_between(&from, &to);
    report_setting();
    report_field("duration_s", "%.3f", duration_s);
    report_field("sent_per_s", "%.0f", (double)measured.sent / duration_s);
    report_field("acked_per_s", "%.0f", (double)measured.acked / duration_s);
    report_field("delivered_per_s", "%.0f", (double)measured.delivered / duration_s);
    report_field("payload_bytes_per_s", "%.0f", (double)measured.payload_bytes / duration_s);
    report_latency("latency", &latency);
    if (options.ack_latency) report_latency("ack_latency", &ack_latency);
    report_stalled();
    report_faults();
    report_field("subscriptions", "%ld", subscription_count);
    report_field("connect_s", "%.3f", connect_s);
    report_usage(&from, &to, (double)measured.delivered);
    report_memory();
    if (options.spin) report_field("generator_busy_share", "%.3f", 1 - (double)idle_total_ns / 1e9 / duration_s);
    report_end();
}

void run_pubsub(void)
{
    connect_fleet();
    measure();
    drain();
    report();
    disconnect_all();
}
