#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "options.h"

static char text[16384];
static size_t length;

Moment moment_now(void)
{
    Moment m = {now_ns(), usage_of(options.broker_pid), core_time_of(options.broker_core), own_cpu_s()};
    return m;
}

double seconds_between(const Moment *a, const Moment *b)
{
    return (double)(b->at_ns - a->at_ns) / 1e9;
}

static void append(const char *format, va_list ap)
{
    int n = vsnprintf(text + length, sizeof text - length, format, ap);
    if (n < 0 || length + (size_t)n >= sizeof text) die("report too long");
    length += (size_t)n;
}

static void append_plain(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    append(format, ap);
    va_end(ap);
}

void report_field(const char *name, const char *format, ...)
{
    append_plain("%s\"%s\": ", length > 1 ? ", " : "", name);
    va_list ap;
    va_start(ap, format);
    append(format, ap);
    va_end(ap);
}

static const char *transport(void)
{
    if (options.ws) return options.tls ? "wss" : "ws";
    return options.tls ? "tls" : "tcp";
}

void report_begin(const char *mode)
{
    length = 0;
    append_plain("{");
    if (options.label) report_field("label", "\"%s\"", options.label);
    report_field("mode", "\"%s\"", mode);
    report_field("transport", "\"%s\"", transport());
    report_field("version", "%d", options.version);
}

static void print_lines(void)
{
    for (const char *p = text + 1; *p && p[1]; p++) {
        if (*p == ',' && p[1] == ' ') {
            putchar('\n');
            p++;
        } else if (*p != '"') {
            putchar(*p);
        }
    }
    putchar('\n');
}

void report_end(void)
{
    append_plain("}");
    if (options.json)
        puts(text);
    else
        print_lines();
    fflush(stdout);
}

void report_latency(const char *name, const Histogram *h)
{
    static const double shares[] = {.5, .9, .99, .999};
    static const char *const names[] = {"p50", "p90", "p99", "p999"};
    char field[64];
    for (int i = 0; i < 4; i++) {
        snprintf(field, sizeof field, "%s_%s_us", name, names[i]);
        report_field(field, "%.1f", histogram_percentile_us(h, shares[i]));
    }
    snprintf(field, sizeof field, "%s_max_us", name);
    report_field(field, "%.1f", (double)h->max_ns / 1e3);
    snprintf(field, sizeof field, "%s_mean_us", name);
    report_field(field, "%.1f", histogram_mean_us(h));
}

static void report_broker(const Usage *a, const Usage *b, double duration_s, double deliveries)
{
    double cpu_s = b->cpu_s - a->cpu_s;
    report_field("broker_cpu_s", "%.4f", cpu_s);
    report_field("broker_cpu_share", "%.3f", cpu_s / duration_s);
    report_field("broker_user_s", "%.2f", b->user_s - a->user_s);
    report_field("broker_system_s", "%.2f", b->system_s - a->system_s);
    if (deliveries > 0) report_field("delivered_per_cpu_s", "%.0f", cpu_s > 0 ? deliveries / cpu_s : 0);
    report_field("broker_rss_kib", "%ld", b->rss_kib);
    report_field("broker_peak_rss_kib", "%ld", b->peak_rss_kib);
    report_field("broker_threads", "%d", b->threads);
}

static void report_core(const CoreTime *a, const CoreTime *b)
{
    double total_s = b->total_s - a->total_s;
    if (total_s <= 0) total_s = 1e9; /* no such core: shares of nothing */
    report_field("core_busy_share", "%.3f", (b->busy_s - a->busy_s) / total_s);
    report_field("core_softirq_share", "%.3f", (b->softirq_s - a->softirq_s) / total_s);
    report_field("core_steal_share", "%.4f", (b->steal_s - a->steal_s) / total_s);
}

void report_usage(const Moment *a, const Moment *b, double deliveries)
{
    double duration_s = seconds_between(a, b);
    if (options.broker_pid > 0) report_broker(&a->broker, &b->broker, duration_s, deliveries);
    if (options.broker_core >= 0) report_core(&a->core, &b->core);
    report_field("generator_cpu_share", "%.3f", (b->own_cpu_s - a->own_cpu_s) / duration_s);
}
