/* What the broker's processes and its core have used, read from /proc. Linux only; changes nothing it looks at. */
#ifndef LOADGEN_USAGE_H
#define LOADGEN_USAGE_H

/* All threads and child processes of one process together. */
typedef struct {
    double cpu_s;          /* exact scheduler time where the kernel keeps it, else clock ticks */
    double user_s, system_s; /* clock ticks: coarse, for the proportion only */
    long rss_kib, peak_rss_kib;
    int processes, threads;
} Usage;

/* Time since boot that one core has spent, whoever used it. */
typedef struct {
    double busy_s, softirq_s, steal_s, total_s;
} CoreTime;

Usage usage_of(int process_id); /* all zero for process_id <= 0 */
CoreTime core_time_of(int core); /* all zero for core < 0 */
double own_cpu_s(void);

#endif
