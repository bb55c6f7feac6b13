#include "usage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEPTH 8 /* of child processes */

static void add_process(int process_id, Usage *u, int depth);

static double add_ticks(int process_id, Usage *u)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/stat", process_id);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    char *after_name = strrchr(text, ')');
    unsigned long user = 0, system = 0;
    if (after_name)
        sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    double hz = (double)sysconf(_SC_CLK_TCK);
    u->user_s += (double)user / hz;
    u->system_s += (double)system / hz;
    u->processes++;
    return (double)(user + system) / hz;
}

static void add_memory(int process_id, Usage *u)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", process_id);
    FILE *f = fopen(path, "r");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        long kib;
        if (sscanf(line, "VmRSS: %ld", &kib) == 1) u->rss_kib += kib;
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) u->peak_rss_kib += kib;
    }
    fclose(f);
}

static double thread_cpu_s(int process_id, int thread_id)
{
    char path[96];
    unsigned long long run_ns = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", process_id, thread_id);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    if (fscanf(f, "%llu", &run_ns) != 1) run_ns = 0;
    fclose(f);
    return (double)run_ns / 1e9;
}

static void add_children(int process_id, int thread_id, Usage *u, int depth)
{
    char path[96];
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", process_id, thread_id);
    FILE *f = fopen(path, "r");
    if (!f) return;
    while (fscanf(f, "%d", &child) == 1) add_process(child, u, depth + 1);
    fclose(f);
}

static void add_process(int process_id, Usage *u, int depth)
{
    char path[64];
    double ticks_s = add_ticks(process_id, u), exact_s = 0;
    if (ticks_s < 0) return;
    add_memory(process_id, u);
    snprintf(path, sizeof path, "/proc/%d/task", process_id);
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        int thread_id = atoi(entry->d_name);
        if (thread_id <= 0) continue;
        u->threads++;
        exact_s += thread_cpu_s(process_id, thread_id);
        if (depth < MAX_DEPTH) add_children(process_id, thread_id, u, depth);
    }
    if (directory) closedir(directory);
    u->cpu_s += exact_s > 0 ? exact_s : ticks_s; /* schedstat may be compiled out: all zero */
}

Usage usage_of(int process_id)
{
    Usage u = {0};
    if (process_id > 0) add_process(process_id, &u, 0);
    return u;
}

static CoreTime parse_core_line(const char *numbers)
{
    unsigned long long v[8] = {0}; /* user nice system idle iowait irq softirq steal */
    sscanf(numbers, "%llu %llu %llu %llu %llu %llu %llu %llu", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7);
    double hz = (double)sysconf(_SC_CLK_TCK);
    CoreTime t = {0};
    for (int i = 0; i < 8; i++) t.total_s += (double)v[i] / hz;
    t.busy_s = t.total_s - (double)(v[3] + v[4]) / hz;
    t.softirq_s = (double)(v[5] + v[6]) / hz;
    t.steal_s = (double)v[7] / hz;
    return t;
}

CoreTime core_time_of(int core)
{
    CoreTime t = {0};
    char line[512], label[16];
    FILE *f = core < 0 ? NULL : fopen("/proc/stat", "r");
    if (!f) return t;
    snprintf(label, sizeof label, "cpu%d ", core);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, label, strlen(label))) t = parse_core_line(line + strlen(label));
    fclose(f);
    return t;
}

double own_cpu_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}
