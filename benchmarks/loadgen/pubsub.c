#include <inttypes.h>
#include <stdio.h>

#include "fleet.h"
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
static long idle_rss_kib, end_rss_kib;
static Moment from, to;

static void connect_fleet(void)
{
    build_fleet(options.subscriber_count, options.publisher_count, ROLE_PUBLISHER);
    connect_s = connect_range(0, subscriber_count) + connect_range(subscriber_count, connection_count);
    if (failed_connections) fprintf(stderr, "loadgen: %d connections failed\n", failed_connections);
    if (ready_connections == 0) die("no connection");
    idle_rss_kib = usage_of(options.broker_pid).rss_kib;
    loop_until(now_ns() + PAUSE_NS);
}

static void measure(void)
{
    start_publishing();
    loop_until(run_started_ns + seconds_to_ns(options.warmup_s));
    from = moment_now();
    measuring = true;
    loop_until(from.at_ns + seconds_to_ns(options.duration_s));
    measuring = false;
    to = moment_now();
    publishing = false;
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
    report_field("connections_failed", "%d", failed_connections);
    report_field("connections_lost", "%d", lost_connections);
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
    report_faults();
    report_field("connect_s", "%.3f", connect_s);
    report_usage(&from, &to, (double)measured.delivered);
    if (options.broker_pid > 0) {
        report_field("broker_rss_idle_kib", "%ld", idle_rss_kib);
        report_field("broker_rss_end_kib", "%ld", end_rss_kib);
    }
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
