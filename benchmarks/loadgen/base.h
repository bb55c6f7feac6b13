/* Words everything else needs: failing, memory that cannot fail, the clock, chance. Nothing of MQTT. */
#ifndef LOADGEN_BASE_H
#define LOADGEN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *xrealloc(void *p, size_t bytes);
void *xcalloc(size_t count, size_t bytes);
char *xstrdup(const char *s);
uint64_t random_u64(void);

static inline uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static inline uint64_t seconds_to_ns(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

#endif
