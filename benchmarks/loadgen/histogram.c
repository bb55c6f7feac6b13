#include "histogram.h"

static inline unsigned bucket_of(uint64_t v)
{
    if (v < (1u << SUB_BUCKET_BITS)) return (unsigned)v;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(v);
    unsigned low = (unsigned)((v >> (exponent - SUB_BUCKET_BITS)) & ((1u << SUB_BUCKET_BITS) - 1));
    return ((exponent - SUB_BUCKET_BITS + 1) << SUB_BUCKET_BITS) + low;
}

/* the middle of what bucket i holds */
static uint64_t bucket_value(unsigned i)
{
    if (i < (1u << SUB_BUCKET_BITS)) return i;
    unsigned exponent = (i >> SUB_BUCKET_BITS) + SUB_BUCKET_BITS - 1;
    uint64_t mantissa = (i & ((1u << SUB_BUCKET_BITS) - 1)) | (1u << SUB_BUCKET_BITS);
    return (mantissa << (exponent - SUB_BUCKET_BITS)) + (1ull << (exponent - SUB_BUCKET_BITS)) / 2;
}

void histogram_add(Histogram *h, uint64_t value_ns)
{
    h->count++;
    h->sum_ns += (double)value_ns;
    if (value_ns > h->max_ns) h->max_ns = value_ns;
    h->buckets[bucket_of(value_ns)]++;
}

double histogram_percentile_us(const Histogram *h, double share)
{
    if (!h->count) return 0;
    uint64_t wanted = (uint64_t)(share * (double)h->count), seen = 0;
    if (wanted >= h->count) wanted = h->count - 1;
    for (unsigned i = 0; i < BUCKET_COUNT; i++) {
        seen += h->buckets[i];
        if (seen > wanted) {
            uint64_t v = bucket_value(i);
            return (double)(v > h->max_ns ? h->max_ns : v) / 1e3;
        }
    }
    return (double)h->max_ns / 1e3;
}

double histogram_mean_us(const Histogram *h)
{
    return h->count ? h->sum_ns / (double)h->count / 1e3 : 0;
}
