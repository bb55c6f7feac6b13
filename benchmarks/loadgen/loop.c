#include "loop.h"

#include "connection.h"
#include "io.h"
#include "options.h"
#include "packets.h"
#include "publishing.h"

#define TICK_NS 100000000
#define TICKS_PER_ROUND 20 /* every connection is looked at every 2 s */

uint64_t idle_total_ns;

/* PINGREQ for those that have sent nothing for 0.8 of the keep alive */
static void ping_slice(uint64_t now)
{
    static int at;
    uint64_t limit = (uint64_t)options.keep_alive_s * 800000000ull;
    for (int i = connection_count / TICKS_PER_ROUND + 1; i; i--) {
        Connection *c = &connections[at++ % connection_count];
        if (c->state == STATE_READY && c->role != ROLE_STALLED && now > c->last_sent_ns && now - c->last_sent_ns > limit) {
            send_empty(c, 0xC0);
            c->last_sent_ns = now;
        }
    }
    at %= connection_count;
}

static void tick(uint64_t now)
{
    static uint64_t next;
    if (now < next) return;
    next = now + TICK_NS;
    if (options.keep_alive_s && !options.raw) ping_slice(now);
    write_off_stalled();
}

static int64_t wait_ns(uint64_t until_ns)
{
    if (options.spin || dirty_count || (publishing && anyone_ready())) return 0;
    uint64_t now = now_ns();
    int64_t wait = until_ns > now ? (int64_t)(until_ns - now) : 0;
    if (wait > TICK_NS) wait = TICK_NS;
    if (publishing && options.rate_per_s > 0) {
        int64_t due = (int64_t)(next_due_ns() - now);
        if (due < wait) wait = due;
    }
    return wait;
}

void loop_step(uint64_t until_ns)
{
    int64_t wait = wait_ns(until_ns);
    uint64_t before = now_ns();
    bool idle = !poll_once(wait) && !dirty_count && !anyone_ready();
    if (idle && measuring) idle_total_ns += batch_now_ns - before; /* how far from saturated */
    tick(batch_now_ns);
    if (publishing && options.rate_per_s > 0) issue_due(now_ns());
    pump();
    flush_all();
}

void loop_until(uint64_t until_ns)
{
    while (now_ns() < until_ns) loop_step(until_ns);
}
