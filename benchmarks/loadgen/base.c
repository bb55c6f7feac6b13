#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

void die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

void *xrealloc(void *p, size_t bytes)
{
    p = realloc(p, bytes);
    if (!p) die("out of memory (%zu bytes)", bytes);
    return p;
}

void *xcalloc(size_t count, size_t bytes)
{
    void *p = calloc(count ? count : 1, bytes);
    if (!p) die("out of memory");
    return p;
}

char *xstrdup(const char *s)
{
    char *copy = strdup(s);
    if (!copy) die("out of memory");
    return copy;
}

/* xorshift: the same --seed gives the same topics, masks and fillers */
uint64_t random_u64(void)
{
    static uint64_t s;
    if (!s) s = options.seed * 0x9E3779B97F4A7C15ull + 1;
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return s;
}
