/* A latency histogram of nanoseconds with about 0.8 % resolution and a fixed size; it never allocates. */
#ifndef LOADGEN_HISTOGRAM_H
#define LOADGEN_HISTOGRAM_H

#include <stdint.h>

#define SUB_BUCKET_BITS 7
#define BUCKET_COUNT ((64 - SUB_BUCKET_BITS) << SUB_BUCKET_BITS)

typedef struct {
    uint64_t count, max_ns;
    double sum_ns;
    uint64_t buckets[BUCKET_COUNT];
} Histogram;

void histogram_add(Histogram *h, uint64_t value_ns);
double histogram_percentile_us(const Histogram *h, double share);
double histogram_mean_us(const Histogram *h);

#endif
