/* What was found, as one JSON object a line (--json) or one field a line. */
#ifndef LOADGEN_REPORT_H
#define LOADGEN_REPORT_H

#include "histogram.h"
#include "usage.h"

/* A moment: what had been used until then. */
typedef struct {
    uint64_t at_ns;
    Usage broker;
    CoreTime core;
    double own_cpu_s;
} Moment;

Moment moment_now(void);
double seconds_between(const Moment *a, const Moment *b);

void report_begin(const char *mode);
void report_field(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
void report_latency(const char *name, const Histogram *h);
void report_usage(const Moment *a, const Moment *b, double deliveries);
void report_end(void);

#endif
