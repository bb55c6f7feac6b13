#include <inttypes.h>

#include "fleet.h"
#include "loop.h"
#include "messages.h"
#include "options.h"
#include "phases.h"
#include "publishing.h"
#include "report.h"
#include "topics.h"

#define NO_PROGRESS_NS 10000000000ull

static void forget_connection(Connection *c)
{
    c->state = STATE_IDLE;
    c->watching_out = c->dirty = false;
    c->partial_len = c->frame_partial_len = 0;
    c->frame_left = 0;
}

/* persistent sessions are made, and their clients leave */
static void run_setup(void)
{
    double duration_s = connect_range(0, subscriber_count);
    report_begin("offline-setup");
    report_field("sessions", "%d", ready_connections);
    report_field("setup_s", "%.3f", duration_s);
    report_end();
    disconnect_range(0, subscriber_count);
    for (int i = 0; i < subscriber_count; i++) forget_connection(&subscribers[i]);
    dirty_count = 0;
    ready_connections = failed_connections = lost_connections = opening_connections = 0;
}

static void publish_all(void)
{
    start_publishing();
    uint64_t progress = run_started_ns, seen = 0;
    while (totals.acked < (uint64_t)options.message_count && now_ns() - progress < NO_PROGRESS_NS) {
        loop_step(now_ns() + 20000000);
        if (totals.acked != seen) {
            seen = totals.acked;
            progress = now_ns();
        }
    }
    publishing = false;
}

static void run_publish(void)
{
    connect_range(subscriber_count, connection_count);
    Moment from = moment_now();
    publish_all();
    Moment to = moment_now();
    double duration_s = seconds_between(&from, &to);
    report_begin("offline-publish");
    report_field("qos", "%d", options.qos);
    report_field("published", "%" PRIu64, totals.sent);
    report_field("acked", "%" PRIu64, totals.acked);
    report_field("ack_errors", "%" PRIu64, totals.ack_errors);
    report_field("expected", "%" PRIu64, totals.expected);
    report_field("publish_s", "%.3f", duration_s);
    report_field("acked_per_s", "%.0f", (double)totals.acked / duration_s);
    report_field("queued_per_s", "%.0f", (double)totals.acked / duration_s * average_fan);
    report_usage(&from, &to, (double)totals.expected);
    report_end();
    disconnect_range(subscriber_count, connection_count);
}

static uint64_t collect_all(void)
{
    uint64_t seen = totals.delivered, last = now_ns();
    while (now_ns() - last < seconds_to_ns(options.drain_s)) {
        loop_step(now_ns() + 20000000);
        if (totals.delivered != seen) {
            seen = totals.delivered;
            last = now_ns();
        }
    }
    return last;
}

static void report_sessions(void)
{
    int present = 0;
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = 0; i < subscriber_count; i++) {
        present += subscribers[i].session_present;
        if (subscribers[i].received < least) least = subscribers[i].received;
        if (subscribers[i].received > most) most = subscribers[i].received;
    }
    report_field("sessions", "%d", subscriber_count);
    report_field("session_present", "%d", present);
    report_field("per_session_min", "%" PRIu64, subscriber_count ? least : 0);
    report_field("per_session_max", "%" PRIu64, most);
}

static void run_collect(void)
{
    options.phase = PHASE_COLLECT; /* no SUBSCRIBE: the session has them */
    uint64_t started = now_ns();
    measuring = true;
    connect_range(0, subscriber_count);
    double duration_s = (double)(collect_all() - started) / 1e9;
    measuring = false;
    uint64_t expected = (uint64_t)((double)options.message_count * average_fan + .5);
    report_begin("offline-collect");
    report_sessions();
    report_field("expected", "%" PRIu64, expected);
    report_field("received", "%" PRIu64, totals.delivered);
    report_field("duplicated", "%" PRIu64, totals.duplicated);
    report_field("reordered", "%" PRIu64, totals.reordered);
    report_field("foreign", "%" PRIu64, totals.foreign);
    report_field("corrupted", "%" PRIu64, totals.corrupted);
    report_field("misrouted", "%" PRIu64, totals.misrouted);
    report_field("lost", "%" PRId64, (int64_t)expected - (int64_t)(totals.delivered - totals.duplicated));
    report_field("collect_s", "%.3f", duration_s);
    report_field("received_per_s", "%.0f", duration_s > 0 ? (double)totals.delivered / duration_s : 0);
    report_end();
    disconnect_all();
}

void run_offline(void)
{
    enum phase wanted = options.phase;
    build_fleet(options.subscriber_count, options.publisher_count, ROLE_PUBLISHER);
    for (int i = 0; i < subscriber_count; i++) subscribers[i].clean = false;
    if (wanted == PHASE_SETUP || wanted == PHASE_ALL) run_setup();
    if (wanted == PHASE_PUBLISH || wanted == PHASE_ALL) run_publish();
    if (wanted == PHASE_COLLECT || wanted == PHASE_ALL) run_collect();
}
