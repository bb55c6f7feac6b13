#include "fleet.h"
#include "io.h"
#include "loop.h"
#include "options.h"
#include "phases.h"
#include "report.h"

/* Memory is taken after a pause, so that what the broker frees late is not counted; then it is watched doing nothing. */
void run_connect(void)
{
    build_fleet(0, options.client_count, ROLE_PLAIN);
    Moment before = moment_now();
    double duration_s = connect_range(0, connection_count);
    Moment connected = moment_now();
    loop_until(connected.at_ns + seconds_to_ns(options.settle_s));
    Moment settled = moment_now();
    loop_until(settled.at_ns + seconds_to_ns(options.hold_s));
    Moment held = moment_now();
    double cpu_s = connected.broker.cpu_s - before.broker.cpu_s;
    long grown_kib = settled.broker.rss_kib - before.broker.rss_kib;
    report_begin("connect");
    report_field("clients", "%d", connection_count);
    report_field("connected", "%d", ready_connections);
    report_field("connections_failed", "%d", failed_connections);
    report_field("connections_lost", "%d", lost_connections);
    report_field("burst", "%d", options.burst);
    report_field("resumed", "%ld", tls_resumed);
    report_field("duration_s", "%.3f", duration_s);
    report_field("connects_per_s", "%.0f", ready_connections / duration_s);
    report_latency("connect", &connect_latency);
    report_usage(&before, &connected, 0);
    if (options.broker_pid > 0) {
        report_field("connects_per_cpu_s", "%.0f", cpu_s > 0 ? ready_connections / cpu_s : 0);
        report_field("rss_before_kib", "%ld", before.broker.rss_kib);
        report_field("rss_after_kib", "%ld", settled.broker.rss_kib);
        report_field("rss_per_connection_bytes", "%.0f", ready_connections ? (double)grown_kib * 1024 / ready_connections : 0);
        if (options.hold_s > 0) report_field("idle_cpu_share", "%.4f", (held.broker.cpu_s - settled.broker.cpu_s) / options.hold_s);
    }
    report_end();
    disconnect_all();
}
