#include "publishing.h"

#include "messages.h"
#include "options.h"
#include "packets.h"
#include "topics.h"

#define STALLED_TICKS 10

uint64_t run_started_ns, issued_total;
static uint32_t *ready; /* a ring of publisher indexes */
static uint32_t ready_head, ready_count;

void build_publishing(void)
{
    ready = xcalloc((size_t)publisher_count, sizeof *ready);
}

void start_publishing(void)
{
    publishing = true;
    run_started_ns = now_ns();
    issued_total = 0;
    for (int i = 0; i < publisher_count; i++) {
        publishers[i].next_number = (uint64_t)i;
        if (options.rate_per_s <= 0) push_ready(&publishers[i]);
    }
}

void push_ready(Connection *c)
{
    if (c->in_ready) return;
    c->in_ready = true;
    ready[(ready_head + ready_count++) % (uint32_t)publisher_count] = c->index;
}

bool anyone_ready(void)
{
    return ready_count != 0;
}

static inline bool can_send(const Connection *c)
{
    if (c->state != STATE_READY || c->out_len - c->out_sent >= OUTBOX_LIMIT_BYTES) return false;
    if (options.qos && c->inflight >= c->inflight_limit) return false;
    double undelivered = (double)(int64_t)(c->expected - c->delivered);
    return !options.transit || undelivered < (double)options.transit * (average_fan < 1 ? 1 : average_fan);
}

static uint64_t due_ns(uint64_t number)
{
    return run_started_ns + (uint64_t)((double)number * 1e9 / options.rate_per_s);
}

/* The stamp is the time the message was due, so that a broker that stalls shows in the latency. */
static void publish_owed(Connection *c)
{
    while (c->owed && can_send(c)) {
        encode_publish(c, due_ns(c->next_number));
        c->next_number += (uint64_t)publisher_count;
        c->owed--;
    }
}

static void publish_counted(Connection *c, uint64_t now)
{
    while (issued_total < (uint64_t)options.message_count && can_send(c)) {
        encode_publish(c, now);
        issued_total++;
    }
}

void pump(void)
{
    if (!publishing) return;
    uint64_t now = now_ns();
    for (uint32_t n = ready_count; n; n--) {
        Connection *c = &publishers[ready[ready_head]];
        ready_head = (ready_head + 1) % (uint32_t)publisher_count;
        ready_count--;
        c->in_ready = false;
        if (options.rate_per_s > 0)
            publish_owed(c);
        else if (options.mode == MODE_OFFLINE)
            publish_counted(c, now);
        else
            while (can_send(c)) encode_publish(c, now);
    }
}

uint64_t next_due_ns(void)
{
    return due_ns(issued_total);
}

/* message k is due at run_started_ns + k / rate, the first at once */
void issue_due(uint64_t now)
{
    uint64_t due = (uint64_t)((double)(now - run_started_ns) * options.rate_per_s / 1e9) + 1;
    while (issued_total < due) {
        Connection *c = &publishers[issued_total % (uint64_t)publisher_count];
        if (c->state == STATE_READY) {
            c->owed++;
            push_ready(c);
        }
        issued_total++;
    }
}

void write_off_stalled(void)
{
    if (!publishing || !options.transit) return;
    for (int i = 0; i < publisher_count; i++) {
        Connection *c = &publishers[i];
        if ((int64_t)(c->expected - c->delivered) <= 0 || c->delivered != c->stall_seen) {
            c->stall_seen = c->delivered;
            c->stall_ticks = 0;
        } else if (++c->stall_ticks >= STALLED_TICKS && (options.qos == 0 || c->inflight == 0)) {
            totals.written_off += c->expected - c->delivered;
            c->delivered = c->expected;
            c->stall_ticks = 0;
            push_ready(c);
        }
    }
}
